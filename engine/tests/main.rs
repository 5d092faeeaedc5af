//! The engine against an in-memory source and destination.

mod fakes;
mod fenced;
mod stream_failures;
mod streams;
mod told;
mod verified;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use fakes::{FakeDestination, FakeSource, Row, eight_bytes, planning};
use proptest::prelude::*;
use serde_json::json;
use tideway_core::{Error, Kind, WriteMode, capability::Replay, naming::Normalize};
use tideway_engine::{
    Budget, Controls, FilterSpec, Ledger, MemoryLedger, Report, Resync, RunMeter, Silent, SyncSpec,
    TableSpec, Verify, run,
};

struct Bench {
    source: FakeSource,
    destination: FakeDestination,
    ledger: Arc<MemoryLedger>,
}

impl Bench {
    fn new(replay: Replay) -> Self {
        Bench {
            source: FakeSource::new(replay),
            destination: FakeDestination::new(),
            ledger: Arc::default(),
        }
    }

    /// Both sides can do without batches, and agree on how.
    fn agreed(mut self) -> Self {
        self.source.formats = vec![eight_bytes(["n", "n", "n"])];
        self.destination.takes = Some(eight_bytes(["n", "n", "n"]));
        self
    }

    fn passed(&self) -> u64 {
        self.destination.passed.load(SeqCst)
    }

    fn spec(&self, execution: &str, mode: WriteMode, tables: &[&str]) -> SyncSpec {
        SyncSpec {
            execution_id: execution.into(),
            fence: 1,
            source: Arc::new(self.source.clone()),
            destination: Arc::new(self.destination.clone()),
            source_type: "fake".into(),
            destination_type: "fake".into(),
            source_options: json!({}),
            destination_options: json!({"advanced": {"hard_deletes": true}}),
            tables: tables
                .iter()
                .map(|id| TableSpec {
                    schema_id: (*id).into(),
                    ..TableSpec::default()
                })
                .collect(),
            mode,
            resync: None,
            test: false,
            normalize: Normalize::Enabled,
            record_timestamps: true,
            cutoff: None,
            obfuscation_key: b"key".to_vec(),
            budget: Budget {
                bytes: 1 << 20,
                tables_at_once: 2,
                lanes: 3,
                attempts: 3,
            },
            verify: Verify::Always,
            stream: None,
        }
    }

    async fn run(&self, spec: SyncSpec) -> Report {
        self.try_run(spec).await.unwrap()
    }

    async fn try_run(&self, spec: SyncSpec) -> tideway_core::Result<Report> {
        run(
            spec,
            self.ledger.clone(),
            Arc::new(Silent),
            Arc::default(),
            Arc::default(),
        )
        .await
    }
}

fn rows(n: i64) -> Vec<Row> {
    (0..n).map(|id| [id, id * 10, id / 3]).collect()
}

fn as_read(rows: &[Row]) -> Vec<Vec<i64>> {
    rows.iter().map(|row| row.to_vec()).collect()
}

#[tokio::test]
async fn tables_arrive_whole_in_every_mode() {
    for mode in WriteMode::ALL {
        let bench = Bench::new(Replay::Snapshot);
        bench.source.put("a", rows(95));
        bench.source.put("b", rows(0));
        let report = bench.run(bench.spec("e1", mode, &["a", "b"])).await;
        assert_eq!(report.failed(), 0, "{report:?}");
        assert_eq!(bench.destination.rows("a"), as_read(&rows(95)));
        assert!(
            bench.destination.exists("b"),
            "an empty table is created too"
        );
    }
}

#[tokio::test]
async fn a_panicking_table_fails_alone() {
    let mut bench = Bench::new(Replay::Snapshot);
    bench.source.put("good", rows(30));
    bench.source.put("bad", rows(30));
    bench.source.panics = Some("bad");
    let spec = bench.spec("e1", WriteMode::Replicate, &["bad", "good"]);
    let report = bench.run(spec).await;
    assert_eq!(bench.destination.rows("good"), as_read(&rows(30)));
    let error = report.tables[0].result.as_ref().unwrap_err();
    assert_eq!(error.kind, Kind::Bug);
    assert!(report.tables[1].result.is_ok());
}

#[tokio::test]
async fn a_failing_table_fails_alone_and_leaves_no_staging() {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("good", rows(30));
    bench.source.put("bad", rows(30));
    bench
        .source
        .fail("bad", Error::permission("no right to read bad"), u32::MAX);
    let report = bench
        .run(bench.spec("e1", WriteMode::Replicate, &["good", "bad", "gone"]))
        .await;
    assert_eq!(bench.destination.rows("good"), as_read(&rows(30)));
    let kind = |at: usize| {
        report.tables[at]
            .result
            .as_ref()
            .err()
            .map(|error| error.kind)
    };
    assert_eq!(
        (kind(0), kind(1), kind(2)),
        (None, Some(Kind::Permission), Some(Kind::Missing))
    );
    assert!(!bench.destination.exists("bad"));
    assert_eq!(bench.destination.staged(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_passing_trouble_is_tried_again_and_a_lasting_one_is_given_up() {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("a", rows(50));
    bench
        .source
        .fail("a", Error::unavailable("gone for a moment"), 2);
    let report = bench
        .run(bench.spec("e1", WriteMode::Replicate, &["a"]))
        .await;
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(bench.destination.rows("a"), as_read(&rows(50)));

    bench
        .source
        .fail("a", Error::unavailable("gone for good"), u32::MAX);
    let report = bench
        .run(bench.spec("e2", WriteMode::Replicate, &["a"]))
        .await;
    assert_eq!(report.failed(), 1);
    assert_eq!(
        bench.destination.rows("a"),
        as_read(&rows(50)),
        "the old rows stay"
    );
}

#[tokio::test]
async fn an_incremental_append_takes_each_row_once_in_spite_of_ties() {
    let bench = Bench::new(Replay::Stable);
    let mut all: Vec<Row> = vec![];
    for round in 0..6 {
        // Several rows share each tracking value, and late ones join the last value.
        all.extend((0..7).map(|i| [round * 7 + i, 0, round * 2 + i / 3]));
        bench.source.put("a", all.clone());
        let mut spec = bench.spec(&format!("e{round}"), WriteMode::Append, &["a"]);
        spec.tables[0].tracking_field = Some("t".into());
        let report = bench.run(spec).await;
        assert_eq!(report.failed(), 0, "{report:?}");
        assert_eq!(bench.destination.rows("a"), as_read(&all), "round {round}");
    }
}

#[tokio::test]
async fn resync_reads_everything_again() {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("a", rows(20));
    let spec = |execution: &str, resync| {
        let mut spec = bench.spec(execution, WriteMode::Replicate, &["a"]);
        spec.tables[0].tracking_field = Some("t".into());
        spec.resync = resync;
        spec
    };
    bench.run(spec("e1", None)).await;
    // A change that does not move the tracking field is missed by an incremental run.
    let mut changed = rows(20);
    changed[0][1] = 999;
    bench.source.put("a", changed.clone());
    bench.run(spec("e2", None)).await;
    assert_eq!(bench.destination.rows("a"), as_read(&rows(20)));
    bench.run(spec("e3", Some(Resync::Refetch))).await;
    assert_eq!(bench.destination.rows("a"), as_read(&changed));
}

#[tokio::test]
async fn a_test_run_reads_five_records_and_changes_nothing() {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("a", rows(40));
    let meter: Arc<RunMeter> = Arc::default();
    let mut spec = bench.spec("e1", WriteMode::Snapshot, &["a"]);
    spec.test = true;
    let ledger = bench.ledger.clone();
    let report = run(
        spec,
        ledger,
        Arc::new(Silent),
        meter.clone(),
        Arc::default(),
    )
    .await
    .unwrap();
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(meter.totals().rows_read, 5);
    assert!(!bench.destination.exists("a"));
    assert_eq!(bench.destination.staged(), 0);
}

#[tokio::test]
async fn a_crashed_test_run_leaves_no_staging_and_no_trace_in_the_ledger() {
    for stable in [Replay::Stable, Replay::Snapshot] {
        let bench = Bench::new(stable);
        bench.source.put("a", rows(40));
        bench
            .run(bench.spec("e1", WriteMode::Snapshot, &["a"]))
            .await;
        let kept = bench.ledger.load("a").await.unwrap();
        let mut staged = 0;
        for steps in 1..60 {
            let spec = |fence| {
                let mut spec = bench.spec(&format!("test {steps}"), WriteMode::Snapshot, &["a"]);
                spec.test = true;
                spec.fence = fence;
                spec
            };
            if crash_after(&bench, spec(1), steps).await.is_some() {
                break;
            }
            staged += bench.destination.staged();
            assert_eq!(bench.run(spec(2)).await.failed(), 0);
            assert_eq!(bench.destination.staged(), 0, "after {steps} steps");
            assert_eq!(bench.ledger.load("a").await.unwrap(), kept);
        }
        assert!(staged > 0, "no crash came while something was staged");
        assert_eq!(bench.destination.rows("a"), as_read(&rows(40)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_planning_failed_at_first_is_read_all_the_same() {
    let bench = Bench::new(Replay::Stable);
    bench.source.put("a", rows(50));
    bench
        .source
        .fail(&planning("a"), Error::unavailable("gone for a moment"), 1);
    let report = bench
        .run(bench.spec("e1", WriteMode::Snapshot, &["a"]))
        .await;
    assert_eq!(report.failed(), 0, "{report:?}");
    assert_eq!(bench.destination.rows("a"), as_read(&rows(50)));
}

#[tokio::test]
async fn filters_and_chosen_fields_shape_the_rows() {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("a", rows(10));
    let mut spec = bench.spec("e1", WriteMode::Snapshot, &["a"]);
    let field = |id: &str, enabled| tideway_engine::FieldSpec {
        id: id.into(),
        enabled,
        obfuscate: false,
        output_name: None,
    };
    spec.tables[0].fields = Some(vec![
        field("v", true),
        field("id", false),
        field("t", false),
    ]);
    spec.tables[0].filters = vec![FilterSpec {
        field_id: "t".into(),
        function: "GreaterThanEqual".into(),
        value: json!(2),
    }];
    bench.run(spec).await;
    // The key comes along though it was switched off; the filter's field does not.
    let expected: Vec<Vec<i64>> = (6..10).map(|id| vec![id, id * 10]).collect();
    assert_eq!(bench.destination.rows("a"), expected);
}

#[tokio::test]
async fn rows_pass_undecoded_where_both_sides_agree_and_nothing_is_to_be_done_to_them() {
    for mode in WriteMode::ALL {
        let bench = Bench::new(Replay::Snapshot).agreed();
        bench.source.put("a", rows(95));
        let mut spec = bench.spec("e1", mode, &["a"]);
        // Columns go by position: another name is nothing that is done to rows.
        let renamed = |id: &str| tideway_engine::FieldSpec {
            id: id.into(),
            enabled: true,
            obfuscate: false,
            output_name: Some(format!("my_{id}")),
        };
        spec.tables[0].fields = Some(["id", "v", "t"].map(renamed).to_vec());
        assert_eq!(bench.run(spec).await.failed(), 0);
        assert_eq!(bench.destination.rows("a"), as_read(&rows(95)));
        assert_eq!(bench.passed(), 95);
    }
}

#[tokio::test]
async fn rows_do_not_pass_undecoded_where_something_is_to_be_done_to_them() {
    type Shaping = fn(&mut SyncSpec);
    let shaped: [(&str, WriteMode, Shaping); 4] = [
        ("a filter", WriteMode::Snapshot, |spec| {
            spec.tables[0].filters = vec![FilterSpec {
                field_id: "t".into(),
                function: "GreaterThanEqual".into(),
                value: json!(2),
            }];
        }),
        (
            "ties that append has to tell apart",
            WriteMode::Append,
            |spec| {
                spec.tables[0].tracking_field = Some("t".into());
            },
        ),
        (
            "a tracking field that is not written",
            WriteMode::Replicate,
            |spec| {
                let field = |id: &str, enabled| tideway_engine::FieldSpec {
                    id: id.into(),
                    enabled,
                    obfuscate: false,
                    output_name: None,
                };
                spec.tables[0].tracking_field = Some("t".into());
                spec.tables[0].fields = Some(vec![field("v", true), field("t", false)]);
            },
        ),
        ("a test run", WriteMode::Snapshot, |spec| spec.test = true),
    ];
    for (what, mode, shape) in shaped {
        let bench = Bench::new(Replay::Snapshot).agreed();
        bench.source.put("a", rows(30));
        let mut spec = bench.spec("e1", mode, &["a"]);
        shape(&mut spec);
        assert_eq!(bench.run(spec).await.failed(), 0, "{what}");
        assert_eq!(bench.passed(), 0, "{what}");
    }
    let mut bench = Bench::new(Replay::Snapshot).agreed();
    bench.destination.takes = Some(eight_bytes(["n", "m", "n"]));
    bench.source.put("a", rows(30));
    bench
        .run(bench.spec("e1", WriteMode::Snapshot, &["a"]))
        .await;
    assert_eq!(bench.destination.rows("a"), as_read(&rows(30)));
    assert_eq!(bench.passed(), 0, "the forms differ in a column");
}

#[tokio::test]
async fn rows_that_passed_and_did_not_become_durable_fail_the_table() {
    let mut bench = Bench::new(Replay::Snapshot).agreed();
    bench.destination.loses = 1;
    bench.source.put("a", rows(30));
    let report = bench
        .run(bench.spec("e1", WriteMode::Snapshot, &["a"]))
        .await;
    let error = report.tables[0].result.as_ref().unwrap_err();
    assert!(error.to_string().contains("became durable"), "{error}");
    assert!(!bench.destination.exists("a"));
}

#[tokio::test]
async fn a_cancelled_table_stops_and_the_others_go_on() {
    let bench = Bench::new(Replay::Snapshot);
    bench.source.put("a", rows(500));
    bench.source.put("b", rows(50));
    let controls: Arc<Controls> = Arc::default();
    controls.cancel_table("a");
    let spec = bench.spec("e1", WriteMode::Replicate, &["a", "b"]);
    let report = run(
        spec,
        bench.ledger.clone(),
        Arc::new(Silent),
        Arc::default(),
        controls,
    )
    .await
    .unwrap();
    assert_eq!(
        report.tables[0].result.as_ref().unwrap_err().kind,
        Kind::Cancelled
    );
    assert_eq!(bench.destination.rows("b"), as_read(&rows(50)));
    assert_eq!(bench.destination.staged(), 0);
}

/// Polls the run `steps` times and then drops it, as a crash would.
async fn crash_after(bench: &Bench, spec: SyncSpec, steps: usize) -> Option<Report> {
    let mut running = Box::pin(bench.try_run(spec));
    for _ in 0..steps {
        tokio::select! {
            biased;
            report = &mut running => return Some(report.unwrap()),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(running);
    // Tasks that were aborted need a moment to be gone.
    tokio::time::sleep(Duration::from_millis(1)).await;
    None
}

#[tokio::test]
async fn what_a_dead_execution_put_in_place_is_known_to_the_next_one() {
    let (mut dead, mut counted) = (0, 0);
    for steps in 1..80 {
        let bench = Bench::new(Replay::Snapshot);
        bench.source.put("a", rows(40));
        let spec = |execution: &str| {
            let mut spec = bench.spec(execution, WriteMode::Append, &["a"]);
            spec.tables[0].tracking_field = Some("t".into());
            spec
        };
        if crash_after(&bench, spec("canceled"), steps).await.is_some() {
            break;
        }
        dead += 1;
        counted += usize::from(!bench.destination.rows("a").is_empty());
        assert_eq!(bench.run(spec("next")).await.failed(), 0);
        assert_eq!(
            bench.destination.rows("a"),
            as_read(&rows(40)),
            "after {steps} steps"
        );
        assert_eq!(bench.destination.staged(), 0, "after {steps} steps");
    }
    assert!(dead > 5 && counted > 0, "{dead} {counted}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Crashes at arbitrary moments, each followed by another worker with a higher fence;
    /// in the end the destination equals the source, in all modes and for both kinds of parts.
    #[test]
    fn no_row_is_lost_or_doubled_by_crashes(
        steps in prop::collection::vec(1_usize..120, 0..5),
        count in 0_i64..120,
        mode in 0_usize..3,
        stable: bool,
        tracked: bool,
        agreed: bool,
    ) {
        let mode = WriteMode::ALL[mode];
        let bench = Bench::new(if stable { Replay::Stable } else { Replay::Snapshot });
        let bench = if agreed { bench.agreed() } else { bench };
        bench.source.put("a", rows(count));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut report = None;
            let mut fence = 0;
            for steps in steps.into_iter().map(Some).chain([None]) {
                fence += 1;
                let mut spec = bench.spec("e1", mode, &["a"]);
                spec.fence = fence;
                spec.tables[0].tracking_field = tracked.then(|| "t".to_owned());
                report = match steps {
                    Some(steps) => crash_after(&bench, spec, steps).await,
                    None => Some(bench.run(spec).await),
                };
                if report.is_some() {
                    break;
                }
            }
            assert_eq!(report.unwrap().failed(), 0);
            assert_eq!(bench.destination.rows("a"), as_read(&rows(count)));
            assert_eq!(bench.destination.staged(), 0);
        });
    }
}
