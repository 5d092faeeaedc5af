//! Tables that follow a change stream.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tideway_core::{Error, Kind, WriteMode, capability::Replay};
use tideway_engine::{
    Controls, FilterSpec, Ledger, Report, Resync, RunMeter, Silent, StreamSpec, SyncSpec,
    evolve::AddPolicy, run,
};

use super::{Bench, rows};
use crate::fakes::{Deed, FakeSource, Row};

pub fn put(row: Row) -> Deed {
    Deed::Put { row, kept: false }
}

pub fn bench() -> Bench {
    Bench {
        source: FakeSource::streaming(),
        ..Bench::new(Replay::Snapshot)
    }
}

pub fn spec(bench: &Bench, execution: &str, tables: &[&str]) -> SyncSpec {
    SyncSpec {
        stream: Some(StreamSpec {
            id: "sync".into(),
            others: Vec::new(),
            follow_for: None,
            new_fields: AddPolicy::All,
        }),
        ..bench.spec(execution, WriteMode::Replicate, tables)
    }
}

pub async fn good(bench: &Bench, spec: SyncSpec) -> Report {
    let report = bench.run(spec).await;
    assert_eq!(report.failed(), 0, "{report:?}");
    report
}

/// The destination holds what the source does, and nothing went wrong on the way.
pub fn equal(bench: &Bench, tables: &[&str]) {
    for table in tables {
        let mut expected = wide_rows(bench, table);
        expected.sort();
        assert_eq!(bench.destination.rows(table), expected, "{table}");
    }
    nothing_wrong(bench);
}

fn nothing_wrong(bench: &Bench) {
    let log = bench.source.log.as_ref().unwrap();
    assert_eq!(log.wrongs(), Vec::<String>::new());
    assert_eq!(bench.destination.wrongs(), Vec::<String>::new());
    assert_eq!(bench.destination.staged(), 0);
}

fn wide_rows(bench: &Bench, table: &str) -> Vec<Vec<i64>> {
    let wide = bench.source.log.as_ref().unwrap().wide(table);
    let tables = bench.source.tables.lock().unwrap();
    let cells = |row: &Row| {
        let mut cells = row.to_vec();
        cells.extend(wide.then_some(row[1] * 2));
        cells
    };
    tables[table].iter().map(cells).collect()
}

#[tokio::test]
async fn a_table_is_read_once_and_followed_from_there() {
    let bench = bench();
    bench.source.put("a", rows(25));
    bench.source.put("b", rows(3));
    good(&bench, spec(&bench, "e1", &["a", "b"])).await;
    equal(&bench, &["a", "b"]);

    bench
        .source
        .commit(&[("a", put([1, 11, 100])), ("b", put([7, 70, 100]))]);
    bench
        .source
        .commit(&[("a", put([1, 12, 101])), ("a", Deed::Delete(2))]);
    bench.source.commit(&[(
        "a",
        Deed::Put {
            row: [3, 0, 102],
            kept: true,
        },
    )]);
    // A scan would read this; the stream must not need to.
    bench
        .source
        .fail("a", Error::bug("the table was read again"), 1);
    let report = good(&bench, spec(&bench, "e2", &["a", "b"])).await;
    equal(&bench, &["a", "b"]);
    let outcome = report.tables[0].result.as_ref().unwrap();
    assert_eq!((outcome.updated, outcome.deleted), (2, 1));
    // All of it is confirmed: the source may forget it.
    let log = bench.source.log.as_ref().unwrap();
    assert_eq!(log.place(), Some(log.end()));
}

#[tokio::test]
async fn appended_tables_get_each_insert_and_update_once_and_no_delete() {
    let bench = bench();
    bench.source.put("a", rows(2));
    let append = |execution: &str| SyncSpec {
        mode: WriteMode::Append,
        ..spec(&bench, execution, &["a"])
    };
    good(&bench, append("e1")).await;
    bench.source.commit(&[
        ("a", put([0, 5, 100])),
        ("a", put([0, 6, 100])),
        ("a", Deed::Delete(1)),
    ]);
    good(&bench, append("e2")).await;
    good(&bench, append("e3")).await;
    let expected = [[0, 0, 0], [0, 5, 100], [0, 6, 100], [1, 10, 0]];
    assert_eq!(bench.destination.rows("a"), expected);
    nothing_wrong(&bench);
}

#[tokio::test]
async fn a_truncate_takes_what_was_there_and_leaves_what_came_after() {
    let bench = bench();
    bench.source.put("a", rows(20));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    bench.source.commit(&[("a", put([1, 1, 100]))]);
    bench.source.commit(&[
        ("a", put([30, 1, 101])),
        ("a", Deed::Truncate),
        ("a", put([31, 1, 102])),
    ]);
    bench.source.commit(&[("a", put([32, 1, 103]))]);
    good(&bench, spec(&bench, "e2", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test]
async fn a_row_that_leaves_the_filter_is_deleted() {
    let bench = bench();
    bench.source.put("a", [[1, 10, 1], [2, 20, 1], [3, 1, 1]]);
    let filtered = |execution: &str| {
        let mut spec = spec(&bench, execution, &["a"]);
        spec.tables[0].filters = vec![FilterSpec {
            field_id: "v".into(),
            function: "GreaterThan".into(),
            value: 5.into(),
        }];
        spec
    };
    good(&bench, filtered("e1")).await;
    bench.source.commit(&[
        ("a", put([1, 2, 2])),
        ("a", put([3, 9, 2])),
        ("a", put([4, 1, 2])),
        ("a", put([5, 8, 2])),
    ]);
    good(&bench, filtered("e2")).await;
    assert_eq!(
        bench.destination.rows("a"),
        [[2, 20, 1], [3, 9, 2], [5, 8, 2]]
    );
    nothing_wrong(&bench);

    // A value that is not told cannot be judged.
    bench.source.commit(&[(
        "a",
        Deed::Put {
            row: [2, 0, 3],
            kept: true,
        },
    )]);
    let report = bench.run(filtered("e3")).await;
    assert_eq!(
        report.tables[0].result.as_ref().unwrap_err().kind,
        Kind::Data
    );
}

#[tokio::test]
async fn a_widened_table_goes_on_and_a_rewritten_one_is_read_anew() {
    for rewritten in [false, true] {
        let bench = bench();
        bench.source.put("a", rows(12));
        bench.source.put("b", rows(12));
        good(&bench, spec(&bench, "e1", &["a", "b"])).await;
        if !rewritten {
            let again = Error::bug("the table was read again");
            bench.source.fail("a", again, 1);
        }
        let mut on = spec(&bench, "e2", &["a", "b"]);
        on.stream.as_mut().unwrap().follow_for = Some(Duration::from_millis(600));
        let writing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            bench
                .source
                .commit(&[("a", put([1, 1, 100])), ("b", put([1, 1, 100]))]);
            bench.source.commit(&[("a", Deed::Widen { rewritten })]);
            tokio::time::sleep(Duration::from_millis(50)).await;
            // Without a rewrite the new column shows only in rows that change.
            for id in 0..if rewritten { 3 } else { 12 } {
                bench.source.commit(&[("a", put([id, id + 7, 101]))]);
            }
            bench.source.commit(&[("b", put([2, 2, 102]))]);
        };
        let (report, ()) = tokio::join!(
            going_on(&bench, on, Arc::default(), Arc::default()),
            writing
        );
        assert_eq!(report.failed(), 0, "{report:?}");
        equal(&bench, &["a", "b"]);
        // Nor is it read again later.
        bench.source.commit(&[("a", put([1, 3, 200]))]);
        bench
            .source
            .fail("a", Error::bug("the table was read again"), 1);
        good(&bench, spec(&bench, "e3", &["a", "b"])).await;
        equal(&bench, &["a", "b"]);
    }
}

#[tokio::test]
async fn what_is_chosen_later_has_the_table_read_anew() {
    let bench = bench();
    bench.source.put("a", rows(6));
    let chosen = |execution: &str, value: bool| {
        let mut spec = spec(&bench, execution, &["a"]);
        let field = |id: &str, enabled| tideway_engine::FieldSpec {
            id: id.into(),
            enabled,
            obfuscate: false,
            output_name: None,
        };
        spec.tables[0].fields = Some(vec![field("id", true), field("v", value), field("t", true)]);
        spec
    };
    good(&bench, chosen("e1", false)).await;
    good(&bench, chosen("e2", true)).await;
    // The new column came last.
    let expected: Vec<Vec<i64>> = rows(6).iter().map(|row| row.to_vec()).collect();
    assert_eq!(bench.destination.rows("a"), expected);
    // What is chosen no longer needs no reading.
    bench
        .source
        .fail("a", Error::bug("the table was read again"), 1);
    good(&bench, chosen("e3", false)).await;
}

#[tokio::test]
async fn rows_of_both_shapes_in_one_transaction_are_read_anew() {
    let bench = bench();
    bench.source.put("a", rows(12));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    bench.source.commit(&[
        ("a", put([1, 1, 100])),
        ("a", Deed::Widen { rewritten: false }),
        ("a", put([2, 2, 101])),
    ]);
    good(&bench, spec(&bench, "e2", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test]
async fn a_lost_place_in_the_log_has_the_tables_read_anew() {
    let bench = bench();
    bench.source.put("a", rows(10));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    bench.source.commit(&[("a", put([1, 1, 100]))]);
    bench.source.log.as_ref().unwrap().lose();
    bench.source.commit(&[("a", put([2, 2, 101]))]);
    good(&bench, spec(&bench, "e2", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test]
async fn a_refused_table_is_scanned_and_a_test_makes_no_stream() {
    let bench = bench();
    bench.source.put("a", rows(10));
    bench.source.put("b", rows(10));
    let log = bench.source.log.clone().unwrap();
    let mut test = spec(&bench, "e0", &["a"]);
    test.test = true;
    good(&bench, test).await;
    let mut snapshot = spec(&bench, "e0", &["a"]);
    snapshot.mode = WriteMode::Snapshot;
    good(&bench, snapshot).await;
    assert_eq!((log.attached(), log.place()), (0, None));

    log.refuse("a", Error::config("no identity"));
    for execution in ["e1", "e2"] {
        bench
            .source
            .commit(&[("a", put([1, 5, 100])), ("b", put([1, 5, 100]))]);
        good(&bench, spec(&bench, execution, &["a", "b"])).await;
        equal(&bench, &["a", "b"]);
    }
    assert_eq!(bench.ledger.load("a").await.unwrap().stream, None);
    assert!(bench.ledger.load("b").await.unwrap().stream.is_some());
}

#[tokio::test]
async fn a_resync_reads_anew_and_follows_from_there() {
    let bench = bench();
    bench.source.put("a", rows(10));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    // Changed behind the log's back.
    bench.source.put("a", rows(11));
    let mut again = spec(&bench, "e2", &["a"]);
    again.resync = Some(Resync::Refetch);
    good(&bench, again).await;
    bench.source.commit(&[("a", put([1, 5, 100]))]);
    good(&bench, spec(&bench, "e3", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test]
async fn tables_that_are_not_part_of_the_run_keep_their_place() {
    let bench = bench();
    bench.source.put("a", rows(5));
    bench.source.put("b", rows(5));
    good(&bench, spec(&bench, "e1", &["a", "b"])).await;
    bench
        .source
        .commit(&[("a", put([1, 1, 100])), ("b", put([1, 1, 100]))]);
    let mut only_a = spec(&bench, "e2", &["a"]);
    only_a.stream.as_mut().unwrap().others = vec!["b".into()];
    good(&bench, only_a).await;
    equal(&bench, &["a"]);
    let log = bench.source.log.as_ref().unwrap();
    assert!(log.place().unwrap() < log.end(), "b still needs the log");
    bench
        .source
        .fail("b", Error::bug("the table was read again"), 1);
    good(&bench, spec(&bench, "e3", &["a", "b"])).await;
    equal(&bench, &["a", "b"]);
}

#[tokio::test]
async fn a_source_that_breaks_off_is_followed_again() {
    let bench = bench();
    bench.source.put("a", rows(5));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    for n in 0..20 {
        bench.source.commit(&[("a", put([n % 7, n, 100 + n]))]);
    }
    bench.source.log.as_ref().unwrap().break_after(&[5]);
    good(&bench, spec(&bench, "e2", &["a"])).await;
    equal(&bench, &["a"]);
}

/// A run that goes on while the source changes, ended by `end`.
async fn going_on(
    bench: &Bench,
    spec: SyncSpec,
    controls: Arc<Controls>,
    meter: Arc<RunMeter>,
) -> Report {
    let ledger = bench.ledger.clone();
    run(spec, ledger, Arc::new(Silent), meter, controls)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_continuous_run_follows_for_its_time_and_stops_between_transactions() {
    let bench = bench();
    bench.source.put("a", rows(5));
    let mut spec = spec(&bench, "e1", &["a"]);
    spec.stream.as_mut().unwrap().follow_for = Some(Duration::from_millis(900));
    let writing = async {
        for n in 0..30 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            bench.source.commit(&[("a", put([n % 7, n, 100 + n]))]);
        }
    };
    let started = std::time::Instant::now();
    let (report, ()) = tokio::join!(
        going_on(&bench, spec, Arc::default(), Arc::default()),
        writing
    );
    assert_eq!(report.failed(), 0, "{report:?}");
    assert!(started.elapsed() >= Duration::from_millis(900));
    equal(&bench, &["a"]);
    // The snapshot, and no more than one load per fifth of a second or so.
    let finishes = bench.destination.finishes();
    assert!((2..=8).contains(&finishes), "{finishes} loads");
}

#[tokio::test]
async fn a_cancelled_stream_stops_at_once_and_goes_on_in_the_next_run() {
    let mut bench = bench();
    bench.destination.slow = Some(Duration::from_millis(50));
    bench.source.put("a", rows(5));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    let mut endless = spec(&bench, "e2", &["a"]);
    endless.stream.as_mut().unwrap().follow_for = Some(Duration::from_secs(600));
    let controls: Arc<Controls> = Arc::default();
    let stop = controls.clone();
    let writing = async {
        for n in 0..30 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            bench.source.commit(&[("a", put([n % 7, n, 100 + n]))]);
        }
        stop.cancel();
        std::time::Instant::now()
    };
    let (report, stopped) =
        tokio::join!(going_on(&bench, endless, controls, Arc::default()), writing);
    assert!(stopped.elapsed() < Duration::from_millis(500));
    assert_eq!(
        report.tables[0].result.as_ref().unwrap_err().kind,
        Kind::Cancelled
    );
    bench
        .source
        .fail("a", Error::bug("the table was read again"), 1);
    good(&bench, spec(&bench, "e3", &["a"])).await;
    equal(&bench, &["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_keeps_within_the_budget() {
    let bench = bench();
    bench.source.put("a", rows(1));
    bench.source.put("b", rows(1));
    good(&bench, spec(&bench, "e1", &["a", "b"])).await;
    let deeds: Vec<(&str, Deed)> = (0..6000)
        .map(|n| {
            (
                if n % 2 == 0 { "a" } else { "b" },
                put([n % 700, n, 100 + n]),
            )
        })
        .collect();
    bench.source.commit(&deeds);
    let mut small = spec(&bench, "e2", &["a", "b"]);
    small.budget.bytes = 256 << 10;
    let meter: Arc<RunMeter> = Arc::default();
    let report = going_on(&bench, small, Arc::default(), meter.clone()).await;
    assert_eq!(report.failed(), 0, "{report:?}");
    equal(&bench, &["a", "b"]);
    assert_eq!(meter.totals().rows_read, 6000);
    // More than the budget passed, in pieces that fit.
    let most = bench.destination.most_bytes();
    assert!(most <= 256 << 10, "{most} bytes in one batch");
    assert!(meter.totals().bytes_read > 256 << 10);
}

/// Polls the run `steps` times while time passes and `meanwhile` happens, and then drops
/// it, as a crash would.
pub async fn crash(bench: &Bench, spec: SyncSpec, steps: usize, mut meanwhile: impl FnMut()) {
    let mut running = Box::pin(bench.try_run(spec));
    for step in 0..steps {
        tokio::select! {
            biased;
            report = &mut running => {
                report.unwrap();
                return;
            }
            () = tokio::task::yield_now() => {}
        }
        if step % 20 == 19 {
            meanwhile();
        }
        if step % 8 == 7 {
            tokio::time::advance(Duration::from_millis(60)).await;
        }
    }
    drop(running);
    // Tasks that were aborted need a moment to be gone.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// One step of a table's life.
fn deed() -> impl Strategy<Value = (usize, Deed)> {
    let deed = prop_oneof![
        12 => (0_i64..9, any::<bool>()).prop_map(|(id, kept)| Deed::Put { row: [id, 0, 0], kept }),
        4 => (0_i64..9).prop_map(Deed::Delete),
        1 => Just(Deed::Truncate),
        // The fake's old rows have the new column at once, so only a rewrite can be compared.
        1 => Just(Deed::Widen { rewritten: true }),
    ];
    (0_usize..2, deed)
}

/// Numbers the updates: the third column is the row's version.
fn numbered(
    step: &mut i64,
    transaction: &[(usize, Deed)],
    wide: &mut [bool; 2],
) -> Vec<(&'static str, Deed)> {
    let names = ["a", "b"];
    let mut deeds = Vec::new();
    for (table, deed) in transaction {
        *step += 1;
        let deed = match deed.clone() {
            Deed::Put { row, kept } => Deed::Put {
                row: [row[0], *step * 3, 1000 + *step],
                kept,
            },
            Deed::Widen { rewritten } => {
                if std::mem::replace(&mut wide[*table], true) {
                    continue;
                }
                Deed::Widen { rewritten }
            }
            deed => deed,
        };
        deeds.push((names[*table], deed));
    }
    deeds
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The source goes on changing while workers crash at arbitrary moments, each followed
    /// by one with a higher fence, within one execution or in the next. No version of a row
    /// goes back, the source is never asked for what it was told to forget, and in the end
    /// both sides are equal.
    #[test]
    fn no_change_is_lost_doubled_or_undone_by_crashes(
        rounds in prop::collection::vec(
            (
                prop::collection::vec(prop::collection::vec(deed(), 1..5), 0..12),
                1_usize..400,
                any::<bool>(),
            ),
            1..6,
        ),
        lost in prop::option::weighted(0.15, 0_usize..6),
    ) {
        let bench = bench();
        bench.source.put("a", rows(4));
        bench.source.put("b", rows(4));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut step, mut fence, mut execution) = (0, 0, 0);
            let mut wide = [false; 2];
            for (round, (transactions, steps, next_execution)) in rounds.iter().enumerate() {
                if lost == Some(round) {
                    bench.source.log.as_ref().unwrap().lose();
                }
                fence += 1;
                execution += u32::from(*next_execution);
                let mut spec = spec(&bench, &format!("e{execution}"), &["a", "b"]);
                spec.fence = fence;
                let before = transactions.len() / 2;
                for transaction in &transactions[..before] {
                    bench.source.commit(&numbered(&mut step, transaction, &mut wide));
                }
                // The rest comes while the worker is at it.
                let mut coming = transactions[before..].iter();
                let mut next = |bench: &Bench| {
                    if let Some(transaction) = coming.next() {
                        bench.source.commit(&numbered(&mut step, transaction, &mut wide));
                    }
                };
                crash(&bench, spec, *steps, || next(&bench)).await;
            }
            let mut last = spec(&bench, "last", &["a", "b"]);
            last.fence = fence + 1;
            good(&bench, last).await;
            equal(&bench, &["a", "b"]);
        });
    }

    /// Appending, each change arrives exactly once whatever crashes.
    #[test]
    fn no_appended_change_is_lost_or_doubled_by_crashes(
        rounds in prop::collection::vec((0_usize..10, 1_usize..300), 1..6),
    ) {
        let bench = bench();
        bench.source.put("a", rows(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let append = |fence: u64| SyncSpec {
                mode: WriteMode::Append,
                fence,
                ..spec(&bench, "e1", &["a"])
            };
            good(&bench, append(1)).await;
            let (mut step, mut fence) = (0, 1);
            let mut expected = BTreeMap::new();
            for (count, steps) in rounds {
                for _ in 0..count {
                    step += 1;
                    let row = [step % 5, step, step];
                    expected.insert(step, row.to_vec());
                    bench.source.commit(&[("a", put(row))]);
                }
                fence += 1;
                crash(&bench, append(fence), steps, || ()).await;
            }
            let mut last = append(fence + 1);
            last.execution_id = "e2".into();
            good(&bench, last).await;
            let mut expected: Vec<Vec<i64>> = expected.into_values().collect();
            expected.sort();
            assert_eq!(bench.destination.rows("a"), expected);
            nothing_wrong(&bench);
        });
    }
}
