use tideway_core::{
    LogicalType::{self, *},
    schema::TableKind,
    source::Scope,
};

use crate::support::*;

/// The type that a column declared as `declared` gets with these values in it.
async fn found(declared: &str, values: &str) -> LogicalType {
    let values = match values {
        "" => String::new(),
        values => format!("INSERT INTO t VALUES ({});", values.replace(';', "), (")),
    };
    let file = File::with(&format!("CREATE TABLE t (c {declared}); {values}"));
    file.table("t").await.columns[0].logical
}

const fn decimal(precision: u8, scale: i8) -> LogicalType {
    Decimal { precision, scale }
}

#[tokio::test]
async fn declared_types_are_believed_where_the_values_agree() {
    for (declared, values, expected) in [
        ("INTEGER", "1;-9223372036854775808;NULL", Int64),
        ("INT2", "32767", Int16),
        ("INT4", "2147483647", Int32),
        ("REAL", "1;2.5", Float64),
        ("FLOAT4", "0.5", Float32),
        ("BOOLEAN", "0;1;NULL", Boolean),
        ("BOOLEAN", "'true';'FALSE';1", Boolean),
        ("DECIMAL(10,2)", "1;2.5;-12345678.25", decimal(10, 2)),
        ("DECIMAL(10,2)", "'12.50'", decimal(10, 2)),
        ("NUMERIC", "1;2.5", Float64),
        ("NUMERIC", "1;2", Float64),
        ("TEXT", "'a';'1'", Text),
        ("VARCHAR(20)", "'a'", Text),
        ("JSON", "'{\"a\": 1}';'[]';5", Json),
        (
            "UUID",
            "'0191e0a4-7b3c-7def-8000-000000000001';x'000102030405060708090a0b0c0d0e0f'",
            Uuid,
        ),
        ("BLOB", "x'00';'a'", Binary),
        ("DATE", "'2024-02-29';'infinity'", Date),
        ("TIME", "'12:30';'24:00:00'", Time),
        (
            "DATETIME",
            "'2024-01-01 10:00:00';'2024-01-01T10:00:00.5';'2024-01-01'",
            Timestamp,
        ),
        (
            "TIMESTAMP",
            "'2024-01-01 10:00:00Z';'2024-01-01 10:00:00+02:00'",
            TimestampTz,
        ),
        ("TIMESTAMPTZ", "'2024-01-01 10:00:00+00'", TimestampTz),
        ("INTERVAL", "'P1Y2M'", Interval),
        ("", "1;2", Int64),
        ("", "'a'", Text),
        ("", "1.5;2", Float64),
        ("YEAR", "2024", Int64),
    ] {
        assert_eq!(
            found(declared, values).await,
            expected,
            "{declared} with {values}"
        );
    }
}

#[tokio::test]
async fn columns_without_values_have_their_declared_type() {
    for (declared, expected) in [
        ("INTEGER", Int64),
        ("DECIMAL(10,2)", decimal(10, 2)),
        ("NUMERIC", Float64),
        ("TIMESTAMP", Timestamp),
        ("", Text),
        ("ANYTHING", Text),
        ("BLOB", Binary),
    ] {
        assert_eq!(found(declared, "").await, expected, "{declared}");
        assert_eq!(found(declared, "NULL;NULL").await, expected, "{declared}");
    }
}

#[tokio::test]
async fn columns_are_widened_until_every_value_fits() {
    for (declared, values, expected) in [
        ("INT2", "1;40000", Int32),
        ("INT4", "1;3000000000", Int64),
        ("INTEGER", "1;2.5", Float64),
        ("INTEGER", "9007199254740993;2.5", Text),
        ("INTEGER", "1;'n/a'", Text),
        ("INTEGER", "1;x'ff'", Binary),
        ("FLOAT4", "0.1", Float64),
        ("BOOLEAN", "0;2", Int64),
        ("BOOLEAN", "'yes'", Text),
        ("DECIMAL(4,2)", "1;123.25", Float64),
        ("DECIMAL(4,2)", "0.125", Float64),
        ("DECIMAL(4,2)", "0.125;9007199254740993", Numeric),
        ("NUMERIC", "0.125;9007199254740993", Numeric),
        ("NUMERIC", "1;'twelve'", Text),
        ("TEXT", "'a';x'ff'", Binary),
        ("TEXT", "CAST(x'636166e9' AS TEXT)", Binary),
        ("JSON", "'{\"a\": 1}';'{broken'", Text),
        ("JSONB", "jsonb('{\"a\": 1}')", Binary),
        (
            "UUID",
            "'0191e0a4-7b3c-7def-8000-000000000001';'none'",
            Text,
        ),
        ("DATE", "'2024-01-01';'2024-01-01 10:00:00'", Timestamp),
        ("DATE", "'2024-01-01';'01.02.2024'", Text),
        ("DATE", "1704067200", Int64),
        ("TIMESTAMP", "1704067200;1704067201", Int64),
        ("TIMESTAMP", "1704067200;'2024-01-01 10:00:00'", Text),
        (
            "TIMESTAMP",
            "'2024-01-01 10:00:00';'2024-01-01 10:00:00Z'",
            Text,
        ),
        ("TIMESTAMP", "'2024-01-01 10:00:00.123456789'", Text),
        ("TIME", "'12:30';'noon'", Text),
        ("", "1;'a'", Text),
        ("", "1;2.5;x'00'", Binary),
    ] {
        assert_eq!(
            found(declared, values).await,
            expected,
            "{declared} with {values}"
        );
    }
}

#[tokio::test]
async fn a_value_in_the_last_row_counts() {
    let file = File::with(
        "CREATE TABLE t (c INTEGER);
         INSERT INTO t SELECT value FROM generate_series_of;".replace("generate_series_of",
         "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 20000) SELECT value FROM n)").as_str(),
    );
    assert_eq!(file.table("t").await.columns[0].logical, Int64);
    file.run("INSERT INTO t VALUES ('last')");
    let table = file.table("t").await;
    assert_eq!(
        (table.columns[0].logical, table.row_estimate),
        (Text, Some(20_001))
    );
}

#[tokio::test]
async fn keys_are_found_in_their_order() {
    let file = File::with(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT NOT NULL);
         CREATE TABLE b (x TEXT, y INT, z INT, PRIMARY KEY (z, x));
         CREATE TABLE c (k TEXT PRIMARY KEY, x INT) WITHOUT ROWID;
         CREATE TABLE d (x INT UNIQUE);
         CREATE TABLE e (k INT PRIMARY KEY) STRICT;
         INSERT INTO b VALUES ('p', 1, 2);",
    );
    let catalog = file.discover().await;
    let key = |name: &str| catalog.table(name).unwrap().primary_key.clone();
    assert_eq!(key("a"), ["id"]);
    assert_eq!(key("b"), ["z", "x"]);
    assert_eq!(key("c"), ["k"]);
    assert_eq!(key("d"), [""; 0]);
    assert_eq!(key("e"), ["k"]);
    let nullable = |name: &str| -> Vec<bool> {
        catalog
            .table(name)
            .unwrap()
            .columns
            .iter()
            .map(|column| column.nullable)
            .collect()
    };
    assert_eq!(nullable("a"), [false, false]);
    assert_eq!(nullable("b"), [false, true, false]);
    assert_eq!(nullable("d"), [true]);
}

#[tokio::test]
async fn a_key_that_would_make_one_row_of_two_is_no_key() {
    for (case, key) in [
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY); INSERT INTO t VALUES (NULL), (NULL)",
            false,
        ),
        (
            "CREATE TABLE t (k PRIMARY KEY); INSERT INTO t VALUES (1), ('1')",
            false,
        ),
        (
            "CREATE TABLE t (k PRIMARY KEY); INSERT INTO t VALUES ('a'), (x'61')",
            false,
        ),
        (
            "CREATE TABLE t (k DATETIME PRIMARY KEY); INSERT INTO t VALUES ('2024-01-01'), ('2024-01-01 00:00:00')",
            false,
        ),
        (
            "CREATE TABLE t (k UUID PRIMARY KEY); INSERT INTO t VALUES ('0191E0A4-7b3c-7def-8000-000000000001')",
            false,
        ),
        (
            "CREATE TABLE t (k UUID PRIMARY KEY); INSERT INTO t VALUES ('0191E0A4-7b3c-7def-8000-000000000001'), ('other')",
            true,
        ),
        (
            "CREATE TABLE t (k DATE PRIMARY KEY); INSERT INTO t VALUES ('2024-01-01'), ('2024-01-02')",
            true,
        ),
        (
            "CREATE TABLE t (k NUMERIC PRIMARY KEY); INSERT INTO t VALUES (1), (2)",
            true,
        ),
        (
            "CREATE TABLE t (k NUMERIC PRIMARY KEY); INSERT INTO t VALUES (1), (2.5)",
            true,
        ),
    ] {
        let table = File::with(case).table("t").await;
        assert_eq!(
            !table.primary_key.is_empty(),
            key,
            "{case}: {:?}",
            table.columns[0].logical
        );
    }
}

#[tokio::test]
async fn views_virtual_and_generated_columns_are_read() {
    let file = File::with(
        "CREATE TABLE t (a INTEGER, b INTEGER AS (a * 2), c TEXT AS (a || '!') STORED);
         INSERT INTO t VALUES (1), (2);
         CREATE VIEW v AS SELECT a, a + 0.5 AS half, c FROM t WHERE c <> \"a text\";
         CREATE VIEW broken AS SELECT * FROM gone;
         CREATE VIRTUAL TABLE words USING fts5(body);
         INSERT INTO words VALUES ('hello'), ('world');
         CREATE TABLE _tideway_loads (x);",
    );
    let catalog = file.discover().await;
    let names: Vec<String> = catalog
        .tables
        .iter()
        .map(|table| table.id.to_string())
        .collect();
    assert_eq!(names, ["t", "v", "words"]);
    let view = catalog.table("v").unwrap();
    assert_eq!(view.kind, TableKind::View);
    assert_eq!(types(view), [("a", Int64), ("half", Float64), ("c", Text)]);
    assert_eq!(
        read_table(&file, "v").await,
        texts(&[["1", "1.5", "1!"], ["2", "2.5", "2!"]])
    );
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[["1", "2", "1!"], ["2", "4", "2!"]])
    );
    assert_eq!(
        read_table(&file, "words").await,
        texts(&[["hello"], ["world"]])
    );
}

#[tokio::test]
async fn only_the_tables_asked_for_are_looked_at() {
    let file = File::with("CREATE TABLE a (x); CREATE TABLE b (x)");
    let scope = Scope {
        namespaces: None,
        tables: Some(vec!["b".to_owned(), "none".to_owned()]),
    };
    let connection = file.connect().await;
    let catalog = source(&connection).discover(&scope).await.unwrap();
    assert_eq!(catalog.tables.len(), 1);
    assert_eq!(catalog.tables[0].id.to_string(), "b");
}

#[tokio::test]
async fn names_of_any_kind_are_found_and_read() {
    let names = [
        "plain",
        "with space",
        "qu\"ote",
        "semi;colon",
        "it's",
        "select",
        "ünïcødé 表",
        "[brackets]",
        "back`tick",
        "dot.ted",
        "rowid",
        "%_",
        "a\nb",
        "-- x",
    ];
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let file = File::with(&format!(
            "CREATE TABLE {quoted} ({quoted} TEXT, \"oid\" INTEGER); INSERT INTO {quoted} VALUES ('v', 7)"
        ));
        let table = file.table(name).await;
        assert_eq!(types(&table), [(name, Text), ("oid", Int64)]);
        assert_eq!(
            read_table(&file, name).await,
            texts(&[["v", "7"]]),
            "{name}"
        );
    }
}
