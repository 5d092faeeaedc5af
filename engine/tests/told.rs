//! What a run tells of what was done to values.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tideway_core::{Note, WriteMode, capability::Replay};
use tideway_engine::{
    SyncSpec,
    observe::{Level, Observer, TableState},
    run,
};

use super::{Bench, rows};
use crate::streams::{bench, put, spec};

#[derive(Default)]
struct Heard(Mutex<Vec<(Level, Value)>>);

impl Observer for Heard {
    fn table(&self, _: &str, _: &str, _: TableState) {}

    fn log(&self, level: Level, _: &str, _: String, payload: Value) {
        self.0.lock().unwrap().push((level, payload));
    }
}

/// What was told of values in a run.
async fn told(bench: &Bench, spec: SyncSpec) -> Vec<Value> {
    let heard = Arc::new(Heard::default());
    let (ledger, observer) = (bench.ledger.clone(), heard.clone());
    let report = run(spec, ledger, observer, Arc::default(), Arc::default()).await;
    assert_eq!(report.unwrap().failed(), 0);
    let heard = heard.0.lock().unwrap();
    let of_values = heard
        .iter()
        .filter(|(_, payload)| payload["what"].is_string());
    let lines = of_values.inspect(|(level, _)| assert_eq!(*level, Level::Warn));
    lines.map(|(_, payload)| payload.clone()).collect()
}

#[tokio::test]
async fn what_was_done_to_values_is_told_with_column_and_count() {
    let note = Note {
        column: "v".into(),
        what: "infinity stored as null".into(),
        rows: 2,
    };
    let lines = [json!({"column": "v", "what": "infinity stored as null", "rows": 2})];

    let mut scanned = Bench::new(Replay::Snapshot);
    scanned.destination.notes = vec![note.clone()];
    scanned.source.put("a", rows(1));
    let spec_of_scan = scanned.spec("e1", WriteMode::Replicate, &["a"]);
    assert_eq!(told(&scanned, spec_of_scan).await, lines);

    let mut streamed = bench();
    streamed.source.put("a", rows(1));
    assert!(
        told(&streamed, spec(&streamed, "e1", &["a"]))
            .await
            .is_empty()
    );
    streamed.destination.notes = vec![note];
    streamed.source.commit(&[("a", put([0, 1, 100]))]);
    assert_eq!(told(&streamed, spec(&streamed, "e2", &["a"])).await, lines);
}
