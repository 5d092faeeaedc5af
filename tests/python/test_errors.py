"""What can go wrong is named, with what to do, and nothing panics (the fixture looks)."""

import json

import pytest
import syncs


def create(server, kind, configuration, **body):
    body = {"name": "c", "type": kind, "configuration": configuration} | body
    return server.request("POST", "/api/connections", json=body)


def refused(answer, status, *words):
    assert answer.status_code == status, (answer.status_code, answer.text)
    body = answer.json()
    assert set(body) == {"key", "message", "status", "metadata"}, body
    for word in words:
        assert word.lower() in body["message"].lower(), (word, body["message"])
    return body


def test_connections_that_cannot_work_are_refused_with_the_reason(server, source):
    good = source.configuration()
    wrong = refused(create(server, "postgresql", good | {"password": "wr0ng-s3cret"}), 400, "password")
    assert "wr0ng-s3cret" not in json.dumps(wrong)
    refused(create(server, "postgresql", good | {"hostname": "no.such.host.invalid"}), 400, "no.such.host.invalid")
    refused(create(server, "postgresql", good | {"port": 1}), 400, "127.0.0.1", "1")
    refused(create(server, "postgresql", good | {"database": "nowhere"}), 400, "nowhere")
    refused(create(server, "files", {"path": "/no/such/folder"}), 400, "/no/such/folder")
    assert server.request("GET", "/api/connections").status_code == 200


def test_every_wrong_field_is_named_at_once(server):
    body = refused(create(server, "postgresql", {"port": 99999, "colour": "red", "username": 5}), 422, "port", "colour")
    assert {"port", "colour", "username", "host"} <= set(body["metadata"]["fields"])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"{", ["json"]),
        (b"[1,2", ["string"]),
        (b'{"name": 5, "type": "csv", "configuration": {}}', ["name"]),
        (b'{"name": "a", "type": "csv", "configuration": {}, "surprise": 1}', ["surprise"]),
        (b'{"name": "a\\u0000", "type": "csv", "configuration": {}}', ["nul"]),
        (b"\xff\xfe", ["json"]),
    ],
)
def test_bodies_that_make_no_sense_are_refused(server, content, words):
    answer = server.request("POST", "/api/connections", data=content, headers={"Content-Type": "application/json"})
    refused(answer, 400, *words)


def test_a_body_of_100_mb_is_refused(server):
    answer = server.request("POST", "/api/connections", data=b" " * 100_000_000)
    refused(answer, 413)


def test_a_dropped_table_and_a_revoked_grant_fail_alone(sdk, server, source, target):
    source.execute(
        """create table kept (id int primary key); insert into kept values (1), (2);
           create table dropped (id int primary key); create table hidden (id int primary key);
           drop role if exists reader_of_tests; create role reader_of_tests login password 'reader';
           grant select on all tables in schema public to reader_of_tests"""
    )
    reader = source.configuration(username="reader_of_tests", password="reader")
    connections = [syncs.connect(sdk, "postgresql", one) for one in (reader, target.configuration())]
    sync = syncs.make(sdk, *connections)
    source.execute("drop table dropped; revoke select on hidden from reader_of_tests")
    execution = syncs.run(sdk, sync)
    states = {one.schema_: one for one in execution.schemas}
    assert execution.status == "errors", execution
    assert states["public.kept"].status == "completed"
    for name in ["public.dropped", "public.hidden"]:
        assert states[name].status == "failed" and name in states[name].status_message, states[name]
    assert target.execute("select count(*) from kept") == [(2,)]
    source.execute("drop owned by reader_of_tests; drop role reader_of_tests")


def test_an_unreachable_destination_fails_the_run_with_its_name(sdk, source, target):
    source.execute("create table t (id int primary key)")
    good = target.configuration()
    connections = [syncs.connect(sdk, "postgresql", one) for one in (source.configuration(), good)]
    sync = syncs.make(sdk, *connections)
    sdk.connections.update(id=connections[1], name="gone", configuration=good | {"port": 1}, validate=False)
    execution = syncs.run(sdk, sync)
    assert execution.status == "failed"
    assert "gone" in execution.status_message and "127.0.0.1" in execution.status_message


def test_unknown_ids_of_any_shape_are_not_found(server):
    for path in ["/api/connections/x", "/api/bulk/syncs/00000000-0000-0000-0000-000000000000", "/api/bulk/syncs/x/executions"]:
        refused(server.request("GET", path), 404)


def test_what_is_not_built_says_so(server):
    body = refused(server.request("GET", "/api/syncs"), 501, "not built")
    assert body["key"] == "not_implemented"


def test_an_unknown_version_is_refused_and_known_ones_are_echoed(server):
    for version in ["2025-09-18", "2024-02-08", "2023-04-25"]:
        answer = server.request("GET", "/api/me", headers={"X-Polytomic-Version": version})
        assert answer.status_code == 200 and answer.headers["x-polytomic-version"] == version
    refused(server.request("GET", "/api/me", headers={"X-Polytomic-Version": "1999"}), 400, "2025-09-18")


def test_a_repeated_key_replays_the_first_outcome(server):
    headers = {"Idempotency-Key": "key-0123456789"}
    body = {"name": "once", "type": "csv", "configuration": {"url": "http://127.0.0.1:1/a.csv"}, "validate": False}
    first = server.request("POST", "/api/connections", json=body, headers=headers)
    again = server.request("POST", "/api/connections", json=body, headers=headers)
    assert first.status_code == 200 and again.json() == first.json()
    other = server.request("POST", "/api/connections", json=body | {"name": "other"}, headers=headers)
    assert other.status_code in (409, 422)
