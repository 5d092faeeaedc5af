//! The log that the server keeps for a stream: confirming, lagging, losing it.

use std::{path::PathBuf, process::Command, time::Duration};

use futures::StreamExt;
use serde_json::json;
use tideway_core::{
    Connector, Kind, Position,
    changes::{Change, Changes},
    connector::ConnectCx,
};

use crate::changes_rig::*;

async fn confirmed(streaming: &Streaming) -> String {
    let slot = streaming.slot();
    let sql =
        format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'");
    streaming.rig.one(&sql).await
}

async fn reaches(streaming: &Streaming, position: &Position) {
    let wanted = position.at["lsn"].as_str().unwrap();
    for _ in 0..100 {
        if confirmed(streaming).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} is not {wanted}", confirmed(streaming).await);
}

#[tokio::test]
async fn what_is_confirmed_is_let_go_with_and_without_a_follower() {
    let streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let begin = streaming.attach().await.position;
    streaming.rig.run("INSERT INTO t VALUES (1)").await;
    let tables = streaming.all_from(&begin).await;
    let mut changes = streaming.follow(tables, None);
    let position = loop {
        if let Change::Barrier { position, .. } = changes.next().await.unwrap().unwrap() {
            break position;
        }
    };
    // Nothing is let go before it is confirmed.
    assert_eq!(
        confirmed(&streaming).await,
        begin.at["lsn"].as_str().unwrap()
    );
    streaming
        .changes()
        .confirm(&streaming.stream, &position)
        .await
        .unwrap();
    reaches(&streaming, &position).await;
    drop(changes);
    streaming.rig.run("INSERT INTO t VALUES (2)").await;
    let end = streaming.end().await;
    streaming
        .changes()
        .confirm(&streaming.stream, &end)
        .await
        .unwrap();
    reaches(&streaming, &end).await;
    // Going back is no harm.
    streaming
        .changes()
        .confirm(&streaming.stream, &begin)
        .await
        .unwrap();
    reaches(&streaming, &end).await;
    // What was let go cannot be followed any more, and that is said.
    let tables = streaming.all_from(&begin).await;
    let error = streaming
        .follow(tables, None)
        .next()
        .await
        .unwrap()
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Drift, "{error}");
    assert!(error.what().contains("public.t"), "{error}");
}

#[tokio::test]
async fn the_position_moves_on_while_the_tables_are_idle() {
    let streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let begin = streaming.attach().await.position;
    let tables = streaming.all_from(&begin).await;
    let mut changes = streaming.follow(tables, None);
    let first = changes.next().await.unwrap().unwrap();
    assert!(matches!(
        first,
        Change::Barrier {
            committed_at: None,
            ..
        }
    ));
    // Another table, which is not streamed.
    streaming
        .rig
        .run("CREATE TABLE noise AS SELECT g FROM generate_series(1, 10000) g")
        .await;
    let end = streaming.end().await;
    let reached = loop {
        match changes.next().await.unwrap().unwrap() {
            Change::Barrier {
                position,
                committed_at: None,
            } => {
                if streaming.changes().compare(&position, &end).is_ge() {
                    break position;
                }
            }
            Change::Barrier { .. } => {}
            _ => panic!("something was told"),
        }
    };
    streaming
        .changes()
        .confirm(&streaming.stream, &reached)
        .await
        .unwrap();
    reaches(&streaming, &reached).await;
}

#[tokio::test]
async fn lag_is_told_in_bytes() {
    let streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run("INSERT INTO t SELECT generate_series(1, 10000)")
        .await;
    let lag = streaming
        .changes()
        .lag(&streaming.stream, &begin)
        .await
        .unwrap();
    assert!(lag.bytes.unwrap() > 500_000, "{lag:?}");
    assert!(lag.retained_bytes.unwrap() >= lag.bytes.unwrap(), "{lag:?}");
    assert_eq!(lag.warning, None);
    let end = streaming.end().await;
    let lag = streaming
        .changes()
        .lag(&streaming.stream, &end)
        .await
        .unwrap();
    assert!(lag.bytes.unwrap() < 500_000, "{lag:?}");
    streaming
        .changes()
        .release(&streaming.stream)
        .await
        .unwrap();
    let lag = streaming
        .changes()
        .lag(&streaming.stream, &end)
        .await
        .unwrap();
    assert!(lag.warning.unwrap().contains("is gone"));
}

#[tokio::test]
async fn a_slot_or_publication_that_is_gone_is_made_anew_and_that_is_said() {
    let streaming = Streaming::new("CREATE TABLE t (id int PRIMARY KEY)", &["t"]).await;
    let begin = streaming.attach().await.position;
    streaming.rig.run("INSERT INTO t VALUES (1)").await;
    let slot = streaming.slot();
    streaming
        .rig
        .run(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    let tables = streaming.all_from(&begin).await;
    let error = streaming
        .follow(tables, None)
        .next()
        .await
        .unwrap()
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Drift, "{error}");
    let again = streaming.attach().await;
    assert!(again.fresh.is_some());
    assert!(streaming.changes().compare(&begin, &again.position).is_lt());
    streaming.rig.run(&format!("DROP PUBLICATION {slot}")).await;
    let third = streaming.attach().await;
    assert!(third.fresh.unwrap().contains("publication"));
    streaming.rig.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(ops(&streaming.told(&third.position).await, "id").len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_cut_off_goes_on_from_the_barrier() {
    let streaming = Streaming::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)",
        &["t"],
    )
    .await;
    let mut from = streaming.attach().await.position;
    let mut mirror = Mirror::default();
    let mut cuts = 0;
    for round in 0..6 {
        // More than the buffers on the way hold.
        let (first, last) = (round * 100_000, round * 100_000 + 59_999);
        let insert = format!("INSERT INTO t SELECT n, 0 FROM generate_series({first}, {last}) n");
        streaming.rig.run(&insert).await;
        streaming
            .rig
            .run(&format!(
                "UPDATE t SET v = {round}; DELETE FROM t WHERE id % 7 = {round}"
            ))
            .await;
        let end = streaming.end().await;
        let tables = streaming.all_from(&from).await;
        let mut changes = streaming.follow(tables, Some(end));
        // What stands behind the last barrier is told again after a cut.
        let mut waiting = Vec::new();
        let mut seen = 0;
        loop {
            match changes.next().await {
                None => break,
                Some(Ok(change)) => {
                    let position = match &change {
                        Change::Barrier { position, .. } => Some(position.clone()),
                        _ => None,
                    };
                    waiting.push(change);
                    if let Some(position) = position {
                        for change in waiting.drain(..) {
                            mirror.apply(&["id".into()], &change);
                        }
                        from = position;
                    }
                    seen += 1;
                    if round % 2 == 0 && seen == 1 {
                        let slot = streaming.slot();
                        streaming
                            .rig
                            .run(&format!(
                                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
                                 WHERE slot_name = '{slot}' AND active_pid IS NOT NULL"
                            ))
                            .await;
                    }
                }
                Some(Err(error)) => {
                    assert_eq!(error.kind, Kind::Unavailable, "{error}");
                    cuts += 1;
                    waiting.clear();
                    let tables = streaming.all_from(&from).await;
                    changes = streaming.follow(tables, Some(streaming.end().await));
                }
            }
        }
        assert_eq!(
            mirror.rows(&id("t")),
            streaming.read_rows("t").await,
            "round {round}"
        );
    }
    assert!(cuts > 0);
}

/// A server of the test's own, for settings that hold for all databases.
struct Server {
    script: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Server {
    fn start() -> Server {
        let script =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts/servers/postgres.sh");
        let name = format!("tideway-pg-{}", uuid::Uuid::new_v4().simple());
        let folder = std::env::temp_dir().join(name);
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let started = Command::new(&script)
            .arg("start")
            .arg(&folder)
            .arg(port.to_string())
            .status()
            .unwrap();
        assert!(started.success());
        Server {
            script,
            folder,
            port,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new(&self.script)
            .arg("stop")
            .arg(&self.folder)
            .status();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_lost_its_log_is_made_anew_and_lag_warned_of_it() {
    let server = Server::start();
    let settings = json!({
        "host": "127.0.0.1", "port": server.port, "database": "postgres", "username": "tideway",
        "password": "tideway", "sslmode": "disable", "change_detection": true,
    });
    let url = format!(
        "postgresql://tideway:tideway@127.0.0.1:{}/postgres",
        server.port
    );
    let (client, driver) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(driver);
    for sql in [
        "CREATE TABLE t (id int PRIMARY KEY)",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'",
        "ALTER SYSTEM SET max_wal_size = '32MB'",
        "ALTER SYSTEM SET min_wal_size = '32MB'",
        "SELECT pg_reload_conf()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let connection = tideway_postgres::POSTGRESQL
        .connect(&settings, &ConnectCx::default())
        .await
        .unwrap();
    let changes: &dyn Changes = connection.roles().changes.unwrap();
    let stream = tideway_core::changes::Stream {
        id: uuid::Uuid::new_v4().to_string(),
        options: json!({}),
        tables: vec![id("t")],
    };
    let begin = changes.attach(&stream).await.unwrap();
    assert!(begin.fresh.is_some());
    let lag = changes.lag(&stream, &begin.position).await.unwrap();
    assert!(lag.headroom_bytes.is_some(), "{lag:?}");
    let mut lost = None;
    for _ in 0..30 {
        let noise = "CREATE TABLE noise AS SELECT g FROM generate_series(1, 200000) g; \
                     DROP TABLE noise; SELECT pg_switch_wal(); CHECKPOINT";
        for sql in noise.split("; ") {
            client.batch_execute(sql).await.unwrap();
        }
        let lag = changes.lag(&stream, &begin.position).await.unwrap();
        if lag
            .warning
            .as_deref()
            .is_some_and(|warning| warning.contains("was lost"))
        {
            lost = lag.warning;
            break;
        }
    }
    assert!(lost.unwrap().contains("max_slot_wal_keep_size"));
    let again = changes.attach(&stream).await.unwrap();
    assert!(again.fresh.unwrap().contains("was lost"));
    assert!(changes.compare(&begin.position, &again.position).is_lt());
    changes.release(&stream).await.unwrap();
}
