#!/usr/bin/env python3
"""Change streams from PostgreSQL to PostgreSQL: how fast a backlog is applied, against the
server's own subscription, and how long a change takes to arrive: `scripts/bench.sh --streaming`.

A backlog is made while nobody reads; each contender has a slot and a database of its own and
then works it off alone, in turn, the first one changing from round to round. A contender is
done when its table holds the version of every row that the source holds."""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psycopg

from contenders import PORT, SERVER, tool
from incremental import call, connection, execute, serve
from run import machine, output, postgres, query
from shapes import MIXED, MIXED_ROWS

BACKLOGS = {
    "one transaction": "update bench set quantity = quantity + 1, note = 'round ' || quantity where id <= {rows}",
    "transactions of 10": """
        do $$ begin
            for i in 0 .. {rows} / 10 - 1 loop
                update bench set quantity = quantity + 1, note = 'round ' || quantity
                    where id > i * 10 and id <= i * 10 + 10;
                commit;
            end loop;
        end $$""",
    "one transaction of inserts": "insert into bench {inserts}",
}
ADDED_UP = "select count(*), sum(quantity), sum(length(note)) from bench"


def until(condition, seconds=600):
    end = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > end:
            raise SystemExit("it did not catch up")
        time.sleep(0.02)


class Subscription:
    """Publication and slot beforehand: made by the subscription itself, within one server, they
    would wait for each other."""

    database = "dst_subscription"

    def prepare(self):
        query("create publication bench_subscription for table bench", "src")
        query(f"create table bench ({MIXED})", self.database)
        query("select pg_create_logical_replication_slot('bench_subscription', 'pgoutput')", "src")
        query(
            f"create subscription bench connection 'host=127.0.0.1 port={PORT} dbname=src user=tideway password=tideway' "
            "publication bench_subscription with (create_slot = false, slot_name = bench_subscription, "
            "copy_data = false, enabled = false, binary = true, streaming = on)",
            self.database,
        )
        output(["bash", "-c", f"psql -qX {SERVER}/src -c 'copy bench to stdout (format binary)' | "
                              f"psql -qX {SERVER}/{self.database} -c 'copy bench from stdin (format binary)'"])  # fmt: skip

    def work_off(self, expected):
        begin = time.perf_counter()
        query("alter subscription bench enable", self.database)
        with psycopg.connect(f"{SERVER}/{self.database}", autocommit=True) as session:
            until(lambda: totals(session) == expected)
        seconds = time.perf_counter() - begin
        query("alter subscription bench disable", self.database)
        return seconds, None


class Tideway:
    database = "dst"

    def __init__(self, server):
        self.server = server

    def prepare(self):
        self.source = connection("src", "src", change_detection=True)
        self.sync = sync_of(self.source, connection("dst", "dst"), "manual")
        execute(self.sync)

    def work_off(self, expected):
        before = cpu_of(self.server)
        seconds, _ = execute(self.sync)
        with psycopg.connect(f"{SERVER}/{self.database}", autocommit=True) as session:
            assert totals(session) == expected, "the destination differs from the source"
        return seconds, cpu_of(self.server) - before


def sync_of(source, target, frequency):
    return call("POST", "/api/bulk/syncs", {
        "name": f"streaming {frequency}", "mode": "replicate", "active": True,
        "source_connection_id": source, "destination_connection_id": target,
        "destination_configuration": {"schema": "public", "advanced": {"hard_deletes": True}},
        "default_schedule": {"frequency": frequency},
        "schemas": [{"id": "public.bench", "enabled": True}],
    })["id"]  # fmt: skip


def totals(session):
    return session.execute(ADDED_UP).fetchone()


def cpu_of(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_of(process):
    """MiB, since the process began."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def middle(values, digits=2):
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def backlogs(server, options):
    contenders = {"subscription": Subscription(), "tideway": Tideway(server)}
    for contender in contenders.values():
        query(f"create database {contender.database}")
        contender.prepare()
    print("| backlog | contender | s | rows/s | times the subscription | rows per client CPU s |")
    print("|---|---|---|---|---|---|")
    have = options.rows
    for name, sql in BACKLOGS.items():
        runs = {contender: [] for contender in contenders}
        for i in range(options.rounds):
            inserts = MIXED_ROWS.format(rows=options.rows).replace("select g,", f"select g + {have},", 1)
            have += options.rows if "inserts" in sql else 0
            query(sql.format(rows=options.rows, inserts=inserts), "src")
            query("checkpoint")
            with psycopg.connect(f"{SERVER}/src") as session:
                expected = totals(session)
            for contender in list(contenders)[:: 1 if i % 2 else -1]:
                runs[contender].append(contenders[contender].work_off(expected))
        for contender, taken in runs.items():
            times = [seconds for seconds, _ in taken]
            ratios = [ours / theirs for ours, theirs in zip(times, (seconds for seconds, _ in runs["subscription"]))]
            rates = [options.rows / seconds for seconds in times]
            cpu = [options.rows / used for _, used in taken if used]
            cells = [middle(times), middle(rates, 0), middle(ratios), middle(cpu, 0) if cpu else "-"]
            print(f"| {name} | {contender} | {' | '.join(cells)} |", flush=True)
    query("alter subscription bench set (slot_name = none); drop subscription bench", Subscription.database)
    query("select pg_drop_replication_slot('bench_subscription')", "src")


def latency(options):
    """A row's number is raised with every transaction of a steady load, and looked for at the
    destination; what is measured is from the commit to the first look that sees it."""
    query("create database dst_latency")
    sync = sync_of(connection("latency", "src", change_detection=True), connection("to", "dst_latency"), "continuous")
    until(lambda: holds("dst_latency"))
    committed, seen, over = {}, {}, threading.Event()

    def write():
        per_transaction = 50
        pause, due, number = per_transaction / options.rate, time.perf_counter(), 0
        with psycopg.connect(f"{SERVER}/src", autocommit=True) as session:
            while not over.is_set():
                number += 1
                low = 2 + number * per_transaction % (options.rows - per_transaction)
                session.execute(
                    "update bench set quantity = quantity + 1 where id >= %s and id < %s or id = 1",
                    (low, low + per_transaction - 1),
                )
                committed[number] = time.perf_counter()
                due += pause
                time.sleep(max(0.0, due - time.perf_counter()))
        committed[None] = number

    with psycopg.connect(f"{SERVER}/src", autocommit=True) as session:
        session.execute("update bench set quantity = 0 where id = 1")
    with psycopg.connect(f"{SERVER}/dst_latency", autocommit=True) as session:
        def look():
            return session.execute("select quantity from bench where id = 1").fetchone()[0]

        until(lambda: look() == 0)
        writer = threading.Thread(target=write)
        begin, known = time.perf_counter(), 0
        writer.start()
        while time.perf_counter() < begin + options.seconds or known < committed.get(None, 1 << 60):
            found, now = look(), time.perf_counter()
            for number in range(known + 1, found + 1):
                seen[number] = now
            known = max(known, found)
            if now >= begin + options.seconds:
                over.set()
            time.sleep(0.005)
        writer.join()
    total = committed.pop(None)
    took = sorted(seen[number] - committed[number] for number in range(1, total + 1))
    rate = total * 50 / options.seconds
    at = lambda share: took[min(len(took) - 1, int(len(took) * share))]  # noqa: E731
    print(f"\n{total:,} transactions of 50 updates, {rate:,.0f} changes per second for {options.seconds} s: "
          f"median {at(0.5):.3f} s, 99th percentile {at(0.99):.3f} s, longest {took[-1]:.3f} s.")  # fmt: skip


def holds(database):
    if not query("select to_regclass('public.bench')", database):
        return False
    return query("select count(*) from bench", database) == query("select count(*) from bench", "src")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="of the table, and of each backlog")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=5_000, help="changes per second while latency is measured")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--fsync", choices=["on", "off"], default="on")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)  # the server may run as another user
    server = None
    try:
        postgres("start", work, options.fsync)
        query("create database src")
        query(f"create table bench ({MIXED})", "src")
        query(f"insert into bench {MIXED_ROWS.format(rows=options.rows)}", "src")
        query("vacuum analyze bench", "src")
        server = serve(work)
        print(f"{machine()}. PostgreSQL {query('show server_version').split()[0]}, "
              f"{output([tool('TIDEWAY_BIN'), '--version'])}. fsync {options.fsync}, {options.rounds} rounds. "
              f"{options.rows:,} rows of 12 columns.\n")  # fmt: skip
        backlogs(server, options)
        latency(options)
        print(f"Peak memory of tideway: {peak_of(server):.0f} MiB.")
    finally:
        if server:
            server.terminate()
            server.wait()
        postgres("stop", work, options.fsync)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
