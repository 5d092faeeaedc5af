"""Two servers on one PostgreSQL metadata database: either takes over from the other, nothing
happens twice, and it does not matter which one is asked."""

import base64
import os
import time

import pytest
import requests
import syncs
from database import Database
from server import until

ROWS = 400_000


@pytest.fixture(scope="module")
def metadata():
    database = Database()
    yield database
    database.drop()


@pytest.fixture(scope="module")
def pair(servers, metadata):
    key = base64.b64encode(os.urandom(32)).decode()
    settings = {"DATABASE_URL": metadata.url, "ENCRYPTION_KEY": key, "LEASE_SECONDS": "3", "WORKERS": "1"}
    return servers(**settings).start(), servers(**settings).start()


@pytest.fixture(autouse=True)
def both_up(pair):
    yield
    for server in pair:
        if server.gone():
            server.start()


def slow_sync(sdk, source, target):
    """A sync that runs for some six seconds however quick the machine is: the source sleeps between its rows."""
    source.execute(
        "create view slow as select n as id, repeat('x', 300) as text "
        f"from generate_series(1, {ROWS}) n where n % 1000 <> 0 or pg_sleep(0.015) is not null"
    )
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    return syncs.make(sdk, *connections)


def worker_of(metadata, execution):
    return metadata.execute("select worker, fence from executions where id = %s", [execution])[0]


def running(metadata, execution):
    """The process id of the server that has the execution, once rows are on their way."""
    read = "select coalesce(sum(record_count), 0) from schema_executions where execution_id = %s"
    until(lambda: metadata.execute(read, [execution])[0][0] > 0, "its first rows", pause=0.02)
    return worker_of(metadata, execution)


def test_when_one_is_killed_the_other_goes_on(pair, metadata, source, target):
    sync = slow_sync(pair[0].sdk(), source, target)
    execution = pair[0].sdk().bulk_sync.start(id=sync).data.id
    worker, fence = running(metadata, execution)
    victim = next(server for server in pair if f"-{server.process.pid}-" in f"-{worker}-")
    other = next(server for server in pair if server is not victim)
    victim.kill()
    ended = syncs.wait(other.sdk(), sync, execution, timeout=90)
    assert ended.status == "completed", ended.status_message
    taken_by, later = worker_of(metadata, execution)
    assert (taken_by != worker) and later > fence
    assert target.execute("select count(*), sum(id) from slow") == [(ROWS, ROWS * (ROWS + 1) // 2)]
    kinds = [event.type for event in other.sdk().events.list(limit=100).data if event.event.execution_id == execution]
    assert sorted(kinds) == ["bulk_sync.completed", "bulk_sync.running"]


def test_schedules_fire_once(pair, metadata, source, target):
    sdk = pair[0].sdk()
    source.execute("create table small (id int primary key)")
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    made = [
        syncs.make(sdk, *connections, {"schema": f"s{number}"}, frequency="daily") for number in range(20)
    ]
    planned = "select count(*) from schedules where sync_id = any(%s) and next_fire_at is not null"
    until(lambda: metadata.execute(planned, [made])[0][0] == len(made), "their first times")
    # All of them are due at this very moment, and both schedulers see it.
    metadata.execute("update schedules set next_fire_at = 1 where sync_id = any(%s)", [made])
    count = "select count(*), count(distinct sync_id) from executions where sync_id = any(%s)"
    ended = f"{count} and completed_at is not null"
    until(lambda: metadata.execute(ended, [made])[0][1] == len(made), "their executions", timeout=60)
    # Long enough for either scheduler to look again.
    time.sleep(2.5)
    assert metadata.execute(count, [made]) == [(len(made), len(made))]
    due = "select count(*) from schedules where sync_id = any(%s) and next_fire_at < extract(epoch from now()) * 1000000"
    assert metadata.execute(due, [made]) == [(0,)]


def test_a_sync_started_at_one_is_canceled_at_the_other(pair, metadata, source, target):
    here, there = pair[0].sdk(), pair[1].sdk()
    sync = slow_sync(here, source, target)
    execution = here.bulk_sync.start(id=sync).data.id
    worker, _ = running(metadata, execution)
    # At the one that does not run it.
    asked = there if f"-{pair[0].process.pid}-" in f"-{worker}-" else here
    asked.bulk_sync.cancel(id=sync)
    assert syncs.wait(here, sync, execution).status == "canceled"
    assert syncs.wait(there, sync, execution).status == "canceled"
    tables = target.execute("select table_name from information_schema.tables where table_schema = 'public'")
    assert not [name for (name,) in tables if name == "slow" or name.startswith("_tideway_stage")], tables


def test_a_link_of_one_works_at_the_other_and_after_a_restart(pair, source, target):
    sdk = pair[0].sdk()
    source.execute("create table small (id int primary key)")
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    sync = syncs.make(sdk, *connections)
    execution = syncs.run_well(sdk, sync)
    link = sdk.bulk_sync.executions.get_logs(sync_id=sync, execution_id=execution.id).data.ur_ls[0]
    assert requests.get(link, timeout=10).status_code == 200
    assert requests.get(link.replace(pair[0].url, pair[1].url), timeout=10).status_code == 200
    pair[0].kill()
    pair[0].start()
    assert requests.get(link, timeout=10).status_code == 200
    assert requests.get(link + "0", timeout=10).status_code == 403
    assert requests.get(link.replace("expires=1", "expires=2"), timeout=10).status_code == 403


def test_a_second_start_is_refused_wherever_it_is_asked_for(pair, source, target):
    sync = slow_sync(pair[0].sdk(), source, target)
    pair[0].sdk().bulk_sync.start(id=sync)
    answers = [server.request("POST", f"/api/bulk/syncs/{sync}/executions", json={}) for server in pair]
    assert [answer.status_code for answer in answers] == [409, 409], [answer.text for answer in answers]
    pair[1].sdk().bulk_sync.cancel(id=sync)


def test_an_outcome_is_replayed_by_either(pair):
    headers = {"Idempotency-Key": "shared-by-two-servers"}
    body = {"name": "once", "type": "csv", "configuration": {"url": "http://127.0.0.1:1/a.csv"}, "validate": False}
    first, again = [server.request("POST", "/api/connections", json=body, headers=headers) for server in pair]
    assert first.status_code == 200 and again.json() == first.json()
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"


def test_without_its_database_a_server_says_when_to_come_back(pair, metadata):
    try:
        metadata.administer(f"alter database {metadata.name} with allow_connections false")
        end_all = f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{metadata.name}'"

        def refused(server):
            # Again each time: one that was just signing in when it was closed is let in.
            metadata.administer(end_all)
            found = server.request("GET", "/api/me")
            # In a list: an answer by itself is false where its status is an error.
            return [found] if found.status_code == 503 else []

        for server in pair:
            [answer] = until(lambda server=server: refused(server), "the loss of the database to be noticed")
            assert answer.json()["status"] == 503 and int(answer.headers["retry-after"]) >= 1
            assert server.request("GET", "/readyz").status_code == 503
            assert server.request("GET", "/healthz").status_code == 200
    finally:
        metadata.administer(f"alter database {metadata.name} with allow_connections true")
    for server in pair:
        until(server.ready, "the database to be back")
        # The client tries again by itself, as the header told it.
        assert server.sdk().identity.get().data.organization_id
