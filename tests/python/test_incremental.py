"""Syncs that carry only what is new: by tracking field, with late commits, and by modes of resync."""

import psycopg
import syncs


def pair(sdk, source, target, mode, **options):
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    return syncs.make(
        sdk,
        *connections,
        {"schema": "copy"},
        mode=mode,
        schemas=[{"id": "public.t", "enabled": True, "tracking_field": "at"}],
        **options,
    )


def table(source):
    source.execute("create table t (id int primary key, at timestamptz default clock_timestamp(), v int)")
    source.execute("insert into t (id, v) select n, n from generate_series(1, 1000) n")


def test_a_run_reads_what_is_new_and_a_refetch_everything(sdk, source, target):
    table(source)
    sync = pair(sdk, source, target, "replicate")
    assert syncs.run_well(sdk, sync).record_count == 1000
    source.execute("update t set v = -1, at = clock_timestamp() where id <= 7; delete from t where id = 1000")
    second = syncs.run_well(sdk, sync)
    assert second.record_count < 20, "only the changed rows and the ties"
    assert target.execute("select count(*) from copy.t where v = -1") == [(7,)]
    assert target.execute("select count(*) from copy.t where _polytomic_deleted_at is null") == [(1000,)], "a tracking field carries no deletes"
    assert syncs.run_well(sdk, sync, resync_mode="refetch").record_count == 999
    assert target.execute("select id from copy.t where _polytomic_deleted_at is not null") == [(1000,)]


def test_a_transaction_that_commits_late_is_not_missed(sdk, source, target):
    table(source)
    for mode in ["replicate", "append"]:
        sync = pair(sdk, source, target, mode)
        with psycopg.connect(source.url) as late:
            late.execute("insert into t (id, v) values ((select max(id) + 1 from t), 42)")
            source.execute("insert into t (id, v) values (5000 + (select max(id) from t), 43)")
            first = syncs.run_well(sdk, sync)
            assert first.record_count >= 1001
            late.commit()
        syncs.run_well(sdk, sync)
        syncs.run_well(sdk, sync)
        assert target.execute("select count(*), count(distinct id) from copy.t") == source.execute("select count(*), count(*) from t"), mode
        target.execute("drop schema copy cascade")


def test_rebuild_makes_the_table_anew_and_resync_keeps_it(sdk, source, target):
    table(source)
    sync = pair(sdk, source, target, "replicate")
    syncs.run_well(sdk, sync)
    target.execute("alter table copy.t add column mine int; comment on table copy.t is 'kept'")
    syncs.run_well(sdk, sync, resync_mode="resync")
    assert target.execute("select obj_description('copy.t'::regclass)") == [("kept",)]
    syncs.run_well(sdk, sync, resync_mode="rebuild")
    assert target.execute("select obj_description('copy.t'::regclass)") == [(None,)]
    assert target.execute("select count(*) from copy.t") == [(1000,)]


def test_new_fields_and_tables_follow_the_policies(sdk, source, target):
    source.execute("create table a (id int primary key); insert into a values (1)")
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    options = {"automatically_add_new_objects": "all", "automatically_add_new_fields": "all"}
    sync = syncs.make(sdk, *connections, {"schema": "copy"}, mode="replicate", **options)
    syncs.run_well(sdk, sync)
    source.execute("alter table a add column extra text default 'e'; create table b (id int primary key); insert into b values (2)")
    syncs.run_well(sdk, sync)
    assert target.execute("select id, extra from copy.a") == [(1, "e")]
    assert target.execute("select id from copy.b") == [(2,)]
    source.execute("alter table a drop column extra; insert into a values (3)")
    syncs.run_well(sdk, sync)
    assert target.execute("select id, extra from copy.a order by id") == [(1, "e"), (3, None)], "a vanished column is kept"


def test_fields_can_be_left_out_renamed_and_obfuscated_and_rows_filtered(sdk, source, target):
    source.execute("create table p (id int primary key, email text, secret text, age int); insert into p select n, n || '@x', 's' || n, n from generate_series(1, 90) n")
    connections = [syncs.connect(sdk, "postgresql", one.configuration()) for one in (source, target)]
    schema = {
        "id": "public.p",
        "enabled": True,
        "user_output_name": "people",
        "fields": [
            {"id": "id", "enabled": True},
            {"id": "email", "enabled": True, "obfuscate": True},
            {"id": "secret", "enabled": False},
            {"id": "age", "enabled": True, "user_output_name": "years"},
        ],
        "filters": [{"field_id": "age", "function": "GreaterThan", "value": 60}],
    }
    sync = syncs.make(sdk, *connections, {"schema": "copy", "advanced": {"table_prefix": "x_"}}, mode="replicate", schemas=[schema])
    assert syncs.run_well(sdk, sync).record_count == 30
    columns = {name for (name,) in target.execute("select column_name from information_schema.columns where table_schema = 'copy' and table_name = 'people' and column_name not like '\\_polytomic%'")}
    assert columns == {"id", "email", "years"}
    hashes = target.execute("select email from copy.people")
    assert len(set(hashes)) == 30 and all(len(value) == 64 and "@" not in value for (value,) in hashes)


def test_a_test_run_leaves_the_destination_alone(sdk, source, target):
    table(source)
    sync = pair(sdk, source, target, "replicate")
    assert syncs.run_well(sdk, sync, test=True).record_count == 5
    assert target.execute("select to_regclass('copy.t')") == [(None,)]
