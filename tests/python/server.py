"""A `tideway serve` of a test's own: on a free port, in a folder, to be killed and started again."""

import os
import random
import socket
import subprocess
import time
from pathlib import Path

import requests
from polytomic import Polytomic

API_KEY = "test-api-key-0123456789abcdef"
DEPLOYMENT_KEY = "test-deployment-key-0123456789abcdef"


def until(condition, what, timeout=30, pause=0.1):
    """Waits for `condition()` to be true and returns what it gave; `what` names it in the failure."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"gave up after {timeout} s: {what}"
        time.sleep(pause)
    return result


def free_port():
    # Below the range of outgoing connections, one of which could take it over a restart.
    while True:
        port = random.randrange(10_000, 20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """`settings` are TIDEWAY_* variables without their prefix: Server(folder, ENCRYPTION_KEY=...)."""

    def __init__(self, folder: Path, **settings: str):
        self.data_dir = folder / "data"
        self.log_file = folder / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"API_KEY": API_KEY, "DEPLOYMENT_KEY": DEPLOYMENT_KEY} | settings
        # A developer's own settings must not reach the server under test.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWAY_")}
        kept["TIDEWAY_DUCKDB_LIBRARY"] = os.environ["TIDEWAY_DUCKDB_LIBRARY"]
        self.environment = kept | {f"TIDEWAY_{k}": v for k, v in settings.items()}
        self.process = None

    def start(self, timeout=30) -> "Server":
        self.launch()
        until(lambda: self.gone() or self.ready(), f"/readyz of {self.url}", timeout)
        assert not self.gone(), f"the server ended with {self.process.returncode}:\n{self.log()}"
        return self

    def launch(self):
        """Starts it without waiting for it."""
        listen = f"127.0.0.1:{self.port}"
        command = [os.environ["TIDEWAY_BIN"], "serve", "--data-dir", str(self.data_dir), "--listen", listen]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self):
        """As the machine would: without a word of warning."""
        if not self.gone():
            self.process.kill()
            self.process.wait()

    def stop(self, timeout=30):
        """As an operator would; the server has to end by itself."""
        if not self.gone():
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the server did not end within {timeout} s:\n{self.log()[-4000:]}")

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def sdk(self, token=API_KEY, **options) -> Polytomic:
        """The official client, unmodified."""
        return Polytomic(base_url=self.url, token=token, **options)

    def request(self, method, path, token=API_KEY, **options) -> requests.Response:
        """One HTTP request, for what the SDK does not send; `token=None` sends no key."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)
