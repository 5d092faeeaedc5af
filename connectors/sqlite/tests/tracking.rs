use tideway_core::{Cursor, Kind};

use crate::support::*;

/// Ids of the rows that a run reads, and where the next one goes on.
async fn run(file: &File, column: &str, cursor: Option<Cursor>) -> (Vec<String>, Cursor) {
    let read = tracked(&file.table("t").await, column, cursor);
    let (batches, cursor) = try_read(file, read).await.unwrap();
    let mut ids: Vec<String> = batches
        .iter()
        .flat_map(shown)
        .map(|row| row[0].clone())
        .collect();
    ids.sort();
    (ids, cursor.unwrap())
}

#[tokio::test]
async fn a_run_goes_on_at_the_newest_value_ties_included() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER);
         INSERT INTO t VALUES (1, 10), (2, 20), (3, NULL), (4, 20)",
    );
    let (ids, cursor) = run(&file, "at", None).await;
    assert_eq!(ids, ["1", "2", "3", "4"]);
    assert_eq!(cursor.from.as_deref(), Some("20"));
    assert_eq!(cursor.marks.len(), 1);
    assert_eq!(cursor.marks[0].value, "20");

    file.run("INSERT INTO t VALUES (5, 20), (6, 15), (7, 30), (8, NULL)");
    let (ids, cursor) = run(&file, "at", Some(cursor)).await;
    assert_eq!(
        ids,
        ["2", "4", "5", "7"],
        "nulls are read on the first run only"
    );
    assert_eq!(cursor.from.as_deref(), Some("30"));

    let (ids, again) = run(&file, "at", Some(cursor.clone())).await;
    assert_eq!(ids, ["7"]);
    assert_eq!(again.from, cursor.from);
}

#[tokio::test]
async fn a_cursor_stays_where_it_was_when_its_rows_are_gone() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER); INSERT INTO t VALUES (1, 10), (2, 20)",
    );
    let (_, cursor) = run(&file, "at", None).await;
    file.run("DELETE FROM t WHERE id = 2");
    let (ids, cursor) = run(&file, "at", Some(cursor)).await;
    assert!(ids.is_empty());
    assert_eq!(cursor.from.as_deref(), Some("20"));
}

#[tokio::test]
async fn a_first_run_without_rows_leaves_the_beginning_open() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMP)");
    let (_, cursor) = run(&file, "at", None).await;
    assert_eq!((cursor.from.clone(), cursor.marks.len()), (None, 0));
    file.run("INSERT INTO t VALUES (1, '2024-01-01 10:00:00'), (2, NULL)");
    let (ids, cursor) = run(&file, "at", Some(cursor)).await;
    assert_eq!(ids, ["1", "2"]);
    assert_eq!(cursor.from.as_deref(), Some("2024-01-01 10:00:00.000000"));
}

#[tokio::test]
async fn timestamps_are_compared_as_times_and_not_as_texts() {
    // By text, `T` sorts after a space, and a zone moves the hour.
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMPTZ);
         INSERT INTO t VALUES (1, '2024-01-01T23:00:00Z'), (2, '2024-01-02 00:30:00+02:00'),
                              (3, '2024-01-01 12:00:00-12:00'), (4, '2023-12-31T23:59:59Z')",
    );
    let (ids, cursor) = run(&file, "at", None).await;
    assert_eq!(ids.len(), 4);
    assert_eq!(
        cursor.from.as_deref(),
        Some("2024-01-02 00:00:00.000000+00:00")
    );
    file.run(
        "INSERT INTO t VALUES (5, '2024-01-02T00:00:00Z'), (6, '2024-01-01 13:00:00-12:00'),
                              (7, '2024-01-02 01:59:59+02:00'), (8, '+12024-01-01 00:00:00Z'),
                              (9, '-0044-03-15 00:00:00Z'), (10, '-infinity')",
    );
    let (ids, cursor) = run(&file, "at", Some(cursor)).await;
    assert_eq!(ids, ["3", "5", "6", "8"]);
    assert_eq!(
        cursor.from.as_deref(),
        Some("+12024-01-01 00:00:00.000000+00:00")
    );
}

#[tokio::test]
async fn infinity_does_not_end_the_tracking() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at DATE);
         INSERT INTO t VALUES (1, '2024-01-01'), (2, 'infinity')",
    );
    let (_, cursor) = run(&file, "at", None).await;
    assert_eq!(cursor.from.as_deref(), Some("2024-01-01"));
    file.run("INSERT INTO t VALUES (3, '2024-01-02'), (4, '2023-01-01')");
    let (ids, cursor) = run(&file, "at", Some(cursor)).await;
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(cursor.from.as_deref(), Some("2024-01-02"));
}

#[tokio::test]
async fn texts_floats_decimals_and_times_can_be_tracked() {
    for (declared, old, new, from) in [
        ("TEXT", "'b'", "'c'", "b"),
        ("TEXT COLLATE NOCASE", "'B'", "'a'", "B"),
        ("REAL", "1.5", "2.5", "1.5"),
        ("DECIMAL(10,2)", "9.5", "10", "9.50"),
        ("UNSIGNED TEXT", "'9'", "'18446744073709551615'", "9"),
        ("TIME", "'09:00'", "'10:00:00.5'", "09:00:00.000000"),
        (
            "TIMESTAMP",
            "'2024-01-01'",
            "'2024-01-01T00:00:00.5'",
            "2024-01-01 00:00:00.000000",
        ),
    ] {
        let file = File::with(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, at {declared}); INSERT INTO t VALUES (1, {old})"
        ));
        let (_, cursor) = run(&file, "at", None).await;
        assert_eq!(cursor.from.as_deref(), Some(from), "{declared}");
        file.run(&format!("INSERT INTO t VALUES (2, {new})"));
        let (ids, _) = run(&file, "at", Some(cursor)).await;
        assert_eq!(ids, ["1", "2"], "{declared}");
    }
}

#[tokio::test]
async fn numbers_among_texts_are_compared_as_texts() {
    let file =
        File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, at); INSERT INTO t VALUES (1, '5')");
    let (_, cursor) = run(&file, "at", None).await;
    file.run("INSERT INTO t VALUES (2, 7), (3, 42), (4, '6')");
    let (ids, _) = run(&file, "at", Some(cursor)).await;
    assert_eq!(ids, ["1", "2", "4"]);
}

#[tokio::test]
async fn views_and_unselected_columns_can_be_tracked() {
    let file = File::with(
        "CREATE TABLE base (id INTEGER PRIMARY KEY, at INTEGER);
         INSERT INTO base VALUES (1, 10), (2, 20), (3, 30);
         CREATE VIEW t AS SELECT id, at FROM base",
    );
    let table = file.table("t").await;
    let cursor = Cursor {
        column: "at".into(),
        from: Some("20".into()),
        marks: vec![],
        boundary: vec![],
    };
    let mut read = tracked(&table, "at", Some(cursor));
    read.columns.truncate(1);
    let (batches, cursor) = try_read(&file, read).await.unwrap();
    assert_eq!(
        batches.iter().flat_map(shown).collect::<Vec<_>>(),
        texts(&[["2"], ["3"]])
    );
    assert_eq!(cursor.unwrap().from.as_deref(), Some("30"));
}

#[tokio::test]
async fn a_column_without_an_order_cannot_be_tracked() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, b BOOLEAN, at INTEGER)");
    let table = file.table("t").await;
    let error = try_read(&file, tracked(&table, "b", None))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("tracking_field"))
    );

    let cursor = Cursor {
        column: "at".into(),
        from: Some("2024-01-01".into()),
        marks: vec![],
        boundary: vec![],
    };
    let error = try_read(&file, tracked(&table, "at", Some(cursor)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.advice().contains("resync"));
}
