"""What writes into the source while a sync runs.

Every row carries a version `v` that only grows, whatever becomes of the row: an update takes the
next one, a row that comes back under an old key does so with a higher one. A reader of the
destination who sees a version go down, or a version come back after the row was gone, has seen
time run backwards. In `pairs` a transaction gives both rows of a pair the same version, so who
sees two has seen half of a transaction.

Each writer has keys of its own (`id % writers`), for the versions of a key are then in the order
of their commits.
"""

import random
import threading
import time

TABLES = ("items", "cells", "pairs", "loose")
PAIRS = 20
# Keys that a writer uses.
KEYS = 120


class Writers:
    """Threads that write until they are stopped. `open()` gives a session; a session that breaks
    is opened again, for its server may have been killed."""

    def __init__(self, source, plan, operations):
        self.plan = plan
        self.open = source.open
        self.broken = source.broken
        self.stopping = threading.Event()
        self.threads = [
            threading.Thread(target=self._write, args=(number, operations), daemon=True)
            for number in range(plan.writers)
        ]
        self.errors = []
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self.threads), "a writer does not stop"
        assert not self.errors, self.errors[:3]

    def _write(self, number, operations):
        rng = random.Random(f"{self.plan.seed}/{number}")
        session = None
        while not self.stopping.is_set():
            try:
                session = session or self.open()
                operation = rng.choices(list(operations), list(operations.values()))[0]
                operation(session, rng, number, self.plan)
                pause = rng.choice([0, 0.005, 0.02, 0.05])
            except self.broken as error:
                self._tolerate(error)
                if session is not None:
                    session.close()
                session, pause = None, 0.1
            except Exception as error:
                self.errors.append(repr(error))
                return
            time.sleep(pause)
        if session is not None:
            session.close()

    def _tolerate(self, error):
        """A server that is down, a deadlock or a lock that was not to be had is what a plan is
        for; a statement that is wrong is not."""
        state = getattr(error, "sqlstate", None)
        if state and state[:2] not in ("57", "08", "40", "55", "25"):
            self.errors.append(repr(error))
            self.stopping.set()
