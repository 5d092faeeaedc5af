"""The server answers as its own OpenAPI document says, whatever it is sent."""

import os
import subprocess

import pytest
from server import API_KEY

# The contract's operations of connection types, connections, schemas, bulk syncs and their
# neighbours; `bench/` and the README speak of the same number.
BUILT = 57
EXAMPLES = "30" if os.environ.get("TIDEWAY_TEST_LONG") == "1" else "4"


# Not yet seen passing; see docs/status.md.
@pytest.mark.long
def test_no_input_of_any_operation_is_answered_other_than_documented(own_server, tmp_path):
    command = [
        "schemathesis", "run", f"{own_server.url}/openapi.json",
        "--header", f"Authorization: Bearer {API_KEY}",
        "--phases", "examples,fuzzing", "--max-examples", EXAMPLES, "--workers", "2",
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--continue-on-failure", "--request-timeout", "60", "--seed", "1",
        # Generating deeply nested settings is slow, which says nothing of the server.
        "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]


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
