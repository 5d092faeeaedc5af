"""Servers that a plan may kill: private ones, started by the same scripts as those of the tests,
and kept for the next plan of the same lane."""

import os
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from .plan import ROOT
from server import free_port


class Private:
    """One server of `scripts/servers`, in a folder of its own."""

    def __init__(self, kind: str):
        self.kind = kind
        # Short, for a socket's path has 107 bytes, and open to other users.
        self.folder = Path(tempfile.mkdtemp(prefix=f"tw-{kind[:2]}-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.start()

    def script(self, *arguments):
        command = [ROOT / "scripts" / "servers" / f"{self.kind}.sh", *arguments]
        # A server that forgets what it has committed would be to blame itself.
        environment = os.environ | {"TIDEWAY_MYSQL_FSYNC": "on"}
        log = self.folder / "script.log"
        with log.open("ab") as out:
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        assert done.returncode == 0, f"{command}: {log.read_text()[-2000:]}"

    def start(self):
        self.script("start", self.folder, str(self.port))

    def kill(self):
        self.script("stop", self.folder)

    def remove(self):
        try:
            self.kill()
        finally:
            subprocess.run(["rm", "-rf", self.folder], check=True)


class Postgres(Private):
    def __init__(self):
        super().__init__("postgres")
        self.url = f"postgresql://tideway:tideway@127.0.0.1:{self.port}/postgres"


class MySql(Private):
    def __init__(self):
        super().__init__("mysql")


class Lane:
    """What one plan after the other runs on. Servers are made when they are first wanted."""

    def __init__(self):
        self._made = {}

    def server(self, role, kind) -> Private:
        if role not in self._made:
            self._made[role] = kind()
        return self._made[role]

    def close(self):
        for server in self._made.values():
            server.remove()


def s3_endpoint():
    url = urlsplit(os.environ["TIDEWAY_TEST_S3_ENDPOINT"])
    return url.hostname, url.port
