//! One view for all tables of a run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tideway_core::Kind;

use crate::read_rig::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_agree_with_each_other_while_a_writer_runs() {
    let rig = Arc::new(Rig::new().await);
    rig.run(
        "CREATE TABLE a AS SELECT g AS id, 100::int8 AS balance FROM generate_series(1, 60000) g; \
         CREATE TABLE b AS SELECT g AS id, 100::int8 AS balance FROM generate_series(1, 60000) g; \
         ALTER TABLE a ADD PRIMARY KEY (id); ALTER TABLE b ADD PRIMARY KEY (id); ANALYZE",
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (rig, stop) = (rig.clone(), stop.clone());
        async move {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                turn += 1;
                let (id, other) = (turn * 37 % 60_000 + 1, turn * 91 % 60_000 + 1);
                rig.run(&format!(
                    "BEGIN; UPDATE a SET balance = balance - 7 WHERE id = {id}; \
                     UPDATE b SET balance = balance + 7 WHERE id = {other}; COMMIT"
                ))
                .await;
            }
            turn
        }
    });
    for _ in 0..5 {
        let snapshot = rig.snapshot().await;
        let (_, of_a) = read_all(&snapshot, request(&rig.table("public.a").await))
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let (_, of_b) = read_all(&snapshot, request(&rig.table("public.b").await))
            .await
            .unwrap();
        assert_eq!(numbers(&of_a, "id").len(), 60_000);
        assert_eq!(numbers(&of_b, "id").len(), 60_000);
        let sum: i64 = numbers(&of_a, "balance")
            .iter()
            .chain(&numbers(&of_b, "balance"))
            .sum();
        assert_eq!(sum, 120_000 * 100);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 20);
}

#[tokio::test]
async fn a_table_emptied_or_rewritten_after_the_snapshot_is_planned_anew() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g")
        .await;
    let read = request(&rig.table("public.t").await);
    for rewriting in [
        "TRUNCATE t",
        "VACUUM FULL t",
        "ALTER TABLE t ALTER COLUMN id TYPE int8",
        "DROP TABLE t; CREATE TABLE t (id int)",
    ] {
        let snapshot = rig.snapshot().await;
        rig.run(rewriting).await;
        let error = snapshot.plan(&read).await.unwrap_err();
        assert_eq!(error.kind, Kind::Drift, "{rewriting}: {error}");
        assert!(error.what().starts_with("public.t: "), "{error}");
    }
}

#[tokio::test]
async fn a_planned_table_cannot_be_dropped_until_the_snapshot_is_let_go() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g")
        .await;
    let snapshot = rig.snapshot().await;
    let read = request(&rig.table("public.t").await);
    snapshot.plan(&read).await.unwrap();
    let waits = "SET lock_timeout = '200ms'; DROP TABLE t";
    let dropped = rig.attempt(waits).await;
    assert!(dropped.unwrap_err().contains("lock timeout"));
    let (_, batches) = read_all(&snapshot, read).await.unwrap();
    assert_eq!(numbers(&batches, "id").len(), 100);
    drop(snapshot);
    rig.run("DROP TABLE t").await;
}

#[tokio::test]
async fn whoever_waits_for_a_table_of_the_snapshot_does_not_block_its_reading_for_ever() {
    let rig = Arc::new(Rig::new().await);
    rig.run("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g")
        .await;
    let read = request(&rig.table("public.t").await);
    let snapshot = rig.snapshot().await;
    snapshot.plan(&read).await.unwrap();
    let emptied = tokio::spawn({
        let rig = rig.clone();
        async move { rig.attempt("TRUNCATE t").await }
    });
    let waiting = "SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
    while rig.rows(waiting).await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let error = read_all(&snapshot, read.clone()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Timeout, "{error}");
    drop(snapshot);
    emptied.await.unwrap().unwrap();
    let (_, batches) = read_all(&rig.snapshot().await, read).await.unwrap();
    assert!(numbers(&batches, "id").is_empty());
}

#[tokio::test]
async fn a_table_that_fails_to_plan_does_not_spoil_the_snapshot_for_others() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE good AS SELECT 1 AS id; CREATE TABLE bad AS SELECT 1 AS id; CREATE VIEW broken AS SELECT 1 / (id - 1) AS x FROM good").await;
    let (good, bad) = (
        request(&rig.table("public.good").await),
        request(&rig.table("public.bad").await),
    );
    let snapshot = rig.snapshot().await;
    snapshot.plan(&good).await.unwrap();
    rig.run("DROP TABLE bad").await;
    for _ in 0..3 {
        assert_eq!(snapshot.plan(&bad).await.unwrap_err().kind, Kind::Missing);
    }
    let broken = read_all(&snapshot, request(&rig.table("public.broken").await))
        .await
        .unwrap_err();
    assert_eq!(broken.kind, Kind::Data, "{broken}");
    let (_, batches) = read_all(&snapshot, good.clone()).await.unwrap();
    assert_eq!(numbers(&batches, "id"), [1]);
    // What the first plan locked is still held.
    assert!(
        rig.attempt("SET lock_timeout = '100ms'; DROP TABLE good CASCADE")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_snapshot_whose_holder_died_is_asked_for_anew() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT 1 AS id").await;
    let read = request(&rig.table("public.t").await);
    let snapshot = rig.snapshot().await;
    let scan = snapshot.plan(&read).await.unwrap();
    rig.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tideway reading'").await;
    let read = Arc::new(read);
    let stream = snapshot.clone().read(read.clone(), scan.parts[0].clone());
    let error = futures::TryStreamExt::try_collect::<Vec<_>>(stream)
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert_eq!(
        snapshot.plan(&read).await.unwrap_err().kind,
        Kind::Unavailable
    );
}
