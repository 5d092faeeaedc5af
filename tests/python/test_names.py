"""Tables and columns whose names no two systems treat alike: nothing is lost, merged or overwritten,
and where a destination has to change a name, a second run changes it in the same way."""

import csv

import duckdb
import psycopg
import pytest
import syncs
from copies import Copy
from server import until

# Composed and decomposed, of 63 bytes, alike in their first 62, in the case of letters only, …
TABLES = [
    "Plain", "plain", "PLAIN", "select", "a b", 'a"b', "a`b", "a\\b", "a%b", "a.b", "a/b", "..", "\u00e9", "e\u0301",
    " x", "x ", "n" * 63, "n" * 62 + "m", "ü" * 31, "😀", "con", "a'b", "{}", "%", "#", "?",
]  # fmt: skip
COLUMNS = [
    "Case", "case", "CASE", "select", "order", "a b", 'a"b', "a`b", "a'b", "a\\b", "a%b", "a.b", "a/b", "\u00e9", "e\u0301",
    " lead", "trail ", "ü" * 31, "tab\there", "new\nline", "$1", ":x", "?", "t", "s", "rowid", "oid", "1a", "-", "%s", "{}",
    "😀", "a;b", "--x", "/*x*/", "null", "n" * 63, "n" * 62 + "m",
]  # fmt: skip
ROWS = 2


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def named(source):
    """Each cell tells its own row, table and column."""
    with psycopg.connect(source.url, autocommit=True) as session:
        for table in TABLES:
            columns = ", ".join(f"{quoted(column)} text" for column in COLUMNS)
            session.execute(f"create table {quoted(table)} (id int primary key, {columns})")
            for row in range(ROWS):
                cells = [f"{row}|{table}|{column}" for column in COLUMNS]
                places = ", ".join(["%s"] * (1 + len(cells)))
                session.execute(f"insert into {quoted(table).replace('%', '%%')} values ({places})", [row, *cells])
    return source


def tables(copy):
    """The rows of every table that is there, without ids and times, by the table's name."""
    match copy.kind:
        case "postgresql":
            listed = "select table_name from information_schema.tables where table_schema = 'copy'"
            names, quote = [name for (name,) in copy.rows(listed)], lambda name: "copy." + quoted(name)
        case "mysql" | "mariadb":
            listed = f"select table_name from information_schema.tables where table_schema = '{copy.name}'"
            names, quote = [name for (name,) in copy.rows(listed)], lambda name: f"`{copy.name}`.`{name}`"
        case "sqlite":
            names, quote = [name for (name,) in copy.rows("select name from sqlite_master where type = 'table'")], quoted
        case "duckdb":
            names, quote = [name for (name,) in copy.rows("select table_name from duckdb_tables()")], quoted
        case "csv":
            found = {}
            for file in copy.file.rglob("*.csv"):
                if "_tideway" not in str(file.relative_to(copy.file)):
                    with open(file, newline="") as rows:
                        found.setdefault(file.parent.name, []).extend(list(csv.reader(rows))[1:])
            return found
    kept = [name for name in names if not name.startswith("_tideway")]
    return {name: copy.rows(f"select * from {quote(name)}") for name in kept}


def tables_if_free(copy):
    try:
        return tables(copy)
    except duckdb.IOException:
        return None  # our own process has not let go of the file yet


def cells(row):
    return sorted(cell for cell in row if isinstance(cell, str) and cell.count("|") >= 2)


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb", "sqlite", "duckdb", "csv"])
def test_odd_names_neither_collide_nor_lose_anything(sdk, named, target, tmp_path, kind):
    copy = Copy(kind, target, tmp_path)
    destination, options = copy.connect(sdk)
    origin = syncs.connect(sdk, "postgresql", named.configuration())
    sync = syncs.make(sdk, origin, destination, options, mode="replicate", disable_record_timestamps=True)
    wanted = sorted(sorted(f"{row}|{table}|{column}" for column in COLUMNS) for table in TABLES for row in range(ROWS))
    shown = []
    for _ in range(2):
        syncs.run_well(sdk, sync, timeout=120)
        found = until(lambda: tables_if_free(copy), "the destination is not in use any more")
        assert len(found) == len(TABLES), sorted(found)
        for rows in found.values():
            assert len(rows) == ROWS
            assert len({cell.split("|")[1] for row in rows for cell in cells(row)}) == 1
        assert sorted(cells(row) for rows in found.values() for row in rows) == wanted
        shown.append(sorted(found))
    assert shown[0] == shown[1]
