"""The whole journey with the official SDK, unmodified: from the list of types to deletion."""

import pytest
import requests
from polytomic.core import ApiError

import syncs
from server import until

ROWS = 20_000


@pytest.fixture
def tables(source):
    source.execute(
        f"""
        create table customers (id bigint primary key, name text, joined timestamptz not null default now());
        create table orders (id uuid primary key default gen_random_uuid(), customer_id bigint, total numeric(12,2), tags jsonb);
        insert into customers select n, 'customer ' || n from generate_series(1, {ROWS}) n;
        insert into orders (customer_id, total, tags)
          select n, n / 7.0, jsonb_build_object('n', n) from generate_series(1, {ROWS}) n;
        """
    )
    return source


def test_the_whole_journey(sdk, tables, target):
    # types
    types = {one.id: one for one in sdk.connections.get_types().data}
    assert {"postgresql", "mysql", "sqlite", "csv", "s3", "files", "duckdb"} <= set(types)
    form = sdk.connections.get_connection_type_schema(id="postgresql")
    assert "properties" in (form if isinstance(form, dict) else form.dict())

    # connections: test, create, read back, list, update
    sdk.connections.test_connection(type="postgresql", configuration=tables.configuration())
    made = sdk.connections.create(name="shop", type="postgresql", configuration=tables.configuration()).data
    assert made.configuration["hostname"] == tables.configuration()["hostname"], "the spelling written"
    assert made.configuration["password"] == "********"
    assert made.id in [one.id for one in sdk.connections.list().data]
    updated = sdk.connections.update(id=made.id, name="the shop", configuration=made.configuration).data
    assert updated.name == "the shop"
    assert sdk.connections.get(id=made.id).data.status == "healthy", "the masked password was kept"
    destination = syncs.connect(sdk, "postgresql", target.configuration())

    # schemas
    sdk.schemas.refresh(id=made.id)
    until(lambda: sdk.schemas.get_status(id=made.id).data.cache_status == "fresh", "a fresh schema cache")
    schema = sdk.schemas.get(id=made.id, schema_id="public.orders").data
    assert {field.id for field in schema.fields} == {"id", "customer_id", "total", "tags"}
    assert [field.id for field in schema.fields if field.is_primary_key] == ["id"]
    records = sdk.schemas.get_records(id=made.id, schema_id="public.customers").data
    assert records and {"id", "name", "joined"} <= set(records[0])

    # source, target, sync
    offered = sdk.bulk_sync.get_source(id=made.id, include_fields=True).data
    assert {one.id for one in offered.schemas} == {"public.customers", "public.orders"}
    assert {mode.id for mode in sdk.bulk_sync.get_destination(id=destination).data.modes} >= {"replicate", "snapshot", "append"}
    sync = syncs.make(sdk, made.id, destination, {"schema": "mart"}, mode="replicate")
    assert sync in [one.id for one in sdk.bulk_sync.list().data]

    # start, poll, logs
    execution = syncs.run_well(sdk, sync)
    assert execution.record_count == 2 * ROWS
    assert {one.schema_: one.status for one in execution.schemas} == {
        "public.customers": "completed",
        "public.orders": "completed",
    }
    assert target.execute("select count(*), sum(id) from mart.customers") == [(ROWS, ROWS * (ROWS + 1) // 2)]
    assert target.execute("select sum(total) from mart.orders") == tables.execute("select sum(total) from orders")
    status = sdk.bulk_sync.get_status(id=sync).data
    assert status.last_execution.id == execution.id and status.current_execution is None
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=execution.id).data
    assert any("20000 inserted" in entry.message for entry in log.entries)
    files = sdk.bulk_sync.executions.get_logs(sync_id=sync, execution_id=execution.id).data
    assert files and requests.get(files.ur_ls[0] if hasattr(files, "ur_ls") else files.urls[0], timeout=10).ok

    # update, schedules
    kept = sdk.bulk_sync.get(id=sync).data
    changed = sdk.bulk_sync.update(
        id=sync,
        name="renamed",
        source_connection_id=kept.source_connection_id,
        destination_connection_id=kept.destination_connection_id,
        destination_configuration=kept.destination_configuration,
        default_schedule={"frequency": "daily", "hour": "3", "minute": "30"},
        mode="replicate",
        active=True,
    ).data
    assert changed.name == "renamed" and changed.default_schedule.frequency == "daily"
    until(lambda: sdk.bulk_sync.get_status(id=sync).data.next_execution_time, "the next firing")
    assert len(sdk.bulk_sync.schedules.list(sync_id=sync).data) == 1

    # schemas of the sync
    sdk.bulk_sync.schemas.update(id=sync, schema_id="public.orders", enabled=False)
    assert not sdk.bulk_sync.schemas.get(id=sync, schema_id="public.orders").data.enabled
    assert syncs.run_well(sdk, sync).record_count == ROWS

    # events and entities
    kinds = {event.type for event in sdk.events.list(limit=100).data}
    assert {"bulk_sync.running", "bulk_sync.completed"} <= kinds
    assert sdk.entities.get(id=sync).data

    # deletion
    with pytest.raises(ApiError) as refused:
        sdk.connections.delete(id=made.id, request_options={"max_retries": 0})
    assert refused.value.status_code == 422
    sdk.bulk_sync.delete(id=sync)
    sdk.connections.delete(id=made.id)
    with pytest.raises(ApiError) as gone:
        sdk.connections.get(id=made.id)
    assert gone.value.status_code == 404


def test_a_running_sync_can_be_canceled_and_is_not_started_twice(sdk, source, target):
    source.execute("create table big as select n as id, repeat('x', 200) as text from generate_series(1, 2000000) n")
    source.execute("alter table big add primary key (id)")
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    sync = syncs.make(sdk, *connections)
    started = sdk.bulk_sync.start(id=sync).data
    with pytest.raises(ApiError) as refused:
        sdk.bulk_sync.start(id=sync, request_options={"max_retries": 0})
    assert refused.value.status_code == 409
    until(lambda: sdk.bulk_sync.get_status(id=sync).data.current_execution.status != "created", "its start")
    sdk.bulk_sync.executions.cancel(id=sync, exec_id=started.id)
    assert syncs.wait(sdk, sync, started.id).status == "canceled"
    left = target.execute("select table_name from information_schema.tables where table_schema = 'public'")
    assert not [name for (name,) in left if name == "big" or name.startswith("_tideway_stage")], left
