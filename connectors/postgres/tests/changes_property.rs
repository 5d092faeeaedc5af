//! Snapshot and stream together give the table, whatever was written and whenever.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::StreamExt;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use tideway_core::{Error, Kind, Position, TableId, changes::Change};

use crate::{changes_rig::*, read_rig::*};

const SETUP: &str = "\
    CREATE TABLE plain (id int PRIMARY KEY, n int, doc text, at timestamptz); \
    ALTER TABLE plain ALTER doc SET STORAGE EXTERNAL; \
    CREATE TABLE whole (a text, b int, n numeric(10, 3), list int[], PRIMARY KEY (a, b)); \
    ALTER TABLE whole REPLICA IDENTITY FULL; ALTER TABLE whole ALTER a SET STORAGE EXTERNAL";

/// A statement on a few keys, so that they meet.
fn statement() -> impl Strategy<Value = String> {
    let key = 0..12_i32;
    prop_oneof![
        4 => (key.clone(), any::<i16>(), 0..3000_usize).prop_map(|(key, n, length)| format!(
            "INSERT INTO plain VALUES ({key}, {n}, repeat('{key}x', {length}), '2024-01-01'::timestamptz + {n} * interval '1 minute') \
             ON CONFLICT (id) DO UPDATE SET n = excluded.n"
        )),
        2 => (key.clone(), 0..3000_usize).prop_map(|(key, length)| format!(
            "UPDATE plain SET doc = CASE WHEN id % 2 = 0 THEN repeat('y', {length}) END WHERE id >= {key}"
        )),
        2 => (key.clone(), any::<i16>()).prop_map(|(key, n)| format!("UPDATE plain SET n = {n} WHERE id = {key}")),
        2 => key.clone().prop_map(|key| format!("DELETE FROM plain WHERE id = {key}")),
        3 => (key.clone(), any::<i16>()).prop_map(|(key, n)| format!(
            "INSERT INTO whole VALUES (repeat('k', 2500) || {key}, {key} % 3, {n} / 7.0, ARRAY[{n}, NULL, {key}]) \
             ON CONFLICT (a, b) DO UPDATE SET n = excluded.n, list = excluded.list"
        )),
        2 => (key.clone(), key.clone()).prop_map(|(from, to)| format!(
            "UPDATE whole SET b = b + 100 WHERE b = {from} % 3 AND NOT EXISTS (SELECT FROM whole o WHERE o.b = {from} % 3 + 100); \
             UPDATE whole SET n = {to} WHERE b = {to}"
        )),
        2 => key.prop_map(|key| format!("DELETE FROM whole WHERE b % 3 = {key} % 3")),
        1 => Just("TRUNCATE whole".to_owned()),
    ]
}

/// Transactions, some of which are rolled back in part or as a whole.
fn script() -> impl Strategy<Value = Vec<String>> {
    let transaction = (prop::collection::vec(statement(), 1..6), 0..10_u8);
    let transaction = transaction.prop_map(|(statements, how)| {
        let body = statements.join("; ");
        match how {
            0 => format!("BEGIN; {body}; ROLLBACK"),
            1 => format!("BEGIN; {body}; SAVEPOINT s; {body}; ROLLBACK TO s; COMMIT"),
            2..5 => format!("BEGIN; {body}; COMMIT"),
            _ => body,
        }
    });
    prop::collection::vec(transaction, 10..60)
}

fn sample(seed_free: &mut TestRunner) -> Vec<String> {
    script().new_tree(seed_free).unwrap().current()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_stream_meet_without_gap_or_overlap() {
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..4 {
        let script = sample(&mut runner);
        let streaming = Arc::new(Streaming::new(SETUP, &["plain", "whole"]).await);
        streaming.attach().await;
        let half = script.len() / 3;
        for transaction in &script[..half] {
            streaming.rig.run(transaction).await;
        }
        // The rest is written while the snapshot is taken and the stream is followed.
        let writer = tokio::spawn({
            let (streaming, rest) = (streaming.clone(), script[half..].to_vec());
            async move {
                for transaction in rest {
                    streaming.rig.run(&transaction).await;
                }
            }
        });
        let (mut mirror, mut from, keys) = loop {
            match anchored(&streaming).await {
                Ok(anchored) => break anchored,
                // Emptied between the snapshot and the plan: planned anew.
                Err(error) => assert_eq!(error.kind, Kind::Drift, "{error}"),
            }
        };
        // Followed in pieces, each from where the one before ended.
        for last in [false, true] {
            if last {
                writer_done(&writer).await;
            }
            let tables = streaming.all_from(&from).await;
            let mut changes = streaming.follow(tables, Some(streaming.end().await));
            while let Some(change) = changes.next().await {
                let change = change.unwrap();
                match &change {
                    Change::Rows { table, .. } => mirror.apply(&keys[table], &change),
                    Change::Barrier { position, .. } => from = position.clone(),
                    _ => mirror.apply(&[], &change),
                }
            }
        }
        for table in ["plain", "whole"] {
            assert_eq!(
                mirror.rows(&id(table)),
                streaming.read_rows(table).await,
                "{table} after {script:#?}"
            );
        }
        writer.await.unwrap();
    }
}

type Keys = HashMap<TableId, Vec<String>>;

/// What a snapshot shows, and its position.
async fn anchored(streaming: &Streaming) -> Result<(Mirror, Position, Keys), Error> {
    let anchor = streaming.anchor().await;
    let (mut mirror, mut keys) = (Mirror::default(), Keys::new());
    for table in ["plain", "whole"] {
        let table = streaming.rig.table(&format!("public.{table}")).await;
        let (_, batches) = read_all(&anchor.snapshot, request(&table)).await?;
        for batch in &batches {
            mirror.apply_batch(&table.id, &key_of(&table), batch);
        }
        keys.insert(table.id.clone(), key_of(&table));
    }
    Ok((mirror, anchor.position, keys))
}

async fn writer_done(writer: &tokio::task::JoinHandle<()>) {
    while !writer.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anchors_under_load_show_exactly_their_position() {
    let streaming = Arc::new(
        Streaming::new(
            "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t SELECT g, 0 FROM generate_series(1, 50) g",
            &["t"],
        )
        .await,
    );
    streaming.attach().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (streaming, stop) = (streaming.clone(), stop.clone());
            tokio::spawn(async move {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let (low, high) = (writer * 25 + 1, writer * 25 + 25);
                    let sql = format!("UPDATE t SET n = {turn} WHERE id BETWEEN {low} AND {high}");
                    streaming.rig.attempt(&sql).await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let anchor = streaming.anchor().await;
        let table = streaming.rig.table("public.t").await;
        let (_, batches) = read_all(&anchor.snapshot, request(&table)).await.unwrap();
        let mut mirror = Mirror::default();
        for batch in &batches {
            mirror.apply_batch(&table.id, &key_of(&table), batch);
        }
        // Each transaction counts its rows up by one: a gap or an overlap shows in the step.
        let told = streaming.told(&anchor.position).await;
        let mut last: HashMap<String, i32> = mirror
            .rows(&table.id)
            .into_values()
            .map(|row| {
                (
                    row[0].clone().unwrap(),
                    row[1].clone().unwrap().parse().unwrap(),
                )
            })
            .collect();
        for change in &told {
            if let Change::Rows { batch, .. } = change {
                for row in 0..batch.row_count() {
                    let id = text(&batch.rows, 0, row).unwrap();
                    let n: i32 = text(&batch.rows, 1, row).unwrap().parse().unwrap();
                    assert_eq!(n, last[&id] + 1, "row {id}");
                    last.insert(id, n);
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}
