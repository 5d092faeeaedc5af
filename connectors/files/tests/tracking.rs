//! Incremental reading.

use serde_json::json;
use tempfile::TempDir;
use tideway_core::{Kind, LogicalType as L, destination::Write};

use crate::support::*;

#[tokio::test]
async fn later_runs_read_from_the_highest_value_on() {
    let home = TempDir::new().unwrap();
    put(
        home.path(),
        "a.csv",
        "id,at\n1,2024-01-01T00:00:00Z\n2,2024-01-03T00:00:00Z\n3,\n",
    );
    let settings = json!({"is_single_table": true, "single_table_name": "t"});
    let connection = folder_with(home.path(), settings).await;
    let table = table(&*connection, "t").await;
    let first = read(&*connection, tracked(&table, "at", None))
        .await
        .unwrap();
    assert_eq!(first.rows.len(), 3, "nulls are read by the first run");
    let cursor = first.cursor.unwrap();
    assert_eq!(cursor.from.as_deref(), Some("2024-01-03T00:00:00Z"));

    put(
        home.path(),
        "b.csv",
        "id,at\n4,2024-01-04 01:00:00+01\n5,2024-01-02T00:00:00Z\n6,\n",
    );
    let second = read(&*connection, tracked(&table, "at", Some(cursor)))
        .await
        .unwrap();
    let mut ids: Vec<String> = second.rows.iter().map(|row| row[0].clone()).collect();
    ids.sort();
    assert_eq!(ids, ["2", "4"]);
    let cursor = second.cursor.unwrap();
    assert_eq!(cursor.from.as_deref(), Some("2024-01-04T00:00:00Z"));
    assert_eq!(cursor.marks.last().unwrap().value, "2024-01-04T00:00:00Z");
}

#[tokio::test]
async fn row_groups_below_the_cursor_are_not_read() {
    let home = TempDir::new().unwrap();
    let columns = columns(&[("id", L::Int64), ("name", L::Text)]);
    let connection = folder(home.path()).await;
    for (load_id, values) in [("l1", "1|a\n2|b"), ("l2", "5|c\n6|∅")] {
        let load = load(
            load_id,
            Write::Append,
            &columns,
            json!({"format": "parquet"}),
        );
        carry(&*connection, load, &rows(values)).await;
    }
    let table = table(&*connection, "orders").await;
    let first = read(&*connection, tracked(&table, "id", None))
        .await
        .unwrap();
    assert_eq!(first.rows.len(), 4);
    let cursor = first.cursor.unwrap();
    assert_eq!(cursor.from.as_deref(), Some("6"));
    let second = read(&*connection, tracked(&table, "id", Some(cursor)))
        .await
        .unwrap();
    assert_eq!(second.rows, [["6", NULL]]);
    let slices: usize = second
        .parts
        .iter()
        .map(|part| part.spec.as_array().unwrap().len())
        .sum();
    assert_eq!(slices, 1, "{:?}", second.parts);
    // Texts are cut short in statistics, so they are read.
    let by_name = read(&*connection, tracked(&table, "name", None))
        .await
        .unwrap();
    assert_eq!(by_name.cursor.unwrap().from.as_deref(), Some("c"));
}

#[tokio::test]
async fn an_empty_table_keeps_the_cursor_it_had() {
    let home = TempDir::new().unwrap();
    put(home.path(), "t.csv", "id\n7\n");
    let connection = folder(home.path()).await;
    let table = table(&*connection, "t").await;
    let cursor = read(&*connection, tracked(&table, "id", None))
        .await
        .unwrap()
        .cursor
        .unwrap();
    put(home.path(), "t.csv", "id\n");
    let later = read(&*connection, tracked(&table, "id", Some(cursor)))
        .await
        .unwrap();
    assert!(later.rows.is_empty());
    assert_eq!(later.parts.len(), 1);
    assert_eq!(later.cursor.unwrap().from.as_deref(), Some("7"));
}

#[tokio::test]
async fn fields_without_order_cannot_be_tracked() {
    let home = TempDir::new().unwrap();
    put(home.path(), "t.csv", "ok\ntrue\n");
    let connection = folder(home.path()).await;
    let table = table(&*connection, "t").await;
    let error = read(&*connection, tracked(&table, "ok", None))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Unsupported, Some("tracking_field"))
    );
}
