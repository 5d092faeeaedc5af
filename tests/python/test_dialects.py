"""Types that speak PostgreSQL's or MySQL's protocol under names and forms of their own, against
real servers of both."""

import os
import pathlib
import types
import uuid
from urllib.parse import urlsplit

import pymysql
import pytest
import syncs

# What clients of the contract always send.
KEY = '{"type": "service_account", "private_key": "s3cret"}'
FIELDS = ["connection_name", "database", "username", "password", "credentials", "change_detection"]
SQL = """
    create table items (id bigint primary key, name text, price numeric(12,2), doc jsonb);
    insert into items select n, 'näme ' || n, n * 1.25, jsonb_build_object('n', n) from generate_series(1, 2000) n;
"""
CHANGES = "update items set price = 0 where id <= 10; delete from items where id > 1990; insert into items values (9999, 'new', 1)"
COLUMNS = "id, name, price, doc"


class MySql:
    def __init__(self, kind):
        self.kind, self.name = kind, f"dialect_{uuid.uuid4().hex[:12]}"
        self.url = urlsplit(os.environ[f"TIDEWAY_TEST_{kind}_URL"])
        self.execute(f"create database {self.name} character set utf8mb4", database=None)

    def execute(self, *statements, **options):
        login = {"host": self.url.hostname, "port": self.url.port, "user": self.url.username, "password": self.url.password}
        with pymysql.connect(**login, **({"database": self.name} | options), autocommit=True) as session, session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def drop(self):
        self.execute(f"drop database {self.name}", database=None)


@pytest.fixture(params=["MYSQL", "MARIADB"])
def mysql(request):
    database = MySql(request.param)
    yield database
    database.drop()


def cloud(place, **changes):
    """The server of a database, as if it were an instance of Cloud SQL."""
    url = urlsplit(place.url) if isinstance(place.url, str) else place.url
    return {
        "connection_name": f"{url.hostname}:{url.port}",
        "database": place.name,
        "username": url.username,
        "password": url.password,
        "credentials": KEY,
    } | changes


def counts(sdk, sync, execution):
    log = sdk.bulk_sync.executions.get_console_logs(sync_id=sync, execution_id=execution.id).data
    return [entry.payload for entry in log.entries if entry.payload and "inserted" in entry.payload][-1]


def same(source, target):
    sql = f"select {COLUMNS} from {{}} order by id"
    return source.execute(sql.format("items")) == target.execute(sql.format("copy.items"))


@pytest.mark.parametrize("change_detection", [False, True])
def test_cloud_postgresql_is_read_followed_and_written(sdk, source, target, change_detection):
    source.execute(SQL)
    authority = pathlib.Path(os.environ["TIDEWAY_TEST_POSTGRES_CA"]).read_text()
    checked = {"sslmode": "verify-ca", "ca_cert": authority}
    origin = syncs.connect(sdk, "googlecloudsql", cloud(source, change_detection=change_detection, **checked))
    copy = syncs.connect(sdk, "googlecloudsql", cloud(target, **checked))
    configuration = {"schema": "copy", "advanced": {"hard_deletes": True}}
    sync = syncs.make(sdk, origin, copy, configuration, mode="replicate")
    syncs.run_well(sdk, sync)
    assert same(source, target)
    slots = source.execute("select count(*) from pg_replication_slots where database = current_database()")
    assert slots == [(1 if change_detection else 0,)]
    source.execute(CHANGES)
    execution = syncs.run_well(sdk, sync)
    assert same(source, target)
    if change_detection:
        changed = counts(sdk, sync, execution)
        assert (changed["inserted"], changed["updated"], changed["deleted"], changed["unchanged"]) == (1, 10, 10, 0)


def test_rows_go_between_postgresql_and_its_dialect(sdk, source, target, database):
    source.execute(SQL)
    for one, other in [
        (("postgresql", source.configuration()), ("googlecloudsql", cloud(target))),
        (("googlecloudsql", cloud(target)), ("postgresql", database.configuration())),
    ]:
        origin, copy = syncs.connect(sdk, *one), syncs.connect(sdk, *other)
        syncs.run_well(sdk, syncs.make(sdk, origin, copy, {"mirror_schemas": True}, mode="snapshot"))
    columns = f"select {COLUMNS} from items order by id"
    assert source.execute(columns) == target.execute(columns) == database.execute(columns)


def test_cloud_mysql_is_written_read_and_followed(sdk, source, target, mysql):
    source.execute(SQL)
    authority = pathlib.Path(os.environ[f"TIDEWAY_TEST_{mysql.kind}_CA"]).read_text()
    settings = cloud(mysql, sslmode="verify-ca", ca_cert=authority)
    origin = syncs.connect(sdk, "postgresql", source.configuration())
    middle = syncs.connect(sdk, "googlecloudmysql", settings)
    sync = syncs.make(sdk, origin, middle, {}, mode="replicate")
    syncs.run_well(sdk, sync)
    followed = syncs.connect(sdk, "googlecloudmysql", settings | {"change_detection": True})
    copy = syncs.connect(sdk, "googlecloudsql", cloud(target))
    onward = syncs.make(sdk, followed, copy, {"schema": "copy", "advanced": {"hard_deletes": True}}, mode="replicate")
    syncs.run_well(sdk, onward)
    assert same(source, target)
    statements = CHANGES.replace(" values", " (id, name, price) values").split("; ")
    mysql.execute(*statements)
    for statement in statements:
        source.execute(statement)
    changed = counts(sdk, onward, syncs.run_well(sdk, onward))
    assert (changed["inserted"], changed["updated"], changed["deleted"], changed["unchanged"]) == (1, 10, 10, 0)
    assert same(source, target)
    # And by scan, without the log.
    scanned = syncs.connect(sdk, "googlecloudmysql", settings)
    again = syncs.make(sdk, scanned, copy, {"schema": "scan"}, mode="snapshot")
    syncs.run_well(sdk, again)
    (rows,) = target.execute("select count(*), sum(price)::text from scan.items")
    assert rows == source.execute("select count(*), sum(price)::text from items")[0]


def test_the_forms_are_the_contract_s_and_show_no_secret(sdk, server, source):
    offered = {one["id"]: one for one in server.request("GET", "/api/connection_types").json()["data"]}
    for kind, name, fields in [
        ("googlecloudsql", "Google Cloud PostgreSQL", [*FIELDS, "publication"]),
        ("googlecloudmysql", "Google Cloud MySQL", FIELDS),
    ]:
        found = offered[kind]
        form = found["configurationForm"]["jsonschema"]["properties"]
        assert [field for field, one in form.items() if not one.get("hidden")] == fields
        assert found["name"] == name and found["capabilities"]["source"] and found["capabilities"]["destination"]
    made = sdk.connections.create(name="masked", type="googlecloudsql", configuration=cloud(source)).data
    read = sdk.connections.get(id=made.id).data.configuration
    assert read["password"] == read["credentials"] == "********" and read["connection_name"] == made.configuration["connection_name"]
    body = {"field": "database", "parameters": cloud(source, database=""), "query": source.name}
    answer = server.request("POST", "/api/connection_types/googlecloudsql/parameter_values", json=body)
    assert [one["value"] for one in answer.json()["data"]["database"]["values"]] == [source.name], answer.text
    sdk.connections.delete(id=made.id)


def refused(server, kind, configuration):
    body = {"name": "refused", "type": kind, "configuration": configuration}
    answer = server.request("POST", "/api/connections", json=body)
    assert answer.status_code in (400, 422) and "s3cret" not in answer.text and "wr0ng" not in answer.text, answer.text
    return answer.json()


@pytest.mark.parametrize("kind", ["googlecloudsql", "googlecloudmysql"])
def test_troubles_are_told_in_the_words_of_the_form(server, source, kind):
    mysql = types.SimpleNamespace(url=os.environ["TIDEWAY_TEST_MYSQL_URL"], name="mysql")
    database = source if kind == "googlecloudsql" else mysql
    for changes, field in [
        ({"connection_name": "shop:europe-west1:orders"}, "connection_name"),
        ({"password": ""}, "password"),
        ({"username": ""}, "username"),
        ({"password": "wr0ng"}, "password"),
        ({"database": "nowhere"}, "database"),
        ({"connection_name": "127.0.0.1:1"}, "connection_name"),
        ({"connection_name": "no-such-host.invalid"}, "connection_name"),
        ({"sslmode": "verify-ca"}, "sslmode"),
    ]:
        message = refused(server, kind, cloud(database, **changes))["message"]
        assert f"(field {field})" in message, (changes, message)
    said = refused(server, kind, cloud(database, connection_name="shop:europe-west1:orders"))["message"]
    assert "not built" in said and "host:port" in said, said


def test_a_type_that_is_not_built_says_so(server):
    answer = refused(server, "redshift", {"hostname": "cluster", "password": "s3cret"})
    assert (answer["key"], answer["metadata"]["field"]) == ("not_supported", "type"), answer
