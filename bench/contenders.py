"""Who is compared: how each is called. All with their defaults; nobody is tuned."""

import os
import sys
from dataclasses import dataclass, field

PORT = 21_432
SERVER = f"postgresql://tideway:tideway@127.0.0.1:{PORT}"
# Without TLS for all of them: psql would use it unasked, others would not.
TARGET = f"{SERVER}/dst?sslmode=disable"


MYSQL_PORT = 21_433
MYSQL = f"mysql://tideway:tideway@127.0.0.1:{MYSQL_PORT}/bench"


def generated(shape_name):
    return f"{SERVER}/src_{shape_name}?sslmode=disable"


def tool(variable):
    return os.environ.get(variable) or sys.exit(f"{variable} is not set: run scripts/bench.sh")


@dataclass
class Job:
    """One run: what is to be moved, and a folder that is the contender's own."""

    name: str
    shape: object
    folder: object

    @property
    def source(self):
        return generated(self.name) if self.shape.source == "postgres" else f"{MYSQL}?sslmode=disable"

    @property
    def one_table(self):
        return len(self.shape.tables) == 1

    @property
    def table(self):
        return "public.bench" if self.shape.source == "postgres" else "bench.bench"


def psql_pipe(options):
    def command(job):
        pipes = [
            f"psql -qX '{job.source}' -c 'copy public.{table} to stdout {options}' | "
            f"psql -qX '{TARGET}' -c 'copy public.{table} from stdin {options}'"
            for table in job.shape.tables
        ]
        return ["bash", "-c", "set -eo pipefail; " + "; ".join(pipes)]

    return command


def tideway(target, *more):
    def command(job):
        one = ["--table", job.table] if job.one_table else []
        place = TARGET if target is None else target.format(folder=job.folder)
        return [tool("TIDEWAY_BIN"), "copy", job.source, place, *one, "--mode", "snapshot", *more]

    return command


def sling_table(job):
    if job.one_table:
        return sling(job, "--src-stream", job.table, "--tgt-conn", TARGET, "--tgt-object", "public.bench")
    plan = job.folder / "replication.yaml"
    plan.write_text(
        f"source: '{job.source}'\ntarget: '{TARGET}'\n"
        "defaults:\n  mode: full-refresh\n  object: 'public.{stream_table}'\nstreams:\n  public.*:\n"
    )
    return [tool("TIDEWAY_SLING"), "run", "-r", str(plan)]


def sling_parquet(job):
    return sling(job, "--src-stream", "public.bench", "--tgt-object", f"file://{job.folder}/bench.parquet")


def sling(job, *rest):
    # It has another word for the same where the source is MySQL.
    url = job.source if job.shape.source == "postgres" else f"{MYSQL}?tls=false"
    return [tool("TIDEWAY_SLING"), "run", "--src-conn", url, *rest]


def pgcopydb(job):
    place = ["--dir", str(job.folder / "pgcopydb"), "--no-owner", "--no-acl"]
    return ["pgcopydb", "clone", "--source", job.source, "--target", TARGET, *place]


def pgloader(job):
    bare = [url.replace("?sslmode=disable", "") for url in (job.source, TARGET)]
    return ["pgloader", "--no-ssl-cert-verification", *bare]


def ingestr(job):
    # It knows no uuid; everything else goes as it is.
    names = [column.split()[0] for column in columns_of(job)]
    names = ["uid::text as uid" if name == "uid" else name for name in names]
    return [
        tool("TIDEWAY_RIVALS") + "/ingestr/bin/ingestr", "ingest", "--yes", "--progress", "log",
        "--source-uri", job.source, "--source-table", f"query:select {', '.join(names)} from public.bench",
        "--dest-uri", TARGET, "--dest-table", "public.bench",
    ]  # fmt: skip


def columns_of(job):
    from shapes import split_columns

    return list(split_columns(job.shape.columns))


def python_rival(script):
    def command(job):
        here = os.path.dirname(os.path.abspath(__file__))
        return [tool("TIDEWAY_RIVALS") + "/dlt/bin/python", f"{here}/{script}", job.source, TARGET, str(job.folder)]

    return command


@dataclass
class Contender:
    command: object
    kind: str  # of destination: table or parquet
    needs: str = ""  # a program or a variable without which it is left out
    makes_table: bool = True
    many: bool = True  # can be asked for all tables of a database at once
    only: tuple = ()  # shapes that it is kept to
    sources: tuple = ("postgres",)
    runs: list = field(default_factory=list)


CONTENDERS = {
    "psql-text": Contender(psql_pipe(""), "table", makes_table=False),
    "psql-binary": Contender(psql_pipe("(format binary)"), "table", makes_table=False),
    "tideway": Contender(tideway(None), "table", "TIDEWAY_BIN", sources=("postgres", "mysql")),
    "pgcopydb": Contender(pgcopydb, "table", "pgcopydb"),
    "pgloader": Contender(pgloader, "table", "pgloader"),
    "sling": Contender(sling_table, "table", "TIDEWAY_SLING", sources=("postgres", "mysql")),
    "ingestr": Contender(ingestr, "table", "TIDEWAY_RIVALS", many=False, only=("mixed",)),
    "dlt": Contender(python_rival("with_dlt.py"), "table", "TIDEWAY_RIVALS", many=False, only=("mixed",)),
    "tideway-parquet": Contender(tideway("file://{folder}/out?format=parquet"), "parquet", "TIDEWAY_BIN"),
    "sling-parquet": Contender(sling_parquet, "parquet", "TIDEWAY_SLING", many=False),
    "connectorx-parquet": Contender(
        python_rival("with_connectorx.py"), "parquet", "TIDEWAY_RIVALS", many=False, only=("mixed", "narrow")
    ),
}
# What each kind is compared with.
BASELINES = {"table": "psql-binary", "parquet": "sling-parquet"}


def baseline(shape, kind):
    return "sling" if shape.source == "mysql" else BASELINES[kind]
