"""Every value of tests/corpus goes to each kind of destination, by a snapshot and by a change
stream, and back into PostgreSQL, and has to be what it was: cell by cell, as text. What a
destination cannot hold is named below, and told of in the execution's log."""

import json
import tomllib
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
import syncs
from copies import Copy

CORPUS = tomllib.loads((Path(__file__).parent.parent / "corpus/postgresql.toml").read_text())
COLUMNS = CORPUS["column"]
LATER = 1000

def cases():
    number = 0
    for column in COLUMNS:
        for value in column["values"]:
            number += 1
            yield number, column, value


def fill(source):
    for name in CORPUS["extensions"]["names"]:
        source.execute(f"create extension {name}")
    listed = ", ".join(f'"{column["name"]}" {column["type"]}' for column in COLUMNS)
    source.execute(f"create table corpus (id int primary key, {listed})")
    insert(source, 0)


def insert(source, offset):
    with psycopg.connect(source.url, autocommit=True) as session:
        for number, column, value in cases():
            sql = f'insert into corpus (id, "{column["name"]}") values (%s, %s::text::{column["type"]})'
            session.execute(sql, [number + offset, value])


def cells(database, table, columns, source=False):
    """What each cell prints as that is not null, by row and column; lists of the source as JSON."""

    def printed(column):
        name = f'"{column["name"]}"'
        how = f"to_jsonb({name})::text" if source and column.get("as") == "list" else f"concat({name})"
        return f"case when {name} is not null then {how} end"

    listed = ", ".join(printed(column) for column in columns)
    with psycopg.connect(database.url, options="-c timezone=UTC -c intervalstyle=iso_8601 -c extra_float_digits=3") as session:
        rows = session.execute(f"select id, {listed} from {table}").fetchall()
    return {(row[0], column["name"]): cell for row in rows for column, cell in zip(columns, row[1:]) if cell is not None}


def same(how, one, other):
    if one == other:
        return True
    match how:
        case "number":
            return Decimal(one) == Decimal(other)
        case "moment":
            return one.removesuffix("+00") == other.removesuffix("+00")
        case "truth":
            return {"true": "1", "false": "0"}[one] == other
        case "document" | "list":
            return document(one) == document(other)
    return False


def document(text):
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def differences(kind, wanted, found):
    """What is not as it was, but for what this kind of destination has no place for; and the columns
    of which its log has to tell."""
    told, blamed = [], set()
    for number, column, value in cases():
        for row in (number, number + LATER):
            name = column["name"]
            one, other = wanted.get((row, name)), found.pop((row, name), None)
            if value in column.get("null_in", {}).get(kind, ()):
                blamed.add(name)
                equal = other is None
            elif value in column.get("rounded_in", {}).get(kind, ()):
                blamed.add(name)
                equal = other is not None and float(one) == float(other)
            else:
                equal = one is not None and other is not None and is_same(column.get("as"), one, other)
            if not equal:
                told.append((name, one, other))
    # Nothing else is there.
    return told + [(*place, cell) for place, cell in found.items()], blamed


def is_same(how, one, other):
    try:
        return same(how, one, other)
    except (ValueError, ArithmeticError, KeyError):
        return False


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb", "sqlite", "duckdb"])
def test_every_value_arrives_by_snapshot_and_by_stream(sdk, source, target, database, tmp_path, kind):
    fill(source)
    copy = Copy(kind, target, tmp_path)
    destination, options = copy.connect(sdk)
    origin = syncs.connect(sdk, "postgresql", source.configuration(change_detection=True))
    options = options | {"advanced": {"hard_deletes": True}}
    sync = syncs.make(sdk, origin, destination, options, mode="replicate")
    runs = [syncs.run_well(sdk, sync)]
    insert(source, LATER)
    runs.append(syncs.run_well(sdk, sync))

    back, table = target, "copy.corpus"
    if kind != "postgresql":
        back, table = database, "back.corpus"
        again, _ = copy.connect(sdk)
        listed = sdk.bulk_sync.get_source(id=again).data.schemas
        schema = next(one.id for one in listed if one.id.endswith(f"{copy.prefix}corpus"))
        arrived = syncs.connect(sdk, "postgresql", database.configuration())
        chosen = [{"id": schema, "user_output_name": "corpus"}]
        syncs.run_well(sdk, syncs.make(sdk, again, arrived, {"schema": "back"}, mode="snapshot", schemas=chosen))
    wanted, found = cells(source, "corpus", COLUMNS, source=True), cells(back, table, COLUMNS)
    assert len(wanted) == 2 * sum(1 for _ in cases())
    differing, blamed = differences(kind, wanted, found)
    print(json.dumps(differing, indent=0, ensure_ascii=False))
    assert not differing
    for run in runs:
        log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=run.id).data
        noted = {entry.payload["column"] for entry in log.entries if entry.payload and "what" in entry.payload}
        assert noted == blamed, (noted, blamed)
