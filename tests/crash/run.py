"""One plan from its first row to the last check."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from pathlib import Path

from . import destinations, mysql, postgres
from .compare import differences
from .plan import Plan
from .product import Product
from .proxy import Proxy
from .systems import Lane
from .watcher import Watcher
from .workload import Writers

# How long it may take until both sides are equal once nothing goes wrong any more. The longest
# pause between two attempts is 30 s.
SETTLE = 90
# Room for a file database and what it sets aside.
DISK_MIB = 48
# Tables with a key, whose history can be kept.
KEYED = {"items", "cells", "pairs"}
ENDED = {"completed", "failed", "canceled", "errors", "interrupted"}
KEPT = Path(os.environ.get("TIDEWAY_CRASH_KEEP", tempfile.gettempdir()))


class Run:
    def __init__(self, plan: Plan, lane: Lane):
        self.plan = plan
        self.lane = lane
        self.folder = Path(tempfile.mkdtemp(prefix=f"plan-{plan.seed}-"))
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        self.closing = []
        self.ending = []
        self.sync = None
        self.notes = []

    def __call__(self) -> str | None:
        """Carries the plan out; what was wrong, with what is needed to look into it."""
        began = time.monotonic()
        try:
            self._carry_out()
            trouble = None
        except Exception:
            trouble = traceback.format_exc(limit=-4)
        for close in reversed(self.closing):
            try:
                close()
            except Exception:
                trouble = trouble or traceback.format_exc(limit=-4)
        self.notes.append(f"{time.monotonic() - began:.1f} s")
        if trouble:
            logs = KEPT / f"crash-{self.plan.seed}"
            shutil.rmtree(logs, ignore_errors=True)
            shutil.copytree(self.folder, logs, ignore=shutil.ignore_patterns("disk"))
            trouble = f"{self.plan}\n{trouble}\nlogs in {logs}"
        shutil.rmtree(self.folder, ignore_errors=True)
        return trouble

    def _carry_out(self):
        plan = self.plan
        self._mount()
        self.source = (mysql if plan.reads in ("mysql", "binlog") else postgres).Source(self.lane)
        self.closing.append(self.source.close)
        self.destination = destinations.make(plan, self.lane, self.disk)
        self.closing.append(self.destination.close)
        self.proxies = {"source": self._proxy(self.source)}
        if self.destination.upstream:
            self.proxies["destination"] = self._proxy(self.destination)
        self.product = Product(plan, self.folder)
        self.closing.append(self.product.close)
        # Armed from the beginning: what is made only once must be met too.
        self.product.start()
        self.sync = self._make_sync()
        self.tables = self.source.tables(plan)
        writers = Writers(self.source, plan, self.source.operations(plan))
        watcher = Watcher(self.destination, self.tables) if self.destination.watched else None
        driver = Driver(self.product, self.sync, plan)
        try:
            self._go_wrong()
            writers.stop()
            self._settle()
        finally:
            writers.stopping.set()
            driver.stop()
            if watcher:
                watcher.stop()
        self._check(watcher)
        self._remove()
        if watcher:
            self.notes.append(f"{watcher.reads} reads")
        self.notes.append(f"{self.product.deaths} deaths")

    def _proxy(self, end):
        proxy = Proxy(*end.upstream)
        self.closing.append(proxy.close)
        return proxy

    def _mount(self):
        if not any(fault.kind == "disk full" for fault in self.plan.faults):
            return
        size = f"size={DISK_MIB}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.disk], check=True)
        self.closing.append(lambda: subprocess.run(["umount", "-l", self.disk], check=True))

    def _make_sync(self) -> str:
        plan, product = self.plan, self.product

        def connect(kind, configuration):
            # Checked later by what it is for: here it may fail at what goes wrong already.
            body = {"name": f"{kind} {plan.seed} {len(made)}", "type": kind, "configuration": configuration, "validate": False}
            made.append(product.patiently("POST", "/api/connections", json=body)["data"]["id"])

        made = []
        connect(*self.source.connection(plan, self.proxies["source"]))
        connect(self.destination.type, self.destination.connection(self.proxies.get("destination")))
        body = {
            "name": f"plan {plan.seed}",
            "source_connection_id": made[0],
            "destination_connection_id": made[1],
            "destination_configuration": self.destination.configuration(),
            "mode": plan.mode,
            "active": True,
            "default_schedule": {"frequency": "continuous" if plan.continuous else "manual"},
        }
        if schemas := self.source.schemas(plan):
            body["schemas"] = schemas
        sync = product.patiently("POST", "/api/bulk/syncs", json=body)["data"]["id"]
        if plan.keeps_history:
            path = f"/api/bulk/syncs/{sync}/schemas"
            listed = product.patiently("GET", path)["data"]
            kept = [one for one in listed if one["id"].split(".")[-1] in KEYED]
            changed = [{"id": one["id"], "tracking_field": one["tracking_field"], "history_enabled": True} for one in kept]
            product.patiently("PATCH", path, json={"schemas": changed})
        return sync

    def _go_wrong(self):
        began = time.monotonic()
        todo = list(self.plan.faults)
        while (now := time.monotonic() - began) < self.plan.seconds:
            while todo and todo[0].at <= now:
                self._begin(todo.pop(0), began)
            self._end(now)
            self.product.tend()
            time.sleep(0.02)
        self._end(None)
        # S3 takes no signature of another hour.
        if self.plan.clock and (self.plan.seed % 2 or self.plan.destination == "s3"):
            self.product.set_clock(0)
        self.product.calm(self.plan.restarts)

    def _end(self, now):
        """Ends the faults whose time is over; all of them where there is none."""
        due = [one for one in self.ending if now is None or one[0] <= now]
        self.ending = [one for one in self.ending if one not in due]
        for _, end in due:
            end()

    def _begin(self, fault, began):
        later = time.monotonic() - began + fault.lasts
        victim = self.product.servers[fault.how.get("server", 0)]
        match fault.kind:
            case "kill":
                self.product.kill(victim, fault.how["down"])
            case "term":
                self.product.term(victim)
            case "pause":
                self.product.pause(victim, fault.lasts)
            case "cut" | "stall" | "slow" | "deaf":
                proxy = self.proxies[fault.how["end"]]
                proxy.begin(fault.kind)
                self.ending.append((later, proxy.end))
            case "source down" | "destination down":
                machine = (self.source if fault.kind == "source down" else self.destination).machine
                # One that is down already comes back when the first fault says so.
                if all(end != machine.start for _, end in self.ending):
                    machine.kill()
                    self.ending.append((later, machine.start))
            case "sessions ended":
                aside(self.source.sessions_ended)
            case "disk full":
                filler = self.disk / "filler"
                fill(filler)
                self.ending.append((later, lambda: filler.unlink(missing_ok=True)))
            case "clock":
                self.product.set_clock(fault.how["by"])
            case "slot dropped":
                aside(self.source.slot_dropped)
            case "slot invalidated":
                aside(self.source.slot_invalidated)
            case "slot rewound":
                aside(self.source.slot_rewound)
            case other:
                raise ValueError(other)

    def _settle(self):
        deadline = time.monotonic() + SETTLE
        while True:
            self.product.tend()
            different = [said for table in self.tables if (said := differences(self.source, self.destination, table))]
            if not different:
                return
            assert time.monotonic() < deadline, "the sides do not become equal:\n" + "\n".join(different + [self._state()])
            time.sleep(0.3)

    def _state(self):
        answer = self.product.request("GET", f"/api/bulk/syncs/{self.sync}/executions")
        if answer is None or not answer.ok:
            return f"executions: {answer and answer.text}"
        return "\n".join(f"{one['status']} {one.get('status_message')}" for one in answer.json()["data"][:3])

    def _idle(self, timeout=60):
        """Waits until no execution is under way."""
        deadline = time.monotonic() + timeout
        while True:
            listed = self.product.patiently("GET", f"/api/bulk/syncs/{self.sync}/executions")["data"]
            under_way = [one for one in listed if one["status"] not in ENDED]
            if not under_way:
                return
            assert time.monotonic() < deadline, f"an execution does not end: {under_way}"
            time.sleep(0.1)

    def _check(self, watcher):
        # What follows has to go well, at the first attempt.
        if not self.plan.continuous:
            self._idle()
            started = self.product.patiently("POST", f"/api/bulk/syncs/{self.sync}/executions", json={})["data"]["id"]
            self._idle()
            path = f"/api/bulk/syncs/{self.sync}/executions/{started}"
            ended = self.product.patiently("GET", path)["data"]
            assert ended["status"] == "completed", ended
        for table in self.tables:
            different = differences(self.source, self.destination, table)
            assert different is None, f"equal before, and not any more:\n{different}"
            if self.plan.keeps_history and table in KEYED:
                different = differences(self.source, self.destination.present_versions(), table)
                assert different is None, f"the history is not what the table is:\n{different}"
        self._until_none(self.destination.left, "what was staged is left")
        assert not (watcher and watcher.troubles), "\n".join(watcher.troubles)
        troubles = self.product.troubles()
        assert not troubles, troubles[0]

    def _remove(self):
        if self.plan.reads == "stream" and self.plan.seed % 2:
            # What removes the stream may die at it, too.
            self.product.armed = [("postgres.slot-dropped=kill", "work.released=kill")[self.plan.seed // 2 % 2]]
            for server in self.product.servers:
                self.product.kill(server)
            self.product.tend()
        self.product.patiently("DELETE", f"/api/bulk/syncs/{self.sync}")
        self._until_none(self.source.left, "what was made at the source is left")

    def _until_none(self, found, what, timeout=30):
        deadline = time.monotonic() + timeout
        while left := found():
            self.product.tend()
            assert time.monotonic() < deadline, f"{what}: {left}"
            time.sleep(0.2)


class Driver:
    """Starts the sync whenever it does not run. One that goes on by itself is only helped
    after a failure, which it would get over by itself in minutes."""

    def __init__(self, product, sync, plan):
        self.product, self.path = product, f"/api/bulk/syncs/{sync}/executions"
        self.pause = 1.0 if plan.continuous else 0.1
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._drive, daemon=True)
        self.thread.start()

    def stop(self):
        self.stopping.set()
        self.thread.join(90)

    def _drive(self):
        while not self.stopping.is_set():
            self.product.request("POST", self.path, json={})
            self.stopping.wait(self.pause)


def aside(work):
    """Without waiting, and without a complaint: what it is done to may be down."""

    def quietly():
        try:
            work()
        except Exception as error:
            print(f"fault: {error!r}".splitlines()[0])

    threading.Thread(target=quietly, daemon=True).start()


def fill(file: Path):
    try:
        with file.open("wb", buffering=0) as filler:
            while filler.write(b"\0" * (1 << 18)):
                pass
    except OSError:
        pass
