#!/usr/bin/env python3
"""Makes the inputs that fuzzing begins with, from what real servers and writers say.

    scripts/test.sh fuzz/seeds.py

Bytes of a server's session are recorded by a proxy between it and a client."""

import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlparse

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pymysql

SEEDS = Path(__file__).resolve().parent / "seeds"
POSTGRES = os.environ["TIDEWAY_TEST_POSTGRES_URL"]
MYSQL = os.environ["TIDEWAY_TEST_MYSQL_URL"]
MARIADB = os.environ["TIDEWAY_TEST_MARIADB_URL"]
TIDEWAY = os.environ["TIDEWAY_BIN"]

# In the order of connectors/postgres/src/fuzz.rs.
COLUMNS = [
    ("boolean", "true"), ("int2", "-7"), ("int4", "70000"), ("int8", "-5000000000"),
    ("float4", "'NaN'"), ("float8", "0.1"), ("numeric(12,2)", "-1234.50"), ("numeric(60,20)", "1e30"),
    ("numeric", "'12345678901234567890.0001'"), ("text", "'Zoë, \"quoted\"'"),
    ("uuid", "'00112233-4455-6677-8899-aabbccddeeff'"), ("bytea", r"'\x00ff'"), ("date", "'infinity'"),
    ("time", "'23:59:59.5'"), ("timestamp", "'2024-02-29 12:00:00.25'"), ("timestamptz", "'-infinity'"),
    ("interval", "'1 year -3 days 02:00'"), ("json", "'{\"a\": [1, null]}'"), ("jsonb", "'{\"b\": \"x\"}'"),
    ("oid", "4294967295"),
]  # fmt: skip


def keep(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def sized(messages):
    """Each with its length in two bytes before it."""
    return b"".join(struct.pack(">H", len(message)) + message for message in messages)


class Recorder:
    """Passes one connection after the other on to a server. `sessions` holds of each what
    was said: (whether by the client, bytes), in order."""

    def __init__(self, address):
        self.address, self.sessions = address, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        said = []
        self.sessions.append(said)
        server = socket.create_connection(self.address)
        while True:
            for end in select.select([client, server], [], [])[0]:
                data = end.recv(1 << 16)
                if not data:
                    client.close()
                    server.close()
                    return
                said.append((end is client, data))
                (server if end is client else client).sendall(data)


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def postgres(session):
    definitions = ", ".join(f"c{at} {kind}" for at, (kind, _) in enumerate(COLUMNS))
    values = ", ".join(value for _, value in COLUMNS)
    nulls = ", ".join("null" for _ in COLUMNS)
    session.execute("drop table if exists fuzz; drop table if exists fuzz_changes")
    session.execute(f"create table fuzz (id int8 generated always as identity primary key, {definitions})")
    names = ", ".join(f"c{at}" for at in range(len(COLUMNS)))
    for row in (values, nulls, values):
        session.execute(f"insert into fuzz ({names}) values ({row})")

    def copy(columns):
        with session.cursor().copy(f"copy (select {columns} from fuzz order by id) to stdout (format binary)") as rows:
            return b"".join(bytes(piece) for piece in rows)

    keep("postgres_copy", "all", bytes([0, 7]) + copy(names))
    # Those behind the first 17 are in no layout of their own.
    for at in range(17):
        keep("postgres_copy", f"c{at}", bytes([at + 1, at]) + copy(f"c{at}"))
    changes(session, names, values)


def changes(session, names, values):
    session.execute("create table fuzz_changes (like fuzz including all)")
    session.execute("alter table fuzz_changes alter c9 set storage external")
    session.execute("drop publication if exists fuzz; create publication fuzz for table fuzz_changes")
    for slot in ("fuzz_binary", "fuzz_text"):
        session.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    try:
        session.execute(f"insert into fuzz_changes ({names}) values ({values})")
        session.execute("update fuzz_changes set c2 = c2 + 1")
        session.execute("update fuzz_changes set id = default")
        session.execute("alter table fuzz_changes replica identity full")
        session.execute("update fuzz_changes set c9 = repeat('long', 1000)")
        session.execute("update fuzz_changes set c2 = null")
        session.execute("alter table fuzz_changes replica identity default")
        session.execute("update fuzz_changes set c3 = 5")
        session.execute("delete from fuzz_changes; truncate fuzz_changes")
        for slot, binary in (("fuzz_binary", b"\1"), ("fuzz_text", b"\0")):
            rows = session.execute(
                "select data from pg_logical_slot_peek_binary_changes(%s, null, null, 'proto_version', '1', "
                "'publication_names', 'fuzz', 'binary', %s)", [slot, str(binary == b"\1").lower()]).fetchall()  # fmt: skip
            messages = [bytes(data) for (data,) in rows]
            short = [message for message in messages if len(message) < 1500]
            keep("postgres_pgoutput", slot, binary + sized(short))
        frames("fuzz_binary")
    finally:
        for slot in ("fuzz_binary", "fuzz_text"):
            # Its reader has gone, but the server may not have noticed yet.
            for _ in range(50):
                try:
                    session.execute("select pg_drop_replication_slot(%s)", [slot])
                    break
                except psycopg.errors.ObjectInUse:
                    time.sleep(0.1)
        session.execute("drop publication fuzz; drop table fuzz_changes")


def frames(slot):
    url = urlparse(POSTGRES)
    recorder = Recorder((url.hostname, url.port))
    dsn = f"host=127.0.0.1 port={recorder.port} user={url.username} password={url.password} dbname={url.path[1:]} sslmode=disable"
    client = subprocess.Popen(
        ["pg_recvlogical", "-d", dsn, "--slot", slot, "--start", "-f", "/dev/null", "-o", "proto_version=1",
         "-o", "publication_names=fuzz"])  # fmt: skip
    try:
        client.wait(3)
    except subprocess.TimeoutExpired:
        client.terminate()
        client.wait()
    answers = b"".join(data for by_client, data in recorder.sessions[0] if not by_client)
    at, answer, following = 0, b"", False
    kept = []
    while at + 5 <= len(answers):
        end = at + 1 + struct.unpack(">I", answers[at + 1 : at + 5])[0]
        message = answers[at:end]
        if following and len(message) < 400:
            kept.append(message)
        following |= message[:1] == b"W"
        if not following and message[:1] in b"TDCZ":
            answer += message
        at = end
    keep("postgres_replication", "frames", b"\5" + b"".join(kept))
    keep("postgres_replication", "answer", b"\6" + answer)
    keep("postgres_replication", "error", b"\7" + b"E" + struct.pack(">I", 4 + 20) + b"C42710\0Mthere is\0\0\0\0\0")


# --- MySQL ---

# Which of the shapes in connectors/mysql/src/fuzz.rs values of a type are read as.
SHAPES = {1: 2, 2: 2, 3: 3, 8: 4, 4: 8, 5: 9, 246: 10, 10: 16, 12: 19, 7: 19, 11: 18, 245: 12, 252: 12, 253: 12, 254: 12}


def packets(data):
    while len(data) >= 4:
        length = int.from_bytes(data[:3], "little")
        yield data[4 : 4 + length]
        data = data[4 + length :]


def mysql(name, source):
    url = urlparse(source)
    recorder = Recorder((url.hostname, url.port))
    proxy = f"mysql://{url.username}:{url.password}@127.0.0.1:{recorder.port}/fuzz_seeds?sslmode=disable"
    folder = tempfile.mkdtemp()
    with pymysql.connect(host=url.hostname, port=url.port, user=url.username, password=url.password) as session:
        session.cursor().execute("create database if not exists fuzz_seeds")
    try:
        run(TIDEWAY, "copy", POSTGRES, f"{source}/fuzz_seeds?sslmode=disable", "--table", "public.fuzz", "--mode", "snapshot")
        run(TIDEWAY, "copy", proxy, f"file://{folder}?format=csv", "--mode", "snapshot")
    finally:
        shutil.rmtree(folder)
    for session in recorder.sessions:
        answers = b"".join(data for by_client, data in session if not by_client)
        # From the greeting on: up to the settings, and on.
        keep("mysql_session", f"{name}_greeting", bytes([1, 3]) + answers[:400])
        keep("mysql_session", f"{name}_settling", bytes([2, 5]) + answers[:1200])
        # The protocol's code of the command stands behind four bytes of header.
        begun = [at for at, (by_client, data) in enumerate(session) if by_client and data[4:5] == b"\x16"]
        for at in begun:
            behind = b"".join(data for by_client, data in session[at:] if not by_client)
            if len(behind) < 6000:
                keep("mysql_session", f"{name}_rows", bytes([4, 9]) + behind)
        executed = [at for at, (by_client, data) in enumerate(session) if by_client and data[4:5] == b"\x17"]
        for at in executed:
            rows(name, [data for by_client, data in session[at:] if not by_client])


def rows(name, said):
    first, *others = packets(b"".join(said))
    count = first[0]
    about = b""
    for column in others[:count]:
        # At the end: character set, length, code, flags, decimals, two bytes of nothing.
        code, flags = column[-6], int.from_bytes(column[-5:-3], "little")
        about += bytes([code, int(flags & 0x20 > 0), SHAPES.get(code, 12)])
    found = [row for row in others[count + 1 :] if row[:1] == b"\0"]
    if 0 < count < 32 and found:
        keep("mysql_rows", name, bytes([count]) + about + sized(found[:3]))


# One column of each kind, with a value.
LOGGED = [
    ("tinyint", "-3"), ("int unsigned", "7"), ("bigint", "-5000000000"), ("float", "0.5"), ("double", "0.1"),
    ("decimal(12,2)", "-1234.50"), ("bit(9)", "5"), ("year", "2024"), ("date", "'2024-02-29'"), ("time(3)", "'-10:00:00.5'"),
    ("datetime(6)", "'2024-02-29 12:00:00.25'"), ("timestamp", "'2024-02-29 12:00:00'"), ("enum('a','b')", "'b'"),
    ("set('a','b')", "'a,b'"), ("json", "'{\"a\": [1, null, 2.5]}'"), ("text", "'long'"),
]  # fmt: skip


def binlog(name, source):
    """A log file from its beginning, as it lies on the disk of a server of this machine."""
    url = urlparse(source)
    with pymysql.connect(host=url.hostname, port=url.port, user=url.username, password=url.password, autocommit=True) as session:
        cursor = session.cursor()

        def asked(sql):
            cursor.execute(sql)
            return cursor.fetchall()

        asked("create database if not exists fuzz_seeds")
        asked("use fuzz_seeds")
        asked("drop table if exists t, s")
        asked("flush binary logs")
        asked(f"create table t ({', '.join(f'c{at} {kind}' for at, (kind, _) in enumerate(LOGGED))}, primary key (c0))")
        asked("create table s (id int primary key, a varchar(20) character set latin1, b binary(16), c varchar(9))")
        asked(f"insert into t values ({', '.join(value for _, value in LOGGED)})")
        asked("update t set c1 = null, c5 = 1")
        asked("update t set c0 = 8")
        asked("insert into s values (1, 'Zo\u00eb', 'x', null), (2, null, null, 'y')")
        asked("alter table s add column d int default 3")
        asked("set session binlog_transaction_compression = on" if name == "mysql" else "set global log_bin_compress = on, global log_bin_compress_min_len = 10")
        asked("update s set c = repeat('z', 9)")
        asked("delete from t")
        if name == "mariadb":
            asked("set global log_bin_compress = off")
        asked("drop table t, s")
        file = asked("show binary logs")[-1][0]
        base = asked("select @@log_bin_basename")[0][0]
    data = (Path(base).parent / file).read_bytes()
    at, events = 4, []
    while at < len(data):
        size = int.from_bytes(data[at + 9 : at + 13], "little")
        # At the end stands the checksum.
        events.append(data[at : at + size - 4])
        at += size
    keep("mysql_binlog", name, bytes([int(name == "mariadb")]) + sized(events))
    keep("mysql_binlog", f"{name}_checked", bytes([2 + int(name == "mariadb")]) + sized(events[-12:]))


# --- files ---


def files():
    texts = {
        "plain": b"\0\3id,name,amount,at,ok\n1,Ada,12.50,2024-02-29T12:00:00Z,true\n2,\"say \"\"hi\"\"\",,,false\n",
        "tabs": b"\7\1a title\n1\t2\r\nx\t\"y\nz\"\n",
        "numbers": b"\0\2a,b,c,d\n1,1.5,1e-5,00012\n-9223372036854775808,.5,NaN,12345678901234567890\n",
        "times": b"\0\4a,b,c\n2024-01-31,2024-01-31 10:00:00,2024-01-31 12:00:00+02\n0001-01-01,,\n",
    }
    for name, text in texts.items():
        keep("files_csv", name, text)
    texts = {
        "lines": b'\3{"a":1,"b":"x\\u00e9","c":[1,{"d":null}]}\n{"a":2.5,"b":null,"e":true}\n',
        "array": b'\5[{"a": 1e3, "b": "}{\\""},\n {"a": 12345678901234567890}]',
    }
    for name, text in texts.items():
        keep("files_json", name, text)
    table = pa.table({
        "i": pa.array([1, None, 3], pa.int32()), "s": ["x", "y", "x"], "l": [[1, 2], None, []],
        "d": pa.array([1, 2, None], pa.decimal128(12, 2)), "t": pa.array([0, 1, 2], pa.timestamp("ns", "UTC")),
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for codec in ("none", "snappy", "zstd", "gzip", "lz4"):
            path = Path(folder) / codec
            columns = table if codec == "none" else table.select(["i", "s"])
            pq.write_table(columns, path, compression=codec, write_statistics=codec == "none", store_schema=False)
            keep("files_parquet", codec, path.read_bytes())


if __name__ == "__main__":
    shutil.rmtree(SEEDS, ignore_errors=True)
    files()
    with psycopg.connect(POSTGRES, autocommit=True) as session:
        postgres(session)
        mysql("mysql", MYSQL)
        mysql("mariadb", MARIADB)
        binlog("mysql", MYSQL)
        binlog("mariadb", MARIADB)
        session.execute("drop table fuzz")
    size = sum(path.stat().st_size for path in SEEDS.rglob("*") if path.is_file())
    print(f"{size} bytes of seeds")
