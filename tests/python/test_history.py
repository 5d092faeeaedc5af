"""History: beside a replicated table stands one with each version of a row that was seen."""

import polytomic
import pytest
import syncs
from copies import Copy

# As texts, since one of the clients has no zones.
SYSTEM = "cast(_polytomic_valid_from as {0}), cast(_polytomic_valid_to as {0})"


def versions(copy, columns):
    system = SYSTEM.format("char" if copy.kind in ("mysql", "mariadb") else "varchar(99)")
    return copy.rows(f"select {columns}, {system} from {copy.prefix}people_history")


def live(source, columns):
    return {row[0]: row for row in source.execute(f"select {columns} from people")}


class Model:
    """What a history is to hold after each look at the source."""

    def __init__(self):
        self.present, self.past = {}, []

    def see(self, rows):
        for key, row in list(self.present.items()):
            if rows.get(key) != row:
                self.past.append(self.present.pop(key))
        self.present |= rows

    def check(self, versions):
        width = len(versions[0]) - 2
        key = lambda row: tuple((value is not None, value) for value in row)  # noqa: E731
        assert sorted((row[:width] for row in versions if row[-1] is None), key=key) == sorted(self.present.values(), key=key)
        assert sorted((row[:width] for row in versions if row[-1] is not None), key=key) == sorted(self.past, key=key)
        lives = {}
        for row in versions:
            lives.setdefault(row[0], []).append(row[-2:])
        for key, spans in lives.items():
            # A span that is still open comes last.
            spans.sort(key=lambda span: (span[1] is None, span[0]))
            assert all(end is None or begin < end for begin, end in spans), (key, spans)
            assert all(before[1] is not None and before[1] <= after[0] for before, after in zip(spans, spans[1:])), (key, spans)


@pytest.fixture
def people(source):
    source.execute("""
        create table people (id bigint primary key, v int, name text, doc jsonb);
        insert into people select n, n % 7, case when n % 5 > 0 then 'name ' || n end, jsonb_build_object('b', n, 'a', 1.50)
            from generate_series(1, 300) n;
    """)
    return source


@pytest.mark.parametrize("streamed", [False, True], ids=["scans", "stream"])
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb", "sqlite", "duckdb"])
def test_each_version_that_was_seen_is_kept_once(sdk, people, target, tmp_path, kind, hard, streamed):
    copy = Copy(kind, target, tmp_path)
    destination, options = copy.connect(sdk)
    origin = syncs.connect(sdk, "postgresql", people.configuration(change_detection=streamed))
    schemas = [{"id": "public.people", "history_enabled": True}]
    options = options | {"advanced": {"hard_deletes": hard}}
    sync = syncs.make(sdk, origin, destination, options, mode="replicate", schemas=schemas)
    shown = sdk.bulk_sync.schemas.get(id=sync, schema_id="public.people").data
    assert shown.history_enabled and shown.destination_history_output_name == "people_history"

    model, columns = Model(), "id, v, name"

    def run(**how):
        syncs.run_well(sdk, sync, **how)
        model.see(live(people, columns))
        model.check(versions(copy, columns))

    run()
    people.execute("update people set v = v + 1 where id <= 10; update people set name = null where id between 8 and 12")
    people.execute("delete from people where id > 290; insert into people values (1001, null, '', '{}'), (1002, 0, 'NULL', null)")
    run()
    run()  # nothing has changed
    people.execute("insert into people values (295, 5, 'back again', null); update people set id = 2001 where id = 20")
    run()
    # A column that comes with the value of old rows known, and one that widens.
    people.execute("alter table people add column extra text; alter table people alter column v type bigint")
    people.execute("update people set extra = 'extra ' || id, v = 5000000000 + id where id in (30, 31)")
    columns = "id, v, name, extra"
    model.past = [row + (None,) for row in model.past]
    model.present = {key: row + (None,) for key, row in model.present.items()}
    run()
    people.execute("update people set v = 3 where id = 40; delete from people where id = 41")
    run(resync_mode="resync")
    people.execute("update people set v = 4 where id = 40; delete from people where id = 42")
    run(resync_mode="rebuild")


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb", "sqlite", "duckdb"])
def test_a_history_that_begins_late_takes_in_what_is_there_and_an_incremental_run_adds_its_own(sdk, source, target, tmp_path, kind):
    source.execute("""
        create table people (id bigint primary key, v int, at timestamptz default now());
        insert into people select n, n from generate_series(1, 100) n;
    """)
    copy = Copy(kind, target, tmp_path)
    destination, options = copy.connect(sdk)
    origin = syncs.connect(sdk, "postgresql", source.configuration())
    schemas = [{"id": "public.people", "tracking_field": "at"}]
    sync = syncs.make(sdk, origin, destination, options, mode="replicate", schemas=schemas)
    syncs.run_well(sdk, sync)
    sdk.bulk_sync.schemas.patch(id=sync, schemas=[{"id": "public.people", "tracking_field": "at", "history_enabled": True}])
    source.execute("update people set v = -1, at = now() where id = 7")
    syncs.run_well(sdk, sync)
    model = Model()
    model.see(live(source, "id, v"))
    model.check(versions(copy, "id, v"))
    source.execute("update people set v = -2, at = now() where id in (7, 8)")
    syncs.run_well(sdk, sync)
    model.see(live(source, "id, v"))
    model.check(versions(copy, "id, v"))


def test_a_history_that_cannot_be_kept_is_refused(sdk, people, target, tmp_path):
    origin = syncs.connect(sdk, "postgresql", people.configuration())
    files = syncs.connect(sdk, "files", {"path": str(tmp_path)})
    database = syncs.connect(sdk, "postgresql", target.configuration())
    schemas = [{"id": "public.people", "history_enabled": True}]
    assert sdk.bulk_sync.get_destination(id=database).data.supports_history_mode
    assert not sdk.bulk_sync.get_destination(id=files).data.supports_history_mode
    for destination, options, mode in [(files, {"format": "csv"}, "replicate"), (database, {"schema": "copy"}, "snapshot")]:
        with pytest.raises(polytomic.errors.UnprocessableEntityError) as refused:
            syncs.make(sdk, origin, destination, options, mode=mode, schemas=schemas)
        assert "history" in refused.value.body.message and refused.value.body.metadata["field"] == "history_enabled"

    # Without a key versions cannot be told apart; another table's name is not taken.
    people.execute("create table loose (n int); create table other (id int primary key)")
    target.execute("create schema copy; create table copy.other_history (mine int)")
    sync = syncs.make(sdk, origin, database, {"schema": "copy"}, mode="replicate", schemas=[
        {"id": f"public.{table}", "history_enabled": True} for table in ["people", "loose", "other"]
    ])  # fmt: skip
    execution = syncs.run(sdk, sync)
    found = {one.schema_: (one.status, one.status_message or "") for one in execution.schemas}
    assert found["public.people"][0] == "completed", found
    assert "no primary key" in found["public.loose"][1], found
    assert "holds no history" in found["public.other"][1], found
