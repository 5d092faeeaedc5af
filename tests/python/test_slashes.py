"""Files are named by their paths, and so are the schemas made of them: the official client puts
such ids into paths as they are."""

import os
from pathlib import Path

import syncs
from test_pairs import s3

ID = "year=2025/march/orders.csv"


def test_a_schema_with_slashes_is_reached_by_every_operation(sdk, target, tmp_path):
    file = tmp_path / ID
    file.parent.mkdir(parents=True)
    file.write_text("id,city\n1,Lyon\n2,Oslo\n")
    (tmp_path / "plain.csv").write_text("id\n1\n")
    source = syncs.connect(sdk, "files", {"path": str(tmp_path)})
    known = [schema.id for schema in sdk.bulk_sync.get_source(id=source).data.schemas]
    schema = next(one for one in known if "march" in one)
    assert "/" in schema

    assert sdk.schemas.get(id=source, schema_id=schema).data.id == schema
    assert len(sdk.schemas.get_records(id=source, schema_id=schema).data) == 2
    sdk.schemas.set_primary_keys(connection_id=source, schema_id=schema, fields=[{"field_id": "id", "is_primary_key": True}])
    sdk.schemas.upsert_field(
        connection_id=source, schema_id=schema, fields=[{"field_id": "town", "label": "Town", "type": "string", "path": "$.city"}]
    )
    sdk.schemas.patch_field(connection_id=source, schema_id=schema, field_id="town", label="The town")
    fields = {field.id: field for field in sdk.schemas.get(id=source, schema_id=schema).data.fields}
    assert fields["id"].is_primary_key and fields["town"].name == "The town"
    sdk.schemas.delete_field(connection_id=source, schema_id=schema, field_id="town")
    sdk.schemas.reset_primary_keys(connection_id=source, schema_id=schema)

    sync = syncs.make(sdk, source, syncs.connect(sdk, "postgresql", target.configuration()), schemas=[schema])
    assert sdk.bulk_sync.schemas.get(id=sync, schema_id=schema).data.enabled
    sdk.bulk_sync.schemas.update(id=sync, schema_id=schema, enabled=True, user_output_name="march")
    execution = syncs.run_well(sdk, sync)
    log = sdk.bulk_sync.executions.get_schema_console_logs(sync_id=sync, execution_id=execution.id, schema_id=schema).data
    assert log.entries
    sdk.bulk_sync.schemas.cancel(id=sync, schema_id=schema)
    assert target.execute("select count(*) from march") == [(2,)]


def test_ids_in_a_bucket_are_reached_as_well(server, sdk):
    folder = Path(os.environ["TIDEWAY_TEST_S3_BUCKET_ROOT"]) / os.environ["TIDEWAY_TEST_S3_BUCKET"] / "slashes"
    (folder / "2025").mkdir(parents=True, exist_ok=True)
    (folder / "2025" / "orders.csv").write_text("id\n1\n")
    source = syncs.connect(sdk, "s3", s3("slashes"))
    schema = next(one.id for one in sdk.bulk_sync.get_source(id=source).data.schemas if "orders" in one.id)
    assert "/" in schema
    assert len(sdk.schemas.get_records(id=source, schema_id=schema).data) == 1
    # A client that encodes the slash reaches the same.
    encoded = schema.replace("/", "%2F")
    answer = server.request("GET", f"/api/connections/{source}/schemas/{encoded}")
    assert answer.json()["data"]["id"] == schema
