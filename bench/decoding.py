#!/usr/bin/env python3
"""How fast rows are decoded on one core, without a server and without a network:
`scripts/bench.sh --decoding`.

A server's own bytes are recorded: the stream of a transaction that updates every row of `mixed`,
by pgoutput in binary form, and the COPY of the same table. Both are decoded in turn, which says
what a change costs beside a row of a snapshot."""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import psycopg

from contenders import SERVER, tool
from run import machine, output, postgres, query
from shapes import SHAPES


def record(work, rows):
    shape = SHAPES["mixed"]
    shape.rows = rows
    query("create database src")
    for statement in shape.statements():
        query(statement, "src")
    with psycopg.connect(f"{SERVER}/src", autocommit=True) as session:
        session.execute("create publication recorded for table bench")
        session.execute("select pg_create_logical_replication_slot('recorded', 'pgoutput')")
        session.execute("update bench set quantity = quantity + 1")
        with open(work / "pgoutput", "wb") as file, session.cursor(binary=True) as cursor:
            messages = cursor.stream(
                "select data from pg_logical_slot_get_binary_changes('recorded', null, null,"
                " 'proto_version', '2', 'publication_names', 'recorded', 'binary', 'true')"
            )
            for (message,) in messages:
                file.write(len(message).to_bytes(4, "big") + message)
        with open(work / "copy", "wb") as file, session.cursor() as cursor:
            with cursor.copy("copy bench to stdout (format binary)") as copied:
                for piece in copied:
                    file.write(piece)


def decode(what, work, rows):
    """Rows per second."""
    program = [tool("TIDEWAY_DECODING"), what, str(work / what), "3"]
    found, seconds = output(["taskset", "-c", "0", *program]).split()
    assert int(found) == rows, f"{what}: {found} rows of {rows}"
    return rows / float(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)  # the server may run as another user
    try:
        postgres("start", work, "off")
        record(work, options.rows)
        rates = {"copy": [], "pgoutput": []}
        for i in range(options.rounds):
            for what in list(rates)[:: 1 if i % 2 else -1]:
                rates[what].append(decode(what, work, options.rows))
        print(f"{machine()}, {options.rows:,} rows of `mixed`, one core\n")
        print("| bytes | rows/s |")
        print("|---|---|")
        for what, found in rates.items():
            print(f"| {what} | {statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f}) |")
        ratios = [stream / copied for copied, stream in zip(rates["copy"], rates["pgoutput"])]
        print(f"\nA change is decoded at {statistics.median(ratios):.2f} times the rate of a copied row.")
    finally:
        postgres("stop", work, "off")
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
