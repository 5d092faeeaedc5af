"""`GET /api/connection_types` as the page shows it that this product was commissioned from."""

import base64

import requests
from server import API_KEY, DEPLOYMENT_KEY

FORM = {
    "host": {"type": "string", "title": "Host", "description": "Database server hostname or IP address"},
    "port": {"type": "integer", "title": "Port", "default": 5432, "minimum": 1, "maximum": 65535},
    "database": {"type": "string", "title": "Database Name"},
    "username": {"type": "string", "title": "Username"},
    "password": {"type": "string", "title": "Password"},
    "sslmode": {
        "type": "string",
        "title": "SSL Mode",
        "enum": ["disable", "require", "verify-ca", "verify-full"],
        "default": "require",
    },
}


def entry(server, **options):
    answer = server.request("GET", "/api/connection_types", **options)
    assert answer.status_code == 200, answer.text
    return next(one for one in answer.json()["data"] if one["id"] == "postgresql")


def test_the_postgresql_entry_is_the_page_s(server):
    found = entry(server)
    for field in ["capabilities", "configurationForm", "envConfig", "id", "initialConfiguration", "logo_url", "name", "oauth_prompt", "use_oauth"]:
        assert field in found, field
    form = found["configurationForm"]
    for name, expected in FORM.items():
        offered = form["jsonschema"]["properties"][name]
        assert {key: offered.get(key) for key in expected} == expected
        # In the page's order too, for those who compare text.
        assert [key for key in offered if key in expected] == list(expected)
    assert list(form["jsonschema"]["properties"])[: len(FORM)] == list(FORM)
    assert set(form["jsonschema"]["required"]) == {"host", "port", "database", "username", "password"}
    assert form["uischema"]["password"] == {"ui:widget": "password"}
    assert form["uischema"]["sslmode"] == {"ui:widget": "select"}
    assert found["envConfig"] == {"PGSSLMODE": "require"}
    assert found["initialConfiguration"] == {
        "host": "db.example.com",
        "port": 5432,
        "database": "analytics",
        "username": "polytomic_user",
        "sslmode": "require",
    }
    assert found["oauth_prompt"] == {"key": None, "value": None, "when": "never"}
    capabilities = found["capabilities"]
    assert capabilities["source"] and capabilities["destination"]
    assert not capabilities["enrichment"] and not capabilities["orchestration"]
    assert found["name"] == "PostgreSQL" and found["use_oauth"] is False
    assert found["logo_url"] == "https://connect-assets.polytomic.com/logos/postgresql.svg"


def test_both_ways_to_authenticate_work(server):
    me = server.request("GET", "/api/me").json()["data"]
    organization = me["organization_id"]
    for user, password in [(organization, DEPLOYMENT_KEY), ("", DEPLOYMENT_KEY)]:
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        assert entry(server, token=None, headers={"Authorization": f"Basic {basic}"})
    assert entry(server, token=API_KEY)


def test_wrong_keys_are_refused_in_the_form_of_every_error(server):
    for headers in [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic !!"}, {"Authorization": "Nonsense"}]:
        answer = requests.get(f"{server.url}/api/connection_types", headers=headers, timeout=10)
        assert answer.status_code == 401, headers
        body = answer.json()
        assert set(body) == {"key", "message", "status", "metadata"} and body["status"] == 401


def test_both_spellings_are_taken_and_read_back_as_written(sdk, server, source):
    current = source.configuration()
    older = {"host": current["hostname"], "sslmode": "disable"} | {k: v for k, v in current.items() if k not in ("hostname", "ssl")}
    for written in [current, older]:
        made = sdk.connections.create(name="spelled", type="postgresql", configuration=written).data
        read = sdk.connections.get(id=made.id).data.configuration
        assert {k: v for k, v in read.items() if k != "password"} == {k: v for k, v in written.items() if k != "password"}
        sdk.connections.delete(id=made.id)


def test_both_spellings_are_taken_to_test_and_to_update(sdk, server, source):
    current = source.configuration()
    older = {"host": current["hostname"], "sslmode": "disable"} | {k: v for k, v in current.items() if k not in ("hostname", "ssl")}
    for written, other in [(current, older), (older, current)]:
        sdk.connections.test_connection(type="postgresql", configuration=written)
        made = sdk.connections.create(name="spelled", type="postgresql", configuration=written).data
        # Over what is stored, in either spelling, and with the secret masked.
        masked = {"password": "********"}
        for one in [{"port": written["port"]}, other | masked, written | masked, masked]:
            body = {"type": "postgresql", "connection_id": made.id, "configuration": one}
            answer = server.request("POST", "/api/connections/test", json=body)
            assert answer.status_code == 200, answer.text
        updated = sdk.connections.update(id=made.id, name="spelled", configuration=other | masked).data
        assert updated.configuration == other | masked and updated.status == "healthy"
        sdk.connections.delete(id=made.id)


def test_a_mask_stands_for_the_secret_that_is_stored_and_for_nothing_else(sdk, server, source):
    made = sdk.connections.create(name="masked", type="postgresql", configuration=source.configuration()).data
    for _ in range(2):
        made = sdk.connections.update(id=made.id, name="masked", configuration=made.configuration).data
        assert made.configuration["password"] == "********" and made.status == "healthy"
    body = {"name": "new", "type": "postgresql", "configuration": made.configuration}
    answer = server.request("POST", "/api/connections", json=body)
    assert answer.status_code == 422 and "password" in answer.json()["metadata"]["fields"], answer.text
    sdk.connections.delete(id=made.id)


def test_the_form_of_a_type_is_the_one_of_the_list(server):
    listed = entry(server)["configurationForm"]["jsonschema"]
    assert server.request("GET", "/api/connection_types/postgresql").json() == listed
    assert server.request("GET", "/api/connection_types/nosuchtype").status_code == 404


def test_the_databases_and_publications_of_a_server_are_offered(server, source):
    body = {"field": "database", "parameters": source.configuration(), "query": source.name}
    answer = server.request("POST", "/api/connection_types/postgresql/parameter_values", json=body)
    assert answer.status_code == 200, answer.text
    assert [one["value"] for one in answer.json()["data"]["database"]["values"]] == [source.name]
