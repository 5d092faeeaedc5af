//! Tables cut into parts: every row exactly once, however the table is stored.

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::json;
use tideway_core::{Part, source::Read};

use crate::read_rig::*;

fn once(from: i64, to: i64) -> Vec<i64> {
    (from..=to).collect()
}

#[tokio::test]
async fn a_large_table_is_cut_so_that_each_row_is_read_once() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id, repeat('x', g % 200) AS pad FROM generate_series(1, 120000) g").await;
    // Holes, and rows that have moved to other pages.
    rig.run(
        "DELETE FROM t WHERE id % 3 = 0; UPDATE t SET pad = pad || 'y' WHERE id % 5 = 0; ANALYZE t",
    )
    .await;
    let snapshot = rig.snapshot().await;
    let (scan, batches) = read_all(&snapshot, request(&rig.table("public.t").await))
        .await
        .unwrap();
    assert!(scan.parts.len() >= 4, "{} parts", scan.parts.len());
    let estimate = scan.row_estimate.unwrap();
    assert!(
        (70_000..90_000).contains(&estimate),
        "{estimate} rows estimated"
    );
    let expected: Vec<i64> = (1..=120_000).filter(|id| id % 3 != 0).collect();
    assert_eq!(numbers(&batches, "id"), expected);
}

#[tokio::test]
async fn rows_that_come_while_it_is_read_belong_to_the_next_run() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 60000) g")
        .await;
    let snapshot = rig.snapshot().await;
    let read = request(&rig.table("public.t").await);
    let scan = snapshot.plan(&read).await.unwrap();
    rig.run("INSERT INTO t SELECT g FROM generate_series(60001, 200000) g; DELETE FROM t WHERE id < 1000").await;
    let read = Arc::new(read);
    let mut batches = Vec::new();
    for part in &scan.parts {
        batches.extend(read_part(&snapshot, &read, part).await);
    }
    assert_eq!(numbers(&batches, "id"), once(1, 60_000));
}

async fn read_part(
    snapshot: &Arc<dyn tideway_core::source::Snapshot>,
    read: &Arc<Read>,
    part: &Part,
) -> Vec<tideway_core::Batch> {
    snapshot
        .clone()
        .read(read.clone(), part.clone())
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test]
async fn partitions_of_partitions_are_one_table() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE TABLE t (id int, day date) PARTITION BY RANGE (id); \
         CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (70000); \
         CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (70000) TO (200000) PARTITION BY LIST (day); \
         CREATE TABLE t_high_a PARTITION OF t_high FOR VALUES IN ('2024-01-01'); \
         CREATE TABLE t_high_rest PARTITION OF t_high DEFAULT; \
         CREATE TABLE t_rest PARTITION OF t DEFAULT; \
         INSERT INTO t SELECT g, CASE WHEN g % 2 = 0 THEN date '2024-01-01' END FROM generate_series(1, 100000) g; \
         INSERT INTO t VALUES (-5, NULL); ANALYZE t",
    )
    .await;
    let catalog = rig.catalog().await;
    let ids: Vec<String> = catalog
        .tables
        .iter()
        .map(|table| table.id.to_string())
        .collect();
    assert_eq!(ids, ["public.t"]);
    let table = catalog.table("public.t").unwrap();
    assert_eq!(table.row_estimate, Some(100_001));
    let (scan, batches) = read_all(&rig.snapshot().await, request(table))
        .await
        .unwrap();
    assert!(scan.parts.len() >= 4, "{:?}", scan.parts);
    let mut expected = once(1, 100_000);
    expected.insert(0, -5);
    assert_eq!(numbers(&batches, "id"), expected);
}

#[tokio::test]
async fn a_role_that_may_read_only_the_whole_reads_partitions_through_it() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE TABLE t (id int) PARTITION BY RANGE (id); \
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (50000); \
         CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (50000) TO (100001); \
         INSERT INTO t SELECT g FROM generate_series(1, 100000) g; ANALYZE t",
    )
    .await;
    let (role, connection) = rig.as_new_role().await;
    rig.run(&format!("GRANT SELECT ON t TO {role}")).await;
    let source = connection.roles().source.unwrap();
    let snapshot = source.open(&json!({})).await.unwrap();
    let (scan, batches) = read_all(&snapshot, request(&rig.table("public.t").await))
        .await
        .unwrap();
    assert_eq!(scan.parts.len(), 1);
    assert_eq!(numbers(&batches, "id"), once(1, 100_000));
    drop((snapshot, connection));
    rig.drop_role(&role).await;
}

#[tokio::test]
async fn row_policies_of_the_whole_hold_for_its_partitions() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE TABLE t (id int) PARTITION BY RANGE (id); \
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100001); \
         INSERT INTO t SELECT g FROM generate_series(1, 100000) g; \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON t USING (id <= 10)",
    )
    .await;
    let (role, connection) = rig.as_new_role().await;
    rig.run(&format!("GRANT SELECT ON t, t1 TO {role}")).await;
    let snapshot = connection
        .roles()
        .source
        .unwrap()
        .open(&json!({}))
        .await
        .unwrap();
    let (_, batches) = read_all(&snapshot, request(&rig.table("public.t").await))
        .await
        .unwrap();
    assert_eq!(numbers(&batches, "id"), once(1, 10));
    drop((snapshot, connection));
    rig.drop_role(&role).await;
}

#[tokio::test]
async fn views_and_the_like_are_read_whole() {
    let rig = Rig::new().await;
    let url = rig.url.clone();
    rig.run(
        "CREATE TABLE base AS SELECT g AS id FROM generate_series(1, 100000) g; \
         CREATE VIEW v AS SELECT id FROM base WHERE id <= 500; \
         CREATE MATERIALIZED VIEW m AS SELECT id FROM base; ANALYZE m; \
         CREATE TABLE parent (id int); CREATE TABLE child (extra text) INHERITS (parent); \
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'x')",
    )
    .await;
    rig.run(&format!(
        "CREATE EXTENSION postgres_fdw; \
         CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname '{}'); \
         CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user 'tideway', password 'tideway'); \
         CREATE FOREIGN TABLE f (id int) SERVER here OPTIONS (schema_name 'public', table_name 'v')",
        url.port().unwrap(),
        url.path().trim_start_matches('/'),
    ))
    .await;
    for (id, expected) in [
        ("public.v", once(1, 500)),
        ("public.m", once(1, 100_000)),
        ("public.f", once(1, 500)),
        ("public.parent", vec![1, 2]),
        ("public.child", vec![2]),
    ] {
        assert_eq!(numbers(&rig.read(id).await, "id"), expected, "{id}");
    }
}

#[tokio::test]
async fn empty_tables_have_one_part() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE empty (id int); CREATE TABLE parts (id int) PARTITION BY LIST (id)")
        .await;
    let snapshot = rig.snapshot().await;
    for id in ["public.empty", "public.parts"] {
        let (scan, batches) = read_all(&snapshot, request(&rig.table(id).await))
            .await
            .unwrap();
        assert_eq!((scan.parts.len(), batches.len()), (1, 0), "{id}");
    }
}

#[tokio::test]
async fn a_test_run_reads_no_more_than_its_limit() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100000) g")
        .await;
    let read = Read {
        limit: Some(5),
        ..request(&rig.table("public.t").await)
    };
    let (scan, batches) = read_all(&rig.snapshot().await, read).await.unwrap();
    assert_eq!((scan.parts.len(), scan.row_estimate), (1, Some(5)));
    assert_eq!(numbers(&batches, "id").len(), 5);
}

#[tokio::test]
async fn only_the_wanted_columns_are_read_in_the_wanted_order() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (a int, \"B \"\"b\" text, c int GENERATED ALWAYS AS (a * 2) STORED, gone int)").await;
    rig.run("ALTER TABLE t DROP COLUMN gone; INSERT INTO t VALUES (1, 'x')")
        .await;
    let table = rig.table("public.t").await;
    let read = Read {
        columns: vec![table.columns[2].clone(), table.columns[1].clone()],
        ..request(&table)
    };
    let (_, batches) = read_all(&rig.snapshot().await, read).await.unwrap();
    let rows = &batches[0].rows;
    assert_eq!(
        rows.schema()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect::<Vec<_>>(),
        ["c", "B \"b"]
    );
    assert_eq!(
        (text(rows, 0, 0).as_deref(), text(rows, 1, 0).as_deref()),
        (Some("2"), Some("x"))
    );
}

#[tokio::test]
async fn batches_are_of_the_size_that_was_asked_for() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id, repeat('x', 100) AS pad FROM generate_series(1, 30000) g").await;
    let read = Read {
        batch_bytes: 256 << 10,
        ..request(&rig.table("public.t").await)
    };
    let (_, batches) = read_all(&rig.snapshot().await, read).await.unwrap();
    let sizes: Vec<usize> = batches
        .iter()
        .map(tideway_core::Batch::byte_count)
        .collect();
    assert!(sizes.len() > 8, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size < 512 << 10), "{sizes:?}");
}

#[tokio::test]
async fn a_reader_that_is_dropped_ends_its_session() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT g AS id, repeat('x', 1000) AS pad FROM generate_series(1, 100000) g").await;
    let snapshot = rig.snapshot().await;
    let read = Arc::new(request(&rig.table("public.t").await));
    let scan = snapshot.plan(&read).await.unwrap();
    let mut stream = snapshot.clone().read(read, scan.parts[0].clone());
    assert!(stream.try_next().await.unwrap().is_some());
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' AND state = 'active'";
    assert_eq!(rig.one(copying).await, "1");
    drop(stream);
    for _ in 0..100 {
        if rig.one(copying).await == "0" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the session still copies");
}
