"""Every operation of the contract through the official client, unmodified: what succeeds, and each
error that can be brought about, both read by the client's own types."""

import json

import pytest
from database import Database
from operations import World, operations
from polytomic.core import ApiError

BODY = {"key", "message", "status", "metadata"}
# Errors that the contract knows and nothing here brings about: 500 would be a fault, 408 comes of
# a log that is not to be had in time, 409 of these two of states that do not exist here.
NOT_BROUGHT_ABOUT = {
    "connections.update": {409},
    "connections.delete": {409},
    "bulk_sync.update": {409},
    "bulk_sync.activate": {409},
    # Every type can be a source, and what is in the path or the query has its own answers.
    "schemas.get_status": {400},
    "bulk_sync.executions.export_logs": {400},
}


@pytest.fixture(scope="module")
def world(servers):
    databases = Database(), Database(), Database()
    world = World(servers().start(), *databases)
    yield world
    world.lock.close()
    for database in databases:
        database.drop()


@pytest.fixture(scope="module")
def calls(world):
    return operations(world)


def refused(call, client, status, operation):
    with pytest.raises(ApiError) as caught:
        call(client)
    error = caught.value
    assert error.status_code == status, (operation, error)
    body = error.body if isinstance(error.body, dict) else json.loads(error.body.json())
    assert BODY <= set(body), (operation, body)
    assert body["status"] == status and body["message"] and isinstance(body["metadata"], dict), (operation, body)
    headers = {name.lower(): value for name, value in error.headers.items()}
    assert headers.get("x-request-id"), operation


def test_every_operation_succeeds(world, calls):
    for operation, (_, call, _) in calls.items():
        try:
            call(world.sdk)
        except Exception as error:
            raise AssertionError(f"{operation}: {error!r}") from error


def test_every_error_is_answered_as_the_contract_says(world, calls):
    for operation, (_, _, errors) in calls.items():
        for status, call in errors.items():
            refused(call, world.sdk, status, operation)


def test_a_key_that_is_none_is_refused_by_every_operation(world, calls):
    for operation, (_, call, _) in calls.items():
        refused(call, world.nobody, 401, operation)


def test_whoever_acts_for_no_organization_is_refused(world, calls):
    for operation, (about, call, _) in calls.items():
        if about != "all":
            refused(call, world.unplaced, 403, operation)


def test_objects_of_another_organization_are_not_found(world, calls):
    for operation, (about, call, _) in calls.items():
        if about == "object":
            refused(call, world.stranger, 404, operation)


def test_lists_of_another_organization_are_empty(world):
    assert world.stranger.connections.list().data == []
    assert world.stranger.bulk_sync.list().data == []
    assert world.stranger.events.list().data == []
    assert world.stranger.bulk_sync.executions.list_status(all_=True).data == []
    assert world.sdk.connections.list().data


def test_the_calls_are_those_of_the_document_with_their_errors(world, calls):
    document = world.server.request("GET", "/openapi.json", token=None).json()
    documented = {
        operation["operationId"]: {int(status) for status in operation["responses"]}
        for item in document["paths"].values()
        for operation in item.values()
    }
    assert set(calls) <= set(documented)
    assert len(calls) == 57
    for operation, (about, _, errors) in calls.items():
        seen = {200, 401} | set(errors) | ({403} if about != "all" else set()) | ({404} if about == "object" else set())
        assert seen <= documented[operation], (operation, seen - documented[operation])
