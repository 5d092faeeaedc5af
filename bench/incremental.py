#!/usr/bin/env python3
"""What an incremental run costs: 1,000 changed rows of 1,000,000, by an indexed tracking field.

Starts PostgreSQL and `tideway serve`, loads the table, changes rows, runs again, and prints
what the databases had to do for it: `scripts/bench.sh --incremental`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from contenders import PORT, SERVER, tool
from run import machine, output, postgres, query
from shapes import MIXED, MIXED_ROWS

LISTEN = "127.0.0.1:21433"


def call(method, path, body=None):
    request = urllib.request.Request(f"http://{LISTEN}{path}", method=method)
    request.add_header("Authorization", "Bearer bench-key-of-no-account")
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data) as answer:
        return json.load(answer)["data"]


def serve(work):
    """A server whose folder is in `work`, once it answers."""
    env = os.environ | {"TIDEWAY_API_KEY": "bench-key-of-no-account"}
    command = [tool("TIDEWAY_BIN"), "serve", "--listen", LISTEN, "--data-dir", str(work / "data")]
    with open(work / "serve.log", "w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://{LISTEN}/readyz").read()
            break
        except OSError:
            time.sleep(0.1)
    return server


def connection(name, database, **more):
    settings = {
        "host": "127.0.0.1", "port": PORT, "database": database,
        "username": "tideway", "password": "tideway", "sslmode": "disable", **more,
    }  # fmt: skip
    return call("POST", "/api/connections", {"name": name, "type": "postgresql", "configuration": settings})["id"]


def execute(sync):
    begin = time.perf_counter()
    place = f"/api/bulk/syncs/{sync}/executions"
    execution = call("POST", place, {})["id"]
    while True:
        found = call("GET", f"{place}/{execution}")
        if found["status"] not in ("created", "scheduled", "queued", "running", "processing", "exporting"):
            break
        time.sleep(0.02)
    if found["status"] != "completed":
        sys.exit(f"the execution ended as {found['status']}: {found}")
    return time.perf_counter() - begin, found.get("record_count")


def work_done(database):
    """Blocks looked at in tables and their indexes, and sequential scans, per table."""
    sql = """select coalesce(json_object_agg(s.relname, json_build_array(
        heap_blks_read + heap_blks_hit, coalesce(idx_blks_read + idx_blks_hit, 0), seq_scan, n_tup_ins + n_tup_upd)), '{}')
        from pg_statio_user_tables s join pg_stat_user_tables t using (relid) where s.relname in ('bench')"""
    time.sleep(1.2)  # statistics come a second late
    return json.loads(query(sql, database)).get("bench", [0, 0, 0, 0])


def measure(what, change, changed, sync):
    query(change, "src")
    before = {name: work_done(name) for name in ("src", "dst")}
    wal = query("select pg_current_wal_insert_lsn()")
    seconds, count = execute(sync)
    wal = int(query(f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{wal}')::bigint"))
    cells = [what, f"{changed:,}", f"{count or 0:,}", f"{seconds:.2f}", f"{wal / 1e6:.2f}"]
    for name in ("src", "dst"):
        heap, index, scans, written = (a - b for a, b in zip(work_done(name), before[name]))
        cells += [f"{heap:,}", f"{index:,}", str(scans)] + ([f"{written:,}"] if name == "dst" else [])
    print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)
    server = None
    try:
        postgres("start", work, "on")
        for name in ("src", "dst"):
            query(f"create database {name}")
        query(f"create table bench ({MIXED}, changed_at timestamptz not null default clock_timestamp())", "src")
        query(f"insert into bench {MIXED_ROWS.format(rows=rows)}", "src")
        query("create index on bench (changed_at)", "src")
        query("vacuum analyze bench", "src")
        server = serve(work)
        sync = call("POST", "/api/bulk/syncs", {
            "name": "incremental", "mode": "replicate", "active": True,
            "source_connection_id": connection("src", "src"), "destination_connection_id": connection("dst", "dst"),
            "destination_configuration": {"schema": "public"},
            "default_schedule": {"frequency": "manual"},
            "schemas": [{"id": "public.bench", "enabled": True, "tracking_field": "changed_at"}],
        })["id"]  # fmt: skip
        print(f"{machine()}. {output([tool('TIDEWAY_BIN'), '--version'])}. {rows:,} rows of 13 columns.\n")
        seconds, _ = execute(sync)
        print(f"First run: {seconds:.2f} s.\n")
        print("| run | changed | read | s | WAL MB | source: heap blocks | index blocks | scans "
              "| destination: heap blocks | index blocks | scans | rows written |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|---|---|---|")
        spread = f"update bench set quantity = quantity + 1, changed_at = now() where id % {rows // 1000} = 7"
        measure("nothing changed", "select 1", 0, sync)
        measure("1,000 changed", spread, 1000, sync)
        measure("1,000 changed", spread, 1000, sync)
        added = MIXED_ROWS.format(rows=1000).replace("select g,", f"select g + {rows},", 1)
        measure("1,000 added", f"insert into bench {added}", 1000, sync)
        measure("nothing changed", "select 1", 0, sync)
        counted = "select count(*), sum(quantity) from bench"
        if query(counted, "src") != query(counted, "dst"):
            sys.exit("the destination differs from the source")
    finally:
        if server:
            server.terminate()
            server.wait()
        postgres("stop", work, "on")
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    print(f"(against {SERVER})", file=sys.stderr)
    main()
