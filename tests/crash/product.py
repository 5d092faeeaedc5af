"""The processes of `tideway serve` in a plan, kept up like a supervisor would."""

import itertools
import os
import signal
import time
from pathlib import Path

import requests

from database import Database
from server import Server

# A process that a failpoint has stopped is let go after one of these: sooner and later than
# its lease ends.
STOPPED = itertools.cycle([0.4, 2.6])
LEASE = "2"


class Product:
    def __init__(self, plan, folder: Path):
        self.plan = plan
        self.armed = list(plan.failpoints)
        self.deaths = 0
        self.metadata = Database() if plan.servers > 1 else None
        settings = {"LEASE_SECONDS": LEASE, "STREAM_SECONDS": "3", "LOG": "info"}
        if self.metadata:
            settings |= {"DATABASE_URL": self.metadata.url, "ENCRYPTION_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
        self.servers = []
        for number in range(plan.servers):
            place = folder / f"server-{number}"
            place.mkdir()
            self.servers.append(Server(place, **settings))
        self.clock = folder / "clock"
        if plan.clock:
            self.set_clock(0)
            for server in self.servers:
                server.environment |= {
                    "LD_PRELOAD": os.environ["TIDEWAY_TEST_FAKETIME"],
                    "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "FAKETIME_CACHE_DURATION": "1",
                }
        # Those that are down on purpose, and until when.
        self.down = {}
        # Those that stand still, and until when.
        self.still = {}
        # Ends that nobody asked for.
        self.crashes = []

    def start(self):
        for server in self.servers:
            self._launch(server)
            self.deaths -= 1

    def _launch(self, server):
        self.deaths += 1
        server.environment.pop("TIDEWAY_FAILPOINTS", None)
        if self.armed:
            server.environment["TIDEWAY_FAILPOINTS"] = self.armed.pop(0)
        server.launch()

    def tend(self):
        """Starts what has died and lets go what has stood still for long enough."""
        for server in self.servers:
            now = time.monotonic()
            if server.gone():
                if self.down.get(server, 0) <= now:
                    self._explain(server)
                    self._launch(server)
            elif stopped(server.process.pid):
                until = self.still.setdefault(server, now + next(STOPPED))
                if until <= now:
                    self.resume(server)
            else:
                self.still.pop(server, None)

    def _explain(self, server):
        """Whether the end was asked for: by us, or by a failpoint."""
        code = server.process.returncode
        asked_for = {
            -signal.SIGKILL: True,
            # It was asked to end before it could listen to that.
            -signal.SIGTERM: True,
            0: True,
        }
        if not asked_for.get(code):
            self.crashes.append(f"ended with {code}:\n{server.log()[-2000:]}")
            assert len(self.crashes) < 4, self.crashes[-1]

    def kill(self, server, down=0.0):
        if not server.gone():
            # One that stands still dies all the same.
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        self.down[server] = time.monotonic() + down

    def term(self, server):
        """As an operator would; one that stands still cannot be asked."""
        if not server.gone():
            server.process.send_signal(signal.SIGCONT)
            server.stop()

    def pause(self, server, seconds):
        if not server.gone():
            server.process.send_signal(signal.SIGSTOP)
            self.still[server] = time.monotonic() + seconds

    def resume(self, server):
        self.still.pop(server, None)
        if not server.gone():
            server.process.send_signal(signal.SIGCONT)

    def calm(self, anew):
        self.armed.clear()
        for server in self.servers:
            self.resume(server)
            self.down.pop(server, None)
            if anew:
                self.kill(server)
        self.tend()

    def set_clock(self, seconds):
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self.clock)

    def request(self, method, path, **options) -> requests.Response | None:
        """The answer of the first that gives one; None where nobody does."""
        for server in self.servers:
            if server.gone() or stopped(server.process.pid):
                continue
            try:
                return server.request(method, path, **options)
            except requests.RequestException:
                continue
        return None

    def patiently(self, method, path, timeout=60, **options) -> dict:
        """The same, again and again until it went well."""
        deadline = time.monotonic() + timeout
        while True:
            self.tend()
            answer = self.request(method, path, **options)
            if answer is not None and answer.ok:
                return answer.json() if answer.content else {}
            assert time.monotonic() < deadline, f"{method} {path}: {answer and answer.text}"
            time.sleep(0.2)

    def troubles(self):
        """Panics and ends that no failpoint asked for."""
        lines = "\n".join(server.log() for server in self.servers).splitlines()
        return self.crashes + [
            "\n".join(lines[at : at + 3])
            for at, line in enumerate(lines)
            if "panicked at" in line and "core/src/failpoint.rs" not in line
        ]

    def close(self):
        for server in self.servers:
            self.kill(server)
        if self.metadata:
            self.metadata.drop()


def stopped(pid) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] == "T"
