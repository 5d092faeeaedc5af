"""A PostgreSQL database of a test's own, on the server that scripts/test.sh starts or another."""

import os
import uuid
from urllib.parse import urlsplit

import psycopg
from server import until


class Database:
    def __init__(self, server=None):
        self.server = server or os.environ["TIDEWAY_TEST_POSTGRES_URL"]
        self.name = f"test_{uuid.uuid4().hex[:12]}"
        self.url = urlsplit(self.server)._replace(path=f"/{self.name}").geturl()
        self.administer(f"create database {self.name}")

    def execute(self, sql, values=None) -> list:
        """Runs one statement (without values: several) and returns its rows, if it has any."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            result = connection.execute(sql, values)
            return result.fetchall() if result.description else []

    def configuration(self, **changes) -> dict:
        """What a `postgresql` connection to this database is configured with, in its wire names."""
        parts = urlsplit(self.url)
        return {
            "hostname": parts.hostname,
            "port": parts.port,
            "username": parts.username,
            "password": parts.password,
            "database": self.name,
            "ssl": False,
        } | changes

    def drop(self):
        self.administer(f"drop database if exists {self.name} with (force)")

    def administer(self, sql):
        with psycopg.connect(self.server, autocommit=True) as connection:
            # A logical slot outlives its reader and would keep the database from being dropped.
            if sql.startswith("drop"):
                self._drop_slots(connection)
            connection.execute(sql)

    def _drop_slots(self, connection):
        """Ends the readers of the database's slots, keeps them from coming back, drops the slots."""
        connection.execute(f"alter database {self.name} allow_connections false")
        until(lambda: self._slots_dropped(connection), f"the slots of {self.name} are dropped")

    def _slots_dropped(self, connection) -> bool:
        slots = "from pg_replication_slots where database = %s"
        connection.execute(f"select pg_terminate_backend(active_pid) {slots} and active", [self.name])
        try:
            connection.execute(f"select pg_drop_replication_slot(slot_name) {slots}", [self.name])
        except psycopg.errors.ObjectInUse:
            return False  # its reader has been told to end and has not ended yet
        return True
