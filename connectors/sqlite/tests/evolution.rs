use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use rusqlite::types::Value;
use tideway_core::{
    Column, Kind,
    LogicalType::{self, *},
    destination::{Deletes, Disposition, Load, Write},
};

use crate::support::*;

/// A load of `id` and one column `c`.
fn load_c(logical: LogicalType, write: Write) -> Load {
    let columns = vec![Column::new("id", Int64), Column::new("c", logical)];
    load_of(columns, &["id"], write, Disposition::Retain)
}

async fn run_c(
    file: &File,
    logical: LogicalType,
    write: Write,
    id: i64,
    value: ArrayRef,
) -> Vec<String> {
    let load = load_c(logical, write);
    let begun = begin(file, &load).await.unwrap();
    let rows = batch(
        &load.target.columns,
        vec![Arc::new(Int64Array::from(vec![id])), value],
    );
    land(begun.as_ref(), vec![rows]).await.unwrap();
    begun.finish().await.unwrap();
    begun
        .schema_changes()
        .iter()
        .map(|change| change.0.clone())
        .collect()
}

#[tokio::test]
async fn new_columns_are_added_and_null_in_old_rows() {
    for write in [Write::Append, HARD] {
        let file = File::with(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, kept TEXT); INSERT INTO t VALUES (1, 'k')",
        );
        let write = match write {
            HARD => Write::Merge {
                complete: false,
                deletes: Deletes::Hard,
            },
            other => other,
        };
        let changes = run_c(&file, decimal(), write, 2, Arc::new(cents(1250))).await;
        assert_eq!(changes, ["column c added as DECIMAL TEXT(12,2)"]);
        assert_eq!(
            read_table(&file, "t").await,
            texts(&[["1", "k", "∅"], ["2", "∅", "12.50"]])
        );
    }
}

fn decimal() -> LogicalType {
    Decimal {
        precision: 12,
        scale: 2,
    }
}

fn cents(value: i128) -> Decimal128Array {
    Decimal128Array::from(vec![value])
        .with_precision_and_scale(12, 2)
        .unwrap()
}

#[tokio::test]
async fn columns_are_widened_with_the_values_in_them() {
    let moment = TimestampMicrosecondArray::from(vec![86_400_000_000]);
    let cases: Vec<(
        LogicalType,
        ArrayRef,
        LogicalType,
        ArrayRef,
        LogicalType,
        [&str; 2],
    )> = vec![
        (
            Int32,
            Arc::new(Int32Array::from(vec![7])),
            Int64,
            Arc::new(Int64Array::from(vec![1 << 40])),
            Int64,
            ["7", "1099511627776"],
        ),
        (
            Int32,
            Arc::new(Int32Array::from(vec![7])),
            Float64,
            Arc::new(Float64Array::from(vec![0.5])),
            Float64,
            ["7.0", "0.5"],
        ),
        (
            Int64,
            Arc::new(Int64Array::from(vec![7])),
            Text,
            Arc::new(StringArray::from(vec!["007"])),
            Text,
            ["7", "007"],
        ),
        (
            Float64,
            Arc::new(Float64Array::from(vec![0.1])),
            Text,
            Arc::new(StringArray::from(vec!["x"])),
            Text,
            ["0.1", "x"],
        ),
        (
            Boolean,
            Arc::new(BooleanArray::from(vec![true])),
            Text,
            Arc::new(StringArray::from(vec!["maybe"])),
            Text,
            ["true", "maybe"],
        ),
        (
            Binary,
            Arc::new(BinaryArray::from(vec![b"\x00\xff".as_slice()])),
            Text,
            Arc::new(StringArray::from(vec!["x"])),
            Text,
            ["00ff", "x"],
        ),
        (
            decimal(),
            Arc::new(cents(1250)),
            Numeric,
            Arc::new(StringArray::from(vec!["0.001"])),
            Numeric,
            ["12.50", "0.001"],
        ),
        (
            Int64,
            Arc::new(Int64Array::from(vec![7])),
            decimal(),
            Arc::new(cents(1250)),
            Decimal {
                precision: 21,
                scale: 2,
            },
            ["7.00", "12.50"],
        ),
        (
            Date,
            Arc::new(Date32Array::from(vec![1])),
            Timestamp,
            Arc::new(moment),
            Timestamp,
            ["1970-01-02T00:00:00", "1970-01-02T00:00:00"],
        ),
        // A load that is narrower than the column fills it as it is.
        (
            Text,
            Arc::new(StringArray::from(vec!["x"])),
            Int64,
            Arc::new(Int64Array::from(vec![7])),
            Text,
            ["x", "7"],
        ),
        (
            Text,
            Arc::new(StringArray::from(vec!["x"])),
            Boolean,
            Arc::new(BooleanArray::from(vec![false])),
            Text,
            ["x", "false"],
        ),
        (
            Float64,
            Arc::new(Float64Array::from(vec![0.5])),
            Int32,
            Arc::new(Int32Array::from(vec![7])),
            Float64,
            ["0.5", "7.0"],
        ),
        (
            Timestamp,
            Arc::new(TimestampMicrosecondArray::from(vec![1])),
            Date,
            Arc::new(Date32Array::from(vec![1])),
            Timestamp,
            ["1970-01-01T00:00:00.000001", "1970-01-02T00:00:00"],
        ),
    ];
    for (was, old, wanted, new, expected, values) in cases {
        let file = File::absent();
        run_c(&file, was, Write::Append, 1, old).await;
        file.run("CREATE INDEX mine ON t (c); CREATE VIEW v AS SELECT c FROM t");
        let changes = run_c(&file, wanted, Write::Append, 2, new).await;
        let case = format!("{was:?} with {wanted:?}: {changes:?}");
        assert_eq!(
            changes.len(),
            usize::from(was.widest(wanted) != was),
            "{case}"
        );
        assert_eq!(types(&file.table("t").await)[1].1, expected, "{case}");
        let rows = read_table(&file, "t").await;
        assert_eq!(rows, texts(&[["1", values[0]], ["2", values[1]]]), "{case}");
        assert_eq!(
            file.texts("SELECT name FROM sqlite_schema WHERE name = 'mine'"),
            ["mine"]
        );
        assert_eq!(file.texts("SELECT count(*) FROM v"), ["2"]);
    }
}

#[tokio::test]
async fn a_replaced_table_takes_the_types_of_its_rows() {
    let file = File::absent();
    run_c(
        &file,
        Text,
        Write::Replace,
        1,
        Arc::new(StringArray::from(vec!["x"])),
    )
    .await;
    run_c(
        &file,
        Int64,
        Write::Replace,
        2,
        Arc::new(Int64Array::from(vec![5])),
    )
    .await;
    assert_eq!(types(&file.table("t").await), [("id", Int64), ("c", Int64)]);
}

#[tokio::test]
async fn a_load_that_fails_before_its_end_has_not_replaced_anything() {
    let file = File::absent();
    run_c(
        &file,
        Text,
        Write::Replace,
        1,
        Arc::new(StringArray::from(vec!["x"])),
    )
    .await;
    let before = file.texts("SELECT sql FROM sqlite_schema WHERE name = 't'");
    let begun = begin(&file, &load_c(Int64, Write::Replace)).await.unwrap();
    begun.abandon().await.unwrap();
    assert_eq!(
        file.texts("SELECT sql FROM sqlite_schema WHERE name = 't'"),
        before
    );
}

#[tokio::test]
async fn exact_numbers_and_documents_are_not_left_to_columns_that_would_round_them() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c DECIMAL(20,2)); INSERT INTO t VALUES (1, 12.5)",
    );
    let wide = Decimal {
        precision: 20,
        scale: 2,
    };
    let value = Decimal128Array::from(vec![12_345_678_901_234_567_899])
        .with_precision_and_scale(20, 2)
        .unwrap();
    let changes = run_c(&file, wide, Write::Append, 2, Arc::new(value)).await;
    assert_eq!(
        changes,
        ["column c changed from DECIMAL(20,2) to DECIMAL TEXT(20,2)"]
    );
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[["1", "12.50"], ["2", "123456789012345678.99"]])
    );

    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c JSON); INSERT INTO t VALUES (1, '[]')",
    );
    run_c(
        &file,
        Json,
        Write::Append,
        2,
        Arc::new(StringArray::from(vec!["1.50"])),
    )
    .await;
    assert_eq!(file.texts("SELECT c FROM t"), ["[]", "1.50"]);
}

#[tokio::test]
async fn short_decimals_go_into_numeric_columns_as_they_are() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c DECIMAL(12,2)); INSERT INTO t VALUES (1, 12.5)",
    );
    let load = load_c(decimal(), HARD);
    let begun = begin(&file, &load).await.unwrap();
    assert!(begun.schema_changes().is_empty());
    let value = Decimal128Array::from(vec![1250, 99])
        .with_precision_and_scale(12, 2)
        .unwrap();
    let rows = batch(
        &load.target.columns,
        vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(value)],
    );
    land(begun.as_ref(), vec![rows]).await.unwrap();
    assert_eq!(counts(&begun.finish().await.unwrap()), [1, 0, 0, 1]);
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[["1", "12.50"], ["2", "0.99"]])
    );
    assert_eq!(file.texts("SELECT sum(c) > 13.4 FROM t"), ["1"]);
}

#[tokio::test]
async fn a_column_that_may_not_be_null_but_gets_no_value_is_relaxed() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, gone TEXT NOT NULL,
                         filled INTEGER NOT NULL DEFAULT 5, stamp TEXT DEFAULT CURRENT_TIMESTAMP);
         INSERT INTO t (id, name, gone) VALUES (1, 'ann', 'x');
         CREATE TRIGGER tell AFTER UPDATE ON t BEGIN SELECT 1; END",
    );
    let begun = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .unwrap();
    let changes: Vec<&str> = begun
        .schema_changes()
        .iter()
        .map(|change| change.0.as_str())
        .collect();
    assert_eq!(
        changes,
        ["column name may be null now", "column gone may be null now"]
    );
    land(begun.as_ref(), vec![person_rows(&[(1, "ann"), (2, "bob")])])
        .await
        .unwrap();
    assert_eq!(counts(&begun.finish().await.unwrap()), [1, 0, 0, 1]);
    assert_eq!(
        file.rows("SELECT id, name, gone, filled FROM t")[1],
        [
            Value::Integer(2),
            Value::Text("bob".into()),
            Value::Null,
            Value::Integer(5)
        ]
    );
    assert_eq!(
        file.texts("SELECT name FROM sqlite_schema WHERE type = 'trigger'"),
        ["tell"]
    );
    assert_eq!(file.table("t").await.primary_key, ["id"]);
}

#[tokio::test]
async fn a_table_with_more_to_it_than_we_can_write_down_is_not_made_anew() {
    for definition in [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER CHECK (c > 0))",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, c INTEGER)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER, d AS (c + 1))",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, c INTEGER) STRICT",
    ] {
        let file = File::with(definition);
        let error = begin(&file, &load_c(Text, Write::Append))
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind, Kind::Unsupported, "{definition}");
        assert!(
            error
                .what()
                .contains("column c changed from INTEGER to TEXT"),
            "{}",
            error.what()
        );
        let now = file.texts("SELECT sql FROM sqlite_schema WHERE name = 't'");
        assert_eq!(now, [definition]);
        // As it is, it can be loaded.
        run_c(&file, Int64, HARD, 1, Arc::new(Int64Array::from(vec![5]))).await;
    }
}

#[tokio::test]
async fn a_computed_column_cannot_be_written() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, c AS (id + 1))");
    let error = begin(&file, &load_c(Int64, Write::Append))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Unsupported, Some("c"))
    );
}

#[tokio::test]
async fn a_target_without_an_index_on_the_key_gets_one() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER, name TEXT); INSERT INTO t VALUES (1, 'ann'), (3, 'cid')",
    );
    let begun = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .unwrap();
    assert_eq!(begun.schema_changes()[0].0, "index on the key (id) added");
    land(begun.as_ref(), vec![person_rows(&[(1, "ANN"), (2, "bob")])])
        .await
        .unwrap();
    assert_eq!(counts(&begun.finish().await.unwrap()), [1, 1, 1, 0]);
    let begun = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .unwrap();
    assert!(begun.schema_changes().is_empty());
}

#[tokio::test]
async fn names_that_differ_only_in_case_are_the_same_table_and_column() {
    let file = File::with(
        "CREATE TABLE T (ID INTEGER PRIMARY KEY, Name TEXT); INSERT INTO T VALUES (1, 'ann')",
    );
    let begun = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .unwrap();
    assert!(begun.schema_changes().is_empty());
    land(begun.as_ref(), vec![person_rows(&[(1, "ANN"), (2, "bob")])])
        .await
        .unwrap();
    assert_eq!(counts(&begun.finish().await.unwrap()), [1, 1, 0, 0]);
    run_load(
        &file,
        &load(Write::Replace, Disposition::Retain),
        vec![person_rows(&[(5, "x")])],
    )
    .await
    .unwrap();
    assert_eq!(file.texts("SELECT name FROM t"), ["x"]);
}

#[tokio::test]
async fn a_view_cannot_be_a_target() {
    let file = File::with("CREATE TABLE a (id, name); CREATE VIEW t AS SELECT * FROM a");
    let error = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Conflict);
}

#[tokio::test]
async fn a_target_changed_while_it_is_loaded_is_drift() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let begun = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .unwrap();
    land(begun.as_ref(), vec![person_rows(&[(1, "ann")])])
        .await
        .unwrap();
    file.run("ALTER TABLE t DROP COLUMN name");
    assert_eq!(begun.finish().await.unwrap_err().kind, Kind::Drift);
    assert_eq!(file.texts("SELECT count(*) FROM t"), ["0"]);
}
