//! A worker that was cut off, and does not know it, changes nothing any more: its ledger says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use tideway_core::{Checkpoint, Error, Kind, Result, WriteMode, capability::Replay};
use tideway_engine::{Ledger, MemoryLedger, Report, Silent, SyncSpec, run};

use super::{Bench, rows};
use crate::streams::{bench, good, put, spec};

/// Belongs to another worker from some moment on.
struct Taken {
    ledger: Arc<MemoryLedger>,
    taken: Arc<AtomicBool>,
}

#[async_trait]
impl Ledger for Taken {
    async fn load(&self, schema_id: &str) -> Result<Checkpoint> {
        self.ledger.load(schema_id).await
    }

    async fn save(&self, schema_id: &str, checkpoint: &Checkpoint) -> Result<()> {
        match self.taken.load(SeqCst) {
            true => Err(Error::fenced("another worker has taken over")),
            false => self.ledger.save(schema_id, checkpoint).await,
        }
    }
}

async fn run_as(bench: &Bench, spec: SyncSpec, taken: &Arc<AtomicBool>) -> Result<Report> {
    let ledger = Taken {
        ledger: bench.ledger.clone(),
        taken: taken.clone(),
    };
    let observer = Arc::new(Silent);
    run(
        spec,
        Arc::new(ledger),
        observer,
        Arc::default(),
        Arc::default(),
    )
    .await
}

/// Whether it ended because another worker has taken over.
fn is_fenced(ended: &Result<Report>) -> bool {
    let fenced = |error: &Error| error.kind == Kind::Fenced;
    match ended {
        Ok(report) => report
            .tables
            .iter()
            .all(|table| table.result.as_ref().is_err_and(fenced)),
        Err(error) => fenced(error),
    }
}

#[tokio::test]
async fn a_load_is_not_put_in_place_by_a_worker_that_was_cut_off_while_it_staged() {
    for mode in WriteMode::ALL {
        let mut bench = Bench::new(Replay::Snapshot);
        bench.source.put("a", rows(95));
        let taken = Arc::new(AtomicBool::new(false));
        bench.destination.committed = taken.clone();
        let ended = run_as(&bench, bench.spec("e1", mode, &["a"]), &taken).await;
        assert!(is_fenced(&ended), "{ended:?}");
        assert_eq!(bench.destination.finishes(), 0);
        assert!(!bench.destination.exists("a"));
    }
}

#[tokio::test]
async fn changes_are_not_put_in_place_by_a_worker_that_was_cut_off_while_it_staged() {
    let mut bench = bench();
    bench.source.put("a", rows(10));
    good(&bench, spec(&bench, "e1", &["a"])).await;
    let before = (bench.destination.finishes(), bench.destination.rows("a"));
    let taken = Arc::new(AtomicBool::new(false));
    bench.destination.committed = taken.clone();
    bench.source.commit(&[("a", put([1, 1, 100]))]);
    let ended = run_as(&bench, spec(&bench, "e2", &["a"]), &taken).await;
    assert!(is_fenced(&ended), "{ended:?}");
    let after = (bench.destination.finishes(), bench.destination.rows("a"));
    assert_eq!(after, before);
}

/// What an earlier worker staged is the later one's to remove, or to go on with.
#[tokio::test]
async fn what_is_staged_is_left_alone_by_a_worker_that_was_cut_off() {
    for streams in [false, true] {
        let mut bench = bench();
        bench.source.put("a", rows(10));
        let spec = |execution: &str, bench: &Bench| match streams {
            true => spec(bench, execution, &["a"]),
            false => bench.spec(execution, WriteMode::Replicate, &["a"]),
        };
        good(&bench, spec("e1", &bench)).await;
        bench.source.commit(&[("a", put([1, 1, 100]))]);
        bench.destination.slow = Some(Duration::from_secs(3600));
        let dying = bench.run(spec("e2", &bench));
        let died = tokio::time::timeout(Duration::from_millis(300), dying);
        died.await.unwrap_err();
        bench.destination.slow = None;
        assert_eq!(bench.destination.staged(), 1, "streams: {streams}");
        let taken = Arc::new(AtomicBool::new(true));
        let ended = run_as(&bench, spec("e3", &bench), &taken).await;
        assert!(is_fenced(&ended), "{ended:?}");
        assert_eq!(bench.destination.staged(), 1, "streams: {streams}");
    }
}
