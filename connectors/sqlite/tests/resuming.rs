use std::sync::Arc;

use arrow_array::Int64Array;
use tideway_core::{
    Column, Kind, LogicalType,
    destination::{Disposition, Write},
};

use crate::support::*;

#[tokio::test]
async fn a_load_goes_on_with_the_parts_that_landed() {
    for write in [Write::Append, Write::Replace, HARD] {
        let file = filled(write).await;
        let mut load = load(write, Disposition::Retain);
        let begun = begin(&file, &load).await.unwrap();
        let mut lane = begun.lane().await.unwrap();
        lane.write(person_rows(&[(1, "ann")])).await.unwrap();
        lane.commit("a").await.unwrap();
        lane.write(person_rows(&[(8, "lost")])).await.unwrap();
        drop(lane);
        drop(begun);
        assert_eq!(names(&file).len(), 3, "readers see nothing of it yet");

        load.resume = true;
        let begun = begin(&file, &load).await.unwrap();
        assert_eq!(begun.landed().iter().collect::<Vec<_>>(), ["a"]);
        let mut lane = begun.lane().await.unwrap();
        // A part that has landed is written once more: its rows do not double.
        lane.write(person_rows(&[(1, "ann")])).await.unwrap();
        assert_eq!(lane.commit("a").await.unwrap().rows, 1);
        lane.write(person_rows(&[(9, "new")])).await.unwrap();
        lane.commit("b").await.unwrap();
        let outcome = begun.finish().await.unwrap();
        let expected = match write {
            Write::Append | Write::Replace => [2, 0, 0, 0],
            Write::Merge { .. } | Write::Changes { .. } => [1, 0, 2, 1],
        };
        assert_eq!(counts(&outcome), expected, "{write:?}");
        no_leftovers(&file);
    }
}

#[tokio::test]
async fn a_load_that_does_not_resume_starts_over() {
    let file = filled(Write::Append).await;
    let load = load(Write::Append, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    land(begun.as_ref(), vec![person_rows(&[(7, "old")])])
        .await
        .unwrap();
    let begun = begin(&file, &load).await.unwrap();
    assert!(begun.landed().is_empty());
    land(begun.as_ref(), vec![person_rows(&[(8, "new")])])
        .await
        .unwrap();
    assert_eq!(begun.finish().await.unwrap().inserted, 1);
    assert_eq!(names(&file), ["1 ann", "2 bob", "3 cid", "8 new"]);
}

#[tokio::test]
async fn what_was_staged_with_other_columns_is_not_resumed() {
    let file = File::absent();
    let mut load = load(Write::Append, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    land(begun.as_ref(), vec![person_rows(&[(7, "old")])])
        .await
        .unwrap();
    load.resume = true;
    load.target
        .columns
        .push(Column::new("extra", LogicalType::Text));
    let begun = begin(&file, &load).await.unwrap();
    assert!(begun.landed().is_empty());
}

#[tokio::test]
async fn an_abandoned_load_leaves_nothing_behind() {
    let file = filled(Write::Replace).await;
    let begun = begin(&file, &load(Write::Replace, Disposition::Retain))
        .await
        .unwrap();
    land(begun.as_ref(), vec![person_rows(&[(7, "x")])])
        .await
        .unwrap();
    begun.abandon().await.unwrap();
    begun.abandon().await.unwrap();
    assert_eq!(names(&file), ["1 ann", "2 bob", "3 cid"]);
    no_leftovers(&file);
    assert_eq!(
        file.texts("SELECT count(*) FROM _tideway_loads WHERE part_id <> ''"),
        ["0"]
    );
}

#[tokio::test]
async fn a_lane_that_is_dropped_leaves_nothing_and_lets_others_write() {
    let file = File::absent();
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let mut first = begun.lane().await.unwrap();
    first.write(person_rows(&[(1, "lost")])).await.unwrap();
    let mut second = begun.lane().await.unwrap();
    let waiting = tokio::spawn(async move {
        second.write(person_rows(&[(2, "kept")])).await.unwrap();
        second.commit("b").await.unwrap()
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "lanes take turns");
    drop(first);
    waiting.await.unwrap();
    assert_eq!(begun.finish().await.unwrap().inserted, 1);
    assert_eq!(names(&file), ["2 kept"]);
}

#[tokio::test]
async fn several_tables_are_loaded_side_by_side() {
    let file = File::absent();
    let connection = file.connect().await;
    let mut tasks = tokio::task::JoinSet::new();
    for table in 0..4 {
        let connection = connection.clone();
        tasks.spawn(async move {
            let mut load = load(HARD, Disposition::Retain);
            load.target.name = format!("table {table}");
            let begun = destination(&connection).begin(load).await.unwrap();
            let mut lane = begun.lane().await.unwrap();
            for part in 0..5 {
                for row in 0..4 {
                    lane.write(person_rows(&[(part * 10 + row, "x")]))
                        .await
                        .unwrap();
                }
                lane.commit(&part.to_string()).await.unwrap();
            }
            begun.finish().await.unwrap().inserted
        });
    }
    while let Some(inserted) = tasks.join_next().await {
        assert_eq!(inserted.unwrap(), 20);
    }
}

#[tokio::test]
async fn tokens_of_loads_long_past_are_pruned_with_what_they_staged() {
    let file = filled(Write::Append).await;
    file.run(
        "UPDATE _tideway_loads SET committed_at = '2020-01-01 00:00:00.000000+00:00';
         INSERT INTO _tideway_loads VALUES ('dead', 'a', 1, '2020-01-01 00:00:00.000000+00:00');
         CREATE TABLE _tideway_stage_dead (x);",
    );
    let next = load(Write::Append, Disposition::Retain);
    run_load(&file, &next, vec![person_rows(&[(4, "dan")])])
        .await
        .unwrap();
    assert_eq!(file.texts("SELECT load_id FROM _tideway_loads"), [next.id]);
    no_leftovers(&file);
}

#[tokio::test]
async fn a_part_goes_on_over_many_writes_and_lands_whole() {
    let file = File::absent();
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let mut lane = begun.lane().await.unwrap();
    for row in 0..10 {
        lane.write(person_rows(&[(row, "x")])).await.unwrap();
        let stage = file.texts(
            "SELECT name FROM sqlite_schema WHERE name LIKE '\\_tideway\\_stage%' ESCAPE '\\'",
        );
        let staged = file.texts(&format!("SELECT count(*) FROM {}", stage[0]));
        assert_eq!(staged, ["0"], "nothing is there before the commit");
    }
    assert_eq!(lane.commit("a").await.unwrap().rows, 10);
    assert_eq!(begun.finish().await.unwrap().inserted, 10);
}

#[tokio::test]
async fn a_batch_of_other_columns_is_our_bug_and_spoils_the_part() {
    let file = File::absent();
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let mut lane = begun.lane().await.unwrap();
    lane.write(person_rows(&[(1, "x")])).await.unwrap();
    let columns = vec![Column::new("id", LogicalType::Int64)];
    let wrong = batch(&columns, vec![Arc::new(Int64Array::from(vec![1]))]);
    assert_eq!(lane.write(wrong).await.unwrap_err().kind, Kind::Bug);
    assert_eq!(
        lane.commit("a").await.unwrap_err().kind,
        Kind::Bug,
        "half a part must not land"
    );
    drop(lane);
    assert_eq!(begun.finish().await.unwrap().inserted, 0);
}
