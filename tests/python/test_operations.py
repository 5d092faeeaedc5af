"""Every operation of the contract through the official client, unmodified: what succeeds, and each
error that can be brought about, both read by the client's own types."""

import functools
import inspect
import json
import re

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
    # Whoever has a key is told what it is.
    "identity.get": {403},
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


def refusal(call, client, status, operation):
    """What is wrong with how the operation was refused, if anything is."""
    try:
        call(client)
    except ApiError as error:
        body = error.body if isinstance(error.body, dict) else json.loads(error.body.json())
        whole = BODY <= set(body) and body["status"] == status and body["message"] and isinstance(body["metadata"], dict)
        named = any(name.lower() == "x-request-id" for name in error.headers)
        return None if error.status_code == status and whole and named else f"{operation}, not {status}: {error}"
    except Exception as error:
        return f"{operation}: {error!r}"
    return f"{operation} was not refused with {status}"


def test_every_operation_succeeds(world, calls):
    wrong = {}
    for operation, (_, call, _) in calls.items():
        try:
            call(world.sdk)
        except Exception as error:
            wrong[operation] = error
    assert not wrong


def test_every_error_is_answered_as_the_contract_says(world, calls):
    errors = [(call, world.sdk, status, name) for name, (_, _, errors) in calls.items() for status, call in errors.items()]
    assert len(errors) > 80
    assert not [wrong for one in errors if (wrong := refusal(*one))]


def test_a_key_that_is_none_is_refused_by_every_operation(world, calls):
    refusals = [refusal(call, world.nobody, 401, name) for name, (_, call, _) in calls.items()]
    assert not [wrong for wrong in refusals if wrong]


def test_whoever_acts_for_no_organization_is_refused(world, calls):
    mine = {name: call for name, (about, call, _) in calls.items() if about != "all"}
    refusals = [refusal(call, world.unplaced, 403, name) for name, call in mine.items()]
    assert not [wrong for wrong in refusals if wrong]


def test_objects_of_another_organization_are_not_found(world, calls):
    objects = {name: call for name, (about, call, _) in calls.items() if about == "object"}
    refusals = [refusal(call, world.stranger, 404, name) for name, call in objects.items()]
    assert not [wrong for wrong in refusals if wrong]


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


def test_no_error_that_the_client_knows_is_left_out(world, calls):
    left_out = {}
    for operation, (about, _, errors) in calls.items():
        seen = {401, 500, 408} | set(errors) | ({403} if about != "all" else set()) | ({404} if about == "object" else set())
        method = functools.reduce(getattr, operation.split(".")[:-1], world.sdk).with_raw_response
        source = inspect.getsource(getattr(type(method), operation.split(".")[-1]))
        knows = {int(status) for status in re.findall(r"status_code == (\d+)", source)}
        if knows - seen:
            left_out[operation] = knows - seen
    assert left_out == NOT_BROUGHT_ABOUT
