//! Tables that fail while they follow a change stream.

use std::time::Duration;

use tideway_core::{Error, Kind};
use tideway_engine::Ledger;

use super::rows;
use crate::{
    fakes::Deed,
    streams::{bench, crash, equal, good, put, spec},
};

#[tokio::test]
async fn a_table_that_cannot_be_told_of_leaves_the_stream_alone_and_is_read_anew_later() {
    let bench = bench();
    bench.source.put("a", rows(10));
    bench.source.put("b", rows(10));
    good(&bench, spec(&bench, "e1", &["a", "b"])).await;
    let both = [("a", put([1, 1, 100])), ("b", put([1, 1, 100]))];
    bench.source.commit(&both);
    bench.source.commit(&[
        ("b", put([2, 2, 200])),
        ("a", put([2, 2, 200])),
        ("a", Deed::Spoil),
        ("a", put([3, 3, 300])),
        ("b", put([3, 3, 300])),
    ]);
    bench.source.commit(&[("b", put([4, 4, 400]))]);
    let report = bench.run(spec(&bench, "e2", &["a", "b"])).await;
    let error = report.tables[0].result.as_ref().unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.to_string().contains("a value cannot be read"));
    assert!(report.tables[1].result.is_ok());
    equal(&bench, &["b"]);
    // It does not hold the log, and the destination shows none of what was half told.
    let log = bench.source.log.as_ref().unwrap();
    assert_eq!(log.place(), Some(log.end()));
    assert_eq!(bench.ledger.load("a").await.unwrap().stream, None);
    assert!(bench.destination.rows("a").iter().all(|row| row[2] != 200));
    good(&bench, spec(&bench, "e3", &["a", "b"])).await;
    equal(&bench, &["a", "b"]);
}

#[tokio::test]
async fn a_failing_table_leaves_the_stream_alone_and_is_read_anew_later() {
    let bench = bench();
    bench.source.put("a", rows(10));
    bench.source.put("b", rows(10));
    good(&bench, spec(&bench, "e1", &["a", "b"])).await;
    bench
        .source
        .commit(&[("a", put([1, 1, 100])), ("b", put([1, 1, 100]))]);
    bench
        .destination
        .fail("a", Error::data("a value does not fit"));
    let report = bench.run(spec(&bench, "e2", &["a", "b"])).await;
    assert_eq!(
        report.tables[0].result.as_ref().unwrap_err().kind,
        Kind::Data
    );
    assert!(report.tables[1].result.is_ok());
    equal(&bench, &["b"]);
    // It does not hold the log.
    let log = bench.source.log.as_ref().unwrap();
    assert_eq!(log.place(), Some(log.end()));
    assert_eq!(bench.ledger.load("a").await.unwrap().stream, None);
    bench.destination.heal();
    good(&bench, spec(&bench, "e3", &["a", "b"])).await;
    equal(&bench, &["a", "b"]);
}

#[tokio::test]
async fn a_new_key_without_the_whole_row_has_the_table_read_anew() {
    let bench = bench();
    bench.source.put("a", rows(4));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    let row = [9, 10, 100];
    bench.source.commit(&[("a", Deed::Rekey { from: 1, row })]);
    let report = bench.run(spec(&bench, "e2", &["a"])).await;
    let error = report.tables[0].result.as_ref().unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    good(&bench, spec(&bench, "e3", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test]
async fn a_destination_that_is_down_does_not_cost_the_position() {
    let bench = bench();
    bench.source.put("a", rows(10));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    bench.source.commit(&[("a", put([1, 1, 100]))]);
    bench.destination.fail("a", Error::full("no room left"));
    let report = bench.run(spec(&bench, "e2", &["a"])).await;
    assert_eq!(report.failed(), 1);
    assert!(bench.ledger.load("a").await.unwrap().stream.is_some());
    bench.destination.heal();
    bench
        .source
        .fail("a", Error::bug("the table was read again"), 1);
    good(&bench, spec(&bench, "e3", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test]
async fn what_cannot_be_removed_when_a_table_fails_is_removed_by_the_next_run() {
    let mut bench = bench();
    bench.source.put("a", rows(10));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    // The run dies between the staging of a unit and its last step.
    bench.source.commit(&[("a", put([1, 1, 100]))]);
    bench.destination.slow = Some(Duration::from_secs(3600));
    let dying = bench.run(spec(&bench, "e2", &["a"]));
    tokio::time::timeout(Duration::from_millis(300), dying)
        .await
        .unwrap_err();
    bench.destination.slow = None;
    assert_eq!(bench.destination.staged(), 1);
    // The next one cannot reach what was staged, and gives the table up.
    bench
        .destination
        .fail("a", Error::config("the clock is wrong"));
    assert_eq!(bench.run(spec(&bench, "e3", &["a"])).await.failed(), 1);
    assert_eq!(bench.ledger.load("a").await.unwrap().stream, None);
    bench.destination.heal();
    good(&bench, spec(&bench, "e4", &["a"])).await;
    equal(&bench, &["a"]);
    assert_eq!(bench.destination.staged(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_and_not_durable_is_not_forgotten_by_the_source() {
    let mut bench = bench();
    bench.source.put("a", rows(4));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    let log = bench.source.log.clone().unwrap();
    let before = log.place();
    bench.source.commit(&[("a", put([1, 1, 100]))]);
    bench.destination.slow = Some(Duration::from_secs(3600));
    let dying = bench.run(spec(&bench, "e2", &["a"]));
    let died = tokio::time::timeout(Duration::from_secs(30), dying);
    died.await.unwrap_err();
    assert!(before.is_some() && before < Some(log.end()));
    assert_eq!(log.place(), before);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_run_put_in_place_is_known_to_the_next_run() {
    let mut put_in_place = 0;
    for steps in 1..120 {
        let bench = bench();
        bench.source.put("a", rows(6));
        good(&bench, spec(&bench, "e1", &["a"])).await;
        bench.source.commit(&[("a", put([1, 1, 100]))]);
        crash(&bench, spec(&bench, "e2", &["a"]), steps, || {}).await;
        put_in_place += usize::from(bench.destination.finishes() > 1);
        let again = Error::bug("the table was read again");
        bench.source.fail("a", again, 1);
        good(&bench, spec(&bench, "e3", &["a"])).await;
        equal(&bench, &["a"]);
    }
    assert!(put_in_place > 0);
}
