"""The generations of the API: each client gets what it was made for."""

import pytest
import syncs

OLD = {"X-Polytomic-Version": "2024-02-08"}
OLDER = {"X-Polytomic-Version": "2023-04-25"}
NEW = {"X-Polytomic-Version": "2025-09-18"}


@pytest.fixture
def connections(sdk, source, target):
    source.execute("create table orders (id int primary key, city text); insert into orders values (1, 'Lyon')")
    return [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]


def call(server, method, path, version, /, expected=200, **body):
    options = {"json": body} if body else {}
    answer = server.request(method, path, headers=version, **options)
    assert answer.status_code == expected, (answer.status_code, answer.text)
    assert answer.headers["x-polytomic-version"] == version["X-Polytomic-Version"]
    return answer.json() if answer.content else None


def sync_of(connections, **more):
    source, target = connections
    return {
        "name": "orders",
        "mode": "replicate",
        "source_connection_id": source,
        "destination_connection_id": target,
        "destination_configuration": {"schema": "mart"},
        "active": True,
    } | more


def test_2024_02_08_writes_and_reads_one_schedule_and_updates_by_put(server, connections):
    daily = {"frequency": "daily", "hour": "3", "minute": "30"}
    made = call(server, "POST", "/api/bulk/syncs", OLD, **sync_of(connections, schedule=daily, discover=True))["data"]
    assert {key: made["schedule"][key] for key in daily} == daily
    path = f"/api/bulk/syncs/{made['id']}"
    hourly = {"frequency": "hourly", "minute": "15"}
    changed = call(server, "PUT", path, OLD, **sync_of(connections, name="renamed", schedule=hourly))["data"]
    assert changed["name"] == "renamed" and changed["schedule"]["frequency"] == "hourly"
    read = call(server, "GET", path, OLD)["data"]
    assert read["schedule"] == changed["schedule"]
    # What an older client wrote, a newer one reads in its own way, and the other way about.
    assert call(server, "GET", path, NEW)["data"]["default_schedule"]["frequency"] == "hourly"
    call(server, "PUT", path, NEW, **sync_of(connections, default_schedule=daily))
    assert call(server, "GET", path, OLD)["data"]["schedule"]["hour"] == "3"


def test_a_client_that_sends_back_what_it_has_read_changes_nothing(server, connections):
    for version, schedule in [(OLD, {"schedule": {"frequency": "manual"}}), (NEW, {"default_schedule": {"frequency": "manual"}})]:
        made = call(server, "POST", "/api/bulk/syncs", version, **sync_of(connections, **schedule))["data"]
        path = f"/api/bulk/syncs/{made['id']}"
        read = call(server, "GET", path, version)["data"]
        again = call(server, "PUT", path, version, **read)["data"]
        changing = {"updated_at", "updated_by"}
        plain = lambda one: {k: v for k, v in one.items() if k not in changing and "schedule" not in k}
        assert plain(again) == plain(read)
    connection = call(server, "GET", f"/api/connections/{connections[0]}", NEW)["data"]
    again = call(server, "PUT", f"/api/connections/{connections[0]}", NEW, **connection)["data"]
    assert again["configuration"] == connection["configuration"]


def test_several_schedules_are_one_multi_to_2024_02_08(server, connections):
    both = [
        {"item": "none", "schedule": {"frequency": "daily", "hour": "1", "minute": "0"}},
        {"item": "incrementalFields", "schedule": {"frequency": "hourly", "minute": "15"}},
    ]
    made = call(
        server, "POST", "/api/bulk/syncs", OLD,
        **sync_of(connections, schedule={"frequency": "multi", "multi": {"schedules": both}}),
    )["data"]  # fmt: skip
    assert made["schedule"]["frequency"] == "multi"
    shown = made["schedule"]["multi"]["schedules"]
    assert [(one["item"], one["schedule"]["frequency"]) for one in shown] == [("none", "daily"), ("incrementalFields", "hourly")]
    new = call(server, "GET", f"/api/bulk/syncs/{made['id']}", NEW)["data"]
    assert new["default_schedule"]["frequency"] == "daily"
    assert [one["frequency"] for one in new["additional_schedules"]] == ["hourly"]


def test_the_list_of_the_migration_guide_is_taken(server, connections):
    schedules = [{"frequency": "daily", "hour": "1", "minute": "0"}, {"frequency": "weekly", "day_of_week": "1", "hour": "0", "minute": "0", "selective_mode": "nonincrementalFields"}]
    made = call(server, "POST", "/api/bulk/syncs", NEW, **sync_of(connections, schedules=schedules))["data"]
    assert made["default_schedule"]["frequency"] == "daily"
    assert [one["frequency"] for one in made["additional_schedules"]] == ["weekly"]
    call(server, "POST", "/api/bulk/syncs", NEW, expected=422, **sync_of(connections))
    call(server, "POST", "/api/bulk/syncs", NEW, expected=422, **sync_of(connections, schedules=schedules, schedule=schedules[0]))


def test_resync_is_a_flag_of_older_versions(server, sdk, connections):
    sync = syncs.make(sdk, *connections)
    syncs.run_well(sdk, sync)
    started = call(server, "POST", f"/api/bulk/syncs/{sync}/executions", OLD, resync=True)["data"]
    assert syncs.wait(sdk, sync, started["id"]).status == "completed"
    call(server, "POST", f"/api/bulk/syncs/{sync}/executions", NEW, expected=400, resync=True)


def test_older_lists_come_whole_and_newer_ones_in_pages(server, connections):
    made = {
        call(server, "POST", "/api/bulk/syncs", NEW, **sync_of(connections, default_schedule={"frequency": "manual"}))["data"]["id"]
        for _ in range(53)
    }
    whole = call(server, "GET", "/api/bulk/syncs", OLD)
    assert made <= {one["id"] for one in whole["data"]} and "schedule" in whole["data"][0]
    seen, token = [], ""
    while token is not None:
        page = call(server, "GET", f"/api/bulk/syncs?limit=20&page_token={token}", NEW)
        assert len(page["data"]) <= 20
        seen += [one["id"] for one in page["data"]]
        token = page["pagination"]["next_page_token"]
    assert made <= set(seen) and len(seen) == len(set(seen))
    assert len(call(server, "GET", "/api/bulk/syncs?limit=1000", NEW)["data"]) == 50


def test_2023_04_25_updates_by_patch_and_has_paths_of_its_own(server, sdk, connections):
    source, target = connections
    call(server, "PATCH", f"/api/connections/{source}", OLDER, name="patched")
    assert call(server, "GET", f"/api/connections/{source}", OLDER)["data"]["name"] == "patched"
    offered = call(server, "GET", f"/api/bulk/source/{source}?include_fields=true", OLDER)["data"]
    assert [one["id"] for one in offered["schemas"]] == ["public.orders"]
    assert call(server, "GET", f"/api/bulk/source/{source}/schema/public.orders", OLDER)["data"]["fields"]
    assert call(server, "GET", f"/api/bulk/source/{source}/status", OLDER)["data"]["cache_status"] == "fresh"
    assert call(server, "GET", f"/api/bulk/dest/{target}", OLDER)["data"]["modes"]
    records = call(server, "GET", f"/api/connections/{source}/public.orders/records", OLDER)["data"]
    assert records == [{"id": 1, "city": "Lyon"}]
    made = call(server, "POST", "/api/bulk/syncs", OLDER, **sync_of(connections, schedule={"frequency": "manual"}))["data"]
    path = f"/api/bulk/syncs/{made['id']}"
    assert call(server, "PATCH", path, OLDER, name="patched")["data"]["mode"] == "replicate"
    call(server, "PATCH", f"{path}/schemas/public.orders", OLDER, enabled=False)
    assert not call(server, "GET", f"{path}/schemas/public.orders", OLDER)["data"]["enabled"]


def test_the_newest_is_spoken_where_none_is_named(server, sdk, connections):
    sync = syncs.make(sdk, *connections)
    answer = server.request("GET", f"/api/bulk/syncs/{sync}")
    assert answer.headers["x-polytomic-version"] == "2025-09-18"
    assert "default_schedule" in answer.json()["data"] and "schedule" not in answer.json()["data"]
