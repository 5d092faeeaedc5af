"""Change streams: a connection with `change_detection` is read once and followed from there,
through the worst that a source and a process can do, and leaves nothing behind."""

import os
import random
import threading
import time

import psycopg
import pytest
import syncs
from copies import Copy
from server import until

ROUNDS = 12 if os.environ.get("TIDEWAY_TEST_LONG") == "1" else 3


def fill(source, rows=2000):
    source.execute(
        f"""
        create table a (id bigint primary key, v bigint not null, name text, big text);
        create table b (x int, y int, payload jsonb, primary key (x, y));
        create table no_key (n int);
        alter table a alter column big set storage external;
        insert into a select n, 0, 'name ' || n, repeat('x', 3000) || n from generate_series(1, {rows}) n;
        insert into b select n % 100, n, jsonb_build_object('n', n) from generate_series(1, {rows}) n;
        insert into no_key select generate_series(1, 10);
        """
    )


def make(sdk, source, target, **options):
    from_source = syncs.connect(sdk, "postgresql", source.configuration(change_detection=True))
    to_target = syncs.connect(sdk, "postgresql", target.configuration())
    configuration = {"schema": "copy", "advanced": {"hard_deletes": True}}
    sync = syncs.make(sdk, from_source, to_target, configuration, mode="replicate", **options)
    return sync, from_source


def rows(database, table, columns):
    return sorted(database.execute(f"select {columns} from {table}"))


def columns_of(source, table):
    found = source.execute(
        "select column_name from information_schema.columns"
        f" where table_schema = 'public' and table_name = '{table}' order by ordinal_position"
    )
    return ", ".join(f'"{name}"' for (name,) in found)


def equal(source, target, table):
    columns = columns_of(source, table)
    try:
        return rows(source, table, columns) == rows(target, f"copy.{table}", columns)
    except psycopg.errors.Error:
        return False  # a column or the table has not arrived yet


def slots(source):
    return source.execute(f"select slot_name from pg_replication_slots where database = '{source.name}'")


def run(sdk, sync):
    return syncs.run_well(sdk, sync, timeout=90)


def test_a_table_that_the_log_tells_too_little_of_leaves_the_stream_alone(sdk, source, target):
    fill(source)
    sync, _ = make(sdk, source, target, frequency="continuous")
    run(sdk, sync)  # from here on it goes on by itself
    listed = sdk.bulk_sync.executions.list
    [execution] = until(lambda: [one.id for one in listed(id=sync).data if one.status == "running"], "a run that goes on")

    def status(table):
        schemas = sdk.bulk_sync.executions.get(id=sync, exec_id=execution).data.schemas
        return {one.schema_: (one.status, one.status_message) for one in schemas}.get(f"public.{table}", (None, None))

    source.execute("update a set v = 1 where id = 1")
    until(lambda: equal(source, target, "a"), "a change")
    # The sync's key is not told any more.
    source.execute("create unique index of_y on b (y); alter table b replica identity using index of_y")
    source.execute("update b set payload = '{}' where y = 5; update a set v = 2 where id = 2")
    until(lambda: status("b")[0] == "failed", "the table to fail")
    assert "REPLICA IDENTITY" in status("b")[1]
    source.execute("update a set v = 3 where id = 3")
    until(lambda: equal(source, target, "a"), "the other table's change")
    assert status("a")[0] == "running", status("a")
    sdk.bulk_sync.cancel(id=sync)
    source.execute("alter table b replica identity default")
    syncs.wait(sdk, sync, execution)
    run(sdk, sync)
    assert equal(source, target, "a") and equal(source, target, "b")


def test_runs_follow_the_log_and_leave_nothing_behind(server, sdk, source, target):
    fill(source)
    sync, connection = make(sdk, source, target)
    run(sdk, sync)
    for table in ("a", "b", "no_key"):
        assert equal(source, target, table), table
    assert len(slots(source)) == 1

    source.execute(
        """
        insert into a select n, 1, 'new', 'small' from generate_series(5001, 5100) n;
        update a set v = v + 1 where id % 3 = 0;
        delete from a where id % 7 = 0;
        update b set y = y + 1000000 where x = 5;
        update a set id = id + 100000 where id = 10;
        """
    )
    ended = run(sdk, sync)
    for table in ("a", "b"):
        assert equal(source, target, table), table
    # What changed was read, not the table.
    counted = {schema.schema_: schema.record_count for schema in ended.schemas}
    assert 0 < counted["public.b"] < 100, counted

    source.execute("truncate b; insert into b values (1, 1, '{}')")
    source.execute("alter table a add column extra int; update a set extra = 5 where id < 50")
    source.execute("alter table b add column filled int default 7")
    source.execute("insert into b values (2, 2, '{}')")
    run(sdk, sync)
    for table in ("a", "b"):
        assert equal(source, target, table), table

    status = sdk.bulk_sync.get_status(id=sync).data.ingestion_status
    assert status.enabled and status.status == "ok" and status.position, status
    log = server.request("GET", f"/api/connections/{connection}/ingest/consolelog").json()["data"]
    assert log["entries"], log

    sdk.bulk_sync.delete(id=sync)
    until(lambda: not slots(source), "the slot to be gone")
    assert not source.execute("select pubname from pg_publication")


def test_switching_change_detection_off_removes_the_slot(sdk, source, target):
    fill(source, 10)
    sync, connection = make(sdk, source, target)
    run(sdk, sync)
    assert slots(source)
    sdk.connections.update(connection, name=f"off {source.name}", configuration=source.configuration(change_detection=False))
    until(lambda: not slots(source), "the slot to be gone")
    source.execute("update a set v = 9 where id = 1")
    run(sdk, sync)
    assert equal(source, target, "a")


def test_a_table_that_left_the_users_publication_for_a_while_is_read_anew(sdk, source, target):
    fill(source, 100)
    source.execute("create publication theirs for table a, b")
    from_source = syncs.connect(sdk, "postgresql", source.configuration(change_detection=True, publication="theirs"))
    to_target = syncs.connect(sdk, "postgresql", target.configuration())
    configuration = {"schema": "copy", "advanced": {"hard_deletes": True}}
    sync = syncs.make(sdk, from_source, to_target, configuration, mode="replicate")
    run(sdk, sync)
    source.execute("update a set v = v + 1 where id = 1")
    counted = {schema.schema_: schema.record_count for schema in run(sdk, sync).schemas}
    assert counted["public.a"] == 1, counted
    source.execute("alter publication theirs drop table a")
    source.execute("update a set v = 77 where id < 10; delete from a where id = 20")
    source.execute("alter publication theirs add table a")
    run(sdk, sync)
    assert equal(source, target, "a") and equal(source, target, "b")
    sdk.bulk_sync.delete(id=sync)
    until(lambda: not slots(source), "the slot to be gone")
    assert source.execute("select pubname from pg_publication") == [("theirs",)]


def test_another_slot_leaves_none_behind(sdk, source, target):
    fill(source, 10)
    sync, connection = make(sdk, source, target)
    run(sdk, sync)
    (before,) = slots(source)
    for name in ("mine", "mine_too"):
        sdk.bulk_sync.update(
            id=sync,
            name=f"slot {name} {source.name}",
            source_connection_id=connection,
            destination_connection_id=sdk.bulk_sync.get(id=sync).data.destination_connection_id,
            source_configuration={"replication_slot": f"{name}_{source.name}"},
            destination_configuration={"schema": "copy", "advanced": {"hard_deletes": True}},
            mode="replicate",
            default_schedule={"frequency": "manual"},
        )
        source.execute("update a set v = v + 1; delete from b where y = 1")
        run(sdk, sync)
        until(lambda: slots(source) == [(f"{name}_{source.name}",)], "the slot of before to be gone")
        assert source.execute("select count(*) from pg_publication") == [(1,)]
        source.execute("update a set v = v + 1")
        run(sdk, sync)
        assert equal(source, target, "a") and equal(source, target, "b")
    sdk.bulk_sync.delete(id=sync)
    until(lambda: not slots(source), "the slot to be gone")
    assert before and not source.execute("select pubname from pg_publication")


def test_no_change_is_lost_or_undone_by_kills(servers, source, target):
    seed = int(os.environ.get("TIDEWAY_TEST_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    random.seed(seed)
    fill(source, 500)
    server = servers(LEASE_SECONDS="3", STREAM_SECONDS="5").start()
    sdk = server.sdk()
    sync, _ = make(sdk, source, target, frequency="continuous")
    run(sdk, sync)  # from here on it goes on by itself
    stop = threading.Event()
    went_back = []

    def write():
        with psycopg.connect(source.url, autocommit=True) as connection:
            while not stop.is_set():
                a, b = random.randrange(500), random.randrange(500)
                connection.execute("update a set v = v + 1 where id between %s and %s", [min(a, b), min(a, b) + 20])
                connection.execute("insert into a values (%s, 1, 'w', 'w') on conflict (id) do update set v = a.v + 1", [a + 400])
                time.sleep(0.01)

    def watch():
        newest = {}
        while not stop.is_set():
            try:
                seen = target.execute("select id, v from copy.a")
            except psycopg.errors.Error:
                seen = []  # not there yet
            for id, version in seen:
                if version < newest.get(id, 0):
                    went_back.append((id, newest[id], version))
                newest[id] = version
            time.sleep(0.05)

    threads = [threading.Thread(target=write), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROUNDS):
            time.sleep(random.uniform(0.5, 4))
            server.kill()
            server.start()
        time.sleep(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    until(lambda: equal(source, target, "a"), "both sides to be equal", timeout=60)
    assert not went_back, went_back[:5]
    server.stop()


# DuckDB lets nobody look into its file meanwhile.
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite"])
def test_a_stream_leaves_no_trail_of_loads(sdk, source, target, tmp_path, kind):
    source.execute("create table a (id int primary key, v int); insert into a values (1, 0)")
    copy = Copy(kind, target, tmp_path)
    destination, options = copy.connect(sdk)
    origin = syncs.connect(sdk, "postgresql", source.configuration(change_detection=True))
    sync = syncs.make(sdk, origin, destination, options, mode="replicate", frequency="continuous")
    syncs.run_well(sdk, sync)  # from here on it goes on by itself
    for number in range(1, 13):
        source.execute(f"update a set v = {number}")
        until(lambda: copy.rows(f"select v from {copy.prefix}a") == [(number,)], f"version {number}")
    # The first load's, and those of the last units.
    assert len(copy.rows(f"select load_id from {copy.prefix}_tideway_loads")) <= 4
    sdk.bulk_sync.activate(id=sync, active=False)


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_nobody_sees_a_table_that_is_emptied_and_filled_again_empty(sdk, source, target, tmp_path, kind):
    refill = "truncate a; insert into a select n, {0} from generate_series({0} * 50, {0} * 50 + 99) n"
    source.execute("create table a (id int primary key, v int);" + refill.format(0))
    copy = Copy(kind, target, tmp_path)
    destination, options = copy.connect(sdk)
    options["advanced"] = {"hard_deletes": True}
    origin = syncs.connect(sdk, "postgresql", source.configuration(change_detection=True))
    sync = syncs.make(sdk, origin, destination, options, mode="replicate", frequency="continuous")
    syncs.run_well(sdk, sync)
    seen = set()

    def look():
        seen.add(copy.rows(f"select count(*), min(v), max(v) from {copy.prefix}a")[0])
        return max(version for _, _, version in seen)

    for version in range(1, 7):
        source.execute(f"begin; {refill.format(version)}; commit")
        until(lambda: look() == version, f"version {version}", pause=0)
    # Half of the rows of each version have the keys of the one before.
    assert seen <= {(100, version, version) for version in range(7)}, seen
