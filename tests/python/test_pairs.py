"""Every kind of source into every kind of destination through the API, compared by other readers."""

import os
import uuid
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pytest
import syncs

ROWS = 3_000


@pytest.fixture
def shop(source):
    source.execute(
        f"""
        create table items (id bigint primary key, name text, price numeric(12,2), seen timestamptz, tags jsonb, note text);
        insert into items
          select n, 'näme "' || n || '", x', n * 1.25, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second',
                 jsonb_build_object('n', n), case when n % 3 = 0 then null when n % 3 = 1 then '' else E'two\\nlines' end
          from generate_series(1, {ROWS}) n
        """
    )
    return source


def s3(prefix, **changes):
    return {
        "auth_mode": "access_key_and_secret",
        "aws_access_key_id": os.environ["TIDEWAY_TEST_S3_ACCESS_KEY"],
        "aws_secret_access_key": os.environ["TIDEWAY_TEST_S3_SECRET_KEY"],
        "s3_bucket_region": "us-east-1",
        "s3_bucket_name": f"{os.environ['TIDEWAY_TEST_S3_BUCKET']}/{prefix}",
        "endpoint": os.environ["TIDEWAY_TEST_S3_ENDPOINT"],
    } | changes


def digest(rows):
    return len(rows), sum(int(row[0]) for row in rows), sum(Decimal(str(row[1])) for row in rows)


EXPECTED = (ROWS, ROWS * (ROWS + 1) // 2, Decimal("1.25") * ROWS * (ROWS + 1) / 2)


@pytest.mark.parametrize("format", ["parquet", "csv", "json"])
def test_postgres_to_a_folder_and_back(sdk, shop, target, tmp_path, format):
    origin = syncs.connect(sdk, "postgresql", shop.configuration())
    lake = syncs.connect(sdk, "files", {"path": str(tmp_path)})
    syncs.run_well(sdk, syncs.make(sdk, origin, lake, {"format": format}, mode="snapshot"))
    files = [str(file) for file in tmp_path.rglob(f"*.{format}*") if "_tideway" not in str(file)]
    reader = {"parquet": "read_parquet", "csv": "read_csv", "json": "read_json"}[format]
    rows = duckdb.sql(f"select id, price from {reader}({files})").fetchall()
    assert digest(rows) == EXPECTED

    back = syncs.connect(
        sdk,
        "files",
        {
            "path": str(tmp_path),
            "is_directory_snapshot": True,
            "directory_glob_pattern": "*",
            "single_table_file_format": format,
            "single_table_file_formats": [format],
        },
    )
    offered = sdk.bulk_sync.get_source(id=back).data
    assert len(offered.schemas) == 1, offered
    arrived = syncs.connect(sdk, "postgresql", target.configuration())
    syncs.run_well(sdk, syncs.make(sdk, back, arrived, {"schema": "back"}, mode="snapshot"))
    (table,) = target.execute("select table_name from information_schema.tables where table_schema = 'back' and table_name not like '\\_tideway%'")
    columns = "id::bigint, name, price::numeric, note"
    got = target.execute(f"select {columns} from back.{table[0]} order by 1")
    wanted = shop.execute(f"select {columns} from items order by 1")
    if format == "csv":  # an empty text and no text look alike in most CSV
        got, wanted = ([(*row[:3], row[3] or None) for row in rows] for rows in (got, wanted))
    assert got == wanted


def test_postgres_to_s3_and_wrong_keys_are_refused(sdk, server, shop):
    origin = syncs.connect(sdk, "postgresql", shop.configuration())
    bucket = syncs.connect(sdk, "s3", s3("pairs"))
    syncs.run_well(sdk, syncs.make(sdk, origin, bucket, {"format": "parquet"}, mode="snapshot"))
    folder = Path(os.environ["TIDEWAY_TEST_S3_BUCKET_ROOT"]) / os.environ["TIDEWAY_TEST_S3_BUCKET"] / "pairs"
    files = [str(file) for file in folder.rglob("*.parquet") if "_tideway" not in str(file)]
    assert digest(duckdb.sql(f"select id, price from read_parquet({files})").fetchall()) == EXPECTED
    body = {"name": "x", "type": "s3", "configuration": s3("pairs", aws_secret_access_key="wr0ng-s3cret")}
    refused = server.request("POST", "/api/connections", json=body)
    assert refused.status_code == 400 and "wr0ng-s3cret" not in refused.text, refused.text


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_replicating_into_a_file_database_carries_changes_and_deletes(sdk, shop, tmp_path, kind):
    origin = syncs.connect(sdk, "postgresql", shop.configuration())
    file = tmp_path / f"copy.{kind}"
    copy = syncs.connect(sdk, kind, {"path": str(file)})
    sync = syncs.make(sdk, origin, copy, {}, mode="replicate")
    syncs.run_well(sdk, sync)
    shop.execute("update items set price = 0 where id <= 10; delete from items where id > 2990; insert into items values (9999, 'new', 1)")
    execution = syncs.run_well(sdk, sync)
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=execution.id).data
    counts = [entry.payload for entry in log.entries if entry.payload and "inserted" in entry.payload][-1]
    assert (counts["inserted"], counts["updated"], counts["deleted"], counts["unchanged"]) == (1, 10, 10, 2980)
    back = syncs.connect(sdk, kind, {"path": str(file)})
    records = sdk.schemas.get_records(id=back, schema_id=next(s.id for s in sdk.bulk_sync.get_source(id=back).data.schemas if "items" in s.id)).data
    assert records and "price" in records[0]


@pytest.mark.parametrize("kind", ["MYSQL", "MARIADB"])
def test_postgres_to_mysql_and_back_with_changes_between(sdk, shop, target, kind):
    url = urlsplit(os.environ[f"TIDEWAY_TEST_{kind}_URL"])
    there = {"hostname": url.hostname, "port": url.port, "account": url.username, "passwd": url.password}
    database = f"pairs_{uuid.uuid4().hex[:12]}"
    origin = syncs.connect(sdk, "postgresql", shop.configuration())
    middle = syncs.connect(sdk, "mysql", there)
    sync = syncs.make(sdk, origin, middle, {"schema": database}, mode="replicate")
    syncs.run_well(sdk, sync)
    shop.execute("update items set price = 0 where id <= 10; insert into items values (9999, 'new', 1)")
    execution = syncs.run_well(sdk, sync)
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=execution.id).data
    counts = [entry.payload for entry in log.entries if entry.payload and "inserted" in entry.payload][-1]
    assert (counts["inserted"], counts["updated"], counts["deleted"], counts["unchanged"]) == (1, 10, 0, 2990)

    back = syncs.connect(sdk, "mysql", there | {"dbname": database})
    arrived = syncs.connect(sdk, "postgresql", target.configuration())
    syncs.run_well(sdk, syncs.make(sdk, back, arrived, {"schema": "back"}, mode="snapshot"))
    (table,) = target.execute("select table_name from information_schema.tables where table_schema = 'back' and table_name not like '\\_tideway%'")
    columns = "id, name, price, seen, tags, note"
    assert target.execute(f"select {columns} from back.{table[0]} order by 1") == shop.execute(f"select {columns} from items order by 1")
