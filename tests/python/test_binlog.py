"""Change streams from MySQL and MariaDB into PostgreSQL: read once, followed from there through
changed shapes, kills and a purged log."""

import os
import random
import socket
import threading
import time
import uuid
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest
import syncs
from crash.systems import Private
from server import until

ROUNDS = 12 if os.environ.get("TIDEWAY_TEST_LONG") == "1" else 3


class MySql:
    def __init__(self, url):
        self.url = urlsplit(url)
        self.name = f"stream_{uuid.uuid4().hex[:12]}"
        self.execute(f"create database {self.name} character set utf8mb4", database=None)

    def connection(self, **options):
        return pymysql.connect(
            host=self.url.hostname,
            port=self.url.port,
            user=self.url.username,
            password=self.url.password,
            autocommit=True,
            **({"database": self.name} | options),
        )

    def execute(self, *statements, **options):
        with self.connection(**options) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def configuration(self, **changes):
        return {
            "hostname": self.url.hostname,
            "port": self.url.port,
            "account": self.url.username,
            "passwd": self.url.password,
            "dbname": self.name,
            "change_detection": True,
        } | changes

    def fill(self, rows):
        values = ", ".join(f"({n}, 0, 'näme {n}', '{{\"n\": {n}}}')" for n in range(1, rows + 1))
        self.execute(
            "create table a (id bigint primary key, v bigint not null, name varchar(100), doc json)",
            "create table b (x int, y int, at datetime(3), primary key (x, y))",
            "create table no_key (n int)",
            f"insert into a values {values}",
            "insert into b select id % 100, id, '2024-02-29 12:34:56.789' from a",
            "insert into no_key values (1), (2)",
        )


@pytest.fixture(params=["MYSQL", "MARIADB"])
def origin(request):
    database = MySql(os.environ[f"TIDEWAY_TEST_{request.param}_URL"])
    yield database
    database.execute(f"drop database {database.name}", database=None)


def make(sdk, origin, target, **options):
    source = syncs.connect(sdk, "mysql", origin.configuration())
    destination = syncs.connect(sdk, "postgresql", target.configuration())
    configuration = {"schema": "copy", "advanced": {"hard_deletes": True}}
    return syncs.make(sdk, source, destination, configuration, mode="replicate", **options)


def place(target, table):
    found = target.execute(
        "select table_name from information_schema.tables where table_schema = 'copy' and table_name like %s", [f"%{table}"]
    )
    return f'copy."{found[0][0]}"' if found else None


def equal(origin, target, table, columns):
    there = place(target, table)
    if there is None:
        return False
    try:
        arrived = target.execute(f"select {columns} from {there}")
    except psycopg.errors.Error:
        return False  # a column has not arrived yet
    return sorted(map(tuple, origin.execute(f"select {columns} from {table}"))) == sorted(arrived)


def run(sdk, sync):
    return syncs.run_well(sdk, sync, timeout=90)


def test_runs_follow_the_log(sdk, origin, target):
    origin.fill(500)
    sync = make(sdk, origin, target)
    run(sdk, sync)
    assert equal(origin, target, "a", "id, v, name")
    assert equal(origin, target, "b", "x, y, at")
    assert equal(origin, target, "no_key", "n")

    origin.execute(
        "insert into a select id + 5000, 1, 'new', doc from a where id <= 100",
        "update a set v = v + 1 where id % 3 = 0",
        "delete from a where id % 7 = 0",
        "update b set y = y + 1000000 where x = 5",
        "update a set id = id + 100000 where id = 10",
    )
    ended = run(sdk, sync)
    assert equal(origin, target, "a", "id, v, name")
    assert equal(origin, target, "b", "x, y, at")
    # What changed was read, not the table.
    counted = {schema.schema_: schema.record_count for schema in ended.schemas}
    assert 0 < counted[f"{origin.name}.b"] < 100, counted

    origin.execute(
        "truncate table b",
        "insert into b values (1, 1, null)",
        "alter table a add column extra int",
        "update a set extra = 5 where id < 50",
        "alter table b add column filled int default 7",
        "insert into b (x, y) values (2, 2)",
    )
    run(sdk, sync)
    assert equal(origin, target, "a", "id, v, name, extra")
    assert equal(origin, target, "b", "x, y, filled")
    status = sdk.bulk_sync.get_status(id=sync).data.ingestion_status
    assert status.enabled and status.status == "ok" and status.position, status


def test_no_change_is_lost_or_undone_by_kills(servers, origin, target):
    seed = int(os.environ.get("TIDEWAY_TEST_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    random.seed(seed)
    origin.fill(500)
    server = servers(LEASE_SECONDS="3", STREAM_SECONDS="5").start()
    sdk = server.sdk()
    sync = make(sdk, origin, target, frequency="continuous")
    run(sdk, sync)  # from here on it goes on by itself
    stop = threading.Event()
    went_back = []

    def write():
        with origin.connection() as connection, connection.cursor() as cursor:
            while not stop.is_set():
                first, new = random.randrange(500), random.randrange(500) + 400
                cursor.execute(f"update a set v = v + 1 where id between {first} and {first + 20}")
                cursor.execute(f"insert into a values ({new}, 1, 'w', null) on duplicate key update v = v + 1")
                time.sleep(0.01)

    def watch():
        newest, there = {}, place(target, "a")
        while not stop.is_set():
            for id, version in target.execute(f"select id, v from {there}"):
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
    until(lambda: equal(origin, target, "a", "id, v, name"), "both sides to be equal", timeout=60)
    assert not went_back, went_back[:5]
    server.stop()


@pytest.fixture
def own(monkeypatch):
    """A MySQL that nobody else needs, and that keeps what it has committed."""
    monkeypatch.setenv("TIDEWAY_MYSQL_FSYNC", "on")
    server = Private("mysql")
    yield server
    server.remove()


def refuses(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def answers(origin):
    try:
        return origin.execute("select 1")
    except pymysql.err.OperationalError:
        return None  # it recovers


def gaps(sdk, execution, sync):
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=execution.id).data
    return [entry.message for entry in log.entries if "is gone" in entry.message or "read anew" in entry.message]


def test_a_crashed_server_goes_on_and_a_purged_log_means_a_new_snapshot(sdk, own, target):
    origin = MySql(f"mysql://tideway:tideway@127.0.0.1:{own.port}")
    origin.fill(300)
    sync = make(sdk, origin, target)
    run(sdk, sync)

    origin.execute("update a set v = v + 1 where id <= 10")
    own.kill()
    until(lambda: refuses(own.port), "the server to be gone")
    own.start()
    until(lambda: answers(origin), "the server to answer")
    origin.execute("update a set v = v + 1 where id <= 5", "delete from a where id > 290")
    ended = run(sdk, sync)
    assert equal(origin, target, "a", "id, v, name")
    counted = {schema.schema_: schema.record_count for schema in ended.schemas}
    assert 0 < counted[f"{origin.name}.a"] < 50 and not gaps(sdk, ended, sync), counted

    origin.execute("update a set v = v + 100", "flush binary logs", "flush binary logs")
    (newest, *_) = origin.execute("show binary log status")[0]
    origin.execute(f"purge binary logs to '{newest}'", "insert into b values (777, 1, null)")
    ended = run(sdk, sync)
    assert equal(origin, target, "a", "id, v, name") and equal(origin, target, "b", "x, y, at")
    assert gaps(sdk, ended, sync)

    origin.execute("update a set v = v + 1000", "reset binary logs and gtids", "delete from b where x = 777")
    run(sdk, sync)
    until(lambda: run(sdk, sync) and equal(origin, target, "a", "id, v, name"), "the new log to be found", timeout=60)
    assert equal(origin, target, "b", "x, y, at")
