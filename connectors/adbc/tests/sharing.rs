//! One file, several users of it: within this process and in others.

use std::{
    io::{BufRead, BufReader},
    sync::Arc,
};

use tideway_core::{
    Batch, Connection, Kind,
    destination::{Load, Write},
    source::Scope,
};

use crate::given::*;

#[tokio::test]
async fn two_connections_of_this_process_share_a_file() {
    let place = place().await;
    run(
        &place.connection,
        load("a", REPLICATE),
        &[rows(&[(1, "a")])],
    )
    .await;
    // The same file by another way to it.
    let link = place.folder.path().join("link.duckdb");
    std::os::unix::fs::symlink(place.path(), &link).unwrap();
    let second = connect(&link).await;
    let reading = snapshot(&place.connection).await;
    let writing = begin(&second, load("b", REPLICATE)).await;
    fill(writing.as_ref(), &[rows(&[(1, "b"), (2, "c")])]).await;
    assert!(place.connection.check().await.passed());
    assert_eq!(counts(&writing.finish().await.unwrap()), [1, 1, 0, 0]);
    let read = read_of(table(&second, "main.t").await);
    assert_eq!(
        read_all(&reading, &read)
            .await
            .iter()
            .map(Batch::row_count)
            .sum::<usize>(),
        1
    );
    drop((reading, writing));
    assert_eq!(
        ids_and_values(&second, "main.t").await,
        owned(&[(1, "b"), (2, "c")])
    );
}

#[tokio::test]
async fn a_file_may_be_copied_into_itself() {
    let place = place().await;
    place.sql(&["CREATE TABLE source AS SELECT range AS id, 'v' || range AS v FROM range(400000)"]);
    let read = Arc::new(read_of(table(&place.connection, "main.source").await));
    let reading = snapshot(&place.connection).await;
    let writing = begin(&place.connection, load("a", REPLICATE)).await;
    for part in reading.plan(&read).await.unwrap().parts {
        let mut lane = writing.lane().await.unwrap();
        for batch in read_part(&reading, &read, part.clone()).await {
            lane.write(batch).await.unwrap();
        }
        lane.commit(&part.id).await.unwrap();
    }
    assert_eq!(writing.finish().await.unwrap().inserted, 400_000);
}

#[tokio::test]
async fn two_loads_into_one_file_do_not_hinder_each_other() {
    let place = place().await;
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..4 {
        let connection = place.connection.clone();
        loads.spawn(async move {
            for round in 0..3 {
                let mut load = load(&format!("n{number}r{round}"), REPLICATE);
                load.target.name = format!("t{number}");
                let value = format!("round {round}");
                run(
                    &connection,
                    load,
                    &[rows(&[(1, value.as_str()), (2, "same")])],
                )
                .await;
            }
        });
    }
    while let Some(load) = loads.join_next().await {
        load.unwrap();
    }
    for number in 0..4 {
        let found = ids_and_values(&place.connection, &format!("main.t{number}")).await;
        assert_eq!(found, owned(&[(1, "round 2"), (2, "same")]));
    }
}

#[tokio::test]
async fn a_file_is_free_for_others_after_its_last_use() {
    let place = place().await;
    run(
        &place.connection,
        load("a", Write::Append),
        &[rows(&[(1, "a")])],
    )
    .await;
    let _still_there: &Arc<dyn Connection> = &place.connection;
    assert_eq!(place.sql(&["SELECT v FROM t"]), [["a"]]);
    let wal = place.path().with_extension("duckdb.wal");
    assert!(!wal.exists(), "everything is in the file itself");
}

#[tokio::test]
async fn a_file_in_use_by_another_process_is_named_with_its_user() {
    let place = place().await;
    let mut other = crate::child::spawn("hold", &[place.path().to_str().unwrap()]);
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "HELD"));
    let source = place.connection.roles().source.unwrap();
    let error = source.discover(&Scope::default()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    let path = place.path().canonicalize().unwrap();
    assert!(error.what().contains(path.to_str().unwrap()), "{error}");
    assert!(
        error.what().contains(&format!("PID {}", other.id())),
        "{error}"
    );
    assert!(
        error.advice().contains("close the file"),
        "{}",
        error.advice()
    );
    drop(other.stdin.take());
    other.wait().unwrap();
    assert!(source.discover(&Scope::default()).await.is_ok());
}

#[tokio::test]
async fn work_that_is_dropped_leaves_nothing_and_frees_the_file() {
    let place = place().await;
    let loading = begin(&place.connection, load("a", Write::Append)).await;
    let mut lane = loading.lane().await.unwrap();
    let many: Vec<(i64, &str)> = (0..200_000).map(|id| (id, "v")).collect();
    let many = rows(&many);
    let writing = tokio::spawn(async move {
        loop {
            lane.write(Batch::of_rows(many.clone())).await.unwrap();
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    writing.abort();
    let _ = writing.await;
    drop(loading);
    let again = begin(
        &place.connection,
        Load {
            resume: true,
            ..load("a", Write::Append)
        },
    )
    .await;
    assert!(again.landed().is_empty());
    fill(again.as_ref(), &[rows(&[(1, "a")])]).await;
    assert_eq!(counts(&again.finish().await.unwrap()), [1, 0, 0, 0]);
}
