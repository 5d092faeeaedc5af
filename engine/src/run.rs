//! One run of a bulk sync: discover, plan, load the tables side by side, report.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use serde_json::json;
use tideway_core::{
    Catalog, Error, Kind, Result, Retry,
    destination::Outcome,
    source::{Scope, Snapshot},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    lanes::Memory,
    ledger::Ledger,
    load::load_table,
    meter::RunMeter,
    observe::{Level, Observer, TableState},
    plan::{SyncSpec, TablePlan, plan},
};

/// Stops a run or one of its tables from outside.
#[derive(Default)]
pub struct Controls {
    run: CancellationToken,
    tables: Mutex<HashMap<String, CancellationToken>>,
}

impl Controls {
    pub fn cancel(&self) {
        self.run.cancel();
    }

    pub fn cancel_table(&self, schema_id: &str) {
        self.table(schema_id).cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.run.is_cancelled()
    }

    fn table(&self, schema_id: &str) -> CancellationToken {
        let mut tables = self
            .tables
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        tables
            .entry(schema_id.to_owned())
            .or_insert_with(|| self.run.child_token())
            .clone()
    }
}

/// What came of each table, in the order of the spec.
#[derive(Debug, Clone)]
pub struct Report {
    pub tables: Vec<TableReport>,
}

#[derive(Debug, Clone)]
pub struct TableReport {
    pub schema_id: String,
    pub output_name: String,
    pub result: Result<Outcome>,
}

impl Report {
    pub fn failed(&self) -> usize {
        self.tables
            .iter()
            .filter(|table| table.result.is_err())
            .count()
    }
}

/// What the steps of a run share.
pub struct RunCx {
    pub spec: SyncSpec,
    pub ledger: Arc<dyn Ledger>,
    pub observer: Arc<dyn Observer>,
    pub meter: Arc<RunMeter>,
    pub memory: Memory,
    /// One permit per lane, over all tables.
    pub slots: Arc<Semaphore>,
    pub lanes: usize,
    pub batch_bytes: usize,
    pub snapshots: Snapshots,
    pub started_at: DateTime<Utc>,
}

/// Runs the sync. An `Err` means that nothing could be begun; what befalls single
/// tables stands in the report.
pub async fn run(
    spec: SyncSpec,
    ledger: Arc<dyn Ledger>,
    observer: Arc<dyn Observer>,
    meter: Arc<RunMeter>,
    controls: Arc<Controls>,
) -> Result<Report> {
    let lanes = spec
        .budget
        .lanes
        .min(spec.source.capabilities().lanes)
        .min(spec.destination.capabilities().lanes)
        .max(1);
    // Per lane one batch is being read, one waits and one is written.
    let batch_bytes = (spec.budget.bytes / (lanes * 4)).clamp(64 << 10, 8 << 20);
    let cx = Arc::new(RunCx {
        memory: Memory::new(spec.budget.bytes),
        slots: Arc::new(Semaphore::new(lanes)),
        lanes,
        batch_bytes,
        snapshots: Snapshots::new(&spec),
        started_at: Utc::now(),
        spec,
        ledger,
        observer,
        meter,
    });
    let catalog = tokio::select! {
        () = controls.run.cancelled() => return Err(Error::cancelled()),
        catalog = discover(&cx) => catalog?,
    };
    let mut planned = Vec::new();
    for (schema_id, table) in plan(&cx.spec, &catalog)? {
        planned.push((schema_id, table));
    }
    let order: Vec<String> = planned.iter().map(|(id, _)| id.clone()).collect();
    // The largest table first: it decides when the run ends.
    planned.sort_by_key(|(_, table)| {
        std::cmp::Reverse(
            table
                .as_ref()
                .ok()
                .and_then(|plan| plan.table.row_estimate)
                .unwrap_or(0),
        )
    });
    let at_once = cx.spec.budget.tables_at_once.max(1);
    let mut reports: HashMap<String, TableReport> = stream::iter(planned)
        .map(|(schema_id, table)| {
            let (cx, cancel) = (cx.clone(), controls.table(&schema_id));
            async move {
                let report =
                    match tokio::spawn(one_table(cx, schema_id.clone(), table, cancel)).await {
                        Ok(report) => report,
                        Err(panic) => TableReport {
                            schema_id: schema_id.clone(),
                            output_name: String::new(),
                            result: Err(Error::bug(format!("the load stopped: {panic}"))),
                        },
                    };
                (schema_id, report)
            }
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    Ok(Report {
        tables: order.iter().filter_map(|id| reports.remove(id)).collect(),
    })
}

async fn one_table(
    cx: Arc<RunCx>,
    schema_id: String,
    table: Result<TablePlan>,
    cancel: CancellationToken,
) -> TableReport {
    let output_name = table
        .as_ref()
        .map(|plan| plan.target.name.clone())
        .unwrap_or_default();
    let result = match table {
        Ok(_) if cancel.is_cancelled() => Err(Error::cancelled()),
        Ok(plan) => {
            cx.observer
                .table(&schema_id, &output_name, TableState::Running);
            for remark in &plan.remarks {
                cx.observer
                    .log(Level::Warn, &schema_id, remark.clone(), json!({}));
            }
            load_table(&cx, plan, &cancel).await
        }
        Err(error) => Err(error),
    };
    let state = match &result {
        Ok(outcome) => TableState::Completed(outcome.clone()),
        Err(error) if matches!(error.kind, Kind::Cancelled) => TableState::Canceled,
        Err(error) => {
            tracing::debug!(table = schema_id, ?error, "table failed");
            cx.observer.log(
                Level::Error,
                &schema_id,
                error.to_string(),
                json!({"kind": error.kind.word(), "hint": error.advice()}),
            );
            TableState::Failed {
                message: error.to_string(),
                hint: error.advice().to_owned(),
            }
        }
    };
    // A fenced worker has no say any more about what the table's state is.
    if !matches!(&result, Err(error) if error.kind == Kind::Fenced) {
        cx.observer.table(&schema_id, &output_name, state);
    }
    TableReport {
        schema_id,
        output_name,
        result,
    }
}

impl RunCx {
    /// Plans one table anew after it has changed at the source.
    pub async fn replan(&self, schema_id: &str) -> Result<TablePlan> {
        let catalog = discover(self).await?;
        let planned = plan(&self.spec, &catalog)?;
        planned
            .into_iter()
            .find(|(id, _)| id == schema_id)
            .map_or_else(
                || Err(Error::bug("a planned table is not in the plan")),
                |(_, plan)| plan,
            )
    }
}

async fn discover(cx: &RunCx) -> Result<Catalog> {
    let source = cx.spec.source.roles().need_source(&cx.spec.source_type)?;
    let scope = Scope {
        namespaces: None,
        tables: Some(
            cx.spec
                .tables
                .iter()
                .map(|table| table.schema_id.clone())
                .collect(),
        ),
    };
    for attempt in 1_u32.. {
        match source.discover(&scope).await {
            Ok(catalog) => return Ok(catalog),
            Err(error) if error.retry() == Retry::Never => return Err(error),
            Err(error) if attempt >= cx.spec.budget.attempts => return Err(error),
            Err(error) => {
                cx.observer.log(
                    Level::Warn,
                    "",
                    format!("the source could not be listed, trying again: {error}"),
                    json!({"kind": error.kind.word()}),
                );
                tokio::time::sleep(Duration::from_millis(500 << attempt.min(6))).await;
            }
        }
    }
    Err(Error::bug("the loop of attempts ended"))
}

/// The snapshot that all tables read from, opened when the first one needs it and
/// opened anew when it is lost.
pub struct Snapshots {
    source: Arc<dyn tideway_core::Connection>,
    source_type: String,
    options: serde_json::Value,
    held: tokio::sync::Mutex<(u64, Option<Arc<dyn Snapshot>>)>,
}

impl Snapshots {
    fn new(spec: &SyncSpec) -> Self {
        Snapshots {
            source: spec.source.clone(),
            source_type: spec.source_type.clone(),
            options: spec.source_options.clone(),
            held: tokio::sync::Mutex::new((0, None)),
        }
    }

    /// The snapshot in use, with its generation.
    pub async fn current(&self) -> Result<(u64, Arc<dyn Snapshot>)> {
        let mut held = self.held.lock().await;
        if let (generation, Some(snapshot)) = &*held {
            return Ok((*generation, snapshot.clone()));
        }
        let source = self.source.roles().need_source(&self.source_type)?;
        let snapshot = source.open(&self.options).await?;
        held.1 = Some(snapshot.clone());
        Ok((held.0, snapshot))
    }

    /// Lets go of the snapshot of that generation, unless another table did already.
    pub async fn renew(&self, generation: u64) {
        let mut held = self.held.lock().await;
        if held.0 == generation {
            *held = (generation + 1, None);
        }
    }
}
