"""`kill -9` at random moments of a sync: the run goes on after a restart, by itself, and the
destination equals the source, in every mode."""

import os
import random
import time

import pytest
import syncs
from server import until

ROWS = 60_000
ROUNDS = 17 if os.environ.get("TIDEWAY_TEST_LONG") == "1" else 4


def fill(source):
    source.execute(
        f"""
        create table a (id bigint primary key, name text, at timestamptz not null default now(), amount numeric(12,2));
        create table b (x int, y int, payload jsonb, primary key (x, y));
        insert into a select n, 'name ' || n, now(), n / 3.0 from generate_series(1, {ROWS}) n;
        insert into b select n % 100, n, jsonb_build_object('n', n) from generate_series(1, {ROWS}) n;
        """
    )


def rows(database, table, columns):
    digest = f"select count(*), coalesce(sum(hashtextextended(concat_ws('|', {columns}), 0)::numeric), 0) from {table}"
    return database.execute(digest)


@pytest.mark.parametrize("mode", ["replicate", "snapshot", "append"])
def test_no_row_is_lost_or_doubled(servers, source, target, mode):
    seed = int(os.environ.get("TIDEWAY_TEST_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    random.seed(seed)
    fill(source)
    server = servers(LEASE_SECONDS="3").start()
    sdk = server.sdk()
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    sync = syncs.make(sdk, *connections, {"schema": "copy"}, mode=mode)
    begun = time.monotonic()
    syncs.run_well(sdk, sync)
    # The moments of the kills are spread over what a run takes on this machine.
    takes, amid = time.monotonic() - begun, 0
    for number in range(ROUNDS):
        if mode == "append":
            # Each run appends everything once more: a fresh schema keeps the comparison simple.
            target.execute("drop schema if exists copy cascade")
        source.execute(f"update a set amount = amount + 1 where id % 7 = {number % 7}")
        source.execute(f"delete from b where y % 1000 = {number}") if mode != "append" else None
        execution = sdk.bulk_sync.start(id=sync).data.id
        time.sleep(random.uniform(0.0, takes))
        server.kill()
        server.start()
        amid += sdk.bulk_sync.executions.get(id=sync, exec_id=execution).data.completed_at is None
        ended = syncs.wait(sdk, sync, execution, timeout=90)
        assert ended.status == "completed", (number, ended.status, ended.status_message)
        alive = "" if mode != "replicate" else " where _polytomic_deleted_at is null"
        assert rows(source, "a", "id, name, amount") == rows(target, f"copy.a{alive}", "id, name, amount"), number
        assert rows(source, "b", "x, y, payload") == rows(target, f"copy.b{alive}", "x, y, payload"), number
    print(f"{amid} of {ROUNDS} kills fell in the middle of a run of {takes:.2f} s")
    assert amid >= ROUNDS // 4, (amid, takes)
    until(lambda: not staged(target), "the staging tables to be gone", timeout=10)


def test_a_panic_ends_a_run_and_not_the_worker(servers, source, target):
    """With one worker: if it were gone, nothing would run any more."""
    source.execute("create table a (id bigint primary key); insert into a select generate_series(1, 100)")
    server = servers(LEASE_SECONDS="2", WORKERS="1", FAILPOINTS="work.claimed=panic,work.ending=panic@2").start()
    sdk = server.sdk()
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    sync = syncs.make(sdk, *connections, {"schema": "copy"}, mode="replicate")
    first = syncs.run(sdk, sync)
    assert first.status == "failed" and "panicked" in first.status_message, first
    # The second one panics while its end is written down, and is taken up again.
    execution = syncs.run_well(sdk, sync)
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=execution.id).data
    assert any("taken up again" in entry.message for entry in log.entries), log
    assert rows(source, "a", "id") == rows(target, "copy.a", "id")


def staged(target):
    return target.execute("select table_name from information_schema.tables where table_name like '\\_tideway\\_stage%'")
