//! Discovery, consistent parts, tracking fields.

use tideway_core::{LogicalType::*, schema::TableKind};

use crate::rig::{Rig, Server, all, on_both, read_all, request};

on_both!(
    tables_views_and_keys_are_discovered,
    parts_cover_every_row_exactly_once,
    all_parts_see_the_same_moment,
    a_tracking_field_finds_what_commits_late,
    a_limit_and_chosen_columns_are_kept_to,
    huge_rows_pass_one_by_one,
);

async fn tables_views_and_keys_are_discovered(server: Server) {
    let rig = Rig::new(server).await;
    rig.run("CREATE TABLE `we``ird ü` (b VARCHAR(5), a INT UNSIGNED NOT NULL, c BIGINT GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a, b))").await;
    rig.run("CREATE VIEW v AS SELECT a AS x FROM `we``ird ü`")
        .await;
    rig.run("INSERT INTO `we``ird ü` (b, a) VALUES ('q', 4000000000)")
        .await;
    let table = rig.table("we`ird ü").await;
    assert_eq!(table.primary_key, ["a", "b"]);
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.logical, c.nullable))
        .collect();
    assert_eq!(
        columns,
        [("b", Text, false), ("a", Int64, false), ("c", Int64, true)]
    );
    assert_eq!(rig.table("v").await.kind, TableKind::View);
    assert_eq!(all(&rig.read("v").await, 0), ["4000000000"]);
    rig.drop().await;
}

async fn parts_cover_every_row_exactly_once(server: Server) {
    let rig = Rig::new(server).await;
    rig.run("CREATE TABLE digits (d INT PRIMARY KEY)").await;
    rig.run("INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)")
        .await;
    rig.run(
        "CREATE TABLE n AS SELECT a.d + b.d * 10 + c.d * 100 + e.d * 1000 + f.d * 10000 AS n \
         FROM digits a, digits b, digits c, digits e, digits f WHERE f.d < 9",
    )
    .await;
    for (key, definition, value) in [
        (
            "k",
            "k BIGINT UNSIGNED",
            "IF(n < 50000, n, 18446744073709551615 - n)",
        ),
        (
            "k",
            "k BIGINT",
            "IF(n < 89999, n * n - 1000, 9223372036854775807)",
        ),
        (
            "k",
            "k VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_general_ci",
            "CONCAT('k''', n)",
        ),
        (
            "k",
            "k VARCHAR(40) CHARACTER SET utf8mb4",
            "CONCAT(n MOD 7, 'é', n)",
        ),
        ("k", "k BINARY(4)", "UNHEX(LPAD(HEX(n), 8, '0'))"),
        ("k", "k DECIMAL(20,3)", "n / 8"),
        (
            "k",
            "k DATETIME(6)",
            "TIMESTAMPADD(MICROSECOND, n * 12345, '2020-01-01')",
        ),
        ("a, k", "a VARCHAR(9) DEFAULT 'x', k INT", "n"),
        ("k", "k DOUBLE", "n / 3"),
        ("k", "k INT", "n"),
    ] {
        rig.run("DROP TABLE IF EXISTS t").await;
        rig.run(&format!(
            "CREATE TABLE t ({definition}, v INT, PRIMARY KEY ({key}))"
        ))
        .await;
        rig.run(&format!("INSERT INTO t (k, v) SELECT {value}, n FROM n"))
            .await;
        rig.run("ANALYZE TABLE t").await;
        let snapshot = rig.snapshot().await;
        let table = rig.table("t").await;
        let (scan, batches) = read_all(&snapshot, request(&table)).await.unwrap();
        let cuttable = !definition.contains("DOUBLE");
        assert!(
            scan.parts.len() >= 3 || !cuttable,
            "{definition}: {} parts",
            scan.parts.len()
        );
        let place = table
            .columns
            .iter()
            .position(|column| column.name == "v")
            .unwrap();
        let mut values: Vec<i64> = all(&batches, place)
            .iter()
            .map(|v| v.parse().unwrap())
            .collect();
        values.sort_unstable();
        assert_eq!(values, (0..90_000).collect::<Vec<i64>>(), "{definition}");
    }
    rig.drop().await;
}

async fn all_parts_see_the_same_moment(server: Server) {
    let rig = Rig::new(server).await;
    rig.run("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v INT)")
        .await;
    rig.run("INSERT INTO t (v) VALUES (1),(2),(3)").await;
    rig.run("CREATE TABLE none_here (id INT)").await;
    let snapshot = rig.snapshot().await;
    rig.run("INSERT INTO t (v) VALUES (4)").await;
    rig.run("UPDATE t SET v = 10 WHERE id = 1").await;
    for _ in 0..10 {
        let (_, batches) = read_all(&snapshot, request(&rig.table("t").await))
            .await
            .unwrap();
        assert_eq!(all(&batches, 1), ["1", "2", "3"]);
    }
    let (scan, batches) = read_all(&snapshot, request(&rig.table("none_here").await))
        .await
        .unwrap();
    assert_eq!((scan.parts.len(), batches.len()), (1, 0));
    drop(snapshot);
    rig.drop().await;
}

async fn a_tracking_field_finds_what_commits_late(server: Server) {
    let rig = Rig::new(server).await;
    rig.run("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME(6), KEY (at))")
        .await;
    rig.run("INSERT INTO t VALUES (1, UTC_TIMESTAMP(6))").await;
    // Its time is taken now, and it commits after the next run.
    let settings = server.settings(serde_json::json!({"dbname": rig.database}));
    let mut late = tideway_mysql::testing::Eyes::open(&settings).await.unwrap();
    late.run("START TRANSACTION").await.unwrap();
    late.run("INSERT INTO t VALUES (2, UTC_TIMESTAMP(6))")
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    rig.run("INSERT INTO t VALUES (3, UTC_TIMESTAMP(6)), (9, '2999-01-01')")
        .await;
    let (cursor, batches) = rig.track("t", "at", None).await;
    assert_eq!(all(&batches, 0), ["1", "3", "9"]);
    late.run("COMMIT").await.unwrap();
    let (cursor, batches) = rig.track("t", "at", Some(cursor)).await;
    assert!(
        all(&batches, 0).contains(&"2".to_owned()),
        "{:?}",
        all(&batches, 0)
    );
    // Once nothing is open any more, and other tests may have something, only the newest row
    // and what is in the future come again.
    let mut cursor = cursor;
    let mut read = Vec::new();
    for _ in 0..20 {
        let (next, batches) = rig.track("t", "at", Some(cursor)).await;
        (cursor, read) = (next, all(&batches, 0));
        assert!(
            read.contains(&"3".to_owned()) && read.contains(&"9".to_owned()),
            "{read:?}"
        );
        if read.len() == 2 {
            break;
        }
    }
    assert_eq!(read, ["3", "9"]);
    rig.drop().await;
}

async fn a_limit_and_chosen_columns_are_kept_to(server: Server) {
    let rig = Rig::new(server).await;
    rig.run("CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b TEXT)")
        .await;
    rig.run("INSERT INTO t VALUES (1,'x','y'),(2,'x','y'),(3,'x','y')")
        .await;
    let table = rig.table("t").await;
    let mut read = request(&table);
    read.limit = Some(2);
    read.columns = vec![table.columns[2].clone(), table.columns[0].clone()];
    let snapshot = rig.snapshot().await;
    let (_, batches) = read_all(&snapshot, read).await.unwrap();
    assert_eq!(all(&batches, 0), ["y", "y"]);
    assert_eq!(batches[0].rows.num_columns(), 2);
    // It keeps the table from being dropped.
    drop(snapshot);
    rig.drop().await;
}

/// Packets of more than 16 MB come in pieces; a batch holds one such row.
async fn huge_rows_pass_one_by_one(server: Server) {
    let rig = Rig::new(server).await;
    rig.run("CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT)")
        .await;
    let most: usize = rig.rows("SELECT @@max_allowed_packet").await[0]
        .parse()
        .unwrap();
    let size = (most - 1024).min(17 << 20);
    for id in 0..4 {
        rig.run(&format!("INSERT INTO t SELECT {id}, REPEAT('x', {size})"))
            .await;
    }
    let batches = rig.read("t").await;
    assert_eq!(
        batches
            .iter()
            .map(|batch| batch.row_count())
            .collect::<Vec<_>>(),
        [1, 1, 1, 1]
    );
    let length = batches[3].rows.column(1).get_array_memory_size();
    assert!(length >= size && length < 2 * size, "{length}");
    rig.drop().await;
}
