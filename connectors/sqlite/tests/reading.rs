use std::{collections::BTreeSet, sync::Arc};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tideway_core::Kind;

use crate::support::*;

/// `rows` rows with ids from 1.
fn numbers(rows: usize) -> File {
    File::with(&format!(
        "CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT);
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {rows})
         INSERT INTO n SELECT x, 'name ' || x FROM c"
    ))
}

fn ids(rows: &arrow_array::RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[tokio::test]
async fn all_types_of_values_are_decoded() {
    let file = File::with(
        "CREATE TABLE t (i INTEGER, r REAL, s TEXT, b BLOB, f BOOLEAN, d DECIMAL(6,2), big DECIMAL(50,5),
                         day DATE, at TIME, ts TIMESTAMP, tz TIMESTAMPTZ, u UUID, j JSON, n NUMERIC);
         INSERT INTO t VALUES
           (1, 1.5, 'ä', x'00ff', 1, 12.34, 7, '2024-02-29', '23:59:59.5', '2024-01-02T03:04:05',
            '2024-01-02 03:04:05+01:00', '00010203-0405-0607-0809-0A0B0C0D0E0F', '{\"a\":1}', 3),
           (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);",
    );
    let nulls = ["∅"; 14];
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[
            [
                "1",
                "1.5",
                "ä",
                "00ff",
                "true",
                "12.34",
                "7.00000",
                "2024-02-29",
                "23:59:59.500",
                "2024-01-02T03:04:05",
                "2024-01-02T02:04:05Z",
                "000102030405060708090a0b0c0d0e0f",
                "{\"a\":1}",
                "3.0",
            ],
            nulls
        ])
    );
}

#[tokio::test]
async fn mixed_values_are_read_without_loss() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER, anything, number INTEGER);
         INSERT INTO t VALUES (1, 'text', 1), (2, 17, 'n/a'), (3, 2.5, 0.1), (4, 1e300, 9007199254740993), (5, 5.0, NULL)",
    );
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[
            ["1", "text", "1"],
            ["2", "17", "n/a"],
            ["3", "2.5", "0.1"],
            ["4", "1e300", "9007199254740993"],
            ["5", "5.0", "∅"],
        ])
    );
}

#[tokio::test]
async fn large_tables_are_cut_in_parts_that_cover_every_row_once() {
    let file = numbers(250_000);
    file.run("DELETE FROM n WHERE id % 7 = 0; INSERT INTO n VALUES (9000000000000000000, 'far'), (-5, 'low')");
    let table = file.table("n").await;
    let connection = file.connect().await;
    let snapshot = source(&connection).open(&json!({})).await.unwrap();
    let read = Arc::new(read_of(&table));
    let scan = snapshot.plan(&read).await.unwrap();
    assert_eq!(scan.parts.len(), 3);
    let mut seen = BTreeSet::new();
    for part in scan.parts {
        let mut batches = snapshot.clone().read(read.clone(), part);
        while let Some(batch) = batches.try_next().await.unwrap() {
            for id in ids(&batch.rows) {
                assert!(seen.insert(id), "{id} twice");
            }
        }
    }
    let expected = file.rows("SELECT count(*), sum(id % 1000) FROM n");
    let sum: i64 = seen.iter().map(|id| id % 1000).sum();
    assert_eq!(expected[0], [(seen.len() as i64).into(), sum.into()]);
}

#[tokio::test]
async fn the_ends_of_the_number_range_are_read() {
    let file = File::with(&format!(
        "CREATE TABLE n (id INTEGER PRIMARY KEY); INSERT INTO n VALUES ({}), (0), ({})",
        i64::MIN,
        i64::MAX
    ));
    let rows = read_table(&file, "n").await;
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0], [i64::MIN.to_string()]);
    assert_eq!(rows[2], [i64::MAX.to_string()]);
}

#[tokio::test]
async fn an_empty_table_has_one_part_without_rows() {
    let file = File::with("CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t");
    for name in ["t", "v"] {
        let table = file.table(name).await;
        let connection = file.connect().await;
        let snapshot = source(&connection).open(&json!({})).await.unwrap();
        let scan = snapshot.plan(&read_of(&table)).await.unwrap();
        assert_eq!(scan.parts.len(), 1);
        assert!(read_table(&file, name).await.is_empty());
    }
}

#[tokio::test]
async fn all_tables_are_seen_at_one_moment() {
    for mode in ["WAL", "DELETE"] {
        let file = File::with(&format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE a (x INTEGER); CREATE TABLE b (x INTEGER);
             CREATE VIEW v AS SELECT count(*) AS n FROM b;
             INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)"
        ));
        let catalog = file.discover().await;
        let connection = file.connect().await;
        let snapshot = source(&connection).open(&json!({})).await.unwrap();
        let written = file
            .open()
            .execute_batch("BEGIN; INSERT INTO a VALUES (2); INSERT INTO b VALUES (2); COMMIT");
        // Without WAL the writer has to wait for the reader instead.
        assert_eq!(written.is_ok(), mode == "WAL");
        for (name, expected) in [("a", "1"), ("b", "1"), ("v", "1")] {
            let read = read_of(catalog.table(name).unwrap());
            let (batches, _) = carry_out(snapshot.clone(), read).await.unwrap();
            let rows: Vec<_> = batches.iter().flat_map(shown).collect();
            assert_eq!(rows, texts(&[[expected]]), "{name} in {mode}");
        }
    }
}

#[tokio::test]
async fn parts_of_several_tables_are_read_in_turns() {
    let file = numbers(20_000);
    file.run("CREATE VIEW v AS SELECT * FROM n; CREATE TABLE w (k TEXT PRIMARY KEY, x INT) WITHOUT ROWID; INSERT INTO w SELECT name, id FROM n");
    let catalog = file.discover().await;
    let connection = file.connect().await;
    let snapshot = source(&connection).open(&json!({})).await.unwrap();
    let mut streams = Vec::new();
    for name in ["n", "v", "w"] {
        let mut read = read_of(catalog.table(name).unwrap());
        read.batch_bytes = 4096;
        let part = snapshot.plan(&read).await.unwrap().parts.remove(0);
        streams.push(snapshot.clone().read(Arc::new(read), part));
    }
    let mut rows = [0; 3];
    let mut open = true;
    while open {
        open = false;
        for (at, stream) in streams.iter_mut().enumerate() {
            if let Some(batch) = stream.next().await {
                rows[at] += batch.unwrap().row_count();
                open = true;
            }
        }
    }
    assert_eq!(rows, [20_000; 3]);
}

#[tokio::test]
async fn a_test_run_reads_no_more_rows_than_asked() {
    let file = numbers(300_000);
    file.run("CREATE VIEW v AS SELECT * FROM n");
    for name in ["n", "v"] {
        let mut read = read_of(&file.table(name).await);
        read.limit = Some(5);
        let (batches, _) = try_read(&file, read).await.unwrap();
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(rows, 5, "{name}");
    }
}

#[tokio::test]
async fn chosen_columns_come_in_the_order_asked() {
    let file = File::with(
        "CREATE TABLE t (a INTEGER, b TEXT, c REAL); INSERT INTO t VALUES (1, 'x', 2.5)",
    );
    let table = file.table("t").await;
    let mut read = read_of(&table);
    read.columns = vec![table.columns[2].clone(), table.columns[0].clone()];
    let (batches, _) = try_read(&file, read).await.unwrap();
    assert_eq!(shown(&batches[0]), texts(&[["2.5", "1"]]));
}

#[tokio::test]
async fn tables_without_a_usable_row_number_are_read_too() {
    let file = File::with(
        "CREATE TABLE shadowed (rowid TEXT, _rowid_ TEXT, oid TEXT);
         INSERT INTO shadowed VALUES ('a', 'b', 'c'), ('d', 'e', 'f');
         CREATE TABLE named (rowid INTEGER PRIMARY KEY, oid TEXT, _rowid_ TEXT);
         INSERT INTO named VALUES (7, 'x', 'y');
         CREATE TABLE pair (a TEXT, b INT, v TEXT, PRIMARY KEY (a, b DESC)) WITHOUT ROWID;
         INSERT INTO pair VALUES ('k', 1, 'one'), ('k', 2, 'two');",
    );
    assert_eq!(
        read_table(&file, "shadowed").await,
        texts(&[["a", "b", "c"], ["d", "e", "f"]])
    );
    assert_eq!(read_table(&file, "named").await, texts(&[["7", "x", "y"]]));
    assert_eq!(read_table(&file, "pair").await.len(), 2);
}

#[tokio::test]
async fn copies_of_views_change_no_value() {
    // The first half of the view gives the column the affinity of an integer; the text of
    // the second must not become a number on its way through the copy.
    let file = File::with(
        "CREATE TABLE a (x INTEGER); CREATE TABLE b (x TEXT);
         INSERT INTO a VALUES (1); INSERT INTO b VALUES ('007');
         CREATE VIEW v AS SELECT x FROM a UNION ALL SELECT x FROM b",
    );
    assert_eq!(read_table(&file, "v").await, texts(&[["1"], ["007"]]));
}

#[tokio::test]
async fn a_value_that_came_after_discovery_and_does_not_fit_is_an_error_that_names_it() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, price REAL, must TEXT NOT NULL); INSERT INTO t VALUES (1, 2.5, 'a')",
    );
    let table = file.table("t").await;
    file.run("INSERT INTO t VALUES (2, 'secret price', 'b')");
    let error = try_read(&file, read_of(&table)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(
        error.what().contains("price") && error.what().contains("table t"),
        "{}",
        error.what()
    );
    assert!(
        !error.what().contains("secret"),
        "a cell value must not be told"
    );
    assert!(
        error.advice().contains("refresh the schema"),
        "{}",
        error.advice()
    );
}

#[tokio::test]
async fn a_table_or_column_that_vanished_is_drift() {
    let file = File::with("CREATE TABLE t (a INTEGER, b TEXT); CREATE TABLE u (a INTEGER)");
    let (t, u) = (file.table("t").await, file.table("u").await);
    file.run("ALTER TABLE t DROP COLUMN b; DROP TABLE u; INSERT INTO t VALUES (1)");
    assert_eq!(
        try_read(&file, read_of(&t)).await.unwrap_err().kind,
        Kind::Drift
    );
    assert_eq!(
        try_read(&file, read_of(&u)).await.unwrap_err().kind,
        Kind::Drift
    );
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_the_snapshot_usable() {
    let file = numbers(50_000);
    let table = file.table("n").await;
    let connection = file.connect().await;
    let snapshot = source(&connection).open(&json!({})).await.unwrap();
    let mut read = read_of(&table);
    read.batch_bytes = 1024;
    let read = Arc::new(read);
    let part = snapshot.plan(&read).await.unwrap().parts.remove(0);
    let mut stream = snapshot.clone().read(read.clone(), part.clone());
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let rows: usize = snapshot
        .read(read, part)
        .map_ok(|batch| batch.row_count())
        .try_fold(0, |sum, rows| async move { Ok(sum + rows) })
        .await
        .unwrap();
    assert_eq!(rows, 50_000);
}
