//! Loads of changes one after the other and side by side, cut short and repeated, into
//! tables of all kinds.

use std::{sync::Arc, time::Duration};

use tideway_core::{
    Kind, Op,
    destination::{Disposition, Load, Outcome, TableLoad},
};

use crate::{
    write_changes::{
        ALL, Cell, HARDLY, MARKED, SOFTLY, apply, changes, filled, gone, is, load, put, stage,
    },
    write_rig::*,
};

#[tokio::test]
async fn finishing_again_changes_nothing() {
    let rig = filled(SOFTLY).await;
    let load = load(SOFTLY);
    let table = rig.begin(load.clone()).await;
    stage(table.as_ref(), &[("1", vec![put(Op::Update, 1, "A", "x")])]).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 1, 0, 0));
    rig.run("UPDATE shop.people SET name = 'by someone' WHERE id = 1")
        .await;
    let repeated = Outcome {
        repeated: true,
        ..did(0, 0, 0, 0)
    };
    assert_eq!(table.finish().await.unwrap(), repeated);
    let again = rig.begin(load).await;
    assert!(again.finished());
    assert_eq!(again.finish().await.unwrap(), repeated);
    assert!(rig.staged().await.is_empty());
    assert_eq!(rig.rows(ALL).await[0], "1|by someone|x");
}

#[tokio::test]
async fn a_load_goes_on_with_the_parts_that_landed_or_starts_over() {
    let rig = filled(SOFTLY).await;
    for resume in [true, false] {
        let load = load(SOFTLY);
        {
            let table = rig.begin(load.clone()).await;
            stage(
                table.as_ref(),
                &[("1", vec![put(Op::Insert, 4, "d", "x"), gone(2)])],
            )
            .await;
            let mut lane = table.lane().await.unwrap();
            let lost = changes(&[put(Op::Insert, 5, "lost", "x")]);
            lane.write(lost).await.unwrap();
        }
        let again = connect(&rig.url).await;
        let destination = again.roles().destination.unwrap();
        let table = destination.begin(Load { resume, ..load }).await.unwrap();
        assert_eq!(table.landed().len(), usize::from(resume));
        let rest = [
            ("1", vec![put(Op::Insert, 4, "d", "x"), gone(2)]),
            ("2", vec![put(Op::Update, 4, "D", "x")]),
        ];
        stage(table.as_ref(), &rest).await;
        let done = table.finish().await.unwrap();
        assert_eq!(done, did(1, 1, 1, 0), "{resume}");
        let rows = rig.rows(MARKED).await;
        assert_eq!(rows, ["1|a|x|f", "2|b|x|t", "3|c|x|f", "4|D|x|f"]);
        rig.run(
            "DELETE FROM shop.people WHERE id = 4; \
             UPDATE shop.people SET _polytomic_deleted_at = NULL",
        )
        .await;
    }
}

/// Waits until this many sessions wait for a lock.
async fn until_stuck(rig: &Rig, count: &str) {
    const STUCK: &str = "SELECT count(*) FROM pg_stat_activity \
                         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        // In a transaction the server goes on showing what it showed first.
        rig.run("SELECT pg_stat_clear_snapshot()").await;
        if rig.one(STUCK).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_staged_while_another_one_is_in_its_last_step() {
    let rig = filled(HARDLY).await;
    let first: Arc<dyn TableLoad> = rig.begin(load(HARDLY)).await.into();
    stage(
        first.as_ref(),
        &[("1", vec![put(Op::Update, 1, "first", "x")])],
    )
    .await;
    // Someone holds the row, so the first load is stuck in the middle.
    rig.run("BEGIN; UPDATE shop.people SET about = 'held' WHERE id = 1")
        .await;
    let finishing = tokio::spawn({
        let first = first.clone();
        async move { first.finish().await.unwrap() }
    });
    until_stuck(&rig, "1").await;
    let second = rig.begin(load(HARDLY)).await;
    stage(
        second.as_ref(),
        &[("1", vec![put(Op::Update, 1, "second", "x")])],
    )
    .await;
    assert!(!finishing.is_finished());
    rig.run("ROLLBACK").await;
    assert_eq!(finishing.await.unwrap(), did(0, 1, 0, 0));
    assert_eq!(second.finish().await.unwrap(), did(0, 1, 0, 0));
    assert_eq!(rig.rows(ALL).await[0], "1|second|x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_in_its_last_step_elsewhere_is_waited_for() {
    let rig = filled(HARDLY).await;
    let load = load(HARDLY);
    let zombie: Arc<dyn TableLoad> = rig.begin(load.clone()).await.into();
    stage(
        zombie.as_ref(),
        &[("1", vec![put(Op::Update, 1, "A", "x")])],
    )
    .await;
    rig.run("BEGIN; UPDATE shop.people SET about = 'held' WHERE id = 1")
        .await;
    let finishing = tokio::spawn(async move { zombie.finish().await.unwrap() });
    until_stuck(&rig, "1").await;
    let again = tokio::spawn({
        let connection = rig.connection.clone();
        async move {
            let destination = connection.roles().destination.unwrap();
            destination.begin(load).await.unwrap().finished()
        }
    });
    until_stuck(&rig, "2").await;
    rig.run("ROLLBACK").await;
    assert_eq!(finishing.await.unwrap(), did(0, 1, 0, 0));
    assert!(again.await.unwrap());
}

#[tokio::test]
async fn columns_are_added_and_filled_where_changes_arrive() {
    let rig = Rig::new().await;
    rig.load(people(SOFT), rows(&[(1, "a"), (2, "b")])).await;
    let table = rig.begin(load(SOFTLY)).await;
    let told: Vec<&str> = table
        .schema_changes()
        .iter()
        .map(|c| c.0.as_str())
        .collect();
    assert_eq!(told, ["column about added as text"]);
    let rows = vec![
        put(Op::Update, 1, "a", "x"),
        (Op::Update, 2, is("B"), Cell::Kept),
    ];
    stage(table.as_ref(), &[("1", rows)]).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 2, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["1|a|x", "2|B|null"]);
}

#[tokio::test]
async fn a_table_of_someone_elses_is_changed_as_it_is() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.people (extra int DEFAULT 5, about varchar(8), \
         name varchar(3), id numeric NOT NULL); \
         INSERT INTO shop.people VALUES (1, 'x', 'a', 1), (2, 'x', 'b', 2)",
    )
    .await;
    let table = rig.begin(load(HARDLY)).await;
    let told: Vec<&str> = table
        .schema_changes()
        .iter()
        .map(|c| c.0.as_str())
        .collect();
    assert_eq!(told, ["index on the key (id) added"]);
    let rows = vec![
        (Op::Update, 1, is("A"), Cell::Kept),
        gone(2),
        put(Op::Insert, 3, "c", "y"),
    ];
    stage(table.as_ref(), &[("1", rows)]).await;
    assert_eq!(table.finish().await.unwrap(), did(1, 1, 1, 0));
    let all = "SELECT id, name, about, extra FROM shop.people ORDER BY id";
    assert_eq!(rig.rows(all).await, ["1|A|x|1", "3|c|y|5"]);
    let table = rig.begin(load(HARDLY)).await;
    assert!(table.schema_changes().is_empty());
    stage(
        table.as_ref(),
        &[("1", vec![put(Op::Update, 1, "long", "x")])],
    )
    .await;
    let error = table.finish().await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.what().contains("column name"), "{error}");
    assert_eq!(rig.rows(all).await, ["1|A|x|1", "3|c|y|5"]);
}

#[tokio::test]
async fn a_missing_table_is_made_and_others_are_emptied_or_made_anew_where_asked() {
    let rig = Rig::new().await;
    for disposition in [
        Disposition::Retain,
        Disposition::Truncate,
        Disposition::Rebuild,
    ] {
        let part = vec![put(Op::Insert, 9, "i", "x"), gone(1)];
        let asked = || Load {
            disposition,
            ..load(SOFTLY)
        };
        let done = apply(&rig, asked(), &[("1", part.clone())]).await;
        assert_eq!(done, did(1, 0, 0, 0));
        let done = apply(&rig, asked(), &[("1", part)]).await;
        let expected = match disposition {
            Disposition::Retain => did(0, 0, 0, 1),
            _ => did(1, 0, 0, 0),
        };
        assert_eq!(done, expected, "{disposition:?}");
        assert_eq!(rig.rows(MARKED).await, ["9|i|x|f"]);
        let key = "SELECT conname FROM pg_constraint WHERE conrelid = 'shop.people'::regclass \
                   AND contype = 'p'";
        assert_eq!(rig.one(key).await, "people_pkey");
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_table_dropped_meanwhile_and_a_stage_lost_are_told_or_mended() {
    let rig = filled(HARDLY).await;
    let table = rig.begin(load(HARDLY)).await;
    stage(table.as_ref(), &[("1", vec![put(Op::Insert, 4, "d", "x")])]).await;
    rig.run("DROP TABLE shop.people").await;
    assert_eq!(table.finish().await.unwrap(), did(1, 0, 0, 0));
    for spoil in ["DELETE FROM", "DROP TABLE"] {
        let table = rig.begin(load(HARDLY)).await;
        stage(table.as_ref(), &[("1", vec![put(Op::Insert, 5, "e", "x")])]).await;
        let staged = rig.staged().await;
        rig.run(&format!("{spoil} shop.{}", staged[0])).await;
        assert_eq!(table.finish().await.unwrap_err().kind, Kind::Drift);
        table.abandon().await.unwrap();
        assert!(rig.staged().await.is_empty());
    }
    assert_eq!(rig.rows(ALL).await, ["4|d|x"]);
}

#[tokio::test]
async fn empty_parts_and_empty_loads_change_nothing() {
    let rig = filled(SOFTLY).await;
    let table = rig.begin(load(SOFTLY)).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 0, 0, 0));
    let table = rig.begin(load(SOFTLY)).await;
    let mut lane = table.lane().await.unwrap();
    lane.commit("1").await.unwrap();
    lane.commit("2").await.unwrap();
    assert_eq!(table.finish().await.unwrap(), did(0, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await.len(), 3);
}

/// Arrays of a table's rows are of a type that has its name with a `_` before it.
#[tokio::test]
async fn a_name_that_another_session_takes_at_the_same_moment_is_no_fault_of_the_data() {
    let rig = Rig::new().await;
    rig.run("CREATE SCHEMA IF NOT EXISTS shop").await;
    let mut load = load(HARDLY);
    load.target.name = "_taken".to_owned();
    let table: Arc<dyn TableLoad> = rig.begin(load).await.into();
    let parts = [("1", vec![put(Op::Insert, 1, "a", "x")])];
    stage(table.as_ref(), &parts).await;
    rig.run("BEGIN; CREATE TABLE shop.taken (id int)").await;
    let finishing = tokio::spawn({
        let table = table.clone();
        async move { table.finish().await.unwrap_err().kind }
    });
    until_stuck(&rig, "1").await;
    rig.run("COMMIT").await;
    assert_eq!(finishing.await.unwrap(), Kind::Unavailable);
    assert_eq!(table.finish().await.unwrap().inserted, 1);
}
