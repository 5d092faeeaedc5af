//! Reading by a tracking field: ties, late commits, and values that would end all reading.

use tideway_core::{Cursor, Kind};
use tokio_postgres::NoTls;

use crate::read_rig::*;

async fn orders(rig: &Rig) {
    rig.run(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz); \
         INSERT INTO orders VALUES (1, '2024-01-01'), (2, '2024-01-02'), (3, '2024-01-02'), (4, NULL)",
    )
    .await;
}

async fn ids(rig: &Rig, cursor: Option<Cursor>) -> (Cursor, Vec<i64>) {
    let (cursor, batches) = rig.track("public.orders", "at", cursor).await;
    (cursor, numbers(&batches, "id"))
}

/// A session of its own, in a transaction.
async fn transaction(rig: &Rig) -> tokio_postgres::Client {
    let (client, driver) = tokio_postgres::connect(rig.url.as_str(), NoTls)
        .await
        .unwrap();
    tokio::spawn(driver);
    client.batch_execute("BEGIN").await.unwrap();
    client
}

#[tokio::test]
async fn the_first_run_reads_all_and_later_ones_what_is_new_or_equal() {
    let rig = Rig::new().await;
    orders(&rig).await;
    let (cursor, read) = ids(&rig, None).await;
    assert_eq!(read, [1, 2, 3, 4]);
    assert_eq!(cursor.from.as_deref(), Some("2024-01-02 00:00:00+00"));
    // A tie with the highest value, a newer row, and an older one that was changed back.
    rig.run("INSERT INTO orders VALUES (5, '2024-01-02'), (6, '2024-01-03'), (7, NULL), (8, '2023-01-01')").await;
    let (cursor, read) = ids(&rig, Some(cursor)).await;
    assert_eq!(read, [2, 3, 5, 6]);
    let (_, read) = ids(&rig, Some(cursor)).await;
    assert_eq!(read, [6]);
}

#[tokio::test]
async fn a_row_that_commits_late_is_read_by_the_next_run() {
    let rig = Rig::new().await;
    orders(&rig).await;
    let (cursor, _) = ids(&rig, None).await;
    let late = transaction(&rig).await;
    late.batch_execute("INSERT INTO orders VALUES (10, now())")
        .await
        .unwrap();
    rig.run("INSERT INTO orders VALUES (11, clock_timestamp())")
        .await;
    let (cursor, read) = ids(&rig, Some(cursor)).await;
    assert_eq!(read, [2, 3, 11]);
    late.batch_execute("COMMIT").await.unwrap();
    let (cursor, read) = ids(&rig, Some(cursor)).await;
    assert_eq!(read, [2, 3, 10, 11]);
    // Once it has ended the overlap is gone.
    let (_, read) = ids(&rig, Some(cursor)).await;
    assert_eq!(read, [11]);
}

#[tokio::test]
async fn a_transaction_that_has_not_written_yet_is_waited_for_too() {
    let rig = Rig::new().await;
    orders(&rig).await;
    let (cursor, _) = ids(&rig, None).await;
    let late = transaction(&rig).await;
    late.batch_execute("SELECT now()").await.unwrap();
    rig.run("INSERT INTO orders VALUES (11, clock_timestamp())")
        .await;
    let (cursor, _) = ids(&rig, Some(cursor)).await;
    late.batch_execute("INSERT INTO orders VALUES (10, now()); COMMIT")
        .await
        .unwrap();
    let (_, read) = ids(&rig, Some(cursor)).await;
    assert!(read.contains(&10), "{read:?}");
}

#[tokio::test]
async fn a_short_transaction_costs_a_moment_and_no_overlap() {
    let rig = Rig::new().await;
    orders(&rig).await;
    let (cursor, _) = ids(&rig, None).await;
    let late = transaction(&rig).await;
    late.batch_execute("INSERT INTO orders VALUES (10, now())")
        .await
        .unwrap();
    rig.run("INSERT INTO orders VALUES (11, clock_timestamp())")
        .await;
    let commit = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        late.batch_execute("COMMIT").await.unwrap();
    });
    let (cursor, read) = ids(&rig, Some(cursor)).await;
    commit.await.unwrap();
    assert_eq!(read, [2, 3, 10, 11]);
    let (_, read) = ids(&rig, Some(cursor)).await;
    assert_eq!(read, [11]);
}

#[tokio::test]
async fn a_role_that_sees_no_starts_of_others_misses_nothing() {
    let rig = Rig::new().await;
    orders(&rig).await;
    let (role, connection) = rig.as_new_role().await;
    rig.run(&format!("GRANT SELECT ON orders TO {role}")).await;
    let source = connection.roles().source.unwrap();
    let table = rig.table("public.orders").await;
    let mut cursor = None;
    let mut seen = Vec::new();
    let late = transaction(&rig).await;
    late.batch_execute("INSERT INTO orders VALUES (10, now())")
        .await
        .unwrap();
    rig.run("INSERT INTO orders VALUES (11, clock_timestamp())")
        .await;
    for round in 0..2 {
        let snapshot = source.open(&serde_json::json!({})).await.unwrap();
        let (scan, batches) = read_all(&snapshot, tracked(&table, "at", cursor))
            .await
            .unwrap();
        cursor = scan.cursor;
        seen.extend(numbers(&batches, "id"));
        if round == 0 {
            late.batch_execute("COMMIT").await.unwrap();
        }
    }
    assert!(seen.contains(&10), "{seen:?}");
    drop(connection);
    rig.drop_role(&role).await;
}

#[tokio::test]
async fn a_prepared_transaction_holds_the_start_back() {
    let rig = Rig::new().await;
    orders(&rig).await;
    if rig.one("SHOW max_prepared_transactions").await == "0" {
        // The server of `make test` has none; the query must pass all the same.
        ids(&rig, None).await;
        return;
    }
    let (cursor, _) = ids(&rig, None).await;
    let name = rig.url.path().trim_start_matches('/').to_owned();
    rig.run(&format!(
        "BEGIN; INSERT INTO orders VALUES (10, now()); PREPARE TRANSACTION '{name}'"
    ))
    .await;
    rig.run("INSERT INTO orders VALUES (11, clock_timestamp())")
        .await;
    let (cursor, _) = ids(&rig, Some(cursor)).await;
    rig.run(&format!("COMMIT PREPARED '{name}'")).await;
    let (_, read) = ids(&rig, Some(cursor)).await;
    assert!(read.contains(&10), "{read:?}");
}

#[tokio::test]
async fn values_beyond_all_others_do_not_end_the_reading() {
    let rig = Rig::new().await;
    for (sql_type, usual, beyond, next) in [
        ("timestamptz", "'2024-01-01'", "'infinity'", "'2024-01-02'"),
        (
            "timestamptz",
            "'2024-01-01'",
            "'2999-01-01'",
            "'2024-01-02'",
        ),
        ("timestamp", "'2024-01-01'", "'2999-01-01'", "'2024-01-02'"),
        ("date", "'2024-01-01'", "'infinity'", "'2024-01-02'"),
        ("float8", "1", "'NaN'", "2"),
        ("float4", "1", "'Infinity'", "2"),
        ("numeric", "1", "'Infinity'", "2"),
        ("numeric(9,2)", "1", "'NaN'", "2"),
    ] {
        rig.run(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {sql_type}); \
             INSERT INTO t VALUES (1, {usual}), (2, {beyond})"
        ))
        .await;
        let (cursor, _) = rig.track("public.t", "v", None).await;
        rig.run(&format!("INSERT INTO t VALUES (3, {next})")).await;
        let (_, batches) = rig.track("public.t", "v", Some(cursor)).await;
        assert!(numbers(&batches, "id").contains(&3), "{sql_type} {beyond}");
    }
}

#[tokio::test]
async fn every_comparable_type_can_be_tracked() {
    let rig = Rig::new().await;
    for (sql_type, low, high) in [
        ("int2", "1", "2"),
        ("int8", "-9", "9223372036854775807"),
        ("numeric(20,6)", "0.000001", "12345678901234.5"),
        ("float8", "0.1", "0.30000000000000004"),
        ("text", "'Z'", "'a'"),
        ("varchar(9)", "'it''s'", "'z'"),
        ("date", "'0100-01-01 BC'", "'2024-01-01'"),
        (
            "timestamp",
            "'2024-01-01 00:00:00.000001'",
            "'2024-01-01 00:00:00.000002'",
        ),
    ] {
        rig.run(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v {sql_type}); INSERT INTO t VALUES (1, {low}), (2, {high})"
        ))
        .await;
        let (cursor, _) = rig.track("public.t", "v", None).await;
        let (_, batches) = rig.track("public.t", "v", Some(cursor)).await;
        assert_eq!(numbers(&batches, "id"), [2], "{sql_type}");
    }
}

#[tokio::test]
async fn what_cannot_be_tracked_is_refused_by_field() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int PRIMARY KEY, j jsonb, u uuid, b bool)")
        .await;
    let table = rig.table("public.t").await;
    let snapshot = rig.snapshot().await;
    for column in ["j", "u", "b"] {
        let error = snapshot
            .plan(&tracked(&table, column, None))
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some("tracking_field")),
            "{column}"
        );
    }
}

#[tokio::test]
async fn a_cursor_of_another_type_asks_for_a_resync() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')")
        .await;
    let (cursor, _) = rig.track("public.t", "v", None).await;
    rig.run("ALTER TABLE t ALTER COLUMN v TYPE int USING 5")
        .await;
    let read = tracked(&rig.table("public.t").await, "v", Some(cursor));
    let error = rig.snapshot().await.plan(&read).await.unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("tracking_field"))
    );
    assert!(
        !error.what().contains("'x'") && !error.what().contains("\"x\""),
        "{error}"
    );
}

#[tokio::test]
async fn few_changed_rows_are_found_by_the_index() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE TABLE t AS SELECT g AS id, g::int8 AS v FROM generate_series(1, 200000) g; \
         CREATE INDEX ON t (v); ANALYZE t",
    )
    .await;
    let (cursor, _) = rig.track("public.t", "v", None).await;
    rig.run("INSERT INTO t VALUES (200001, 200001)").await;
    let snapshot = rig.snapshot().await;
    let read = tracked(&rig.table("public.t").await, "v", Some(cursor));
    let (scan, batches) = read_all(&snapshot, read).await.unwrap();
    assert_eq!(scan.parts.len(), 1);
    assert_eq!(numbers(&batches, "id"), [200_000, 200_001]);
}

#[tokio::test]
async fn deleted_maxima_do_not_turn_the_cursor_back() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id, g::int8 AS v FROM generate_series(1, 10) g")
        .await;
    let (cursor, _) = rig.track("public.t", "v", None).await;
    rig.run("DELETE FROM t WHERE id > 5").await;
    let (cursor, batches) = rig.track("public.t", "v", Some(cursor)).await;
    assert_eq!((cursor.from.as_deref(), batches.len()), (Some("10"), 0));
}
