"""The server answers as its own OpenAPI document says, whatever it is sent."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import syncs
from server import API_KEY

# The contract's operations of connection types, connections, schemas, bulk syncs and their
# neighbours; `bench/` and the README speak of the same number.
BUILT = 57


def known(sdk, source, target):
    """Objects of every kind, for `contract_hooks.py` to name in requests."""
    source.execute(
        "create table orders (id int primary key, city text, at timestamptz); create table items (id int primary key)"
    )
    configuration = source.configuration()
    connections = [syncs.connect(sdk, "postgresql", configuration) for _ in range(3)]
    to = syncs.connect(sdk, "postgresql", target.configuration())
    csv = syncs.connect(sdk, "csv", {"url": "http://127.0.0.1:1/a.csv"}, validate=False)
    made = [syncs.make(sdk, one, to, {"schema": "mart"}) for one in connections]
    executions = [syncs.run_well(sdk, sync).id for sync in made]
    job = sdk.bulk_sync.executions.export_logs(sync_id=made[0], execution_id=executions[0]).job.job_id
    schedules = [schedule.id for sync in made for schedule in sdk.bulk_sync.schedules.list(sync_id=sync).data]
    fields = [{"field_id": "town", "label": "Town", "type": "string", "path": "$.city"}]
    sdk.schemas.upsert_field(connection_id=connections[0], schema_id="public.orders", fields=fields)
    return {
        "connection_id": [*connections, to, csv],
        "source_connection_id": [*connections, csv],
        "destination_connection_id": [to, csv],
        "sync_id": made,
        "execution_id": executions,
        "schedule_id": schedules,
        "schema_id": ["public.orders", "public.items", "public.ghosts"],
        "field_id": ["id", "city", "town"],
        "type": ["postgresql", "csv"],
        "job_type": ["exportlogs", "samplemodel"],
        "job_id": [job],
        "frequency": ["manual", "daily", "hourly"],
        "connections": [
            {"type": "postgresql", "configuration": configuration},
            {"type": "postgresql", "configuration": configuration | {"port": 1}},
            {"type": "csv", "configuration": {"url": "http://127.0.0.1:1/a.csv"}, "validate": False},
        ],
    }


def campaign(server, source, target, folder, phases, examples, timeout):
    """Runs schemathesis against the server and returns how many requests it made."""
    objects = known(server.sdk(), source, target)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json",
        "--header", f"Authorization: Bearer {API_KEY}",
        "--phases", phases, "--max-examples", str(examples), "--workers", "2",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
        "response_schema_conformance,ignored_auth",
        "--continue-on-failure", "--request-timeout", "60", "--seed", "1", "--no-shrink",
        # Generating deeply nested settings is slow, which says nothing of the server.
        "--suppress-health-check", "all", "--warnings", "off", "--no-color",
    ]  # fmt: skip
    environment = os.environ | {
        "TIDEWAY_TEST_KNOWN": json.dumps(objects),
        "SCHEMATHESIS_HOOKS": "contract_hooks",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    assert server.ready()
    return int(re.search(r"(\d+) generated", run.stdout)[1])


def test_no_input_of_any_operation_is_answered_other_than_documented(own_server, source, target, tmp_path):
    assert campaign(own_server, source, target, tmp_path, "examples,fuzzing", 8, timeout=280) > BUILT * 4


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("metadata", ["sqlite", "postgresql"])
def test_thousands_of_requests_are_answered_as_documented(servers, source, target, database, tmp_path, metadata):
    settings = {"DATABASE_URL": database.url} if metadata == "postgresql" else {}
    server = servers(**settings).start()
    made = campaign(server, source, target, tmp_path, "examples,coverage,fuzzing", 60, timeout=3500)
    assert made > 3000


def test_the_document_holds_every_built_operation(server):
    document = server.request("GET", "/openapi.json", token=None).json()
    ids = [
        operation["operationId"]
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]
    assert len(ids) == len(set(ids)), "operation ids are unique"
    assert len(ids) >= BUILT
