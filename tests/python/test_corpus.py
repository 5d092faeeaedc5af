"""Every value of tests/corpus goes from its system to each kind of destination, by a snapshot and by
a change stream where there is one, and from there into PostgreSQL, and has to be what it was, cell
by cell. What a destination cannot hold is named in the corpus, and told of in the execution's log."""

import json
import os
import sqlite3
import tomllib
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pytest
import syncs
from copies import FORMATS, Copy
from database import Database
from test_binlog import MySql

FOLDER = Path(__file__).parent.parent / "corpus"
# Rows with these numbers and more come by the stream.
LATER = 1000
SETTINGS = "-c timezone=UTC -c intervalstyle=iso_8601 -c extra_float_digits=3"


class Corpus:
    def __init__(self, name, server=None):
        read = tomllib.loads((FOLDER / f"{name}.toml").read_text())
        self.extensions = read.get("extensions", {}).get("names", [])
        self.columns = [column for column in read["column"] if column.get("only") in (None, server)]

    def cases(self):
        number = 0
        for column in self.columns:
            for value in column["values"]:
                number += 1
                yield number, column, value

    def differences(self, kind, wanted, found):
        """What is not as it was, but for what this kind of destination has no place for; and the
        columns of which its log has to tell."""
        told, blamed = [], set()

        def named(column, loss):
            told_of = column.get(loss, {})
            return told_of.get(kind, []) + (told_of.get("files", []) if kind in FORMATS else [])

        for number, column, value in self.cases():
            for row in (number, number + LATER):
                name = column["name"]
                one, other = wanted.get((row, name)), found.pop((row, name), None)
                if column.get("zero") or value in named(column, "null_in"):
                    blamed.add(name)
                    equal = other is None
                elif value in named(column, "rounded_in"):
                    blamed.add(name)
                    equal = other is not None and float(one) == float(other)
                else:
                    equal = one is not None and other is not None and is_same(column.get("as"), one, other)
                if not equal:
                    told.append((name, one, other))
        # Nothing else is there.
        return told + [(*place, cell) for place, cell in found.items()], blamed


class FromPostgres:
    def __init__(self, database, corpus):
        self.database, self.corpus = database, corpus
        for name in corpus.extensions:
            database.execute(f"create extension {name}")
        listed = ", ".join(f'"{column["name"]}" {column["type"]}' for column in corpus.columns)
        database.execute(f"create table corpus (id int primary key, {listed})")

    def connect(self, sdk):
        return syncs.connect(sdk, "postgresql", self.database.configuration(change_detection=True))

    def insert(self, offset):
        with psycopg.connect(self.database.url, autocommit=True) as session:
            for number, column, value in self.corpus.cases():
                sql = f'insert into corpus (id, "{column["name"]}") values (%s, %s::text::{column["type"]})'
                session.execute(sql, [number + offset, value])

    def cells(self):
        return printed(self.database, "corpus", self.corpus.columns, source=True)

    def close(self):
        pass


class FromMySql:
    def __init__(self, server, corpus):
        self.database, self.corpus = MySql(os.environ[f"TIDEWAY_TEST_{server.upper()}_URL"]), corpus
        listed = ", ".join(f"`{column['name']}` {column['type']}" for column in corpus.columns)
        self.database.execute(f"create table corpus (id int primary key, {listed})")

    def connect(self, sdk):
        return syncs.connect(sdk, "mysql", self.database.configuration())

    def insert(self, offset):
        with self.database.connection(charset="utf8mb4") as session, session.cursor() as cursor:
            cursor.execute("set sql_mode = 'NO_BACKSLASH_ESCAPES', time_zone = '+00:00'")
            for number, column, value in self.corpus.cases():
                exact = column["type"].startswith("bit")
                given = column.get("written", "v").replace("v)", "%s)") if "written" in column else "%s"
                sql = f"insert into corpus (id, `{column['name']}`) values (%s, {given})"
                cursor.execute(sql.replace("%s", "{}").format(number + offset, int(value) if exact else quoted(value)))

    def cells(self):
        def how(column):
            name = f"`{column['name']}`"
            return f"cast({column['printed'].replace('v', name)} as char)" if "printed" in column else f"cast({name} as char)"

        listed = ", ".join(how(column) for column in self.corpus.columns)
        with self.database.connection(charset="utf8mb4") as session, session.cursor() as cursor:
            cursor.execute("set time_zone = '+00:00'")
            cursor.execute(f"select id, {listed} from corpus")
            rows = cursor.fetchall()
        return by_place(rows, self.corpus.columns)

    def close(self):
        self.database.execute(f"drop database {self.database.name}", database=None)


class FromFile:
    """A database that is a file. It has no log to follow: what came later is found by a scan."""

    def __init__(self, kind, corpus, folder):
        self.kind, self.corpus, self.file = kind, corpus, folder / f"origin.{kind}"
        listed = ", ".join(f'"{column["name"]}" {column["type"]}' for column in corpus.columns)
        with self.session() as session:
            session.execute(f"create table corpus (id integer primary key, {listed})")

    def session(self):
        return sqlite3.connect(self.file) if self.kind == "sqlite" else duckdb.connect(str(self.file))

    def connect(self, sdk):
        return syncs.connect(sdk, self.kind, {"path": str(self.file)})

    def insert(self, offset):
        with self.session() as session:
            for number, column, value in self.corpus.cases():
                session.execute(f'insert into corpus (id, "{column["name"]}") values ({number + offset}, {value})')

    def cells(self):
        def how(column):
            name = f'"{column["name"]}"'
            if column.get("as") == "bytes":
                return f"case when {name} is not null then lower(hex({name})) end"
            if column["type"] == "TIMESTAMPTZ":
                return f"cast(timezone('UTC', {name}) as varchar) || '+00'"
            return name if self.kind == "sqlite" else f"cast({name} as varchar)"

        with self.session() as session:
            rows = session.execute(f"select id, {', '.join(how(column) for column in self.corpus.columns)} from corpus").fetchall()
        cells = by_place(rows, self.corpus.columns)
        for number, column, value in self.corpus.cases():
            for row in (number, number + LATER):
                cells[row, column["name"]] = column.get("arrives", {}).get(value, str(cells[row, column["name"]]))
        return cells

    def close(self):
        pass


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def by_place(rows, columns):
    return {(row[0], column["name"]): cell for row in rows for column, cell in zip(columns, row[1:]) if cell is not None}


def printed(database, table, columns, source=False):
    """What each cell prints as that is not null, by row and column; lists of the source as JSON."""

    def how(column):
        name = f'"{column["name"]}"'
        text = f"to_jsonb({name})::text" if source and column.get("as") == "list" else f"concat({name})"
        return f"case when {name} is not null then {text} end"

    with psycopg.connect(database.url, options=SETTINGS) as session:
        rows = session.execute(f"select id, {', '.join(how(column) for column in columns)} from {table}").fetchall()
    return by_place(rows, columns)


def is_same(how, one, other):
    try:
        return one == other or same(how, one, other)
    except (ValueError, ArithmeticError, KeyError):
        return False


def same(how, one, other):
    match how:
        case "number":
            return Decimal(one) == Decimal(other)
        case "single":  # which MySQL prints with six digits
            return abs(float(one) - float(other)) <= 1e-5 * abs(float(one))
        case "moment":
            return moment(one) == moment(other)
        case "span":
            return one.removesuffix(".000000") == other.removesuffix(".000000")
        case "truth":
            words = {"t": "1", "f": "0", "true": "1", "false": "0"}
            return words.get(one, one) == words.get(other, other)
        case "bytes":
            return f"\\x{one.lower()}" == other
        case "document" | "list":
            return document(one) == document(other)
    return False


def moment(text):
    day, _, fraction = text.removesuffix("+00").partition(".")
    return day, fraction.rstrip("0")


def document(text):
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize("versions", ["17 18", "18 17", "18 15"])
def test_every_value_goes_from_one_version_of_postgresql_to_another(sdk, tmp_path, versions):
    def database(version):
        return Database(os.environ[f"TIDEWAY_TEST_POSTGRES{version.replace('15', '')}_URL"])

    here, there = (database(version) for version in versions.split())
    try:
        carry(sdk, FromPostgres(here, Corpus("postgresql")), Copy("postgresql", there, tmp_path), None)
    finally:
        here.drop()
        there.drop()


@pytest.fixture(params=["postgresql", "mysql", "mariadb", "sqlite", "duckdb"])
def origin(request, source, tmp_path):
    name = request.param
    match name:
        case "postgresql":
            made = FromPostgres(source, Corpus(name))
        case "sqlite" | "duckdb":
            made = FromFile(name, Corpus(name), tmp_path)
        case _:
            made = FromMySql(name, Corpus("mysql", name))
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb", "sqlite", "duckdb", *FORMATS])
def test_every_value_arrives_by_snapshot_and_by_stream(sdk, origin, target, database, tmp_path, kind):
    carry(sdk, origin, Copy(kind, target, tmp_path), database)


def carry(sdk, origin, copy, database):
    """`database` is where what was copied is carried to for the comparison, unless it is there."""
    corpus, kind = origin.corpus, copy.kind
    destination, options = copy.connect(sdk)
    origin.insert(0)
    options = options | {"advanced": {"hard_deletes": True}}
    sync = syncs.make(sdk, origin.connect(sdk), destination, options, mode="replicate")
    runs = [syncs.run_well(sdk, sync)]
    origin.insert(LATER)
    runs.append(syncs.run_well(sdk, sync))

    back, table = copy.target, "copy.corpus"
    if kind != "postgresql":
        back, table = database, "back.corpus"
        again = copy.origin(sdk)
        listed = sdk.bulk_sync.get_source(id=again).data.schemas
        schema = next(one.id for one in listed if one.id.endswith(f"{copy.prefix}corpus"))
        arrived = syncs.connect(sdk, "postgresql", database.configuration())
        chosen = [{"id": schema, "user_output_name": "corpus"}]
        syncs.run_well(sdk, syncs.make(sdk, again, arrived, {"schema": "back"}, mode="snapshot", schemas=chosen))
    wanted, found = origin.cells(), printed(back, table, corpus.columns)
    assert len(wanted) == 2 * sum(1 for _ in corpus.cases())
    differing, blamed = corpus.differences(kind, wanted, found)
    print(json.dumps(differing, indent=0, ensure_ascii=False))
    assert not differing
    for run in runs:
        log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=run.id).data
        noted = {entry.payload["column"] for entry in log.entries if entry.payload and "what" in entry.payload}
        assert noted == blamed, (noted, blamed)
