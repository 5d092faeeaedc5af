"""Canaries: secrets that are planted wherever a user has some, and looked for wherever Tideway
speaks: answers, logs at their most talkative, metrics, events, console logs, the metadata file,
and what the command line prints."""

import base64
import json
import os
import subprocess
import uuid

import pytest
import syncs
from server import until


def canary(name):
    return f"CaNaRy-{name}-{uuid.uuid4().hex[:12]}"


SECRETS = {
    name: canary(name)
    for name in [
        "password", "wrong-password", "s3-secret", "header", "query", "basic", "oauth", "userinfo",
        "api-key", "deployment-key", "unknown-key", "client-key", "cell", "metadata-password", "cli-password",
    ]
}  # fmt: skip
ENCRYPTION_KEY = base64.b64encode(os.urandom(32)).decode()


def found_in(text):
    """Names of the secrets that the text holds, as they are or in the usual disguises."""
    forms = {
        name: {secret, base64.b64encode(secret.encode()).decode()[:-4], secret.encode().hex(), json.dumps(secret)[1:-1]}
        for name, secret in (SECRETS | {"encryption-key": ENCRYPTION_KEY}).items()
    }
    return sorted(name for name, disguises in forms.items() if any(form in text for form in disguises))


@pytest.fixture(scope="module")
def server(servers):
    return servers(
        LOG="debug",
        API_KEY=SECRETS["api-key"],
        DEPLOYMENT_KEY=SECRETS["deployment-key"],
        ENCRYPTION_KEY=ENCRYPTION_KEY,
        HEALTHCHECK_SECONDS="1",
    ).start()


class Ear:
    """Sends requests and keeps everything that comes back."""

    def __init__(self, server):
        self.server, self.heard = server, []

    def ask(self, method, path, body=None, token=SECRETS["api-key"], **options):
        answer = self.server.request(method, path, token=token, json=body, **options)
        self.heard.append(f"{method} {path}: {answer.status_code} {answer.headers} {answer.text}")
        return answer

    def made(self, kind, configuration, **more):
        body = {"name": kind, "type": kind, "configuration": configuration, "validate": False} | more
        answer = self.ask("POST", "/api/connections", body)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["id"]


def test_no_secret_is_heard_again(server, source, target):
    ear = Ear(server)
    source.execute(
        f"""drop role if exists canary_of_tests; create role canary_of_tests login password '{SECRETS["password"]}';
            create table good (id int primary key, secret text); insert into good values (1, 'x');
            create table bad (id int primary key, number text); insert into bad values (1, '{SECRETS["cell"]}');
            create table gone (id int primary key);
            grant select on all tables in schema public to canary_of_tests"""
    )
    # A column into which the text of the source does not fit.
    target.execute("create table bad (id int primary key, number int)")
    login = source.configuration(username="canary_of_tests", password=SECRETS["password"])
    from_ = ear.made("postgresql", login, validate=True)
    to = ear.made("postgresql", target.configuration(), validate=True)

    # What cannot work: refused at once, and again in the background by the health checks.
    wrong = login | {"password": SECRETS["wrong-password"]}
    assert ear.ask("POST", "/api/connections", {"name": "w", "type": "postgresql", "configuration": wrong}).status_code == 400
    for change in [{"hostname": "no.such.host.invalid"}, {"port": 1}, {"database": "nowhere"}, {"port": "x"}, {"password": 5}]:
        body = {"type": "postgresql", "configuration": wrong | change}
        assert ear.ask("POST", "/api/connections/test", body).status_code in (400, 422)
    certificates = {"client_certs": True, "client_key": SECRETS["client-key"], "client_certificate": SECRETS["client-key"], "ssl": True}
    assert ear.ask("POST", "/api/connections/test", {"type": "postgresql", "configuration": login | certificates}).status_code != 200
    unhealthy = [
        ear.made("postgresql", wrong),
        ear.made("s3", {
            "auth_mode": "access_key_and_secret", "aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": SECRETS["s3-secret"],
            "s3_bucket_region": "us-east-1", "s3_bucket_name": "nowhere", "endpoint": os.environ["TIDEWAY_TEST_S3_ENDPOINT"],
        }),
    ]  # fmt: skip
    for auth in [
        {"header": {"name": "X-Key", "value": SECRETS["header"]}},
        {"query": [{"name": "key", "value": SECRETS["query"]}]},
        {"basic": {"username": "u", "password": SECRETS["basic"]}},
        {"oauth": {"client_id": "c", "client_secret": SECRETS["oauth"], "token_endpoint": f"{server.url}/api/me"}},
    ]:
        # Our own server stands in for a site that refuses.
        unhealthy.append(ear.made("csv", {"url": f"{server.url}/api/me", "auth": auth}))
    for id in unhealthy:
        ear.ask("POST", f"/api/connections/{id}/schemas/refresh")
        ear.ask("GET", f"/api/connections/{id}/bulksync/source")
        ear.ask("GET", f"/api/connections/{id}/parameter_values")
        connection = lambda id=id: ear.ask("GET", f"/api/connections/{id}").json()["data"]
        until(lambda: connection()["status"] == "unhealthy", "the health check")
        masked = connection()["configuration"]
        ear.ask("PUT", f"/api/connections/{id}", {"name": "again", "configuration": masked, "validate": False})
        ear.ask("PUT", f"/api/connections/{id}", {"name": "again", "configuration": masked})

    # Runs that go well and badly.
    sync = {
        "name": "canary", "source_connection_id": from_, "destination_connection_id": to, "mode": "replicate",
        "destination_configuration": {"schema": "public"}, "default_schedule": {"frequency": "manual"},
    }  # fmt: skip
    made = ear.ask("POST", "/api/bulk/syncs", sync).json()["data"]["id"]
    source.execute("drop table gone; revoke select on good from canary_of_tests")
    executions = f"/api/bulk/syncs/{made}/executions"
    for _ in range(2):
        execution = ear.ask("POST", executions, {}).json()["data"]["id"]
        state = lambda: ear.ask("GET", f"{executions}/{execution}").json()["data"]
        until(lambda: state()["status"] in syncs.ENDED, "its end")
        ear.ask("GET", f"{executions}/{execution}/consolelog")
        source.execute("grant select on good to canary_of_tests")
    assert "failed" in {one["status"] for one in state()["schemas"]}, state()
    masked = ear.ask("GET", f"/api/connections/{from_}").json()["data"]["configuration"]
    ear.ask("PUT", f"/api/connections/{from_}", {"name": "n", "configuration": masked | {"port": 1}, "validate": False})
    execution = ear.ask("POST", executions, {}).json()["data"]["id"]
    until(lambda: state()["status"] == "failed", "the failure of a source that is gone")

    # Keys.
    ear.ask("GET", "/api/me", token=SECRETS["unknown-key"])
    ear.ask("GET", "/api/me", token=SECRETS["deployment-key"])
    ear.ask("POST", "/api/connections", {"name": "x"}, headers={"Idempotency-Key": uuid.uuid4().hex})
    for path in ["/metrics", "/readyz", "/openapi.json", "/api/events?limit=100", "/api/connections", "/api/bulk/syncs", "/api/connection_types"]:
        ear.ask("GET", path)

    assert found_in("\n".join(ear.heard)) == []
    assert found_in(server.log()) == []
    kept = "".join(file.read_bytes().decode("latin-1") for file in server.data_dir.iterdir() if file.is_file() and file.name != "api-key")
    assert found_in(kept) == []
    # The canaries are such that they would have been found.
    assert found_in(f"oh {SECRETS['password']}") == ["password"]
    assert "bulk_sync.failed" in "\n".join(ear.heard) and "canary_of_tests" in "\n".join(ear.heard)
    source.execute("drop owned by canary_of_tests; drop role canary_of_tests")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_command_line_repeats_no_password(server, tmp_path, flags):
    secret = SECRETS["cli-password"]
    port = os.environ["TIDEWAY_TEST_POSTGRES_URL"].rsplit(":", 1)[1].split("/")[0]
    for url in [
        f"postgresql://tideway:{secret}@127.0.0.1:{port}/postgres",
        f"postgresql://tideway:{secret}@127.0.0.1:1/postgres",
        f"postgresql://tideway:{secret}@no.such.host.invalid/postgres",
        f"postgresql://tideway:{secret}@127.0.0.1:nonsense/postgres",
        f"postgresql://tideway:{secret}@127.0.0.1/postgres?sslmode=nonsense",
        f"mystery://tideway:{secret}@127.0.0.1/x",
        f"postgresql://tideway:{secret}",
        f"s3://key:{secret}@bucket/prefix?format=csv&endpoint=http://127.0.0.1:1",
        f"http://user:{secret}@127.0.0.1:1/a.csv",
    ]:
        folder = f"file://{tmp_path}?format=csv"
        for command in (["check", url], ["discover", url], ["copy", url, folder], ["copy", folder, url]):
            shown = printed([*flags, "--log", "debug", *command])
            assert found_in(shown) == [], (command[0], url.replace(secret, "***"), shown)
    metadata = f"postgresql://tideway:{SECRETS['metadata-password']}@127.0.0.1:{port}/postgres"
    for command in ["doctor", "serve"]:
        shown = printed([*flags, "--log", "debug", command, "--data-dir", str(tmp_path / "data")], TIDEWAY_DATABASE_URL=metadata, TIDEWAY_LISTEN="127.0.0.1:0")
        assert found_in(shown) == [], (command, shown)


def printed(arguments, **environment):
    command = [os.environ["TIDEWAY_BIN"], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)
    assert done.returncode not in (0, 70, 101), (arguments, done.stdout, done.stderr)
    assert "panicked" not in done.stderr
    return done.stdout + done.stderr
