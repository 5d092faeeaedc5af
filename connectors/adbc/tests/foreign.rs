//! Tables that DuckDB's own users made, with types that are not ours.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Date32Type, TimestampMicrosecondType},
};
use tideway_core::{
    LogicalType,
    destination::Write,
    types::{TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::{
    given::*,
    values::{decimal, read_table, same, target},
};

#[tokio::test]
async fn types_of_duckdb_alone_arrive_as_the_nearest_of_ours() {
    let place = place().await;
    place.sql(&[
        "CREATE TYPE mood AS ENUM ('ok', 'no')",
        "CREATE TABLE t (tiny TINYINT, utiny UTINYINT, usmall USMALLINT, uint UINTEGER, huge HUGEINT, uhuge UHUGEINT, \
         feel mood, bits BIT, zoned TIME WITH TIME ZONE, s TIMESTAMP_S, ms TIMESTAMP_MS, ns TIMESTAMP_NS, \
         list INTEGER[], fixed INTEGER[2], struct STRUCT(a DOUBLE, b VARCHAR), map MAP(VARCHAR, INTEGER), \
         either UNION(i INTEGER, v VARCHAR), made INTEGER GENERATED ALWAYS AS (tiny + 1))",
        "INSERT INTO t VALUES (-128, 255, 65535, 4294967295, 170141183460469231731687303715884105727, \
         340282366920938463463374607431768211455, 'ok', '0101', '10:00:00+02', '2020-01-01', '2020-01-01 00:00:00.001', \
         '2020-01-01 00:00:00.000001234', [1, NULL], [1, 2], {a: 'nan', b: 'NaN'}, MAP {'k': 1}, 'x')",
        "INSERT INTO t (s, ns, huge) VALUES ('infinity', '-infinity', -170141183460469231731687303715884105728)",
    ]);
    let table = table(&place.connection, "main.t").await;
    let logical: Vec<LogicalType> = table.columns.iter().map(|column| column.logical).collect();
    use LogicalType::*;
    assert_eq!(
        logical,
        [
            Int16,
            Int16,
            Int32,
            Int64,
            decimal(39, 0),
            decimal(39, 0),
            Text,
            Text,
            Text,
            Timestamp,
            Timestamp,
            Timestamp,
            Json,
            Json,
            Json,
            Json,
            Json,
            Int32
        ]
    );
    let batches = read_all(&snapshot(&place.connection).await, &read_of(table.clone())).await;
    let batch = &batches[0];
    let notes: Vec<_> = batch
        .notes
        .iter()
        .map(|n| (n.column.as_str(), n.what.as_str(), n.rows))
        .collect();
    assert_eq!(
        notes,
        [
            ("ns", "nanoseconds cut to microseconds", 1),
            ("struct", "NaN or infinity in JSON stored as null", 1)
        ]
    );
    let options = arrow_cast::display::FormatOptions::default().with_null("NULL");
    let shown = |row: usize| -> Vec<String> {
        let of = |column: &ArrayRef| {
            let formatter = arrow_cast::display::ArrayFormatter::try_new(column, &options).unwrap();
            formatter.value(row).to_string()
        };
        batch.rows.columns().iter().map(of).collect()
    };
    assert_eq!(
        shown(0),
        [
            "-128",
            "255",
            "65535",
            "4294967295",
            "170141183460469231731687303715884105727",
            "340282366920938463463374607431768211455",
            "ok",
            "0101",
            "10:00:00+02",
            "2020-01-01T00:00:00",
            "2020-01-01T00:00:00.001",
            "2020-01-01T00:00:00.000001",
            "[1,null]",
            "[1,2]",
            "{\"a\":null,\"b\":\"NaN\"}",
            "{\"k\":1}",
            "{\"v\":\"x\"}",
            "-127"
        ]
    );
    let micros = |name: &str| {
        let column = batch.rows.column_by_name(name).unwrap();
        column.as_primitive::<TimestampMicrosecondType>().value(1)
    };
    assert_eq!(
        (micros("s"), micros("ns")),
        (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY)
    );

    // A copy keeps 128-bit integers as such.
    let rows: Vec<RecordBatch> = batches.iter().map(|batch| batch.rows.clone()).collect();
    let copy = target("copy", table.columns.clone(), Write::Replace, "copy");
    run(&place.connection, copy, &rows).await;
    assert_eq!(
        place
            .sql(&["SELECT huge, uhuge FROM copy ORDER BY huge DESC"])
            .len(),
        2
    );
    let copied = read_table(&place, "main.copy").await.1;
    same(
        "huge",
        copied.column_by_name("huge").unwrap(),
        batch.rows.column_by_name("huge").unwrap(),
    );
}

#[tokio::test]
async fn text_that_is_no_number_is_an_error_without_the_value() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE t (d VARCHAR)",
        "COMMENT ON COLUMN t.d IS 'price tideway:decimal(50,2)'",
        "INSERT INTO t VALUES ('s3cret')",
    ]);
    let read = read_of(table(&place.connection, "main.t").await);
    assert_eq!(read.columns[0].logical, decimal(50, 2));
    let snapshot = snapshot(&place.connection).await;
    let scan = snapshot.plan(&read).await.unwrap();
    let batches = snapshot.read(Arc::new(read), scan.parts[0].clone());
    let error = futures::TryStreamExt::try_collect::<Vec<_>>(batches)
        .await
        .unwrap_err();
    assert_eq!(error.kind, tideway_core::Kind::Data);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[tokio::test]
async fn days_are_days() {
    let place = place().await;
    place.sql(&["CREATE TABLE t AS SELECT DATE '1970-01-02' AS d"]);
    let (_, rows) = read_table(&place, "main.t").await;
    assert_eq!(rows.column(0).as_primitive::<Date32Type>().value(0), 1);
}
