"""The 57 operations as the official client calls them: one call that succeeds, and one for each
error that it knows and that can be brought about."""

import sqlite3
import uuid

import httpx
import psycopg
import syncs
from database import Database
from polytomic import Polytomic
from server import DEPLOYMENT_KEY, Server

MISSING = "00000000-0000-4000-8000-000000000000"


class World:
    """Two organizations, of which the caller's has something of everything."""

    def __init__(self, server: Server, source: Database, target: Database, busy: Database):
        # A refusal is to be seen at once, so nothing is tried again.
        self.server, self.sdk = server, server.sdk(max_retries=0)
        self.configuration = source.configuration()
        source.execute("create table orders (id int primary key, city text, at timestamptz)")
        source.execute("insert into orders select n, 'city', now() from generate_series(1, 20) n")
        source.execute("create view open_orders as select * from orders")
        self.source = self.connection(self.configuration)
        self.target = self.connection(target.configuration())
        self.csv = syncs.connect(self.sdk, "csv", {"url": "http://127.0.0.1:1/a.csv"}, validate=False)
        self.unreachable = self.connection(self.configuration | {"port": 1}, validate=False)
        self.schema = "public.orders"
        self.sync = self.fresh_sync()
        self.execution = syncs.run_well(self.sdk, self.sync).id
        self.job = self.sdk.bulk_sync.executions.export_logs(sync_id=self.sync, execution_id=self.execution).job.job_id
        self.schedule = self.fresh_schedule()
        self.sdk.schemas.upsert_field(
            connection_id=self.source,
            schema_id=self.schema,
            fields=[{"field_id": "town", "label": "Town", "type": "string", "path": "$.city"}],
        )
        self.stranger = self.of_organization(other_organization(server))
        # With a second organization, a deployment's key has to say for which it acts.
        self.unplaced = server.sdk(token=DEPLOYMENT_KEY, max_retries=0)
        self.nobody = server.sdk(token="no key of this server", max_retries=0)
        busy.execute("create table locked (id int primary key)")
        self.busy = self.connection(busy.configuration())
        self.lock = psycopg.connect(busy.url)
        self.lock.execute("lock table locked in access exclusive mode")

    def connection(self, configuration, **options):
        return syncs.connect(self.sdk, "postgresql", configuration, **options)

    def fresh_sync(self, **options):
        return syncs.make(self.sdk, self.source, self.target, schemas=[self.schema], **options)

    def fresh_schedule(self):
        return self.sdk.bulk_sync.schedules.create(sync_id=self.sync, schedule={"frequency": "daily", "hour": "3", "minute": "0"}).data.id

    def fresh_field(self):
        name = f"field_{uuid.uuid4().hex[:8]}"
        field = {"field_id": name, "label": name, "type": "string", "path": "$.city"}
        self.sdk.schemas.upsert_field(connection_id=self.source, schema_id=self.schema, fields=[field])
        return name

    def running_sync(self):
        """One whose execution waits for a lock that nobody gives up."""
        sync = syncs.make(self.sdk, self.busy, self.target)
        self.sdk.bulk_sync.start(id=sync)
        return sync

    def of_organization(self, organization) -> Polytomic:
        client = httpx.Client(auth=(organization, DEPLOYMENT_KEY), timeout=60)
        return Polytomic(base_url=self.server.url, httpx_client=client, max_retries=0)


def other_organization(server: Server) -> str:
    """A second organization: what makes one is not built yet, so it is put into the metadata."""
    organization = str(uuid.uuid4())
    with sqlite3.connect(server.data_dir / "tideway.db", timeout=30) as database:
        database.execute("insert into organizations values (?, 'Other', 0, 0)", [organization])
    return organization


def operations(w: World) -> dict:
    """By operation id: a call that succeeds, and calls that fail by status. `of` names what the
    operation is about: an object of the organization ("object"), the organization ("mine"), or
    nothing of it ("all"). The first are not found by strangers, the first two are forbidden to
    whoever does not say for which organization it acts."""
    bulk = dict(
        source_connection_id=w.source,
        destination_connection_id=w.target,
        destination_configuration={"schema": "mart"},
        default_schedule={"frequency": "manual"},
    )
    daily = {"frequency": "daily", "hour": "4", "minute": "30"}
    never = {"frequency": "hourly", "minute": "99"}
    execution = dict(sync_id=w.sync, execution_id=w.execution)
    missing_execution = dict(sync_id=w.sync, execution_id=MISSING)
    field = dict(connection_id=w.source, schema_id=w.schema)
    town = {"field_id": "town", "label": "Town", "type": "string", "path": "$.city"}
    key = [{"field_id": "city", "is_primary_key": True}]
    wrong = w.configuration | {"password": "not the password"}
    misspelt = w.configuration | {"colour": "red"}

    return {
        "identity.get": ("all", lambda s: s.identity.get(), {}),
        "entities.get": ("object", lambda s: s.entities.get(id=w.sync), {404: lambda s: s.entities.get(id=MISSING)}),
        "events.list": ("mine", lambda s: s.events.list(limit=5), {422: lambda s: s.events.list(type="no such type")}),
        "events.get_types": ("all", lambda s: s.events.get_types(), {}),
        "jobs.get": (
            "object",
            lambda s: s.jobs.get(type="exportlogs", id=w.job),
            {400: lambda s: s.jobs.get(type="coffee", id=w.job), 404: lambda s: s.jobs.get(type="exportlogs", id=MISSING)},
        ),
        # Connections.
        "connections.get_types": ("all", lambda s: s.connections.get_types(), {}),
        "connections.get_connection_type_schema": (
            "all",
            lambda s: s.connections.get_connection_type_schema(id="postgresql"),
            {404: lambda s: s.connections.get_connection_type_schema(id="no such type")},
        ),
        "connections.get_type_parameter_values": (
            "all",
            lambda s: s.connections.get_type_parameter_values(type="postgresql", field="publication", parameters=w.configuration),
            {
                400: lambda s: s.connections.get_type_parameter_values(type="postgresql", field="port", parameters=w.configuration),
                404: lambda s: s.connections.get_type_parameter_values(type="no such type", field="port"),
            },
        ),
        "connections.list": ("mine", lambda s: s.connections.list(), {}),
        "connections.create": (
            "mine",
            lambda s: s.connections.create(name="made", type="postgresql", configuration=w.configuration),
            {
                400: lambda s: s.connections.create(name="wrong", type="postgresql", configuration=wrong),
                403: lambda s: s.connections.create(
                    name="elsewhere", type="postgresql", configuration=w.configuration, organization_id=MISSING
                ),
                422: lambda s: s.connections.create(name="misspelt", type="postgresql", configuration=misspelt),
            },
        ),
        "connections.test_connection": (
            "all",
            lambda s: s.connections.test_connection(type="postgresql", configuration=w.configuration),
            {
                400: lambda s: s.connections.test_connection(type="postgresql", configuration=wrong),
                404: lambda s: s.connections.test_connection(type="no such type", configuration={}),
            },
        ),
        "connections.get": ("object", lambda s: s.connections.get(id=w.source), {404: lambda s: s.connections.get(id="x")}),
        "connections.update": (
            "object",
            lambda s: s.connections.update(id=w.source, name="renamed", configuration=w.configuration),
            {
                400: lambda s: s.connections.update(id=w.source, name="wrong", configuration=wrong),
                403: lambda s: s.connections.update(id=w.source, name="n", configuration=w.configuration, organization_id=MISSING),
                404: lambda s: s.connections.update(id=MISSING, name="n", configuration=w.configuration),
                422: lambda s: s.connections.update(id=w.source, name="misspelt", configuration=misspelt),
            },
        ),
        "connections.delete": (
            "object",
            lambda s: s.connections.delete(id=w.connection(w.configuration)),
            {404: lambda s: s.connections.delete(id=MISSING), 422: lambda s: s.connections.delete(id=w.source)},
        ),
        "connections.get_parameter_values": (
            "object",
            lambda s: s.connections.get_parameter_values(id=w.source),
            {404: lambda s: s.connections.get_parameter_values(id=MISSING)},
        ),
        "connections.get_usage": (
            "object",
            lambda s: s.connections.get_usage(id=w.source),
            {404: lambda s: s.connections.get_usage(id=MISSING)},
        ),
        # Schemas.
        "schemas.refresh": (
            "object",
            lambda s: s.schemas.refresh(id=w.source),
            {400: lambda s: s.schemas.refresh(id=w.unreachable), 404: lambda s: s.schemas.refresh(id=MISSING)},
        ),
        "schemas.get_status": (
            "object",
            lambda s: s.schemas.get_status(id=w.source),
            {404: lambda s: s.schemas.get_status(id=MISSING)},
        ),
        "schemas.get": (
            "object",
            lambda s: s.schemas.get(id=w.source, schema_id=w.schema),
            {
                400: lambda s: s.schemas.get(id=w.unreachable, schema_id=w.schema),
                404: lambda s: s.schemas.get(id=w.source, schema_id="public.ghosts"),
            },
        ),
        "schemas.get_records": (
            "object",
            lambda s: s.schemas.get_records(id=w.source, schema_id=w.schema),
            {
                400: lambda s: s.schemas.get_records(id=w.unreachable, schema_id=w.schema),
                404: lambda s: s.schemas.get_records(id=w.source, schema_id="public.ghosts"),
            },
        ),
        "schemas.upsert_field": (
            "object",
            lambda s: s.schemas.upsert_field(**field, fields=[town]),
            {
                400: lambda s: s.schemas.upsert_field(**field, fields=[town | {"path": "no path"}]),
                404: lambda s: s.schemas.upsert_field(connection_id=w.source, schema_id="public.ghosts", fields=[town]),
            },
        ),
        "schemas.patch_field": (
            "object",
            lambda s: s.schemas.patch_field(**field, field_id="town", label="The town"),
            {
                400: lambda s: s.schemas.patch_field(**field, field_id="town", path="no path"),
                404: lambda s: s.schemas.patch_field(**field, field_id="nowhere", label="x"),
            },
        ),
        "schemas.delete_field": (
            "object",
            lambda s: s.schemas.delete_field(**field, field_id=w.fresh_field()),
            {
                400: lambda s: s.schemas.delete_field(**field, field_id="city"),
                404: lambda s: s.schemas.delete_field(**field, field_id="nowhere"),
            },
        ),
        "schemas.set_primary_keys": (
            "object",
            lambda s: s.schemas.set_primary_keys(connection_id=w.source, schema_id=w.schema, fields=key),
            {
                400: lambda s: s.schemas.set_primary_keys(connection_id=w.source, schema_id=w.schema, fields=[key[0] | {"field_id": "x"}]),
                404: lambda s: s.schemas.set_primary_keys(connection_id=w.source, schema_id="public.ghosts", fields=key),
            },
        ),
        "schemas.reset_primary_keys": (
            "object",
            lambda s: s.schemas.reset_primary_keys(connection_id=w.source, schema_id=w.schema),
            {
                400: lambda s: s.schemas.reset_primary_keys(connection_id=w.unreachable, schema_id=w.schema),
                404: lambda s: s.schemas.reset_primary_keys(connection_id=w.source, schema_id="public.ghosts"),
            },
        ),
        # Bulk syncs.
        "bulk_sync.get_source": (
            "object",
            lambda s: s.bulk_sync.get_source(id=w.source, include_fields=True),
            {400: lambda s: s.bulk_sync.get_source(id=w.unreachable), 404: lambda s: s.bulk_sync.get_source(id=MISSING)},
        ),
        "bulk_sync.get_destination": (
            "object",
            lambda s: s.bulk_sync.get_destination(id=w.target),
            {400: lambda s: s.bulk_sync.get_destination(id=w.csv), 404: lambda s: s.bulk_sync.get_destination(id=MISSING)},
        ),
        "bulk_sync.list": ("mine", lambda s: s.bulk_sync.list(active=True), {}),
        "bulk_sync.create": (
            "mine",
            lambda s: s.bulk_sync.create(name="made", **bulk),
            {
                400: lambda s: s.bulk_sync.create(name="wrong", mode="sideways", **bulk),
                403: lambda s: s.bulk_sync.create(name="elsewhere", organization_id=MISSING, **bulk),
                422: lambda s: s.bulk_sync.create(name="nowhere", **bulk | {"destination_connection_id": MISSING}),
            },
        ),
        "bulk_sync.get": ("object", lambda s: s.bulk_sync.get(id=w.sync), {404: lambda s: s.bulk_sync.get(id=MISSING)}),
        "bulk_sync.update": (
            "object",
            lambda s: s.bulk_sync.update(id=w.fresh_sync(), name="renamed", schemas=[w.schema], **bulk),
            {
                400: lambda s: s.bulk_sync.update(id=w.sync, name="wrong", **bulk | {"destination_configuration": {"shema": "x"}}),
                403: lambda s: s.bulk_sync.update(id=w.sync, name="elsewhere", organization_id=MISSING, **bulk),
                404: lambda s: s.bulk_sync.update(id=MISSING, name="nowhere", **bulk),
            },
        ),
        "bulk_sync.delete": (
            "object",
            lambda s: s.bulk_sync.delete(id=w.fresh_sync()),
            {404: lambda s: s.bulk_sync.delete(id=MISSING)},
        ),
        "bulk_sync.activate": (
            "object",
            lambda s: s.bulk_sync.activate(id=w.sync, active=True),
            {404: lambda s: s.bulk_sync.activate(id=MISSING, active=True)},
        ),
        "bulk_sync.cancel": (
            "object",
            lambda s: s.bulk_sync.cancel(id=w.sync),
            {404: lambda s: s.bulk_sync.cancel(id=MISSING)},
        ),
        "bulk_sync.start": (
            "object",
            lambda s: s.bulk_sync.start(id=w.fresh_sync(), test=True),
            {
                400: lambda s: s.bulk_sync.start(id=w.sync, schemas=["public.ghosts"]),
                404: lambda s: s.bulk_sync.start(id=MISSING),
                409: lambda s: s.bulk_sync.start(id=w.running_sync()),
            },
        ),
        "bulk_sync.get_status": (
            "object",
            lambda s: s.bulk_sync.get_status(id=w.sync),
            {404: lambda s: s.bulk_sync.get_status(id=MISSING)},
        ),
        "bulk_sync.error_handling.get": (
            "object",
            lambda s: s.bulk_sync.error_handling.get(id=w.sync),
            {404: lambda s: s.bulk_sync.error_handling.get(id=MISSING)},
        ),
        "bulk_sync.error_handling.update": (
            "object",
            lambda s: s.bulk_sync.error_handling.update(id=w.sync, subscribers=["ops@example.com"]),
            {
                400: lambda s: s.bulk_sync.error_handling.update(id=w.sync, subscribers=["no address"]),
                404: lambda s: s.bulk_sync.error_handling.update(id=MISSING, subscribers=[]),
            },
        ),
        # Their schedules.
        "bulk_sync.schedules.list": (
            "object",
            lambda s: s.bulk_sync.schedules.list(sync_id=w.sync),
            {404: lambda s: s.bulk_sync.schedules.list(sync_id=MISSING)},
        ),
        "bulk_sync.schedules.create": (
            "object",
            lambda s: s.bulk_sync.schedules.create(sync_id=w.sync, schedule=daily),
            {
                400: lambda s: s.bulk_sync.schedules.create(sync_id=w.sync, schedule=never),
                404: lambda s: s.bulk_sync.schedules.create(sync_id=MISSING, schedule=daily),
            },
        ),
        "bulk_sync.schedules.get": (
            "object",
            lambda s: s.bulk_sync.schedules.get(sync_id=w.sync, schedule_id=w.schedule),
            {404: lambda s: s.bulk_sync.schedules.get(sync_id=w.sync, schedule_id=MISSING)},
        ),
        "bulk_sync.schedules.update": (
            "object",
            lambda s: s.bulk_sync.schedules.update(sync_id=w.sync, schedule_id=w.schedule, schedule=daily),
            {
                400: lambda s: s.bulk_sync.schedules.update(sync_id=w.sync, schedule_id=w.schedule, schedule=never),
                404: lambda s: s.bulk_sync.schedules.update(sync_id=w.sync, schedule_id=MISSING, schedule=daily),
            },
        ),
        "bulk_sync.schedules.delete": (
            "object",
            lambda s: s.bulk_sync.schedules.delete(sync_id=w.sync, schedule_id=w.fresh_schedule()),
            {404: lambda s: s.bulk_sync.schedules.delete(sync_id=w.sync, schedule_id=MISSING)},
        ),
        # Their schemas.
        "bulk_sync.schemas.list": (
            "object",
            lambda s: s.bulk_sync.schemas.list(id=w.sync),
            {404: lambda s: s.bulk_sync.schemas.list(id=MISSING)},
        ),
        "bulk_sync.schemas.patch": (
            "object",
            lambda s: s.bulk_sync.schemas.patch(id=w.sync, schemas=[{"id": w.schema, "enabled": True}]),
            {
                400: lambda s: s.bulk_sync.schemas.patch(id=w.sync, schemas=[{"id": w.schema, "tracking_field": "x"}]),
                404: lambda s: s.bulk_sync.schemas.patch(id=MISSING, schemas=[]),
            },
        ),
        "bulk_sync.schemas.get": (
            "object",
            lambda s: s.bulk_sync.schemas.get(id=w.sync, schema_id=w.schema),
            {404: lambda s: s.bulk_sync.schemas.get(id=w.sync, schema_id="public.ghosts")},
        ),
        "bulk_sync.schemas.update": (
            "object",
            lambda s: s.bulk_sync.schemas.update(id=w.sync, schema_id=w.schema, enabled=True),
            {
                400: lambda s: s.bulk_sync.schemas.update(id=w.sync, schema_id=w.schema, partition_key="x"),
                404: lambda s: s.bulk_sync.schemas.update(id=w.sync, schema_id="public.ghosts", enabled=True),
            },
        ),
        "bulk_sync.schemas.cancel": (
            "object",
            lambda s: s.bulk_sync.schemas.cancel(id=w.sync, schema_id=w.schema),
            {404: lambda s: s.bulk_sync.schemas.cancel(id=w.sync, schema_id="public.ghosts")},
        ),
        # Their executions.
        "bulk_sync.executions.list_status": (
            "mine",
            lambda s: s.bulk_sync.executions.list_status(active=True),
            {404: lambda s: s.bulk_sync.executions.list_status(sync_id=[MISSING])},
        ),
        "bulk_sync.executions.list": (
            "object",
            lambda s: s.bulk_sync.executions.list(id=w.sync, limit=2),
            {404: lambda s: s.bulk_sync.executions.list(id=MISSING)},
        ),
        "bulk_sync.executions.get": (
            "object",
            lambda s: s.bulk_sync.executions.get(id=w.sync, exec_id=w.execution),
            {404: lambda s: s.bulk_sync.executions.get(id=w.sync, exec_id=MISSING)},
        ),
        "bulk_sync.executions.cancel": (
            "object",
            lambda s: s.bulk_sync.executions.cancel(id=w.sync, exec_id=w.execution),
            {404: lambda s: s.bulk_sync.executions.cancel(id=w.sync, exec_id=MISSING)},
        ),
        "bulk_sync.executions.get_logs": (
            "object",
            lambda s: s.bulk_sync.executions.get_logs(**execution),
            {404: lambda s: s.bulk_sync.executions.get_logs(**missing_execution)},
        ),
        "bulk_sync.executions.export_logs": (
            "object",
            lambda s: s.bulk_sync.executions.export_logs(**execution),
            {404: lambda s: s.bulk_sync.executions.export_logs(**missing_execution)},
        ),
        "bulk_sync.executions.get_console_logs": (
            "object",
            lambda s: s.bulk_sync.executions.get_console_logs(**execution),
            {
                400: lambda s: s.bulk_sync.executions.get_console_logs(**execution, after="no line"),
                404: lambda s: s.bulk_sync.executions.get_console_logs(**missing_execution),
            },
        ),
        "bulk_sync.executions.get_schema_console_logs": (
            "object",
            lambda s: s.bulk_sync.executions.get_schema_console_logs(**execution, schema_id=w.schema),
            {
                400: lambda s: s.bulk_sync.executions.get_schema_console_logs(**execution, schema_id=w.schema, after="no line"),
                404: lambda s: s.bulk_sync.executions.get_schema_console_logs(**missing_execution, schema_id=w.schema),
            },
        ),
        "bulk_sync.executions.get_ingest_console_logs": (
            "object",
            lambda s: s.bulk_sync.executions.get_ingest_console_logs(connection_id=w.source),
            {
                400: lambda s: s.bulk_sync.executions.get_ingest_console_logs(connection_id=w.source, after="no line"),
                404: lambda s: s.bulk_sync.executions.get_ingest_console_logs(connection_id=MISSING),
            },
        ),
    }
