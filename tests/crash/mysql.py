"""MySQL as the source of a plan: read as a whole by each run, or followed by its binary log."""

import itertools
import threading
import uuid

import pymysql

from .systems import MySql
from .workload import KEYS, PAIRS

MAKE = f"""
create table items (id bigint primary key, v bigint not null, name varchar(50), big text, amount decimal(12,2), at datetime(6));
create table pairs (id int primary key, v bigint not null);
insert into items with recursive n (n) as (select 1 union all select n + 1 from n where n < 400)
  select n, n, concat('name ', n), repeat('x', 3000), n / 3, now(6) from n;
insert into pairs with recursive n (n) as (select 0 union all select n + 1 from n where n < {2 * PAIRS - 1})
  select n, 0 from n;
"""


class Source:
    type = "mysql"
    broken = (pymysql.Error, OSError)

    def __init__(self, lane):
        self.machine = lane.server("mysql", MySql)
        self.name = f"plan_{uuid.uuid4().hex[:12]}"
        # One writer after the other takes the next version while it holds this.
        self.turn = threading.Lock()
        self.versions = itertools.count(1000)
        with self.open(None) as session, session.cursor() as cursor:
            cursor.execute(f"create database {self.name}")
            cursor.execute(f"use {self.name}")
            for statement in filter(str.strip, MAKE.split(";")):
                cursor.execute(statement)

    def open(self, database=...):
        database = self.name if database is ... else database
        return pymysql.connect(
            host="127.0.0.1", port=self.machine.port, user="tideway", password="tideway", database=database, autocommit=True, connect_timeout=5
        )

    def connection(self, plan, proxy):
        configuration = {
            "hostname": "127.0.0.1",
            "port": proxy.port,
            "account": "tideway",
            "passwd": "tideway",
            "dbname": self.name,
        }
        if plan.streams:
            configuration["change_detection"] = True
        return self.type, configuration

    @property
    def upstream(self):
        return "127.0.0.1", self.machine.port

    def schemas(self, plan):
        return None

    def tables(self, plan):
        return "items", "pairs"

    def operations(self, plan):
        return {self.insert: 3, self.update: 6, self.delete: 2, self.pair: 4, self.all_pairs: 1, self.update_all: 0.3}

    def columns(self, table):
        return self._rows(
            "select column_name, data_type from information_schema.columns"
            f" where table_schema = '{self.name}' and table_name = '{table}' order by ordinal_position"
        )

    def rows(self, table, names):
        listed = ", ".join(f"`{name}`" for name in names)
        return self._rows(f"select {listed} from {table}")

    def _rows(self, sql):
        with self.open() as session, session.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def left(self):
        return []

    def close(self):
        with self.open() as session, session.cursor() as cursor:
            cursor.execute(f"drop database {self.name}")

    def sessions_ended(self):
        with self.open() as session, session.cursor() as cursor:
            cursor.execute(
                "select id from information_schema.processlist where db = %s and id <> connection_id()", [self.name]
            )
            for (id,) in cursor.fetchall():
                try:
                    cursor.execute(f"kill {id}")
                except pymysql.Error:
                    pass  # gone by itself

    # What a writer does. The turn keeps versions in the order of commits.

    def _write(self, session, *statements):
        with self.turn, session.cursor() as cursor:
            version = next(self.versions)
            cursor.execute("begin")
            for sql, values in statements:
                cursor.execute(sql, {"v": version, **values})
            cursor.execute("commit")

    def insert(self, session, rng, number, plan):
        sql = "insert ignore into items values (%(id)s, %(v)s, 'new', 'small', %(id)s %% 100, now(6))"
        self._write(session, (sql, {"id": rng.randrange(10**9)}))

    def update(self, session, rng, number, plan):
        at = rng.randrange(KEYS)
        sql = "update items set v = %(v)s, big = %(big)s where id between %(at)s and %(to)s"
        self._write(session, (sql, {"at": at, "to": at + 10, "big": rng.choice(["short", "z" * 5000])}))

    def update_all(self, session, rng, number, plan):
        self._write(session, ("update items set v = %(v)s", {}))

    def delete(self, session, rng, number, plan):
        self._write(session, ("delete from items where id = %(at)s", {"at": rng.randrange(KEYS)}))

    def pair(self, session, rng, number, plan):
        self._write(session, ("update pairs set v = %(v)s where id div 2 = %(pair)s", {"pair": rng.randrange(PAIRS)}))

    def all_pairs(self, session, rng, number, plan):
        self._write(session, ("update pairs set v = %(v)s", {}))
