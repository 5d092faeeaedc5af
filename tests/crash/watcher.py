"""Reads the destination again and again while a sync runs, and notices what no reader may see."""

import threading
import time

from .destinations import Unreadable

KEYS = {"items": 1, "cells": 2, "pairs": 1}


class Watcher:
    """`troubles` says what was seen that may not be."""

    def __init__(self, destination, tables):
        self.destination = destination
        self.tables = [table for table in tables if table in KEYS]
        self.names = {"items": ["id", "v"], "cells": ["x", "y", "v"], "pairs": ["id", "v"]}
        self.newest = {table: {} for table in self.tables}
        self.gone = {table: set() for table in self.tables}
        self.troubles = []
        self.reads = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join(30)

    def _watch(self):
        while not self.stopping.is_set():
            for table in self.tables:
                try:
                    rows = self.destination.rows(table, self.names[table])
                except Unreadable:
                    continue
                self.reads += 1
                self._look(table, rows)
            time.sleep(0.05)

    def _look(self, table, rows):
        newest, gone, width = self.newest[table], self.gone[table], KEYS[table]
        now = {row[:width]: row[width] for row in rows}
        if len(now) < len(rows):
            self._say(f"{table}: {len(rows) - len(now)} rows are doubled")
        for key, version in now.items():
            known = newest.get(key, -1)
            if version < known:
                self._say(f"{table} {key}: version {known} became {version}")
            elif version == known and key in gone:
                self._say(f"{table} {key}: version {version} was gone and came back")
            newest[key] = version
        gone.clear()
        gone.update(key for key in newest if key not in now)
        if table == "pairs":
            for (key,), version in now.items():
                if key % 2 == 0 and now.get((key + 1,), version) != version:
                    self._say(f"pair {key}: {version} and {now[(key + 1,)]} at one moment")

    def _say(self, trouble):
        if len(self.troubles) < 20:
            self.troubles.append(trouble)
