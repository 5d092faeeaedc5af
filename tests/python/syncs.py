"""Bulk syncs as the tests make them: through the official client, to their end."""

import uuid


from server import until

ENDED = {"completed", "failed", "canceled", "errors", "interrupted"}


def connect(sdk, kind, configuration, **options):
    """A connection with a name of its own; returns its id."""
    name = f"{kind} {uuid.uuid4().hex[:8]}"
    return sdk.connections.create(name=name, type=kind, configuration=configuration, **options).data.id


def make(sdk, source, destination, configuration=None, frequency="manual", **options):
    """A bulk sync of all that the source has, unless `schemas` says otherwise; returns its id."""
    return sdk.bulk_sync.create(
        name=f"sync {uuid.uuid4().hex[:8]}",
        source_connection_id=source,
        destination_connection_id=destination,
        destination_configuration={"schema": "public"} if configuration is None else configuration,
        default_schedule={"frequency": frequency},
        active=True,
        **options,
    ).data.id


def wait(sdk, sync, execution, timeout=60):
    def ended():
        found = sdk.bulk_sync.executions.get(id=sync, exec_id=execution).data
        return found if found.status in ENDED else None

    return until(ended, f"the end of execution {execution}", timeout)


def run(sdk, sync, timeout=60, **options):
    """Starts the sync and waits for its end; returns the execution."""
    started = sdk.bulk_sync.start(id=sync, **options).data
    return wait(sdk, sync, started.id, timeout)


def run_well(sdk, sync, timeout=60, **options):
    execution = run(sdk, sync, timeout, **options)
    assert execution.status == "completed", (execution.status, execution.status_message)
    return execution
