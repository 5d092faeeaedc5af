#!/usr/bin/env python3
"""How rows get into MySQL: `LOAD DATA LOCAL` against statements of many rows, which is what
tideway sends where the server takes no files: `scripts/bench.sh --loading`.

Alternates run by run, each time into an empty database, and prints seconds and their ratio."""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from contenders import MYSQL, MYSQL_PORT, generated, tool
from run import environment, machine, mysql, output, postgres, query
from shapes import SHAPES

WAYS = {"load data": "on", "statements": "off"}


CLIENT = """
import sys, pymysql
with pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="tideway", password="tideway") as session:
    cursor = session.cursor()
    for sql in sys.argv[2:]:
        cursor.execute(sql)
    print(*(cursor.fetchone() or ()))
"""


def server(*statements):
    """What the last one answers."""
    return output([tool("TIDEWAY_BENCH_PYTHON"), "-c", CLIENT, str(MYSQL_PORT), *statements])


def run_once(job, rows, way):
    files = f"set global local_infile = {WAYS[way]}"
    server(files, "drop database if exists bench", "create database bench")
    command = [tool("TIDEWAY_BIN"), "copy", job, f"{MYSQL}?sslmode=disable", "--table", "public.bench", "--mode", "snapshot"]
    begin = time.perf_counter()
    subprocess.run(command, check=True, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    assert int(server("select count(*) from bench.bench")) == rows, "rows are missing"
    return wall


def measure(name, options):
    shape = SHAPES[name]
    shape.rows = options.rows or shape.rows
    query(f"create database src_{name}")
    for statement in shape.statements():
        query(statement, f"src_{name}")
    query("vacuum analyze", f"src_{name}")
    taken = {way: [] for way in WAYS}
    for i in range(options.rounds):
        for way in list(WAYS)[:: 1 if i % 2 else -1]:
            taken[way].append(run_once(generated(name), shape.rows, way))
    ratios = [slow / fast for fast, slow in zip(*taken.values())]
    for way, runs in taken.items():
        print(f"{name}, {shape.rows} rows, {way}: {statistics.median(runs):.2f} s ({min(runs):.2f} to {max(runs):.2f})")
    print(f"{name}: statements take {statistics.median(ratios):.2f} times as long")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="instead of the shape's own number")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", default="mixed,narrow,wide")
    parser.add_argument("--fsync", choices=["on", "off"], default="on")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)  # the servers may run as other users
    try:
        postgres("start", work, options.fsync)
        mysql("start", work, options.fsync)
        print(f"{machine()}, MySQL {server('select version()')}, fsync {options.fsync}")
        for name in options.shapes.split(","):
            measure(name, options)
    finally:
        postgres("stop", work, options.fsync)
        mysql("stop", work, options.fsync)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
