//! Loads that are cut short, repeated, and run side by side.

use std::sync::Arc;

use arrow_array::{Int64Array, StringArray};
use tideway_core::{
    Batch, Kind,
    destination::{Load, Write},
};

use crate::write_rig::*;

const ALL: &str = "SELECT id, name FROM shop.people ORDER BY id, name";
const ONE: [(i64, &str); 2] = [(1, "a"), (2, "b")];
const TWO: [(i64, &str); 1] = [(3, "c")];

fn resumed(load: &Load) -> Load {
    Load {
        resume: true,
        ..load.clone()
    }
}

#[tokio::test]
async fn finishing_again_changes_nothing() {
    let rig = Rig::new().await;
    for write in [Write::Append, Write::Replace, SOFT] {
        let load = people(write);
        let table = rig.begin(load.clone()).await;
        land(table.as_ref(), "1", rows(&ONE)).await;
        assert_eq!(table.finish().await.unwrap(), did(2, 0, 0, 0));
        let repeated = tideway_core::destination::Outcome {
            repeated: true,
            ..did(0, 0, 0, 0)
        };
        assert_eq!(table.finish().await.unwrap(), repeated);
        for again in [load.clone(), resumed(&load)] {
            let table = rig.begin(again).await;
            assert!(table.finished());
            assert!(table.landed().is_empty());
            assert_eq!(table.finish().await.unwrap(), repeated);
        }
        assert_eq!(rig.rows(ALL).await, ["1|a", "2|b"], "{write:?}");
        assert!(rig.staged().await.is_empty());
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_resumed_load_keeps_the_parts_that_landed() {
    let rig = Rig::new().await;
    for write in [Write::Append, Write::Replace, SOFT] {
        let load = people(write);
        {
            let table = rig.begin(load.clone()).await;
            land(table.as_ref(), "1", rows(&ONE)).await;
            let mut lane = table.lane().await.unwrap();
            lane.write(Batch::of_rows(rows(&TWO))).await.unwrap();
        }
        let rig_again = connect(&rig.url).await;
        let destination = rig_again.roles().destination.unwrap();
        let table = destination.begin(resumed(&load)).await.unwrap();
        assert!(!table.finished());
        assert_eq!(table.landed().iter().collect::<Vec<_>>(), ["1"]);
        land(table.as_ref(), "2", rows(&TWO)).await;
        assert_eq!(table.finish().await.unwrap(), did(3, 0, 0, 0), "{write:?}");
        assert_eq!(rig.rows(ALL).await, ["1|a", "2|b", "3|c"]);
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_load_begun_anew_forgets_what_had_landed() {
    let rig = Rig::new().await;
    let load = people(Write::Append);
    let table = rig.begin(load.clone()).await;
    land(table.as_ref(), "1", rows(&ONE)).await;
    drop(table);
    let table = rig.begin(load).await;
    assert!(table.landed().is_empty());
    land(table.as_ref(), "1", rows(&TWO)).await;
    assert_eq!(table.finish().await.unwrap(), did(1, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["3|c"]);
}

#[tokio::test]
async fn what_was_staged_for_other_columns_is_not_resumed() {
    let rig = Rig::new().await;
    let load = people(Write::Append);
    let table = rig.begin(load.clone()).await;
    land(table.as_ref(), "1", rows(&ONE)).await;
    let mut wider = resumed(&load);
    wider.target.columns[1].logical = tideway_core::LogicalType::Json;
    let table = rig.begin(wider).await;
    assert!(table.landed().is_empty());
}

#[tokio::test]
async fn a_part_that_has_landed_does_not_land_again() {
    let rig = Rig::new().await;
    let table = rig.begin(people(Write::Append)).await;
    let mut lane = table.lane().await.unwrap();
    write_part(lane.as_mut(), "1", rows(&ONE)).await.unwrap();
    write_part(lane.as_mut(), "1", rows(&ONE)).await.unwrap();
    write_part(lane.as_mut(), "2", rows(&TWO)).await.unwrap();
    assert_eq!(table.finish().await.unwrap(), did(3, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["1|a", "2|b", "3|c"]);
}

#[tokio::test]
async fn a_dropped_lane_leaves_nothing() {
    let rig = Rig::new().await;
    let table = rig.begin(people(Write::Append)).await;
    let mut lane = table.lane().await.unwrap();
    for _ in 0..20 {
        lane.write(Batch::of_rows(many(0, 10_000))).await.unwrap();
    }
    drop(lane);
    land(table.as_ref(), "1", rows(&ONE)).await;
    assert_eq!(table.finish().await.unwrap(), did(2, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["1|a", "2|b"]);
}

#[tokio::test]
async fn a_killed_session_leaves_nothing_and_says_unavailable() {
    let rig = Rig::new().await;
    let table = rig.begin(people(Write::Append)).await;
    let mut lane = table.lane().await.unwrap();
    lane.write(Batch::of_rows(many(0, 50_000))).await.unwrap();
    rig.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'COPY%'",
    )
    .await;
    let error = lane.commit("1").await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    drop(lane);
    land(table.as_ref(), "1", rows(&ONE)).await;
    assert_eq!(table.finish().await.unwrap(), did(2, 0, 0, 0));
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_nothing_lands() {
    let rig = Rig::new().await;
    let table = rig.begin(people(Write::Append)).await;
    rig.run(
        "CREATE FUNCTION shop.no_room() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER no_room BEFORE INSERT ON shop._tideway_loads EXECUTE FUNCTION shop.no_room()",
    )
    .await;
    let error = try_land(table.as_ref(), "1", rows(&ONE)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Full, "{error}");
    rig.run("DROP TRIGGER no_room ON shop._tideway_loads").await;
    let mut lane = table.lane().await.unwrap();
    lane.commit("1").await.unwrap();
    assert_eq!(table.finish().await.unwrap(), did(0, 0, 0, 0));
}

#[tokio::test]
async fn an_abandoned_load_leaves_the_table_as_it_was() {
    let rig = Rig::new().await;
    rig.load(people(SOFT), rows(&ONE)).await;
    let load = people(SOFT);
    let table = rig.begin(load.clone()).await;
    land(table.as_ref(), "1", rows(&TWO)).await;
    table.abandon().await.unwrap();
    table.abandon().await.unwrap();
    assert_eq!(rig.rows(ALL).await, ["1|a", "2|b"]);
    assert!(rig.staged().await.is_empty());
    assert!(rig.begin(resumed(&load)).await.landed().is_empty());
}

#[tokio::test]
async fn finishing_what_was_abandoned_asks_for_a_new_plan() {
    let rig = Rig::new().await;
    let table = rig.begin(people(SOFT)).await;
    land(table.as_ref(), "1", rows(&TWO)).await;
    table.abandon().await.unwrap();
    assert_eq!(table.finish().await.unwrap_err().kind, Kind::Drift);
}

#[tokio::test]
async fn old_tokens_and_what_nobody_finished_are_pruned_after_a_week() {
    let rig = Rig::new().await;
    rig.load(people(Write::Append), rows(&ONE)).await;
    let forgotten = rig.begin(people(Write::Append)).await;
    land(forgotten.as_ref(), "1", rows(&ONE)).await;
    rig.run("UPDATE shop._tideway_loads SET committed_at = now() - interval '8 days'")
        .await;
    let fresh = rig.begin(people(Write::Append)).await;
    assert_eq!(
        rig.one("SELECT count(*) FROM shop._tideway_loads").await,
        "0"
    );
    assert_eq!(rig.staged().await.len(), 1);
    drop(fresh);
}

fn many(from: i64, count: i64) -> arrow_array::RecordBatch {
    let load = people(Write::Append);
    let ids: Int64Array = (from..from + count).collect();
    let names: StringArray = (from..from + count)
        .map(|id| Some(format!("somebody called {id}")))
        .collect();
    batch(&load, vec![Arc::new(ids), Arc::new(names)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lanes_load_200_000_rows_side_by_side() {
    let rig = Rig::new().await;
    for (write, expected) in [
        (SOFT, did(200_000, 0, 0, 0)),
        (SOFT, did(0, 0, 0, 200_000)),
        (Write::Append, did(200_000, 0, 0, 0)),
    ] {
        if write == Write::Append {
            rig.run("ALTER TABLE shop.people DROP CONSTRAINT people_pkey")
                .await;
        }
        let table: Arc<dyn tideway_core::destination::TableLoad> =
            rig.begin(people(write)).await.into();
        let lanes = [0_i64, 1].map(|index| {
            let table = table.clone();
            tokio::spawn(async move {
                let mut lane = table.lane().await.unwrap();
                for part in 0..5 {
                    let from = (index * 5 + part) * 20_000;
                    for slice in 0..4 {
                        let slice = many(from + slice * 5_000, 5_000);
                        lane.write(Batch::of_rows(slice)).await.unwrap();
                    }
                    let durable = lane.commit(&format!("{index}-{part}")).await.unwrap();
                    assert_eq!(durable.rows, 20_000);
                }
            })
        });
        for lane in lanes {
            lane.await.unwrap();
        }
        assert_eq!(table.finish().await.unwrap(), expected);
    }
    let sums =
        "SELECT count(*), count(DISTINCT id), sum(id), count(DISTINCT name) FROM shop.people";
    assert_eq!(rig.one(sums).await, "400000|200000|39999800000|200000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_finish_at_the_same_moment_do_not_interleave() {
    let rig = Rig::new().await;
    // Whatever the database's own settings are.
    rig.run(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', \
         current_database(), 'serializable'); END $$",
    )
    .await;
    for write in [Write::Append, Write::Replace, HARD] {
        let mut tables = Vec::new();
        for n in 0..6 {
            let table = rig.begin(people(write)).await;
            let mine = [(n, "own"), (100, "shared")];
            land(table.as_ref(), "1", rows(&mine)).await;
            tables.push(table);
        }
        let done: Vec<_> = tables
            .into_iter()
            .map(|table| tokio::spawn(async move { table.finish().await.unwrap() }))
            .collect();
        for done in done {
            done.await.unwrap();
        }
        let expected = if write == Write::Append { "12" } else { "2" };
        assert_eq!(
            rig.one("SELECT count(*) FROM shop.people").await,
            expected,
            "{write:?}"
        );
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_begin_at_the_same_moment_share_a_new_schema() {
    let rig = Rig::new().await;
    let begun: Vec<_> = (0..6)
        .map(|n| {
            let connection = rig.connection.clone();
            tokio::spawn(async move {
                let mut load = people(SOFT);
                load.target.name = format!("people_{n}");
                let table = connection
                    .roles()
                    .destination
                    .unwrap()
                    .begin(load)
                    .await
                    .unwrap();
                land(table.as_ref(), "1", rows(&ONE)).await;
                table.finish().await.unwrap()
            })
        })
        .collect();
    for done in begun {
        assert_eq!(done.await.unwrap().inserted, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_the_table_before_or_after_a_load() {
    let rig = Rig::new().await;
    rig.load(people(Write::Replace), many(0, 1_000)).await;
    let url = rig.url.clone();
    let reader = tokio::spawn(async move {
        let (client, driver) = tokio_postgres::connect(url.as_str(), tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(driver);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..300 {
            let row = client
                .query_one("SELECT count(*) FROM shop.people", &[])
                .await;
            seen.insert(row.unwrap().get::<_, i64>(0));
        }
        seen
    });
    for round in 0..6 {
        let load = Load {
            truncate_existing: round % 2 == 0,
            ..people(Write::Replace)
        };
        let table = rig.begin(load).await;
        for part in 0..4 {
            land(table.as_ref(), &part.to_string(), many(part * 250, 250)).await;
        }
        assert_eq!(table.finish().await.unwrap(), did(1_000, 0, 0, 0));
    }
    assert_eq!(
        reader.await.unwrap().into_iter().collect::<Vec<_>>(),
        [1_000]
    );
}
