"""The data that the bench moves, generated and so the same each time: one database per shape.

PostgreSQL generates all of it. What is read from MySQL is carried there first, by tideway, which
makes columns that come back as they were: the values can be compared with those generated."""

from dataclasses import dataclass

MIXED = """
    id bigint primary key, uid uuid not null, name text not null, note text,
    amount numeric(12,2) not null, score double precision, quantity integer, active boolean,
    created_at timestamptz not null, seen_at timestamp, day date, document jsonb"""
MIXED_ROWS = """
    select g, md5(g::text)::uuid, 'customer ' || g, case when g % 10 > 0 then repeat(md5(g::text), 2) end,
           (g % 9999999) / 100.0, sqrt(g), g % 1000, g % 3 = 0,
           timestamptz '2024-01-01 00:00:00+00' + g * interval '1 second',
           timestamp '2024-01-01' + g * interval '17 milliseconds', date '2000-01-01' + (g % 9000)::int,
           jsonb_build_object('tier', g % 5, 'city', 'town ' || g % 300, 'tags', jsonb_build_array('a', g % 7))
    from generate_series(1, {rows}) g"""

NARROW = "id bigint primary key, sensor integer not null, value double precision, at timestamptz not null"
NARROW_ROWS = """
    select g, g % 5000, sin(g), timestamptz '2024-01-01 00:00:00+00' + g * interval '1 second'
    from generate_series(1, {rows}) g"""

# Thirty-two columns, most of them text or documents: some 2 kB a row, partly out of line.
WIDE = (
    "id bigint primary key, "
    + ", ".join(f"title_{i} text, body_{i} text, count_{i} integer" for i in range(9))
    + ", tags jsonb, profile jsonb, created_at timestamptz not null, price numeric(18,4)"
)
WIDE_ROWS = (
    "select g, "
    + ", ".join(
        f"'title {i} of ' || g, repeat(md5((g * {i + 1})::text), 1 + (g % {i + 3})::int), (g * {i + 7}) % 100000"
        for i in range(9)
    )
    + """, jsonb_build_array('red', g % 17, 'blue', g % 5),
    jsonb_build_object('name', 'person ' || g, 'about', repeat(md5(g::text), 6), 'age', g % 90,
        'address', jsonb_build_object('street', 'street ' || g % 5000, 'city', 'town ' || g % 300)),
    timestamptz '2024-01-01 00:00:00+00' + g * interval '1 minute', g / 7.0
    from generate_series(1, {rows}) g"""
)

SMALL = "id integer primary key, name text not null, amount numeric(10,2), at timestamptz, active boolean"
SMALL_ROWS = """
    select g, 'row ' || g, g / 3.0, timestamptz '2024-01-01 00:00:00+00' + g * interval '1 hour', g % 2 = 0
    from generate_series(1, {rows}) g"""


@dataclass
class Shape:
    what: str
    columns: str
    rows_sql: str
    rows: int  # of each table, unless the caller says otherwise
    tables: list
    source: str = "postgres"  # where the contenders read it

    def all_rows(self):
        return self.rows * len(self.tables)

    def statements(self):
        """What fills an empty database."""
        for table in self.tables:
            yield f"create table public.{table} ({self.columns})"
            yield f"insert into public.{table} {self.rows_sql.format(rows=self.rows)}"

    def digest(self):
        """Each value of each row counts, and so does its spelling: a type that got lost shows."""
        names = ", ".join(column.split()[0] for column in split_columns(self.columns))
        each = [
            f"select count(*) c, sum(hashtextextended(row({names})::text, 0)) h from public.{table}"
            for table in self.tables
        ]
        return "select sum(c) || ' ' || sum(h) from (" + " union all ".join(each) + ") t"


def split_columns(columns):
    """At the commas between columns, not at those within a type's brackets."""
    depth, start = 0, 0
    for at, character in enumerate(columns):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield columns[start:at].strip()
            start = at + 1
    yield columns[start:].strip()


SHAPES = {
    "mixed": Shape("12 columns of many types", MIXED, MIXED_ROWS, 1_000_000, ["bench"]),
    "narrow": Shape("4 columns of numbers and times", NARROW, NARROW_ROWS, 4_000_000, ["bench"]),
    "wide": Shape("32 columns of text and documents", WIDE, WIDE_ROWS, 150_000, ["bench"]),
    "mysql": Shape("the same 12 columns, read from MySQL", MIXED, MIXED_ROWS, 1_000_000, ["bench"], "mysql"),
    "many": Shape("many small tables", SMALL, SMALL_ROWS, 1_000, [f"t{i:03}" for i in range(100)]),
}
