"""`tideway verify`: two tables, and the rows that differ, between real servers."""

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import threading
import uuid
from urllib.parse import urlsplit

import pymysql
import pytest
import syncs

ROWS = 20_000
MAKE = f"""
create table items (id bigint primary key, name text, amount numeric(12,2), ratio float8, at timestamptz, day date,
  payload jsonb, flag boolean, tag uuid, raw bytea);
insert into items select n, 'name ' || n, n / 4.0, n / 3.0, '2024-01-01Z'::timestamptz + n * interval '1.5 s', '2024-01-01'::date + n % 1000,
  jsonb_build_object('n', n, 'half', n / 2.0), n % 3 = 0, md5(n::text)::uuid, decode(md5(n::text), 'hex')
  from generate_series(1, {ROWS}) n;
create table loose (a int, b text);
insert into loose select n % 10, 'x' || n % 7 from generate_series(1, 1000) n;
create table pairs (x int, y text, v int, primary key (x, y));
insert into pairs select n % 10, 'y' || n, n from generate_series(1, 500) n;
"""


def tideway(*arguments):
    command = [os.environ["TIDEWAY_BIN"], "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip(), done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def shop(source):
    source.execute(MAKE)
    return source


def copied(shop, url, *options):
    code, said = tideway("copy", shop.url, url, *options)
    assert code == 0, said
    assert {table["verification"]["state"] for table in said["tables"]} == {"verified"}, said


def mysql(name, kind="mysql"):
    url = urlsplit(os.environ[f"TIDEWAY_TEST_{kind.upper()}_URL"])
    return pymysql.connect(host=url.hostname, port=url.port, user=url.username, password=url.password, database=name, autocommit=True)


def place(kind, target, folder, name):
    """A destination of each kind."""
    return {
        "postgresql": f"{target.url}?schema=copy",
        "mysql": f"{os.environ['TIDEWAY_TEST_MYSQL_URL']}?schema={name}",
        "mariadb": f"{os.environ['TIDEWAY_TEST_MARIADB_URL']}?schema={name}",
        "sqlite": f"sqlite:///{folder}/copy.db",
        "duckdb": f"duckdb:///{folder}/copy.duckdb",
        "parquet": f"file://{folder}/copy?format=parquet",
        "csv": f"file://{folder}/copy?format=csv",
        "json": f"file://{folder}/copy?format=json",
    }[kind]


KINDS = ["postgresql", "mysql", "mariadb", "sqlite", "duckdb", "parquet", "csv", "json"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_copied_is_equal_and_each_kind_of_difference_is_named(shop, target, tmp_path, kind):
    name = f"verify_{uuid.uuid4().hex[:12]}"
    url = place(kind, target, tmp_path, name)
    copied(shop, url)
    code, said = tideway("verify", shop.url, url)
    assert code == 0 and said["differ"] == 0, said
    rows = {table["source"]: table["verified"]["source"] for table in said["tables"]}
    assert rows["public.items"].startswith(f"{ROWS}:") and rows["public.loose"].startswith("1000:"), rows

    rng = random.Random(7)
    gone, other, added = (sorted(rng.sample(range(first, first + 5000), 5)) for first in (1, 6000, 50_000))
    shop.execute(f"delete from items where id in ({', '.join(map(str, gone))})")
    shop.execute(f"update items set amount = amount + 0.01, name = null where id in ({', '.join(map(str, other))})")
    for one in added:
        shop.execute(f"insert into items (id) values ({one})")
    shop.execute("insert into loose values (3, 'x3')")
    shop.execute("delete from pairs where x = 4 and y = 'y4'")
    code, said = tideway("verify", shop.url, url)
    found = {table["source"]: table["verified"] for table in said["tables"]}
    items = found["public.items"]
    assert code == 1 and said["differ"] == 3
    assert (items["missing"], items["extra"], items["different"], items["more"]) == (5, 5, 5, False)
    told = {verdict: [] for verdict in ("missing", "extra", "different")}
    for one in items["differences"]:
        told[one["verdict"]].append(int(dict(one["key"])["id"]))
        assert one["columns"] == (["name", "amount"] if one["verdict"] == "different" else []), one
    assert told == {"missing": added, "extra": gone, "different": other}
    loose = found["public.loose"]
    assert (loose["missing"], loose["extra"], loose["different"]) == (1, 0, 0)
    assert dict(loose["differences"][0]["key"]) == {"a": "3", "b": "x3"}
    assert [one["key"] for one in found["public.pairs"]["differences"]] == [[["x", "4"], ["y", "y4"]]]
    if kind in ("mysql", "mariadb"):
        mysql(name, kind).cursor().execute(f"drop database {name}")


DOCUMENTS = r"""
create table papers (id bigint primary key, doc jsonb, plain json);
insert into papers select row_number() over (), one::jsonb, one::json from unnest(array[
  'null', 'true', '""', '{}', '[]', '[[],{}]', '0', '-0', '1.50', '1e3', '1.0', '12345678901234567', '0.1', '1e-7', '123456.7890120',
  '{"b": 1, "a": {"d": [1, 2.50, null], "c": "x"}}', '{"": "", " ": "  "}', '"tab\t line\n quote\" back\\ slash\/"',
  '"\u00e9 \ud83d\ude00 \u2028"', '"it''s, a \"field\""', '{"deep": [[[[{"x": [true, false]}]]]]}', '"\\N"', '"null"', '{"10": 1, "9": 2, "aa": 3, "b": 4}'
]) one;
insert into papers (id) values (1000);
"""


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_equal_whatever_became_of_them(source, target, tmp_path, kind):
    source.execute(DOCUMENTS)
    name = f"verify_{uuid.uuid4().hex[:12]}"
    url = place(kind, target, tmp_path, name)
    copied(source, url)
    code, said = tideway("verify", source.url, url)
    found = said["tables"][0]["verified"]
    assert code == 0 and said["differ"] == 0, found
    assert found["source"].startswith("25:"), found
    source.execute("""update papers set doc = '{"b": 1, "a": {"d": [1, 2.51, null], "c": "x"}}' where id = 16""")
    code, said = tideway("verify", source.url, url)
    differences = said["tables"][0]["verified"]["differences"]
    assert code == 1 and [(one["key"], one["columns"]) for one in differences] == [([["id", "16"]], ["doc"])], said
    if kind in ("mysql", "mariadb"):
        mysql(name, kind).cursor().execute(f"drop database {name}")


def test_values_are_compared_and_not_what_they_are_kept_in(source, target):
    source.execute("""
        create table kept (id int primary key, n smallint, day date, ratio float8, tag uuid, amount numeric(8, 2), at timestamptz);
        insert into kept values (1, -7, '2024-02-29', 0.1, '00000000-0000-0000-0000-00000000000a', 5.00, '2024-01-01 00:00:00.25Z'),
            (2, null, 'infinity', '-0', null, null, null), (3, 0, '0001-01-01 BC', 'NaN', null, 0, '-infinity')""")
    target.execute("""
        create table kept (id bigint primary key, n numeric(20, 5), day timestamp, ratio numeric, tag text, amount float8, at timestamp);
        insert into kept values (1, -7, '2024-02-29', 0.10, '00000000-0000-0000-0000-00000000000a', 5, '2024-01-01 00:00:00.25'),
            (2, null, 'infinity', 0, null, null, null), (3, 0, '0001-01-01 BC', 'NaN', null, -0.0, '-infinity')""")
    code, said = tideway("verify", source.url, target.url)
    assert code == 0 and said["tables"][0]["verified"]["source"].startswith("3:"), said
    # What was cut to seconds is not what it was.
    target.execute("alter table kept alter at type timestamp(0)")
    code, said = tideway("verify", source.url, target.url)
    differences = said["tables"][0]["verified"]["differences"]
    assert code == 1 and [(one["key"], one["columns"]) for one in differences] == [([["id", "1"]], ["at"])], said


def test_rows_that_are_marked_deleted_are_not_there(shop, target):
    url = f"{target.url}?schema=copy"
    copied(shop, url, "--mode", "replicate")
    shop.execute("delete from items where id < 100")
    copied(shop, url, "--mode", "replicate")
    code, said = tideway("verify", shop.url, url, "--table", "public.items")
    assert code == 0, said
    assert target.execute("select count(*) from copy.items where _polytomic_deleted_at is not null") == [(99,)]


def test_a_limit_names_the_first_and_counts_all(shop, target):
    url = f"{target.url}?schema=copy"
    copied(shop, url)
    target.execute("delete from copy.items where id % 2 = 0")
    code, said = tideway("verify", shop.url, url, "--table", "public.items", "--limit", "3")
    verified = said["tables"][0]["verified"]
    assert code == 1 and verified["missing"] == ROWS // 2 and not verified["more"]
    assert [one["key"] for one in verified["differences"]] == [[["id", str(n)]] for n in (2, 4, 6)]


def test_what_cannot_be_compared_is_said(shop, target):
    url = f"{target.url}?schema=copy"
    copied(shop, url, "--table", "public.items")
    code, said = tideway("verify", shop.url, url)
    assert code == 4 and "the destination has no table loose" in said["error"]["message"], said
    code, said = tideway("verify", shop.url, url, "--table", "public.nothing")
    assert code == 4 and "public.nothing" in said["error"]["message"]
    target.execute("alter table copy.items drop column ratio")
    code, said = tideway("verify", shop.url, url, "--table", "public.items")
    assert code == 4 and "ratio" in said["error"]["message"] and "--without ratio" in said["error"]["hint"]
    code, said = tideway("verify", shop.url, url, "--table", "public.items=copy.items", "--without", "ratio")
    assert code == 0, said
    code, said = tideway("verify", shop.url, url, "--table", "public.items", "--without", "ratio", "--key", "nokey")
    assert code == 4 and "nokey" in said["error"]["message"]


ALTERING = """
create function alter_row() returns trigger language plpgsql as
  $$ begin if new.id = 4711 then new.name := 'altered'; end if; return new; end $$;
create function alter_stages() returns event_trigger language plpgsql as $$
  declare made record;
  begin
    for made in select * from pg_event_trigger_ddl_commands() where command_tag = 'CREATE TABLE' loop
      if made.object_identity like '%stage_%' then
        execute format('create trigger altering before insert on %s for each row execute function public.alter_row()', made.object_identity);
      end if;
    end loop;
  end $$;
create event trigger altering on ddl_command_end execute function alter_stages();
"""


@pytest.mark.parametrize("mode", ["snapshot", "replicate"])
@pytest.mark.parametrize("passed", [True, False])
def test_a_load_that_the_destination_altered_is_never_shown(shop, target, mode, passed):
    if not passed:
        # Documents do not pass undecoded, so that the table is loaded by its values.
        shop.execute("alter table items add column note json")
    target.execute(ALTERING)
    options = ["--table", "public.items", "--mode", mode]
    code, said = tideway("copy", shop.url, target.url, *options)
    assert code != 0 and "values differ in name" in json.dumps(said), said
    assert target.execute("select to_regclass('public.items')::text") == [(None,)]
    # Whoever wants it as it is may have it.
    code, said = tideway("copy", shop.url, target.url, *options, "--no-verify")
    assert code == 0, said
    assert target.execute("select name from items where id = 4711") == [("altered",)]
    target.execute("drop event trigger altering; drop table items")
    code, said = tideway("copy", shop.url, target.url, *options)
    assert code == 0 and said["tables"][0]["verification"]["state"] == "verified", said


class Watcher(threading.Thread):
    """Waits until the staging table is there, and makes a trigger on it before it gets rows."""

    def __init__(self, kind, name, folder):
        super().__init__(daemon=True)
        self.kind, self.name, self.folder, self.stopped = kind, name, folder, threading.Event()

    def run(self):
        while not self.stopped.wait(0.02):
            with contextlib.suppress(pymysql.err.OperationalError, sqlite3.OperationalError):
                if self.alter():
                    return

    def alter(self):
        if self.kind == "sqlite":
            with contextlib.closing(sqlite3.connect(f"{self.folder}/copy.db", timeout=5)) as file:
                stages = file.execute("select name from sqlite_schema where type = 'table' and name like '%tideway_stage%'").fetchall()
                for (stage,) in stages:
                    file.execute(
                        f'create trigger altering after insert on "{stage}" when new.id = 4711 '
                        f"begin update \"{stage}\" set name = 'altered' where id = 4711; end"
                    )
                file.commit()
                return stages
        session = mysql(None, self.kind).cursor()
        session.execute("select table_name from information_schema.tables where table_schema = %s and table_name like '%%tideway_stage%%'", (self.name,))
        stages = session.fetchall()
        for (stage,) in stages:
            session.execute(
                f"create trigger `{self.name}`.altering before insert on `{self.name}`.`{stage}` "
                "for each row set new.name = if(new.id = 4711, 'altered', new.name)"
            )
        return stages


@pytest.mark.parametrize("mode", ["snapshot", "append"])
@pytest.mark.parametrize("kind", ["mysql", "mariadb", "sqlite"])
def test_a_load_that_a_trigger_altered_is_never_shown(shop, target, tmp_path, kind, mode):
    # The first row comes late enough for somebody to step in before.
    shop.execute("create view slow as select items.* from items, (select pg_sleep(2) offset 0) as waited")
    name = f"verify_{uuid.uuid4().hex[:12]}"
    url = place(kind, target, tmp_path, name)
    options = ["--table", "public.slow", "--mode", mode]

    def look(sql):
        if kind == "sqlite":
            with contextlib.closing(sqlite3.connect(f"{tmp_path}/copy.db")) as file:
                return file.execute(sql).fetchall()
        session = mysql(name, kind).cursor()
        session.execute(sql)
        return list(session.fetchall())

    def altered(*more):
        watcher = Watcher(kind, name, tmp_path)
        watcher.start()
        answer = tideway("copy", shop.url, url, *options, *more)
        watcher.stopped.set()
        watcher.join()
        return answer

    code, said = altered()
    assert code != 0 and "values differ in name" in json.dumps(said), said
    tables = "select name from sqlite_schema where name not like '%tideway%'" if kind == "sqlite" else "show tables where tables_in_%s not like '%%tideway%%'" % name
    assert look(tables) == []
    code, said = altered("--no-verify")
    assert code == 0, said
    assert look("select name from slow where id = 4711") == [("altered",)]
    if kind != "sqlite":
        mysql(name, kind).cursor().execute(f"drop database {name}")


def test_an_execution_shows_that_its_first_load_was_verified(server, sdk, shop, target):
    source, destination = (syncs.connect(sdk, "postgresql", one.configuration()) for one in (shop, target))
    sync = syncs.make(sdk, source, destination, {"schema": "mart"})
    seen = []
    for _ in range(2):
        execution = syncs.run_well(sdk, sync)
        answer = server.request("GET", f"/api/bulk/syncs/{sync}/executions/{execution.id}").json()["data"]
        seen.append({one["schema"]: one.get("verification") for one in answer["schemas"]})
    first, second = seen
    assert {name: (one["status"], one["row_count"]) for name, one in first.items()} == {
        "public.items": ("verified", ROWS), "public.loose": ("verified", 1000), "public.pairs": ("verified", 500),
    }
    assert set(second.values()) == {None}
