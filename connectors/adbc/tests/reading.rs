//! Snapshots, parts, cursors.

use std::{collections::BTreeSet, sync::Arc};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use futures::StreamExt;
use tideway_core::{
    Batch, Cursor, Kind,
    destination::Write,
    schema::TableKind,
    source::{Read, Scope},
};

use crate::given::*;

fn ids(batches: &[Batch]) -> Vec<i64> {
    let of = |batch: &Batch| {
        batch
            .rows
            .column_by_name("id")
            .unwrap()
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    batches.iter().flat_map(of).collect()
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn tables_views_and_keys_are_discovered() {
    let place = place().await;
    place.sql(&[
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.b (x INTEGER NOT NULL, y VARCHAR(10), z DECIMAL(9,2), PRIMARY KEY (y, x))",
        "CREATE VIEW shop.a AS SELECT x FROM shop.b",
        "CREATE TABLE gone (x INTEGER)",
        "CREATE VIEW broken AS SELECT x FROM gone",
        "DROP TABLE gone",
        "CREATE TABLE main.c AS SELECT 1 AS x",
    ]);
    let source = place.connection.roles().source.unwrap();
    let all = discover(&place.connection).await;
    let shown: Vec<_> = all
        .tables
        .iter()
        .map(|t| (t.id.to_string(), t.kind, t.primary_key.clone()))
        .collect();
    assert!(
        shown.contains(&("shop.a".to_owned(), TableKind::View, vec![])),
        "{shown:?}"
    );
    assert!(shown.contains(&(
        "shop.b".to_owned(),
        TableKind::Table,
        vec!["y".to_owned(), "x".to_owned()]
    )));
    assert!(shown.contains(&("main.c".to_owned(), TableKind::Table, vec![])));
    let b = all.table("shop.b").unwrap();
    let columns: Vec<_> = b
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.remote_type.as_str(), c.nullable))
        .collect();
    assert_eq!(
        columns,
        [
            ("x", "INTEGER", false),
            ("y", "VARCHAR", false),
            ("z", "DECIMAL(9,2)", true)
        ]
    );
    assert_eq!(all.table("main.c").unwrap().row_estimate, Some(1));

    let scope = Scope {
        namespaces: Some(vec!["shop".to_owned()]),
        tables: None,
    };
    assert_eq!(source.discover(&scope).await.unwrap().tables.len(), 2);
    let scope = Scope {
        namespaces: None,
        tables: Some(vec!["shop.b".to_owned()]),
    };
    assert_eq!(source.discover(&scope).await.unwrap().tables.len(), 1);
}

#[tokio::test]
async fn parts_together_are_the_table_and_their_batches_are_as_large_as_asked() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE t AS SELECT range AS id, 'value ' || range AS v FROM range(700000)",
        "DELETE FROM t WHERE id % 7 = 0",
    ]);
    let read = read_of(table(&place.connection, "main.t").await);
    let snapshot = snapshot(&place.connection).await;
    let scan = snapshot.plan(&read).await.unwrap();
    assert!(scan.parts.len() > 1);
    assert_eq!(scan.row_estimate, Some(600_000 - 1 + 1));
    let names: BTreeSet<&str> = scan.parts.iter().map(|part| part.id.as_str()).collect();
    assert_eq!(names.len(), scan.parts.len());
    let mut found = Vec::new();
    for part in scan.parts {
        let batches = read_part(&snapshot, &read, part).await;
        for batch in &batches[..batches.len().saturating_sub(1)] {
            let bytes = batch.byte_count();
            assert!((500_000..2_000_000).contains(&bytes), "{bytes}");
        }
        found.extend(ids(&batches));
    }
    assert_eq!(
        sorted(found),
        (0..700_000).filter(|id| id % 7 != 0).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_limit_holds_over_all_parts() {
    let place = place().await;
    place.sql(&["CREATE TABLE t AS SELECT range AS id FROM range(300000)"]);
    let read = Read {
        limit: Some(5),
        ..read_of(table(&place.connection, "main.t").await)
    };
    let batches = read_all(&snapshot(&place.connection).await, &read).await;
    assert_eq!(ids(&batches).len(), 5);
}

#[tokio::test]
async fn columns_come_in_the_order_asked_for() {
    let place = place().await;
    place.sql(&["CREATE TABLE t AS SELECT 1::BIGINT AS id, 'x' AS v"]);
    let mut read = read_of(table(&place.connection, "main.t").await);
    read.columns.reverse();
    let batches = read_all(&snapshot(&place.connection).await, &read).await;
    assert_eq!(
        batches[0].rows.schema(),
        tideway_core::schema::arrow_schema(&read.columns)
    );
    assert_eq!(batches[0].rows.column(0).as_string::<i32>().value(0), "x");
    read.columns.clear();
    let batches = read_all(&snapshot(&place.connection).await, &read).await;
    assert_eq!(batches.iter().map(Batch::row_count).sum::<usize>(), 1);
}

#[tokio::test]
async fn an_empty_table_has_one_part_without_rows() {
    let place = place().await;
    place.sql(&["CREATE TABLE t (id BIGINT)"]);
    let read = read_of(table(&place.connection, "main.t").await);
    let snapshot = snapshot(&place.connection).await;
    let scan = snapshot.plan(&read).await.unwrap();
    assert_eq!((scan.parts.len(), scan.row_estimate), (1, Some(0)));
    assert!(
        read_part(&snapshot, &read, scan.parts[0].clone())
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_snapshot_does_not_see_what_comes_later_in_any_of_its_sessions() {
    let place = place().await;
    let many: Vec<(i64, &str)> = (0..300_000).map(|id| (id, "old")).collect();
    run(&place.connection, load("a", Write::Replace), &[rows(&many)]).await;
    let read = read_of(table(&place.connection, "main.t").await);
    let before = snapshot(&place.connection).await;
    let scan = before.plan(&read).await.unwrap();
    assert!(scan.parts.len() > 1);
    // Every kind of change at once: rows go, the table is another one, the file is tidied.
    let changed: Vec<(i64, &str)> = (100_000..400_000).map(|id| (id, "new")).collect();
    run(&place.connection, load("b", REPLICATE), &[rows(&changed)]).await;
    run(
        &place.connection,
        load("c", Write::Replace),
        &[rows(&[(1, "only")])],
    )
    .await;

    let mut parts = tokio::task::JoinSet::new();
    for part in scan.parts {
        let (before, read) = (before.clone(), read.clone());
        parts.spawn(async move { read_part(&before, &read, part).await });
    }
    let mut found: Vec<Batch> = Vec::new();
    while let Some(batches) = parts.join_next().await {
        found.extend(batches.unwrap());
    }
    assert_eq!(sorted(ids(&found)), (0..300_000).collect::<Vec<_>>());
    let values = |rows: &RecordBatch| {
        rows.column(1)
            .as_string::<i32>()
            .iter()
            .all(|v| v == Some("old"))
    };
    assert!(found.iter().all(|batch| values(&batch.rows)));
    drop((before, found));
    assert_eq!(
        ids_and_values(&place.connection, "main.t").await,
        owned(&[(1, "only")])
    );
}

#[tokio::test]
async fn a_stream_that_is_dropped_gives_its_session_back() {
    let place = place().await;
    place.sql(&["CREATE TABLE t AS SELECT range AS id, repeat('x', 100) AS v FROM range(1000000)"]);
    let read = read_of(table(&place.connection, "main.t").await);
    let snapshot = snapshot(&place.connection).await;
    let scan = snapshot.plan(&read).await.unwrap();
    for _ in 0..20 {
        let mut stream = snapshot
            .clone()
            .read(Arc::new(read.clone()), scan.parts[0].clone());
        assert!(stream.next().await.unwrap().is_ok());
    }
    assert_eq!(ids(&read_all(&snapshot, &read).await).len(), 1_000_000);
}

#[tokio::test]
async fn reading_by_a_tracking_field_goes_on_where_it_stopped() {
    let place = place().await;
    for (kind, low, high, higher) in [
        (
            "TIMESTAMP",
            "2020-01-01 00:00:00.000001",
            "2020-01-02 00:00:00",
            "2020-01-02 00:00:00.000001",
        ),
        (
            "TIMESTAMP WITH TIME ZONE",
            "2020-01-01 00:00:00+00",
            "2020-01-02 00:00:00+00",
            "2020-01-03 00:00:00+00",
        ),
        (
            "TIMESTAMP_NS",
            "2020-01-01 00:00:00.000000001",
            "2020-01-01 00:00:00.000000002",
            "2020-01-01 00:00:00.000000003",
        ),
        ("DATE", "2020-01-01", "2020-01-02", "2020-01-03"),
        ("BIGINT", "1", "2", "3"),
        ("DOUBLE", "0.1", "0.2", "0.30000000000000004"),
        ("DECIMAL(18,3)", "1.001", "1.002", "1.003"),
        ("VARCHAR", "a'a", "b'b", "c'c"),
    ] {
        place.sql(&[
            &format!("CREATE OR REPLACE TABLE t (id BIGINT, seen {kind})"),
            &format!(
                "INSERT INTO t VALUES (1, '{}'), (2, '{}'), (3, NULL)",
                low.replace('\'', "''"),
                high.replace('\'', "''")
            ),
        ]);
        let read = read_of(table(&place.connection, "main.t").await);
        let cursor = expect(&place, &read, None, &[1, 2, 3], kind).await;
        assert!(cursor.from.is_some(), "{kind}");
        assert_eq!(cursor.marks.len(), 1);
        // The boundary is read again, so that ties are not lost; rows without a value are not.
        let cursor = expect(&place, &read, Some(cursor), &[2], kind).await;
        let insert = format!(
            "INSERT INTO t VALUES (4, '{}'), (5, NULL), (6, '{}')",
            higher.replace('\'', "''"),
            high.replace('\'', "''")
        );
        place.sql(&[&insert]);
        let cursor = expect(&place, &read, Some(cursor), &[2, 4, 6], kind).await;
        place.sql(&["DELETE FROM t WHERE id = 4"]);
        // What was read stays read, though the highest value is gone.
        let cursor = expect(&place, &read, Some(cursor), &[], kind).await;
        expect(&place, &read, Some(cursor), &[], kind).await;
    }
}

async fn expect(
    place: &Place,
    read: &Read,
    cursor: Option<Cursor>,
    expected: &[i64],
    kind: &str,
) -> Cursor {
    let read = tracking(read.clone(), "seen", cursor);
    let snapshot = snapshot(&place.connection).await;
    let scan = snapshot.plan(&read).await.unwrap();
    assert_eq!(scan.row_estimate, Some(expected.len() as u64));
    let found = ids(&read_all(&snapshot, &read).await);
    assert_eq!(sorted(found), expected, "{kind}");
    scan.cursor.unwrap()
}

#[tokio::test]
async fn a_value_beyond_all_others_does_not_end_a_cursor() {
    let place = place().await;
    for (kind, beyond) in [
        ("TIMESTAMP", "infinity"),
        ("DATE", "infinity"),
        ("DOUBLE", "nan"),
    ] {
        place.sql(&[
            &format!("CREATE OR REPLACE TABLE t (id BIGINT, seen {kind})"),
            &format!("INSERT INTO t VALUES (1, '{beyond}')"),
        ]);
        let read = read_of(table(&place.connection, "main.t").await);
        let cursor = expect(&place, &read, None, &[1], kind).await;
        assert_eq!(cursor.from, None, "{kind}");
    }
}

#[tokio::test]
async fn a_field_without_an_order_cannot_be_tracked() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE t (id BIGINT, seen VARCHAR, doc JSON)",
        "COMMENT ON COLUMN t.seen IS 'tideway:numeric'",
    ]);
    for field in ["seen", "doc"] {
        let read = tracking(
            read_of(table(&place.connection, "main.t").await),
            field,
            None,
        );
        let error = snapshot(&place.connection)
            .await
            .plan(&read)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some("tracking_field"))
        );
    }
}

#[tokio::test]
async fn a_table_or_column_that_is_gone_is_told_apart() {
    let place = place().await;
    place.sql(&["CREATE TABLE t (id BIGINT, v VARCHAR)"]);
    let read = read_of(table(&place.connection, "main.t").await);
    place.sql(&["ALTER TABLE t DROP COLUMN v"]);
    for (expected, change) in [(Kind::Drift, "DROP TABLE t"), (Kind::Missing, "SELECT 1")] {
        let snapshot = snapshot(&place.connection).await;
        let part = tideway_core::Part {
            id: "all".into(),
            spec: serde_json::json!({}),
            row_estimate: None,
        };
        let mut stream = snapshot.clone().read(Arc::new(read.clone()), part);
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind, expected);
        drop((stream, snapshot));
        place.sql(&[change]);
    }
}

#[tokio::test]
async fn views_are_read_whole() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE big AS SELECT range AS id FROM range(300000)",
        "CREATE VIEW t AS SELECT id FROM big WHERE id % 2 = 0",
    ]);
    let read = read_of(table(&place.connection, "main.t").await);
    let snapshot = snapshot(&place.connection).await;
    assert_eq!(snapshot.plan(&read).await.unwrap().parts.len(), 1);
    assert_eq!(ids(&read_all(&snapshot, &read).await).len(), 150_000);
}
