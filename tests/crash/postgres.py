"""PostgreSQL as the source of a plan."""

import time

import psycopg

from database import Database

from .systems import Postgres
from .workload import KEYS, PAIRS

MAKE = f"""
create sequence versions;
create table items (id bigint primary key, v bigint not null, name text, big text, amount numeric(12,2), at timestamptz default clock_timestamp());
alter table items alter column big set storage external;
create table cells (x int, y int, v bigint not null, payload jsonb, primary key (x, y));
create table pairs (id int primary key, v bigint not null);
create table loose (n int, v bigint not null);
insert into items select n, nextval('versions'), 'name ' || n, repeat('x', 3000) || n, n / 3.0 from generate_series(1, 400) n;
insert into cells select n % 10, n, nextval('versions'), jsonb_build_object('n', n) from generate_series(1, 300) n;
insert into pairs select n, 0 from generate_series(0, {2 * PAIRS - 1}) n;
insert into loose select n, nextval('versions') from generate_series(1, 20) n;
"""


class Source:
    type = "postgresql"
    broken = (psycopg.Error,)

    def __init__(self, lane):
        self.machine = lane.server("source", Postgres)
        self.database = Database(self.machine.url)
        # A session of the superuser beside the product's; what the tables hold is made by it.
        self.database.execute(MAKE)

    def connection(self, plan, proxy):
        changes = {"hostname": "127.0.0.1", "port": proxy.port}
        if plan.reads == "stream":
            changes["change_detection"] = True
        return self.type, self.database.configuration(**changes)

    @property
    def upstream(self):
        return "127.0.0.1", self.machine.port

    def schemas(self, plan):
        """What the sync takes; None for everything."""
        if plan.reads == "track":
            tables = ("items", "cells")
            return [{"id": f"public.{table}", "enabled": True, "tracking_field": "v"} for table in tables]
        if plan.insert_only:
            return [{"id": f"public.{table}", "enabled": True} for table in ("items", "cells")]
        return None

    def tables(self, plan):
        return ("items", "cells") if self.schemas(plan) else ("items", "cells", "pairs", "loose")

    def open(self):
        return psycopg.connect(self.database.url, autocommit=True, connect_timeout=5)

    def operations(self, plan):
        if plan.insert_only:
            return {insert: 5, insert_many: 1, open_late: 2, rolled_back: 1}
        if plan.reads == "track":
            return {insert: 3, update: 6, upsert: 3, open_late: 2, update_all: 1, rolled_back: 1}
        operations = {insert: 3, update: 6, upsert: 3, delete: 3, move: 2, pair: 5, all_pairs: 1, mixed: 2, cells: 4}
        operations |= {insert_many: 0.3, update_all: 0.3, truncate_cells: 0.3, truncate_both: 0.15, rolled_back: 1, loose: 1}
        if plan.reads == "stream":
            operations |= {add_column: 0.15, add_filled_column: 0.1, drop_column: 0.1, unchanged_big: 2}
        return operations

    def columns(self, table):
        return self.database.execute(
            "select column_name, data_type from information_schema.columns"
            " where table_schema = 'public' and table_name = %s order by ordinal_position",
            [table],
        )

    def rows(self, table, names):
        listed = ", ".join(f'"{name}"' for name in names)
        return self.database.execute(f"select {listed} from {table}")

    def left(self):
        """What the product has made here: not a slot's copy, which stays when the server dies under it."""
        with psycopg.connect(self.machine.url, autocommit=True) as session:
            slots = session.execute("select slot_name from pg_replication_slots where slot_name !~ '^earlier_'").fetchall()
        return slots + self.database.execute("select pubname from pg_publication")

    def close(self):
        self.database.drop()

    # Faults.

    def sessions_ended(self):
        with psycopg.connect(self.machine.url, autocommit=True) as session:
            session.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = %s and application_name like 'tideway%%'",
                [self.database.name],
            )

    def slots(self, session):
        found = session.execute(
            "select slot_name from pg_replication_slots where database = %s and not temporary and slot_name like 'tideway%%'",
            [self.database.name],
        )
        return [name for (name,) in found]

    def drop_slot(self, session, name):
        for _ in range(20):
            session.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s and active", [name]
            )
            try:
                session.execute("select pg_drop_replication_slot(%s)", [name])
                return True
            except psycopg.Error:
                time.sleep(0.02)
        return False

    def slot_dropped(self):
        with psycopg.connect(self.machine.url, autocommit=True) as session:
            for name in self.slots(session):
                self.drop_slot(session, name)

    def slot_invalidated(self):
        with psycopg.connect(self.machine.url, autocommit=True) as session:
            session.execute("alter system set max_slot_wal_keep_size = '1MB'")
            session.execute("select pg_reload_conf()")
            try:
                for _ in range(3):
                    session.execute("select pg_logical_emit_message(true, 'filler', repeat('x', 1000))")
                    session.execute("select pg_switch_wal()")
                session.execute("checkpoint")
            finally:
                session.execute("alter system reset max_slot_wal_keep_size")
                session.execute("select pg_reload_conf()")

    def slot_rewound(self):
        """The slot goes on from where it stood a second ago, as after a restored backup of it."""
        # A copy belongs to the database of the session that makes it.
        with psycopg.connect(self.database.url, autocommit=True) as session:
            for name in self.slots(session):
                earlier = f"earlier_{name}"[:63]
                try:
                    session.execute("select pg_copy_logical_replication_slot(%s, %s)", [name, earlier])
                except psycopg.Error:
                    continue
                time.sleep(1)
                if self.drop_slot(session, name):
                    try:
                        session.execute("select pg_copy_logical_replication_slot(%s, %s)", [earlier, name])
                    except psycopg.Error:
                        pass  # the product was faster
                self.drop_slot(session, earlier)


# What a writer does, each in one transaction.


def key(rng, number, plan):
    return (rng.randrange(KEYS) + 1) * plan.writers + number


def insert(session, rng, number, plan):
    first = rng.randrange(10**6, 10**9) * plan.writers + number
    session.execute(
        "insert into items select %s + n * %s, nextval('versions'), 'new', 'small', n from generate_series(0, %s) n on conflict do nothing",
        [first, plan.writers, rng.randrange(4)],
    )


def insert_many(session, rng, number, plan):
    first = rng.randrange(10**6, 10**9) * plan.writers + number
    session.execute(
        "insert into items select %s + n * %s, nextval('versions'), 'many', repeat('y', 200), n from generate_series(0, 1500) n on conflict do nothing",
        [first, plan.writers],
    )


def mine(number, plan):
    return f"id %% {plan.writers} = {number}"


def update(session, rng, number, plan):
    at = key(rng, number, plan)
    session.execute(
        f"update items set v = nextval('versions'), amount = %s, big = %s where id between %s and %s and {mine(number, plan)}",
        [rng.randrange(1000), rng.choice(["short", "z" * 5000]), at, at + 10],
    )


def unchanged_big(session, rng, number, plan):
    at = key(rng, number, plan)
    session.execute(
        f"update items set v = nextval('versions') where id between %s and %s and {mine(number, plan)}", [at, at + 30]
    )


def update_all(session, rng, number, plan):
    session.execute(f"update items set v = nextval('versions'), name = 'all' where {mine(number, plan)}", [])


def upsert(session, rng, number, plan):
    session.execute(
        "insert into items (id, v, name) values (%s, nextval('versions'), 'up') on conflict (id) do update set v = nextval('versions'), name = 'upped'",
        [key(rng, number, plan)],
    )


def delete(session, rng, number, plan):
    at = key(rng, number, plan)
    session.execute(f"delete from items where id between %s and %s and {mine(number, plan)}", [at, at + 3])


def move(session, rng, number, plan):
    """A key changes."""
    to = rng.randrange(10**6, 10**9) * plan.writers + number
    back = key(rng, number, plan)
    session.execute(
        f"""update items set v = nextval('versions'), id = %s
            where id = (select id from items where {mine(number, plan)} limit 1)
              and not exists (select from items where id = %s)""",
        [rng.choice([to, back])] * 2,
    )


def pair(session, rng, number, plan):
    which = rng.randrange(PAIRS)
    session.execute(
        "with next as materialized (select nextval('versions') v from pg_advisory_xact_lock(%s))"
        " update pairs set v = next.v from next where id / 2 = %s",
        [which, which],
    )


def all_pairs(session, rng, number, plan):
    # Locked first: the version is taken once nobody else can come between.
    with session.transaction():
        session.execute("lock table pairs in share row exclusive mode")
        session.execute("with next as materialized (select nextval('versions') v) update pairs set v = next.v from next")


def cells(session, rng, number, plan):
    y = key(rng, number, plan)
    session.execute(
        "insert into cells values (%s, %s, nextval('versions'), jsonb_build_object('at', clock_timestamp()))"
        " on conflict (x, y) do update set v = nextval('versions'), payload = excluded.payload",
        [number, y],
    )
    session.execute("delete from cells where x = %s and y between %s and %s", [number, y + 5, y + 6])


def mixed(session, rng, number, plan):
    """Several tables, with a part that is taken back."""
    with session.transaction():
        update(session, rng, number, plan)
        with session.transaction(force_rollback=True):
            delete(session, rng, number, plan)
        upsert(session, rng, number, plan)
        session.execute("update cells set v = nextval('versions') where x = %s and y = %s", [number, key(rng, number, plan)])


def rolled_back(session, rng, number, plan):
    with session.transaction(force_rollback=True):
        insert(session, rng, number, plan)


def open_late(session, rng, number, plan):
    """Takes its versions early and commits late."""
    with session.transaction():
        insert(session, rng, number, plan)
        time.sleep(rng.uniform(0.05, 0.4))
        insert(session, rng, number, plan)


def truncate_cells(session, rng, number, plan):
    with session.transaction():
        session.execute("truncate cells")
        if rng.random() < 0.5:
            session.execute("insert into cells select %s, n, nextval('versions'), '{}' from generate_series(1, 50) n", [number])


def truncate_both(session, rng, number, plan):
    session.execute("truncate cells, items")


def loose(session, rng, number, plan):
    session.execute("insert into loose values (%s, nextval('versions'))", [rng.randrange(100)])
    if rng.random() < 0.3:
        session.execute("delete from loose where n = %s", [rng.randrange(100)])


def add_column(session, rng, number, plan):
    session.execute(f"set lock_timeout = '1s'; alter table cells add column if not exists extra_{rng.randrange(3)} int")


def add_filled_column(session, rng, number, plan):
    session.execute(f"set lock_timeout = '1s'; alter table cells add column if not exists filled_{rng.randrange(3)} int default 7")


def drop_column(session, rng, number, plan):
    session.execute(f"set lock_timeout = '1s'; alter table cells drop column if exists extra_{rng.randrange(3)}")
