//! Following the log: rows, transactions, barriers.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tideway_core::{Op, changes::Change};

use crate::{changes_rig::*, read_rig::*};

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, note text)";

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn inserts_updates_and_deletes_are_told_in_order() {
    let streaming = Streaming::new(PEOPLE, &["people"]).await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run(
            "INSERT INTO people VALUES (1, 'a', NULL), (2, 'b', 'x'); \
             UPDATE people SET name = 'c' WHERE id = 1; \
             DELETE FROM people WHERE id = 2",
        )
        .await;
    let told = streaming.told(&begin).await;
    assert_eq!(
        ops(&told, "id"),
        [
            (Op::Insert, some("1")),
            (Op::Insert, some("2")),
            (Op::Update, some("1")),
            (Op::Delete, some("2")),
        ]
    );
    assert_eq!(
        ops(&told, "name")[..3],
        [
            (Op::Insert, some("a")),
            (Op::Insert, some("b")),
            (Op::Update, some("c")),
        ]
    );
    for change in &told {
        if let Change::Rows { batch, .. } = change {
            assert!(sound(batch));
        }
    }
}

#[tokio::test]
async fn an_update_of_the_key_is_a_delete_and_an_insert() {
    let streaming = Streaming::new(PEOPLE, &["people"]).await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run("INSERT INTO people VALUES (1, 'a'); UPDATE people SET id = 9, name = 'z'")
        .await;
    let told = streaming.told(&begin).await;
    assert_eq!(
        ops(&told, "id"),
        [
            (Op::Insert, some("1")),
            (Op::Delete, some("1")),
            (Op::Insert, some("9")),
        ]
    );
}

#[tokio::test]
async fn every_replica_identity_tells_the_key_of_what_is_gone() {
    let setup = "\
        CREATE TABLE plain (id int PRIMARY KEY, v text); \
        CREATE TABLE whole (id int PRIMARY KEY, v text); ALTER TABLE whole REPLICA IDENTITY FULL; \
        CREATE TABLE by_index (id int PRIMARY KEY, other int NOT NULL, v text); \
        CREATE UNIQUE INDEX pair ON by_index (id, other); \
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX pair";
    let streaming = Streaming::new(setup, &["plain", "whole", "by_index"]).await;
    let begin = streaming.attach().await.position;
    for table in ["plain", "whole", "by_index"] {
        let other = if table == "by_index" { "7," } else { "" };
        streaming
            .rig
            .run(&format!(
                "INSERT INTO {table} VALUES (1, {other} 'a'); UPDATE {table} SET v = 'b'; \
                 UPDATE {table} SET id = 2; DELETE FROM {table}"
            ))
            .await;
        let tables = vec![streaming.followed(table, &begin).await];
        let told = streaming.told_of(tables).await;
        let expected = [
            (Op::Insert, some("1")),
            (Op::Update, some("1")),
            (Op::Delete, some("1")),
            (Op::Insert, some("2")),
            (Op::Delete, some("2")),
        ];
        assert_eq!(ops(&told, "id"), expected, "{table}");
    }
}

#[tokio::test]
async fn a_value_out_of_line_that_was_not_changed_is_kept() {
    let setup = "CREATE TABLE docs (id int PRIMARY KEY, doc text NOT NULL, n int); \
                 ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL; \
                 CREATE TABLE whole (LIKE docs INCLUDING ALL); ALTER TABLE whole REPLICA IDENTITY FULL";
    let streaming = Streaming::new(setup, &["docs", "whole"]).await;
    let begin = streaming.attach().await.position;
    for table in ["docs", "whole"] {
        streaming
            .rig
            .run(&format!(
                "INSERT INTO {table} SELECT g, repeat(g::text, 9000), 0 FROM generate_series(1, 3) g; \
                 UPDATE {table} SET n = 1 WHERE id = 2; UPDATE {table} SET doc = 'short' WHERE id = 3"
            ))
            .await;
    }
    let told = streaming.told(&begin).await;
    let mut mirror = Mirror::default();
    let mut kept = std::collections::HashMap::new();
    for change in &told {
        mirror.apply(&["id".into()], change);
        if let Change::Rows { table, batch } = change {
            assert!(sound(batch));
            let masks = batch.kept.iter();
            let count: usize = masks.map(|(_, mask)| mask.true_count()).sum();
            *kept.entry(table.name.clone()).or_insert(0) += count;
        }
    }
    // The whole old row tells the value.
    assert_eq!((kept["docs"], kept["whole"]), (1, 0));
    for table in ["docs", "whole"] {
        assert_eq!(mirror.rows(&id(table)), streaming.read_rows(table).await);
    }
}

#[tokio::test]
async fn a_row_that_gets_another_key_takes_its_values_out_of_line_along() {
    let setup = "CREATE EXTENSION citext; \
        CREATE TABLE docs (id int PRIMARY KEY, doc text NOT NULL, list int[], c citext, e point[]); \
        ALTER TABLE docs ALTER doc SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL, ALTER c SET STORAGE EXTERNAL";
    let streaming = Streaming::new(setup, &["docs"]).await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run(
            "INSERT INTO docs SELECT g, repeat(g::text, 9000), array(SELECT generate_series(1, 5000)), \
               repeat('C', 5000), NULL FROM generate_series(1, 3) g; \
             UPDATE docs SET id = id + 10; UPDATE docs SET id = 99 WHERE id = 12; DELETE FROM docs WHERE id = 13",
        )
        .await;
    let mut mirror = Mirror::default();
    for change in &streaming.told(&begin).await {
        mirror.apply(&["id".into()], change);
    }
    assert_eq!(mirror.rows(&id("docs")), streaming.read_rows("docs").await);
}

#[tokio::test]
async fn truncate_is_told_between_the_rows_around_it() {
    let streaming = Streaming::new(
        &format!("{PEOPLE}; CREATE TABLE other (id int PRIMARY KEY)"),
        &["people", "other"],
    )
    .await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run("INSERT INTO people VALUES (1, 'a'); TRUNCATE people, other; INSERT INTO people VALUES (2, 'b')")
        .await;
    let told = streaming.told(&begin).await;
    let kinds: Vec<String> = told
        .iter()
        .map(|change| match change {
            Change::Rows { table, batch } => format!("{} {}", table.name, batch.row_count()),
            Change::Truncate(table) => format!("truncate {}", table.name),
            Change::Barrier { .. } => "barrier".to_owned(),
            Change::Reshaped { .. } => "reshaped".to_owned(),
            Change::Failed { error, .. } => panic!("{error}"),
        })
        .filter(|kind| kind != "barrier")
        .collect();
    assert_eq!(
        kinds,
        ["people 1", "truncate people", "truncate other", "people 1"]
    );
}

#[tokio::test]
async fn a_table_is_told_only_what_came_after_its_own_position() {
    let streaming = Streaming::new(
        &format!("{PEOPLE}; CREATE TABLE other (id int PRIMARY KEY)"),
        &["people", "other"],
    )
    .await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run("INSERT INTO people VALUES (1, 'a'); INSERT INTO other VALUES (1)")
        .await;
    let later = streaming.end().await;
    streaming
        .rig
        .run("INSERT INTO people VALUES (2, 'b'); INSERT INTO other VALUES (2)")
        .await;
    let tables = vec![
        streaming.followed("people", &later).await,
        streaming.followed("other", &begin).await,
    ];
    let told = streaming.told_of(tables).await;
    let of = |name: &str| -> Vec<Option<String>> {
        let mine = told.iter().filter_map(|change| match change {
            Change::Rows { table, batch } if table.name == name => Some(batch),
            _ => None,
        });
        mine.flat_map(|batch| (0..batch.row_count()).map(|row| text(&batch.rows, 0, row)))
            .collect()
    };
    assert_eq!(of("people"), [some("2")]);
    assert_eq!(of("other"), [some("1"), some("2")]);
}

#[tokio::test]
async fn changes_arrive_within_moments_and_barriers_stand_between_transactions() {
    let streaming = Streaming::new(PEOPLE, &["people"]).await;
    let begin = streaming.attach().await.position;
    let tables = streaming.all_from(&begin).await;
    let mut changes = streaming.follow(tables, None);
    // Nothing is told until someone listens.
    let mut waits = Vec::new();
    for turn in 1..=10 {
        let write =
            format!("BEGIN; INSERT INTO people VALUES ({turn}, 'a'), (-{turn}, 'b'); COMMIT");
        let (_, rows) = tokio::join!(streaming.rig.run(&write), async {
            loop {
                match changes.next().await.unwrap().unwrap() {
                    Change::Rows { batch, .. } => return batch.row_count(),
                    Change::Barrier { .. } => {}
                    _ => panic!("something else"),
                }
            }
        });
        assert_eq!(rows, 2);
        let began = Instant::now();
        let Change::Barrier { committed_at, .. } = changes.next().await.unwrap().unwrap() else {
            panic!("no barrier behind the transaction");
        };
        let age = chrono_micros() - committed_at.unwrap();
        assert!((-1_000_000..60_000_000).contains(&age), "{age}");
        waits.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    waits.sort();
    assert!(waits[5] < Duration::from_millis(500), "{waits:?}");
}

fn chrono_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_micros() as i64
}

#[tokio::test]
async fn a_large_transaction_passes_in_batches_of_bounded_size() {
    let streaming = Streaming::new(
        "CREATE TABLE big (id int PRIMARY KEY, v text NOT NULL)",
        &["big"],
    )
    .await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run("INSERT INTO big SELECT g, 'value number ' || g FROM generate_series(1, 500000) g")
        .await;
    let end = streaming.end().await;
    let tables = streaming.all_from(&begin).await;
    let mut changes = streaming.follow(tables, Some(end));
    let (mut rows, mut largest, mut barriers) = (0, 0, 0);
    while let Some(change) = changes.next().await {
        match change.unwrap() {
            Change::Rows { batch, .. } => {
                rows += batch.row_count();
                largest = largest.max(batch.byte_count());
                assert_eq!(barriers, 0, "a barrier within the transaction");
            }
            Change::Barrier { .. } if rows > 0 => barriers += 1,
            Change::Barrier { .. } => {}
            _ => panic!("something else"),
        }
    }
    assert_eq!(rows, 500_000);
    assert!(barriers > 0);
    assert!(largest < 3 << 20, "{largest}");
}

#[tokio::test]
async fn partitions_are_told_as_their_table() {
    let setup = "CREATE TABLE parted (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
                 CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100); \
                 CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200)";
    let streaming = Streaming::new(setup, &["parted"]).await;
    let begin = streaming.attach().await.position;
    streaming
        .rig
        .run(
            "INSERT INTO parted VALUES (1, 'a'), (150, 'b'); UPDATE parted SET id = 160 WHERE id = 1; \
             UPDATE parted SET v = 'c' WHERE id = 150; DELETE FROM parted WHERE id = 160; \
             CREATE TABLE parted_top PARTITION OF parted FOR VALUES FROM (200) TO (300); \
             INSERT INTO parted VALUES (250, 'd')",
        )
        .await;
    let mut mirror = Mirror::default();
    for change in &streaming.told(&begin).await {
        mirror.apply(&["id".into()], change);
    }
    let rows = mirror.rows(&id("parted"));
    assert_eq!(rows.len(), 2);
    assert_eq!(rows, streaming.read_rows("parted").await);
}
