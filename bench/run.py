#!/usr/bin/env python3
"""Times `tideway copy` against psql's COPY and sling; how and why stands in README.md."""

import argparse
import datetime
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PORT = 21_432
SERVER = f"postgresql://tideway:tideway@127.0.0.1:{PORT}"
# Without TLS for all of them: psql would use it unasked, others would not.
SOURCE = f"{SERVER}/src?sslmode=disable"
TARGET = f"{SERVER}/dst?sslmode=disable"

COLUMNS = """
    id bigint primary key, uid uuid not null, name text not null, note text,
    amount numeric(12,2) not null, score double precision, quantity integer, active boolean,
    created_at timestamptz not null, seen_at timestamp, day date, document jsonb"""
ROWS = """
    select g, md5(g::text)::uuid, 'customer ' || g, case when g % 10 > 0 then repeat(md5(g::text), 2) end,
           (g % 9999999) / 100.0, sqrt(g), g % 1000, g % 3 = 0,
           timestamptz '2024-01-01 00:00:00+00' + g * interval '1 second',
           timestamp '2024-01-01' + g * interval '17 milliseconds', date '2000-01-01' + (g % 9000)::int,
           jsonb_build_object('tier', g % 5, 'city', 'town ' || g % 300, 'tags', jsonb_build_array('a', g % 7))
    from generate_series(1, {rows}) g"""
# Each value of each row counts, and so does its spelling: a type that got lost shows.
DIGEST = """select count(*) || ' ' || sum(hashtextextended(row(id, uid, name, note, amount, score, quantity,
    active, created_at, seen_at, day, document)::text, 0)) from {table}"""


# --- the contenders: how each is called, and where its result is looked for ---


def psql_pipe(options):
    def command(_):
        read = f"psql -qX '{SOURCE}' -c 'copy public.bench to stdout {options}'"
        write = f"psql -qX '{TARGET}' -c 'copy dst.bench from stdin {options}'"
        return ["bash", "-c", f"set -o pipefail; {read} | {write}"]

    return command


def tideway_table(_):
    return tideway(f"{TARGET}&schema=dst")


def tideway_parquet(folder):
    return tideway(f"file://{folder}?format=parquet")


def tideway(target):
    return [tool("TIDEWAY_BIN"), "copy", SOURCE, target, "--table", "public.bench", "--mode", "snapshot"]


def sling_table(_):
    return sling("--tgt-conn", TARGET, "--tgt-object", "dst.bench")


def sling_parquet(folder):
    return sling("--tgt-object", f"file://{folder}/bench.parquet")


def sling(*target):
    return [tool("TIDEWAY_SLING"), "run", "--src-conn", SOURCE, "--src-stream", "public.bench", *target]


@dataclass
class Contender:
    command: object
    kind: str  # of destination: table or parquet
    makes_table: bool = True
    runs: list = field(default_factory=list)


CONTENDERS = {
    "psql-text": Contender(psql_pipe(""), "table", makes_table=False),
    "psql-binary": Contender(psql_pipe("(format binary)"), "table", makes_table=False),
    "tideway": Contender(tideway_table, "table"),
    "sling": Contender(sling_table, "table"),
    "tideway-parquet": Contender(tideway_parquet, "parquet"),
    "sling-parquet": Contender(sling_parquet, "parquet"),
}
# What each is compared with, and what the project promises of that ratio.
BASELINES = {"table": "psql-text", "parquet": "sling-parquet"}
BOUNDS = {"tideway": 2.0, "tideway-parquet": 1.0}
MEMORY_BOUND = 200


# --- measuring ---


@dataclass
class Run:
    wall: float
    cpu: float
    server_cpu: float
    memory: float  # MiB, of the largest process
    same: str
    note: str


def run_once(contender, work, rows, digest):
    target = work / "parquet"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    query("drop schema if exists dst cascade; create schema dst", "dst")
    if not contender.makes_table:
        query(f"create table dst.bench ({COLUMNS})", "dst")
    query("checkpoint")

    with open(work / "contender.log", "w+") as log:
        server_before, begin = server_cpu(work), time.perf_counter()
        process = subprocess.Popen(contender.command(target), env=environment(), stdout=log, stderr=log, cwd=work)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{process.args} ended with {process.returncode}:\n{log.read()[-4000:]}")
    time.sleep(0.5)  # until the server has seen its backends end
    served = server_cpu(work) - server_before

    same, note = (check_table if contender.kind == "table" else check_parquet)(target, rows, digest)
    return Run(wall, usage.ru_utime + usage.ru_stime, served, usage.ru_maxrss / 1024, same, note)


def check_table(_, rows, digest):
    found = query(DIGEST.format(table="dst.bench"), "dst")
    if int(found.split()[0]) != rows:
        sys.exit(f"the destination has {found.split()[0]} rows, not {rows}")
    key = query("select count(*) from pg_index where indrelid = 'dst.bench'::regclass and indisprimary", "dst")
    return ("yes" if found == digest else "no"), ("primary key" if key == "1" else "no primary key")


def check_parquet(folder, rows, _):
    files = sorted(folder.rglob("*.parquet"))
    count = "import sys, pyarrow.parquet as p; print(sum(p.read_metadata(f).num_rows for f in sys.argv[1:]))"
    found = output([tool("TIDEWAY_BENCH_PYTHON"), "-c", count, *map(str, files)])
    if int(found) != rows:
        sys.exit(f"the Parquet files have {found} rows, not {rows}")
    size = sum(file.stat().st_size for file in files) / 1e6
    return "not compared", f"{len(files)} file{'s' if len(files) > 1 else ''}, {size:.0f} MB"


def server_cpu(work):
    """Seconds that the backends which have ended used, as their parent counts them."""
    pid = (work / "postgres/data/postmaster.pid").read_text().split()[0]
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


# --- the machine and the server ---


def output(command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment()).stdout.strip()


def query(sql, database="postgres"):
    return output(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", f"{SERVER}/{database}", "-c", sql])


def tool(variable):
    return os.environ.get(variable) or sys.exit(f"{variable} is not set: run scripts/bench.sh")


def environment():
    return os.environ | {
        "PGOPTIONS": "-c client_min_messages=warning",
        # Otherwise it fetches the DuckDB program to write Parquet, and reports that it was used.
        "SLING_DUCKDB_COMPUTE": "FALSE",
        "SLING_DISABLE_TELEMETRY": "TRUE",
    }


def postgres(action, work, fsync):
    script = [ROOT / "scripts/servers/postgres.sh", action, work / "postgres", str(PORT)]
    subprocess.run(script, check=True, env=os.environ | {"TIDEWAY_POSTGRES_FSYNC": fsync})


def prepare(rows):
    for database in ["src", "dst"]:
        query(f"create database {database}")
    query(f"create table public.bench ({COLUMNS}); insert into public.bench {ROWS.format(rows=rows)}", "src")
    query("vacuum analyze public.bench", "src")
    return query(DIGEST.format(table="public.bench"), "src"), query("select pg_table_size('bench') / 1000000", "src")


def machine():
    models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) / 2**20
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB of memory, Linux {platform.release().split('-')[0]}"


def versions(chosen):
    found = [f"PostgreSQL {query('show server_version').split()[0]}"]
    if any(name.startswith("tideway") for name in chosen):
        found.append(output([tool("TIDEWAY_BIN"), "--version"]))
    if any(name.startswith("sling") for name in chosen):
        found.append("sling " + output([tool("TIDEWAY_SLING"), "--version"]).split()[-1])
    return ", ".join(found)


# --- the report ---


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(chosen, name):
    """Round by round, so that a machine that slows down slows both."""
    baseline = chosen.get(BASELINES[chosen[name].kind])
    return [a.wall / b.wall for a, b in zip(chosen[name].runs, baseline.runs)] if baseline else []


def table(chosen, kind, rows):
    lines = [
        f"| {kind} | wall s | times {BASELINES[kind]} | client CPU s | server CPU s | rows per client CPU s "
        "| peak MiB | same values | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, contender in chosen.items():
        if contender.kind != kind:
            continue
        runs, compared = contender.runs, ratios(chosen, name)
        cells = [
            name,
            spread([run.wall for run in runs]),
            spread(compared) if compared else "",
            spread([run.cpu for run in runs]),
            spread([run.server_cpu for run in runs]),
            f"{statistics.median(rows / max(run.cpu, 0.001) for run in runs):,.0f}",
            spread([run.memory for run in runs], 0),
            "/".join(sorted({run.same for run in runs})),
            "; ".join(sorted({run.note for run in runs})),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def bounds(chosen):
    lines = []
    for name, bound in BOUNDS.items():
        if name in chosen and (compared := ratios(chosen, name)):
            ratio, peak = statistics.median(compared), max(run.memory for run in chosen[name].runs)
            kept = "kept" if ratio <= bound and peak < MEMORY_BOUND else "MISSED"
            baseline = BASELINES[chosen[name].kind]
            lines.append(
                f"- {name}: {ratio:.2f} times {baseline} (bound {bound:g}), "
                f"{peak:.0f} MiB at most (bound {MEMORY_BOUND}): {kept}"
            )
    return "\n".join(lines) + "\n"


def report(chosen, options, about, size):
    raw = [
        f"| {i + 1} | {name} | {run.wall:.2f} | {run.cpu:.2f} | {run.server_cpu:.2f} | {run.memory:.0f} |"
        for i in range(options.rounds)
        for name, run in ((name, contender.runs[i]) for name, contender in chosen.items())
    ]
    tables = [table(chosen, kind, options.rows) for kind in BASELINES]
    results = "\n".join(part for part in [*tables, bounds(chosen)] if part)
    return f"""# Bench of {datetime.date.today()}

{options.rows:,} rows of 12 columns ({size} MB), {options.rounds} rounds, fsync {options.fsync}.
{machine()}. {about}.
Medians, with the range in brackets; method: [bench/README.md](../README.md).

{results}
## Observations

To be written by whoever ran it: what surprised, what was busy beside it.

## Every run

| round | contender | wall s | client CPU s | server CPU s | peak MiB |
|---|---|---|---|---|---|
""" + "\n".join(raw) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, with commas between (default: all)")
    parser.add_argument("--fsync", choices=["on", "off"], default="on")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results", help="where the report goes")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(CONTENDERS)
    if unknown:
        parser.error(f"no such contender: {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    chosen = {name: CONTENDERS[name] for name in options.only.split(",")}

    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)  # the server may run as another user
    try:
        postgres("start", work, options.fsync)
        about = versions(chosen)
        digest, size = prepare(options.rows)
        for i in range(options.rounds):
            # Single runs in turn, the first one moving on: a machine that drifts drifts for all.
            for name in [*chosen][i % len(chosen) :] + [*chosen][: i % len(chosen)]:
                run = run_once(chosen[name], work, options.rows, digest)
                chosen[name].runs.append(run)
                print(f"round {i + 1}: {name:16} {run.wall:7.2f} s {run.memory:6.0f} MiB", file=sys.stderr)
    finally:
        postgres("stop", work, options.fsync)
        shutil.rmtree(work, ignore_errors=True)

    text = report(chosen, options, about, size)
    print("\n" + text.split("## Observations")[0])
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{datetime.date.today()}.md"
    path.write_text(text)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
