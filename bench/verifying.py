#!/usr/bin/env python3
"""What it costs that loads are verified: `tideway copy` with and without `--no-verify`, in
alternation and on the same data, into each kind of destination: `scripts/bench.sh --verifying`.

Prints seconds, rows per second of the program's own CPU time, peak memory, and ratios within a
round."""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from contenders import MYSQL, TARGET, generated, tool
from loading import server
from report import spread
from run import environment, machine, mysql, output, postgres, query
from shapes import SHAPES

WAYS = {"verified": [], "not verified": ["--no-verify"]}
# Tables whose columns of documents are json rather than jsonb do not pass undecoded.
DESTINATIONS = {
    "postgresql, passed": TARGET,
    "postgresql, decoded": TARGET,
    "mysql": f"{MYSQL}?sslmode=disable",
    "sqlite": "sqlite:///{folder}/copy.db",
    "duckdb": "duckdb:///{folder}/copy.duckdb",
    "parquet": "file://{folder}/copy?format=parquet",
}


@dataclass
class Run:
    wall: float
    cpu: float
    memory: float  # MiB


def run_once(source, target, folder, more):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    query("drop database if exists dst with (force)")
    query("create database dst")
    query("checkpoint")
    if target.startswith("mysql"):
        server("drop database if exists bench", "create database bench")
    command = [tool("TIDEWAY_BIN"), "copy", source, target.format(folder=folder), "--table", "public.bench", "--mode", "snapshot", *more]
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    # A run that could not be verified would look cheap.
    assert ("verified: " in said and "not verified" not in said) == (not more), said
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(name, source, rows, rounds, folder):
    runs = {way: [] for way in WAYS}
    for i in range(rounds):
        for way in list(WAYS)[:: 1 if i % 2 else -1]:
            runs[way].append(run_once(source, DESTINATIONS[name], folder, WAYS[way]))
    for way, taken in runs.items():
        print(
            f"| {name} | {way} | {spread([run.wall for run in taken])} "
            f"| {statistics.median(rows / run.cpu for run in taken):,.0f} | {spread([run.memory for run in taken], 0)} |"
        )
    pairs = list(zip(*runs.values()))
    wall, cpu, memory = ([getattr(one, what) / getattr(other, what) for one, other in pairs] for what in ("wall", "cpu", "memory"))
    print(f"| {name} | ratio | {spread(wall)} | CPU time {spread(cpu)} | {spread(memory)} |", flush=True)


def prepare(rows):
    shape = SHAPES["mixed"]
    shape.rows = rows or shape.rows
    for database, document in [("mixed", "jsonb"), ("decoded", "json")]:
        query(f"create database src_{database}")
        for statement in shape.statements():
            query(statement.replace("document jsonb", f"document {document}"), f"src_{database}")
        query("vacuum analyze", f"src_{database}")
    return shape.rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="instead of 1,000,000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help=f"destinations, with semicolons between (default: all): {'; '.join(DESTINATIONS)}")
    parser.add_argument("--fsync", choices=["on", "off"], default="on")
    options = parser.parse_args()
    names = [name.strip() for name in options.only.split(";")] if options.only else list(DESTINATIONS)
    if unknown := set(names) - set(DESTINATIONS):
        parser.error(f"no such destination: {'; '.join(unknown)}")
    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)  # the servers may run as other users
    try:
        postgres("start", work, options.fsync)
        if "mysql" in names:
            mysql("start", work, options.fsync)
        rows = prepare(options.rows)
        print(f"{machine()}, {output([tool('TIDEWAY_BIN'), '--version'])}, {rows} rows, fsync {options.fsync}, {options.rounds} rounds\n")
        print("| destination | | wall s | rows per CPU s | peak MiB |\n|---|---|---|---|---|")
        for name in names:
            source = generated("decoded" if name.endswith("decoded") else "mixed")
            measure(name, source, rows, options.rounds, work / "own")
    finally:
        postgres("stop", work, options.fsync)
        mysql("stop", work, options.fsync)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
