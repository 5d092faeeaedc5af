"""Destinations of a plan, and how they are read without the product."""

import json
import os
import shutil
import sqlite3
import tempfile
import uuid
from pathlib import Path

import duckdb
import psycopg
import pymysql

from database import Database

from .systems import MySql, Postgres, s3_endpoint

DELETED = "_polytomic_deleted_at"
ENDED = "_polytomic_valid_to"


def fetched(session, sql):
    """Times with zones come through Arrow, which needs nothing that is not installed."""
    session.execute("set timezone = 'UTC'")
    table = session.execute(sql).to_arrow_table()
    return list(zip(*(column.to_pylist() for column in table.columns)))


class Unreadable(Exception):
    """The table is not there yet, or cannot be read at this moment."""


class Destination:
    """`upstream` is where a proxy leads to, `machine` the server that can be killed; None where
    nothing goes over a network."""

    upstream = None
    machine = None
    # Whether somebody else may read while the product writes.
    watched = True
    soft = False
    settings = {}

    def configuration(self):
        return self.settings | {"advanced": {"hard_deletes": not self.soft}}

    def query(self, sql) -> list[tuple]:
        raise NotImplementedError

    def place(self, table):
        return table

    def rows(self, table, names):
        """The rows that are not marked deleted."""
        listed = ", ".join(f'"{name}"' for name in names)
        # A table without a key is written as a whole each time, and marks nothing.
        if not self.soft or table == "loose":
            return self.query(f"select {listed} from {self.place(table)}")
        rows = self.query(f'select "{DELETED}", {listed} from {self.place(table)}')
        return [row[1:] for row in rows if row[0] is None]

    def present_versions(self):
        """The same as their history tells it."""
        return Present(self)

    def left(self) -> list:
        """What of our own is there that should not be once all is done."""
        raise NotImplementedError

    def close(self):
        pass


class Present:
    def __init__(self, destination):
        self.destination = destination

    def rows(self, table, names):
        listed = ", ".join(f'"{name}"' for name in names)
        rows = self.destination.query(f'select "{ENDED}", {listed} from {self.destination.place(f"{table}_history")}')
        return [row[1:] for row in rows if row[0] is None]


class PostgresTarget(Destination):
    type = "postgresql"
    settings = {"schema": "copy"}

    def __init__(self, lane):
        self.machine = lane.server("destination", Postgres)
        self.database = Database(self.machine.url)
        self.upstream = "127.0.0.1", self.machine.port

    def connection(self, proxy):
        return self.database.configuration(hostname="127.0.0.1", port=proxy.port)

    def place(self, table):
        return f"copy.{table}"

    def query(self, sql):
        try:
            with psycopg.connect(self.database.url, connect_timeout=5) as session:
                return session.execute(sql).fetchall()
        except psycopg.Error as error:
            raise Unreadable(str(error)) from error

    def left(self):
        return self.query(
            "select table_schema || '.' || table_name from information_schema.tables"
            " where table_name like '\\_tideway%' and table_name not like '%\\_loads'"
        )

    def close(self):
        self.database.drop()


class MySqlTarget(Destination):
    type = "mysql"

    def __init__(self, lane):
        self.machine = lane.server("mysql destination", MySql)
        self.name = f"copy_{uuid.uuid4().hex[:12]}"
        self.settings = {"schema": self.name}
        self.upstream = "127.0.0.1", self.machine.port

    def connection(self, proxy):
        return {"hostname": "127.0.0.1", "port": proxy.port, "account": "tideway", "passwd": "tideway"}

    def place(self, table):
        return f"{self.name}.{table}"

    def query(self, sql):
        try:
            with pymysql.connect(
                host="127.0.0.1", port=self.machine.port, user="tideway", password="tideway", connect_timeout=5, init_command="set sql_mode = 'ANSI_QUOTES'"
            ) as session:
                with session.cursor() as cursor:
                    cursor.execute(sql)
                    return list(cursor.fetchall())
        except (pymysql.Error, OSError) as error:
            raise Unreadable(str(error)) from error

    def left(self):
        return self.query(
            f"select table_name from information_schema.tables where table_schema = '{self.name}'"
            " and table_name like '\\_tideway%' and table_name not like '%\\_loads'"
        )

    def close(self):
        with pymysql.connect(host="127.0.0.1", port=self.machine.port, user="tideway", password="tideway") as session:
            with session.cursor() as cursor:
                cursor.execute(f"drop database if exists {self.name}")


class OnDisk(Destination):
    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / f"copy.{self.type}"

    def connection(self, proxy):
        return {"path": str(self.path)}


class Sqlite(OnDisk):
    type = "sqlite"

    def query(self, sql):
        # A name in double quotes that no column has would be a text.
        sql = sql.replace('"', "`")
        try:
            session = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=2)
            try:
                return session.execute(sql).fetchall()
            finally:
                session.close()
        except sqlite3.Error as error:
            raise Unreadable(str(error)) from error

    def left(self):
        return self.query("select name from sqlite_master where name like '\\_tideway\\_stage%' escape '\\'")


class DuckDb(OnDisk):
    type = "duckdb"
    # One process at a time may open the file, and that is the product's.
    watched = False

    def query(self, sql):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.duckdb"
            try:
                shutil.copy(self.path, copy)
                log = Path(f"{self.path}.wal")
                if log.exists():
                    shutil.copy(log, f"{copy}.wal")
                with duckdb.connect(copy) as session:
                    return fetched(session, sql)
            except (OSError, duckdb.Error) as error:
                raise Unreadable(str(error)) from error

    def left(self):
        staged = self.query("select table_name from duckdb_tables() where table_name like '\\_tideway\\_stage%' escape '\\'")
        return staged + [file.name for file in self.folder.glob("*.tideway-new")]


class Files(Destination):
    type = "files"
    settings = {"format": "parquet"}

    def __init__(self, folder: Path):
        self.folder = folder

    def connection(self, proxy):
        return {"path": str(self.folder)}

    def manifest(self, table):
        for file in self.folder.rglob("_tideway.json"):
            if file.parent.name == table:
                try:
                    return file.parent, json.loads(file.read_text())
                except (OSError, ValueError) as error:
                    raise Unreadable(str(error)) from error
        raise Unreadable(f"{table} has no manifest")

    def query(self, sql):
        """`sql` names the table last. Files may go while they are read: then the manifest is
        another one."""
        head, table = sql.rsplit(" ", 1)
        folder, manifest = self.manifest(table)
        files = [str(folder / file["name"]) for file in manifest["files"]]
        try:
            with duckdb.connect() as session:
                return fetched(session, f"{head} read_parquet({files!r}, union_by_name = true)")
        except (duckdb.Error, OSError) as error:
            raise Unreadable(str(error)) from error

    def left(self):
        staged = [str(file) for file in self.folder.rglob("*") if "_tideway" in file.parts and file.is_file()]
        for manifest in self.folder.rglob("_tideway.json"):
            listed = {file["name"] for file in json.loads(manifest.read_text())["files"]} | {manifest.name}
            # The files of the generation before go with the next load.
            retired = set(json.loads(manifest.read_text()).get("retired", []))
            staged += [str(file) for file in manifest.parent.iterdir() if file.name not in listed | retired]
        return staged


class S3(Files):
    type = "s3"

    def __init__(self):
        self.bucket = os.environ["TIDEWAY_TEST_S3_BUCKET"]
        self.prefix = f"plan-{uuid.uuid4().hex[:12]}"
        super().__init__(Path(os.environ["TIDEWAY_TEST_S3_BUCKET_ROOT"]) / self.bucket / self.prefix)
        self.upstream = s3_endpoint()

    def connection(self, proxy):
        return {
            "auth_mode": "access_key_and_secret",
            "aws_access_key_id": os.environ["TIDEWAY_TEST_S3_ACCESS_KEY"],
            "aws_secret_access_key": os.environ["TIDEWAY_TEST_S3_SECRET_KEY"],
            "s3_bucket_region": "us-east-1",
            "s3_bucket_name": f"{self.bucket}/{self.prefix}",
            "endpoint": f"http://127.0.0.1:{proxy.port}",
        }

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def make(plan, lane, folder: Path) -> Destination:
    made = _make(plan, lane, folder)
    made.soft = plan.soft
    return made


def _make(plan, lane, folder):
    match plan.destination:
        case "postgresql":
            return PostgresTarget(lane)
        case "mysql":
            return MySqlTarget(lane)
        case "s3":
            return S3()
        case "sqlite":
            return Sqlite(folder)
        case "duckdb":
            return DuckDb(folder)
        case "files":
            return Files(folder)
    raise ValueError(plan.destination)
