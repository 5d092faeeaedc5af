"""Destinations of each kind that has tables, and how to look into them."""

import os
import sqlite3
import uuid
from urllib.parse import urlsplit

import duckdb
import psycopg
import pymysql
import syncs


FORMATS = ["csv", "json", "parquet"]


class Copy:
    """A destination of some kind and how to look into it."""

    def __init__(self, kind, target, folder):
        self.kind, self.target, self.file = kind, target, folder / f"copy.{kind}"
        self.name = f"history_{uuid.uuid4().hex[:12]}"
        self.url = urlsplit(os.environ.get(f"TIDEWAY_TEST_{kind.upper()}_URL", ""))
        self.prefix = {"postgresql": "copy.", "mysql": f"{self.name}.", "mariadb": f"{self.name}."}.get(kind, "")

    def connect(self, sdk):
        match self.kind:
            case "postgresql":
                return syncs.connect(sdk, "postgresql", self.target.configuration()), {"schema": "copy"}
            case "sqlite" | "duckdb":
                return syncs.connect(sdk, self.kind, {"path": str(self.file)}), {}
            case kind if kind in FORMATS:
                self.file.mkdir(exist_ok=True)
                return syncs.connect(sdk, "files", {"path": str(self.file)}), {"format": self.kind}
        login = {"hostname": self.url.hostname, "port": self.url.port, "account": self.url.username, "passwd": self.url.password}
        return syncs.connect(sdk, "mysql", login), {"schema": self.name}

    def origin(self, sdk):
        """The same as a source."""
        if self.kind not in FORMATS:
            return self.connect(sdk)[0]
        listing = {
            "path": str(self.file),
            "is_directory_snapshot": True,
            "directory_glob_pattern": "*",
            "single_table_file_format": self.kind,
            "single_table_file_formats": [self.kind],
        }
        return syncs.connect(sdk, "files", listing)

    def rows(self, sql):
        match self.kind:
            case "postgresql":
                return self.target.execute(sql)
            case "sqlite":
                with sqlite3.connect(self.file) as session:
                    return session.execute(sql).fetchall()
            case "duckdb":
                with duckdb.connect(str(self.file), read_only=True) as session:
                    return session.execute(sql).fetchall()
        login = {"host": self.url.hostname, "port": self.url.port, "user": self.url.username, "password": self.url.password}
        with pymysql.connect(**login) as session, session.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def has(self, table):
        try:
            self.rows(f"select 1 from {self.prefix}{table} where 1 = 0")
        except (psycopg.Error, pymysql.Error, sqlite3.Error, duckdb.Error):
            return False
        return True
