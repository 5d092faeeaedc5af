"""Loaded into schemathesis: most of what it makes up names nothing and ends at a 404, so real ids
take the place of some of its own, and the requests reach what lies behind."""

import json
import os
import random

import schemathesis

# By what a path or a body calls it: ids that exist.
KNOWN = json.loads(os.environ["TIDEWAY_TEST_KNOWN"])
dice = random.Random(1)


def known(name, path):
    if name == "id":
        name = "connection_id" if path.startswith("/api/connections/") else "sync_id"
        if path.startswith("/api/jobs/"):
            name = "job_id"
        if path.startswith("/api/connection_types/"):
            name = "type"
    if name == "type" and path.startswith("/api/jobs/"):
        name = "job_type"
    return KNOWN.get({"exec_id": "execution_id"}.get(name, name))


@schemathesis.hook
def before_call(ctx, case, kwargs):
    path = case.operation.path
    # What is deleted is gone for all requests that follow.
    chance = 0.02 if case.method == "DELETE" else 0.8
    for name in case.path_parameters or {}:
        ids = known(name, path)
        if ids and dice.random() < chance:
            case.path_parameters[name] = dice.choice(ids)
    if isinstance(case.body, dict):
        for name in list(case.body):
            ids = KNOWN.get(name)
            if ids and dice.random() < 0.8:
                case.body[name] = dice.choice(ids)
        if path == "/api/connections/test" or (path == "/api/connections" and case.method == "POST"):
            if dice.random() < 0.5:
                case.body |= dice.choice(KNOWN["connections"])
