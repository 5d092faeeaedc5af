#!/usr/bin/env python3
"""Times `tideway copy` against psql's COPY and other movers; how and why stands in README.md."""

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from contenders import CONTENDERS, MYSQL, MYSQL_PORT, PORT, SERVER, Job, generated, tool
from report import report
from shapes import SHAPES

ROOT = Path(__file__).resolve().parent.parent


# --- measuring ---


@dataclass
class Run:
    wall: float
    cpu: float
    server_cpu: float
    memory: float  # MiB, of the largest process
    same: str
    note: str


class Failed(Exception):
    pass


def run_once(contender, job, work, digest):
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir()
    query("drop database if exists dst with (force)")
    query("create database dst")
    if not contender.makes_table:
        for table in job.shape.tables:
            query(f"create table public.{table} ({job.shape.columns})", "dst")
    query("checkpoint")

    with open(work / "contender.log", "w+") as log:
        server_before, begin = server_cpu(work), time.perf_counter()
        command = contender.command(job)
        try:
            process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, cwd=job.folder)
        except FileNotFoundError:
            raise Failed("did not install") from None
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read()[-2000:]
    if process.returncode:
        raise Failed(f"ended with {process.returncode}:\n{said}")
    time.sleep(0.5)  # until the server has seen its backends end
    served = server_cpu(work) - server_before
    same, note = (check_tables if contender.kind == "table" else check_parquet)(job, digest, said)
    return Run(wall, usage.ru_utime + usage.ru_stime, served, usage.ru_maxrss / 1024, same, note)


def check_tables(job, digest, said):
    try:
        found = query(job.shape.digest(), "dst")
    except subprocess.CalledProcessError:
        raise Failed(f"the tables are not what was asked for:\n{said}") from None
    if int(found.split()[0]) != job.shape.all_rows():
        raise Failed(f"the destination has {found.split()[0]} rows, not {job.shape.all_rows()}:\n{said}")
    keys = int(query("select count(*) from pg_index join pg_class c on c.oid = indrelid where indisprimary "
                     "and c.relnamespace = 'public'::regnamespace and c.relname !~ '^_'", "dst"))  # fmt: skip
    keyed = "primary key" if keys >= len(job.shape.tables) else "no primary key"
    return ("yes" if found == digest else "no"), keyed


def check_parquet(job, _, said):
    files = sorted(job.folder.rglob("*.parquet"))
    count = "import sys, pyarrow.parquet as p; print(sum(p.read_metadata(f).num_rows for f in sys.argv[1:]))"
    found = output([tool("TIDEWAY_BENCH_PYTHON"), "-c", count, *map(str, files)])
    if int(found) != job.shape.all_rows():
        raise Failed(f"the Parquet files have {found} rows, not {job.shape.all_rows()}:\n{said}")
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


def mysql(action, work, fsync):
    script = [ROOT / "scripts/servers/mysql.sh", action, work / "mysql", str(MYSQL_PORT)]
    subprocess.run(script, check=True, env=os.environ | {"TIDEWAY_MYSQL_FSYNC": fsync})


def prepare(name, shape):
    """Fills the shape's database; gives the digest of its values and its size in MB."""
    database = f"src_{name}"
    query(f"create database {database}")
    for statement in shape.statements():
        query(statement, database)
    query("vacuum analyze", database)
    size = query("select sum(pg_table_size(oid)) / 1000000 from pg_class "
                 "where relkind = 'r' and relnamespace = 'public'::regnamespace", database)  # fmt: skip
    if shape.source == "mysql":
        # Without the database, which is not there yet.
        place = f"{MYSQL.removesuffix('/bench')}/?schema=bench&sslmode=disable"
        output([tool("TIDEWAY_BIN"), "copy", generated(name), place, "--table", "public.bench", "--mode", "snapshot"])
    return query(shape.digest(), database), float(size)


def machine():
    models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    cpu = models[0] if models else platform.machine()
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) / 2**20
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB of memory, Linux {platform.release().split('-')[0]}"


def versions(chosen):
    found = [f"PostgreSQL {query('show server_version').split()[0]}"]
    asked = {
        "tideway": lambda: output([tool("TIDEWAY_BIN"), "--version"]),
        "sling": lambda: "sling " + output([tool("TIDEWAY_SLING"), "--version"]).split()[-1],
        "pgcopydb": lambda: "pgcopydb " + output(["pgcopydb", "--version"]).split()[2],
        "pgloader": lambda: "pgloader " + output(["pgloader", "--version"]).split('"')[1],
        "ingestr": lambda: "ingestr " + python_version("ingestr", "ingestr"),
        "dlt": lambda: "dlt " + python_version("dlt", "dlt"),
        "connectorx": lambda: "connector-x " + python_version("dlt", "connectorx"),
    }
    for name, ask in asked.items():
        if any(contender.startswith(name) for contender in chosen):
            found.append(ask())
    return ", ".join(found)


def python_version(environment, package):
    about = f"import importlib.metadata as m; print(m.version('{package}'))"
    return output([f"{tool('TIDEWAY_RIVALS')}/{environment}/bin/python", "-c", about])


# --- the rounds ---


def is_there(contender):
    if contender.needs.startswith("TIDEWAY_"):
        return bool(os.environ.get(contender.needs))
    return not contender.needs or shutil.which(contender.needs) is not None


def fitting(chosen, name, shape):
    for contender_name, contender in chosen.items():
        alone = len(shape.tables) == 1 or contender.many
        if alone and shape.source in contender.sources and (not contender.only or name in contender.only):
            yield contender_name, contender


def rounds(name, shape, chosen, count, work):
    digest, size = prepare(name, shape)
    entries = {n: {"contender": c, "runs": []} for n, c in fitting(chosen, name, shape)}
    dropped = {}
    for i in range(count):
        # Single runs in turn, the first one moving on: a machine that drifts drifts for all.
        order = [n for n in entries if n not in dropped]
        order = order[i % len(order) :] + order[: i % len(order)]
        for n in order:
            try:
                run = run_once(entries[n]["contender"], Job(name, shape, work / "own"), work, digest)
            except Failed as failure:
                if n.startswith(("tideway", "psql")):
                    sys.exit(f"{n} {failure}")
                print(f"{n} {failure}", file=sys.stderr)
                dropped[n] = str(failure).splitlines()[0].rstrip(":")
                continue
            entries[n]["runs"].append(run)
            print(f"{name}, round {i + 1}: {n:18} {run.wall:7.2f} s {run.memory:6.0f} MiB", file=sys.stderr)
    query(f"drop database src_{name} with (force)")
    runs = {n: entry["runs"] for n, entry in entries.items() if n not in dropped}
    return {"name": name, "shape": shape, "size": size, "runs": runs, "dropped": dropped}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="rows of each table, instead of the shape's own number")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", default="mixed", help=f"with commas between, or all: {', '.join(SHAPES)}")
    parser.add_argument("--only", help=f"contenders, with commas between (default: all): {', '.join(CONTENDERS)}")
    parser.add_argument("--fsync", choices=["on", "off"], default="on")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results", help="where the report goes")
    parser.add_argument("--name", default=str(datetime.date.today()), help="of the report's file")
    options = parser.parse_args()
    names = list(SHAPES) if options.shapes == "all" else options.shapes.split(",")
    wanted = options.only.split(",") if options.only else list(CONTENDERS)
    for kind, known, asked in [("contender", CONTENDERS, wanted), ("shape", SHAPES, names)]:
        if unknown := set(asked) - set(known):
            parser.error(f"no such {kind}: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = {name: CONTENDERS[name] for name in wanted if is_there(CONTENDERS[name])}
    missing = [name for name in wanted if name not in chosen]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)

    work = Path(tempfile.mkdtemp(prefix="tideway-bench."))
    work.chmod(0o755)  # the server may run as another user
    results = []
    try:
        postgres("start", work, options.fsync)
        if any(SHAPES[name].source == "mysql" for name in names):
            mysql("start", work, options.fsync)
        about = f"{machine()}. {versions(chosen)}. fsync {options.fsync}, {options.rounds} rounds"
        for name in names:
            SHAPES[name].rows = options.rows or SHAPES[name].rows
            results.append(rounds(name, SHAPES[name], chosen, options.rounds, work))
    finally:
        postgres("stop", work, options.fsync)
        mysql("stop", work, options.fsync)
        shutil.rmtree(work, ignore_errors=True)

    text = report(results, about, missing)
    print("\n" + text.split("## Every run")[0])
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"{options.name}.md"
    path.write_text(text)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
