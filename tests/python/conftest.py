"""Fixtures: a server (shared, or of a test's own), the SDK, and fresh databases."""

import os

import pytest

from database import Database
from server import Server

NEEDED = ["TIDEWAY_BIN", "TIDEWAY_DUCKDB_LIBRARY", "TIDEWAY_TEST_POSTGRES_URL", "TIDEWAY_TEST_POSTGRES17_URL", "TIDEWAY_TEST_POSTGRES18_URL", "TIDEWAY_TEST_MYSQL_URL", "TIDEWAY_TEST_MARIADB_URL", "TIDEWAY_TEST_S3_ENDPOINT", "TIDEWAY_TEST_SSH", "TIDEWAY_TEST_FAKETIME"]


def pytest_configure(config):
    config.addinivalue_line("markers", "long: a slow campaign, run by `make test-long` alone")
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        raise pytest.UsageError(f"{', '.join(missing)} not set: run `scripts/test.sh pytest tests/python`")


def pytest_collection_modifyitems(config, items):
    if os.environ.get("TIDEWAY_TEST_LONG") != "1":
        slow = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Makes servers, `servers(**settings).start()`; at the end none may have panicked."""
    made = []

    def make(**settings) -> Server:
        made.append(Server(tmp_path_factory.mktemp("server"), **settings))
        return made[-1]

    yield make
    for server in made:
        server.kill()
    asked_for = "core/src/failpoint.rs"
    panics = [line for server in made for line in server.log().splitlines() if "panicked at" in line and asked_for not in line]
    assert not panics, panics


@pytest.fixture(scope="session")
def server(servers) -> Server:
    """The one server that most tests share; who kills or configures it takes `own_server`."""
    return servers().start()


@pytest.fixture
def own_server(servers):
    server = servers().start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def base_url(server) -> str:
    return server.url


@pytest.fixture(scope="session")
def sdk(server):
    return server.sdk()


@pytest.fixture
def source():
    database = Database()
    yield database
    database.drop()


@pytest.fixture
def target():
    database = Database()
    yield database
    database.drop()


@pytest.fixture
def database():
    """One more, such as for the metadata of a server."""
    database = Database()
    yield database
    database.drop()
