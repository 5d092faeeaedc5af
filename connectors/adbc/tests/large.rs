//! A million rows through ingest, with little memory.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use serde_json::json;
use tideway_core::{
    Batch, Column, Connection, LogicalType,
    destination::{Load, Outcome, TargetTable},
    schema::arrow_schema,
};

use crate::given::*;

const ROWS: i64 = 1_000_000;
const BATCH: i64 = 25_000;

fn columns() -> Vec<Column> {
    let decimal = LogicalType::Decimal {
        precision: 12,
        scale: 2,
    };
    [
        ("id", LogicalType::Int64),
        ("name", LogicalType::Text),
        ("mail", LogicalType::Text),
        ("price", decimal),
        ("rate", LogicalType::Float64),
        ("count", LogicalType::Int32),
        ("active", LogicalType::Boolean),
        ("day", LogicalType::Date),
        ("at", LogicalType::Timestamp),
        ("tz", LogicalType::TimestampTz),
        ("doc", LogicalType::Json),
        ("code", LogicalType::Numeric),
    ]
    .into_iter()
    .map(|(name, logical)| Column::new(name, logical))
    .collect()
}

fn batch(first: i64, version: i64) -> RecordBatch {
    let ids = || first..first + BATCH;
    let text = |of: &dyn Fn(i64) -> String| {
        Arc::new(StringArray::from_iter_values(ids().map(of))) as ArrayRef
    };
    let decimals: Decimal128Array = ids().map(|id| Some(i128::from(id * 7 + version))).collect();
    let micros = || TimestampMicrosecondArray::from_iter_values(ids().map(|id| id * 1_000_003));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids())),
        text(&|id| format!("customer number {id} version {version}")),
        text(&|id| format!("{id}@example.com")),
        Arc::new(decimals.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(Float64Array::from_iter_values(
            ids().map(|id| id as f64 / 3.0),
        )),
        Arc::new(Int32Array::from_iter(
            ids().map(|id| (id % 5 != 0).then_some(id as i32)),
        )),
        Arc::new(BooleanArray::from_iter(ids().map(|id| Some(id % 2 == 0)))),
        Arc::new(Date32Array::from_iter_values(
            ids().map(|id| (id % 20_000) as i32),
        )),
        Arc::new(micros()),
        Arc::new(micros().with_timezone("UTC")),
        text(&|id| format!("{{\"id\": {id}, \"tags\": [\"a\", \"b\"]}}")),
        text(&|id| format!("{id}.00")),
    ];
    RecordBatch::try_new(arrow_schema(&columns()), arrays).unwrap()
}

async fn replicate(connection: &Arc<dyn Connection>, id: &str, version: i64) -> Outcome {
    let target = TargetTable {
        columns: columns(),
        ..load(id, REPLICATE).target
    };
    let load = Load {
        target,
        record_timestamps: true,
        ..load(id, REPLICATE)
    };
    let load = begin(connection, load).await;
    let mut lanes = tokio::task::JoinSet::new();
    for part in 0..4 {
        let mut lane = load.lane().await.unwrap();
        lanes.spawn(async move {
            let share = ROWS / 4;
            for first in (part * share..(part + 1) * share).step_by(BATCH as usize) {
                lane.write(Batch::of_rows(batch(first, version)))
                    .await
                    .unwrap();
            }
            lane.commit(&format!("p{part}")).await.unwrap();
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    load.finish().await.unwrap()
}

/// The most memory since the last call.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_are_loaded_and_merged_within_256_megabytes() {
    library();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.duckdb");
    let settings = json!({"path": path.to_str().unwrap(), "memory_limit": "256MB"});
    let connection = connect_with(settings).await.unwrap();
    let started = std::time::Instant::now();
    assert_eq!(
        counts(&replicate(&connection, "a", 1).await),
        [ROWS as u64, 0, 0, 0]
    );
    let loaded = started.elapsed();
    let load_peak = peak_mib();
    // Every row differs, which is the most that a merge can have to do.
    assert_eq!(
        counts(&replicate(&connection, "b", 2).await),
        [0, ROWS as u64, 0, 0]
    );
    let merged = started.elapsed() - loaded;
    let merge_peak = peak_mib();
    let read = read_of(table(&connection, "main.t").await);
    let snapshot = snapshot(&connection).await;
    let mut rows = 0;
    for part in snapshot.plan(&read).await.unwrap().parts {
        let mut batches = snapshot.clone().read(Arc::new(read.clone()), part);
        while let Some(batch) = futures::StreamExt::next(&mut batches).await {
            rows += batch.unwrap().row_count() as i64;
        }
    }
    assert_eq!(rows, ROWS);
    let read = started.elapsed() - loaded - merged;
    let read_peak = peak_mib();
    println!(
        "loaded in {loaded:?} with {load_peak} MiB, merged in {merged:?} with {merge_peak} MiB, \
         read in {read:?} with {read_peak} MiB"
    );
    assert!(load_peak.max(merge_peak).max(read_peak) < 640);
}
