//! Following the binary log.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::StreamExt;
use serde_json::json;
use tideway_core::{Kind, Op, changes::Change};

use crate::{
    changes_rig::{Mirror, Streaming, followed, op, ops, reshaped},
    rig::{Server, on_both, read_all, request},
    values::CASES,
};

on_both!(
    values_of_every_type_are_those_of_a_snapshot,
    rows_are_told_in_their_order,
    snapshot_and_stream_meet_while_others_write,
    an_account_that_may_not_lock_the_server_meets_too,
    a_truncate_and_other_statements_are_told,
    columns_that_come_and_go_reshape_the_table,
    a_purged_log_is_older_than_the_oldest_place,
    a_server_that_took_over_goes_on_by_transactions,
    partial_images_are_kept_or_read_anew,
    packed_transactions_are_unpacked,
    large_transactions_arrive_whole,
    tables_that_cannot_be_streamed_are_refused,
    two_phases_are_told_when_the_second_one_comes,
);

const TABLE: &str = "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50))";

async fn values_of_every_type_are_those_of_a_snapshot(server: Server) {
    let s = Streaming::new(server, &[], &[]).await;
    let definitions: Vec<String> = CASES
        .iter()
        .enumerate()
        .map(|(at, case)| format!("c{at} {}", case.0))
        .collect();
    let own = match server {
        Server::MariaDb => ", u UUID, i INET6",
        Server::MySql => "",
    };
    s.rig
        .run(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, {}, l char(9) character set latin1, \
             g varchar(20) character set gbk, es enum('ä','日') character set sjis, \
             z DATETIME NOT NULL DEFAULT '0000-00-00', b2 binary(255), \
             h char(255), v INT AS (id + 1) STORED, w INT AS (id + 2) VIRTUAL, j JSON{own})",
            definitions.join(", ")
        ))
        .await;
    let mut s = s;
    s.stream.tables = vec![crate::changes_rig::id(&s.rig, "t")];
    s.attach().await;
    let from = s.anchor().await.position;
    s.rig.run("SET sql_mode = 'ALLOW_INVALID_DATES'").await;
    for (at, case) in CASES.iter().enumerate() {
        for (n, (value, _)) in case.2.iter().enumerate() {
            let id = at * 10 + n;
            s.rig
                .run(&format!("INSERT INTO t (id, c{at}) VALUES ({id}, {value})"))
                .await;
        }
    }
    s.rig
        .run(
            "INSERT INTO t (id, l, g, es, z, b2, h, j) VALUES \
             (9001, 'é€\u{81} x', '中文', '日', '2024-02-29 23:59:59', X'0001', 'ß', \
              '{\"b\": [1, -2.5, 1e20, 1e-7, true, null, \"q\\\\\"\\\\n\\\\u0001ä\"], \"a\": {\"x\": 18446744073709551615}}')",
        )
        .await;
    if server == Server::MySql {
        s.rig
            .run(
                "INSERT INTO t (id, j) VALUES (9002, JSON_OBJECT('d', CAST(1.50 AS DECIMAL(9,2)), \
                 't', CAST('2020-01-02 03:04:05.6' AS DATETIME(6)), 'y', CAST('2020-01-02' AS DATE), \
                 's', CAST('-11:12:13' AS TIME(3)), 'b', X'00ff10', 'f', 1.0e0, 'g', 123456789012345680000e0, \
                 'h', 0.1e0, 'i', 1e15, 'k', 1e-15, 'big', REPEAT('x', 70000), 'n', -70000))",
            )
            .await;
    } else {
        s.rig
            .run(
                "INSERT INTO t (id, u, i) VALUES (9002, '123e4567-e89b-12d3-a456-426614174000', '2001:db8::1'), \
                 (9003, '017f22e2-79b0-7cc3-98c4-dc0c0c07398f', '::ffff:1.2.3.4'), (9004, UUID(), '::'), \
                 (9005, '00000000-0000-0000-0000-000000000000', '1::')",
            )
            .await;
    }
    let told = s.told(&from).await;
    let mut mirror = Mirror::default();
    mirror.apply_all(&["id"], &told);
    let (streamed, read) = (mirror.rows(&s.stream.tables[0]), s.read_rows("t").await);
    assert_eq!(streamed.len(), read.len());
    for (key, row) in &read {
        assert_eq!(&streamed[key], row, "{key:?}");
    }
    s.rig.drop().await;
}

async fn rows_are_told_in_their_order(server: Server) {
    let s = Streaming::new(server, &[TABLE, "INSERT INTO t VALUES (1, 'a')"], &["t"]).await;
    s.attach().await;
    let from = s.anchor().await.position;
    for statement in [
        "INSERT INTO t VALUES (2, 'b')",
        "UPDATE t SET name = 'B' WHERE id = 2",
        "UPDATE t SET id = 3 WHERE id = 2",
        "DELETE FROM t WHERE id = 1",
        "REPLACE INTO t VALUES (3, 'c')",
    ] {
        s.rig.run(statement).await;
    }
    s.rig.run("BEGIN").await;
    s.rig.run("INSERT INTO t VALUES (4, 'd')").await;
    s.rig.run("ROLLBACK").await;
    let told = s.told(&from).await;
    let names: Vec<(Op, String)> = ops(&told, "id");
    let expected = [
        (Op::Insert, "2"),
        (Op::Update, "2"),
        (Op::Delete, "2"),
        (Op::Insert, "3"),
        (Op::Delete, "1"),
        (Op::Update, "3"),
    ];
    let expected: Vec<(Op, String)> = expected
        .iter()
        .map(|(op, id)| (*op, (*id).to_owned()))
        .collect();
    assert_eq!(names, expected);
    // From its end on nothing is told twice.
    let Some(Change::Barrier {
        position,
        committed_at: Some(_),
    }) = told.last()
    else {
        panic!("no barrier with a time");
    };
    assert!(ops(&s.told(position).await, "id").is_empty());
    let lag = s.changes().lag(&s.stream, &from).await.unwrap();
    assert!(lag.bytes.unwrap() > 0, "{lag:?}");
    assert_eq!(lag.warning, None);
    s.rig.drop().await;
}

async fn snapshot_and_stream_meet_while_others_write(server: Server) {
    meet(server, json!({})).await;
}

/// Without `RELOAD`: MySQL locks the tables, MariaDB asks its snapshot.
async fn an_account_that_may_not_lock_the_server_meets_too(server: Server) {
    let admin = Streaming::new(server, &[], &[]).await;
    let user = format!("u{}", &uuid::Uuid::new_v4().simple().to_string()[..20]);
    admin
        .rig
        .run(&format!("CREATE USER {user}@'%' IDENTIFIED BY 'pw'"))
        .await;
    admin
        .rig
        .run(&format!(
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}@'%'"
        ))
        .await;
    admin
        .rig
        .run(&format!("GRANT ALL ON `tw\\_%`.* TO {user}@'%'"))
        .await;
    meet(server, json!({"account": user, "passwd": "pw"})).await;
    admin.rig.run(&format!("DROP USER {user}@'%'")).await;
    admin.rig.drop().await;
}

async fn meet(server: Server, settings: serde_json::Value) {
    let s = Streaming::with(server, &[TABLE], &["t"], settings).await;
    // They write for as long as snapshots are taken, or the two would hardly ever cross.
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4 {
        let mut eyes = tideway_mysql::testing::Eyes::open(&server.settings(json!({})))
            .await
            .unwrap();
        eyes.run(&format!("USE {}", s.rig.database)).await.unwrap();
        let stop = stop.clone();
        writers.push(tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let id = writer * 1_000_000 + n;
                eyes.run(&format!("INSERT INTO t VALUES ({id}, 'x')"))
                    .await
                    .unwrap();
                if n % 3 == 2 {
                    eyes.run(&format!("DELETE FROM t WHERE id = {}", id - 1))
                        .await
                        .unwrap();
                }
            }
        }));
    }
    let mut meetings = Vec::new();
    for _ in 0..5 {
        let anchor = s.anchor().await;
        let (_, batches) = read_all(&anchor.snapshot, request(&s.rig.table("t").await))
            .await
            .unwrap();
        meetings.push((anchor.position, batches));
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let expected = s.read_rows("t").await;
    for (position, batches) in meetings {
        let mut mirror = Mirror::default();
        for batch in &batches {
            mirror.apply_batch(&s.stream.tables[0], &["id".to_owned()], batch);
        }
        // Every insert finds no row and every delete one, or the mirror complains.
        mirror.apply_all(&["id"], &s.told(&position).await);
        assert_eq!(mirror.rows(&s.stream.tables[0]), expected);
    }
    s.rig.drop().await;
}

async fn a_truncate_and_other_statements_are_told(server: Server) {
    let s = Streaming::new(server, &[TABLE, "INSERT INTO t VALUES (1, 'a')"], &["t"]).await;
    let from = s.anchor().await.position;
    s.rig.run("ALTER TABLE t ADD INDEX i (name)").await;
    s.rig.run("TRUNCATE TABLE t").await;
    s.rig.run("INSERT INTO t VALUES (2, 'b')").await;
    let told = s.told(&from).await;
    let mut changes = told.iter();
    let first = changes.find(|change| !matches!(change, Change::Barrier { .. }));
    assert!(matches!(first, Some(Change::Truncate(_))));
    assert_eq!(ops(&told, "id"), [(Op::Insert, "2".to_owned())]);
    for (statement, expected) in [
        ("ALTER TABLE t MODIFY name VARCHAR(60)", (true, true)),
        ("DROP TABLE t", (false, false)),
    ] {
        let from = s.end().await;
        let tables = s.all_from(&from).await;
        s.rig.run("INSERT INTO t VALUES (3, 'c')").await;
        s.rig.run(statement).await;
        let told = s.told_of(tables).await;
        // What a table was that is gone cannot be looked up any more.
        let count = usize::from(expected.0);
        assert_eq!(ops(&told, "id").len(), count, "{statement}");
        assert_eq!(reshaped(&told), Some(expected), "{statement}");
        if expected.0 {
            s.rig.run("DELETE FROM t WHERE id = 3").await;
        }
    }
    s.rig.drop().await;
}

async fn columns_that_come_and_go_reshape_the_table(server: Server) {
    for (statement, expected) in [
        ("ALTER TABLE t ADD c INT", Some((true, false))),
        ("ALTER TABLE t ADD c INT DEFAULT 5", Some((true, true))),
        ("ALTER TABLE t DROP name", Some((true, false))),
        ("ALTER TABLE t ADD INDEX i (name)", None),
    ] {
        let s = Streaming::new(server, &[TABLE], &["t"]).await;
        let from = s.anchor().await.position;
        let tables = s.all_from(&from).await;
        s.rig.run("INSERT INTO t VALUES (1, 'a')").await;
        s.rig.run(statement).await;
        s.rig.run("INSERT INTO t (id) VALUES (2)").await;
        let told = s.told_of(tables).await;
        let count = if expected.is_some() { 1 } else { 2 };
        match expected {
            // The column is gone already when its last rows are looked at.
            Some(_) if statement.contains("DROP") => {}
            _ => assert_eq!(ops(&told, "id").len(), count, "{statement}"),
        }
        assert_eq!(reshaped(&told), expected, "{statement}");
        // Asked for anew, with rows of both shapes before it.
        let told = s.told(&from).await;
        match statement.contains("DEFAULT") {
            true => assert_eq!(reshaped(&told), Some((true, true)), "{statement}"),
            false => assert_eq!(ops(&told, "id").len(), 2, "{statement}"),
        }
        s.rig.drop().await;
    }
}

async fn a_purged_log_is_older_than_the_oldest_place(server: Server) {
    let s = Streaming::new(server, &[TABLE], &["t"]).await;
    let mut old = s.anchor().await.position;
    let attached = s.attach().await;
    assert!(s.changes().compare(&old, &attached.position).is_ge());
    // Other tests read the same log, so it is not purged under them: the place is made older.
    old.at["binlog"] = "binlog.000000:4".into();
    assert!(s.changes().compare(&old, &attached.position).is_lt());
    let told = s.told(&old).await;
    assert_eq!(reshaped(&told), Some((true, true)));
    let lag = s.changes().lag(&s.stream, &old).await.unwrap();
    assert!(lag.warning.unwrap().contains("purged"));
    old.at["server"] = "another".into();
    old.at["gtid"] = serde_json::Value::Null;
    let tables = s.all_from(&old).await;
    let error = s.follow(tables, None).next().await.unwrap().err().unwrap();
    assert_eq!(error.kind, Kind::Drift);
    assert!(error.what().contains("another server"), "{error:?}");
    s.rig.drop().await;
}

async fn a_server_that_took_over_goes_on_by_transactions(server: Server) {
    let s = Streaming::new(server, &[TABLE], &["t"]).await;
    s.rig.run("INSERT INTO t VALUES (0, 'before')").await;
    let mut from = s.anchor().await.position;
    s.rig.run("INSERT INTO t VALUES (1, 'a')").await;
    s.rig.run("UPDATE t SET name = 'b'").await;
    let attached = s.attach().await;
    from.at["server"] = "another".into();
    from.at["binlog"] = "elsewhere.000001:99".into();
    assert!(s.changes().compare(&from, &attached.position).is_ge());
    let told = s.told(&from).await;
    let expected = [
        (Op::Insert, "1".to_owned()),
        (Op::Update, "0".to_owned()),
        (Op::Update, "1".to_owned()),
    ];
    assert_eq!(ops(&told, "id"), expected);
    let Some(Change::Barrier { position, .. }) = told.last() else {
        panic!("no barrier");
    };
    assert_ne!(position.at["server"], from.at["server"]);
    assert!(ops(&s.told(position).await, "id").is_empty());
    // Nothing new came, and nothing is told twice.
    let mut last = position.clone();
    last.at["server"] = "another".into();
    let told = s.told(&last).await;
    assert!(ops(&told, "id").is_empty());
    // What this server has never executed cannot be gone on from.
    last.at["gtid"] = match server {
        Server::MySql => "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into(),
        Server::MariaDb => "0-1-999999999".into(),
    };
    assert_eq!(reshaped(&s.told(&last).await), Some((true, true)));
    s.rig.drop().await;
}

async fn partial_images_are_kept_or_read_anew(server: Server) {
    let setup = [
        "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(50), n INT DEFAULT 7)",
        "INSERT INTO t VALUES (1, 'a', 1)",
    ];
    let s = Streaming::new(server, &setup, &["t"]).await;
    let from = s.anchor().await.position;
    s.rig.run("SET SESSION binlog_row_image = MINIMAL").await;
    s.rig.run("UPDATE t SET n = 2 WHERE id = 1").await;
    let told = s.told(&from).await;
    let batch = told.iter().find_map(|change| match change {
        Change::Rows { batch, .. } => Some(batch),
        _ => None,
    });
    let batch = batch.expect("rows");
    assert_eq!(op(batch, 0), Some(Op::Update));
    let kept: Vec<usize> = batch.kept.iter().map(|(column, _)| *column).collect();
    // The key is told of the row as it was.
    assert_eq!(kept, [1]);
    let from = s.end().await;
    s.rig.run("DELETE FROM t WHERE id = 1").await;
    assert_eq!(
        ops(&s.told(&from).await, "id"),
        [(Op::Delete, "1".to_owned())]
    );
    let from = s.end().await;
    s.rig.run("INSERT INTO t (id) VALUES (5)").await;
    let told = s.told(&from).await;
    // MySQL's minimal image of a new row lacks what has its default.
    if server == Server::MySql {
        assert_eq!(reshaped(&told), Some((true, true)));
        s.rig
            .run("SET SESSION binlog_row_value_options = PARTIAL_JSON")
            .await;
        s.rig.run("ALTER TABLE t ADD j JSON").await;
        s.rig
            .run("INSERT INTO t VALUES (6, 'x', 1, '{\"a\": 1, \"b\": \"cccccccccccccccccccc\"}')")
            .await;
        let from = s.end().await;
        s.rig
            .run("UPDATE t SET j = JSON_SET(j, '$.a', 2) WHERE id = 6")
            .await;
        assert_eq!(reshaped(&s.told(&from).await), Some((true, true)));
    }
    s.rig.drop().await;
}

async fn packed_transactions_are_unpacked(server: Server) {
    let s = Streaming::new(server, &[TABLE], &["t"]).await;
    let from = s.anchor().await.position;
    let mut eyes = tideway_mysql::testing::Eyes::open(&server.settings(json!({})))
        .await
        .unwrap();
    match server {
        Server::MySql => eyes
            .run("SET SESSION binlog_transaction_compression = ON")
            .await
            .unwrap(),
        // It is the server's, and harms nobody else.
        Server::MariaDb => eyes.run("SET GLOBAL log_bin_compress = ON").await.unwrap(),
    }
    eyes.run(&format!("USE {}", s.rig.database)).await.unwrap();
    eyes.run("BEGIN").await.unwrap();
    for id in 0..20 {
        let name = "x".repeat(20 + id);
        eyes.run(&format!(
            "INSERT INTO t VALUES {}",
            (0..40)
                .map(|n| format!("({}, '{name}')", id * 100 + n))
                .collect::<Vec<_>>()
                .join(", ")
        ))
        .await
        .unwrap();
    }
    eyes.run("UPDATE t SET name = CONCAT(name, 'y')")
        .await
        .unwrap();
    eyes.run("DELETE FROM t WHERE id < 50").await.unwrap();
    eyes.run("COMMIT").await.unwrap();
    if server == Server::MariaDb {
        eyes.run("SET GLOBAL log_bin_compress = OFF").await.unwrap();
    }
    let mut mirror = Mirror::default();
    mirror.apply_all(&["id"], &s.told(&from).await);
    let rows = mirror.rows(&s.stream.tables[0]);
    assert_eq!(rows.len(), 20 * 40 - 40);
    assert_eq!(rows, s.read_rows("t").await);
    s.rig.drop().await;
}

async fn large_transactions_arrive_whole(server: Server) {
    let setup = ["CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, name LONGTEXT)"];
    let s = Streaming::new(server, &setup, &["t"]).await;
    let from = s.anchor().await.position;
    s.rig.run("BEGIN").await;
    // One event of more than a packet, then many.
    s.rig
        .run("INSERT INTO t (name) VALUES (REPEAT('x', 15000000)), (REPEAT('y', 15000000))")
        .await;
    s.rig
        .run("INSERT INTO t (name) VALUES (REPEAT('z', 100))")
        .await;
    for _ in 0..13 {
        s.rig
            .run("INSERT INTO t (name) SELECT name FROM t WHERE LENGTH(name) = 100")
            .await;
    }
    s.rig.run("COMMIT").await;
    let told = s.told(&from).await;
    let rows: usize = told
        .iter()
        .map(|change| match change {
            Change::Rows { batch, .. } => batch.row_count(),
            _ => 0,
        })
        .sum();
    assert_eq!(rows, 2 + (1 << 13));
    let ours = |change: &Change| matches!(change, Change::Rows { .. });
    let first = told.iter().position(ours).unwrap();
    let last = told.iter().rposition(ours).unwrap();
    assert!(last > first && told[first..last].iter().all(ours));
    s.rig.drop().await;
}

async fn tables_that_cannot_be_streamed_are_refused(server: Server) {
    let setup = [
        TABLE,
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE TABLE m (id INT PRIMARY KEY) ENGINE = MyISAM",
        "CREATE TABLE c (id INT PRIMARY KEY, t INT, CONSTRAINT goes FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE)",
    ];
    let s = Streaming::new(server, &setup, &["t", "v", "m", "c", "gone"]).await;
    let attached = s.changes().attach(&s.stream).await.unwrap();
    let mut refused: Vec<String> = attached
        .refused
        .iter()
        .map(|(table, _)| table.name.clone())
        .collect();
    refused.sort();
    match server {
        // Which logs what its foreign keys do.
        Server::MySql => assert_eq!(refused, ["gone", "m", "v"]),
        Server::MariaDb => assert_eq!(refused, ["c", "gone", "m", "v"]),
    }
    if server == Server::MySql {
        let from = s.end().await;
        s.rig.run("INSERT INTO t VALUES (1, 'a')").await;
        s.rig.run("INSERT INTO c VALUES (1, 1)").await;
        s.rig.run("DELETE FROM t").await;
        let table = followed(s.rig.table("c").await, &from);
        let told = s.told_of(vec![table]).await;
        let kinds: Vec<Op> = ops(&told, "id").into_iter().map(|(op, _)| op).collect();
        assert_eq!(kinds, [Op::Insert, Op::Delete]);
    }
    s.rig.drop().await;
}

async fn two_phases_are_told_when_the_second_one_comes(server: Server) {
    let s = Streaming::new(server, &[TABLE], &["t"]).await;
    let from = s.anchor().await.position;
    let name = &s.rig.database;
    for statement in [
        format!("XA START '{name}'"),
        "INSERT INTO t VALUES (1, 'a')".to_owned(),
        format!("XA END '{name}'"),
        format!("XA PREPARE '{name}'"),
    ] {
        s.rig.run(&statement).await;
    }
    let told = s.told(&from).await;
    assert!(ops(&told, "id").is_empty());
    assert_eq!(reshaped(&told), None);
    s.rig.run(&format!("XA COMMIT '{name}'")).await;
    let told = s.told(&from).await;
    let rows = ops(&told, "id");
    // Either the rows are told by now, or that they are to be read.
    assert!(reshaped(&told) == Some((true, true)) || rows == [(Op::Insert, "1".to_owned())]);
    s.rig.drop().await;
}
