//! One run of a bulk sync: discover, plan, load the tables side by side, report.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde_json::json;
use tideway_core::{
    Catalog, Error, Kind, Result, Retry, WriteMode, destination::Outcome, source::Scope,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    lanes::Memory,
    ledger::Ledger,
    load::load_table,
    meter::RunMeter,
    observe::{Level, Observer, StreamState, TableState},
    plan::{StreamSpec, SyncSpec, TablePlan, plan},
    snapshots::Snapshots,
    stream,
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

    pub(crate) async fn cancelled(&self) {
        self.run.cancelled().await;
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.run
    }

    pub(crate) fn table(&self, schema_id: &str) -> CancellationToken {
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
    /// Where the change stream stood at the end, if tables were streamed.
    pub stream: Option<StreamState>,
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
    /// The views with a position, for tables that are streamed from there.
    pub anchors: Snapshots,
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
        snapshots: Snapshots::of_source(&spec),
        anchors: Snapshots::of_stream(&spec),
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
    let planned = plan(&cx.spec, &catalog)?;
    let order: Vec<String> = planned.iter().map(|(id, _)| id.clone()).collect();
    let (streamed, mut scanned) = split(&cx, planned);
    let mut streaming = None;
    if let Some(spec) = streams_of(&cx)
        && !streamed.is_empty()
    {
        let attached = stream::attach(&cx, spec, catalog, streamed, &controls).await;
        scanned.extend(attached.1.into_iter().map(|(id, plan)| (id, Ok(plan))));
        streaming = Some(tokio::spawn(attached.0.run()));
    }
    let streaming = streaming.map(AbortOnDropHandle::new);
    let mut reports = scan(&cx, scanned, &controls).await;
    let mut state = None;
    if let Some(streaming) = streaming {
        let streamed = streaming
            .await
            .map_err(|panic| Error::bug(format!("the stream stopped: {panic}")))?;
        state = Some(streamed.state);
        let streamed = streamed.reports.into_iter();
        reports.extend(streamed.map(|report| (report.schema_id.clone(), report)));
    }
    Ok(Report {
        tables: order.iter().filter_map(|id| reports.remove(id)).collect(),
        stream: state,
    })
}

/// How this run streams. A few records for a test, and tables that are replaced, are read
/// without.
fn streams_of(cx: &RunCx) -> Option<StreamSpec> {
    let wanted = !cx.spec.test && cx.spec.mode != WriteMode::Snapshot;
    let spec = cx.spec.stream.clone().filter(|_| wanted);
    spec.filter(|_| cx.spec.source.roles().changes.is_some())
}

type Planned = Vec<(String, Result<TablePlan>)>;

/// The tables to be streamed, and the others.
fn split(cx: &RunCx, planned: Planned) -> (Vec<(String, TablePlan)>, Planned) {
    let streams = streams_of(cx).is_some();
    let (mut streamed, mut scanned) = (Vec::new(), Vec::new());
    for (schema_id, plan) in planned {
        match plan {
            Ok(plan) if streams && plan.can_stream() => streamed.push((schema_id, plan)),
            plan => scanned.push((schema_id, plan)),
        }
    }
    (streamed, scanned)
}

/// Loads the tables side by side.
async fn scan(
    cx: &Arc<RunCx>,
    mut planned: Planned,
    controls: &Controls,
) -> HashMap<String, TableReport> {
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
    futures::stream::iter(planned)
        .map(|(schema_id, table)| {
            let (cx, cancel) = (cx.clone(), controls.table(&schema_id));
            async move {
                let task = tokio::spawn(one_table(cx, schema_id.clone(), table, cancel));
                let report = match AbortOnDropHandle::new(task).await {
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
        .await
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
    conclude(&cx, &schema_id, &output_name, result)
}

/// Tells how the table ended.
pub(crate) fn conclude(
    cx: &RunCx,
    schema_id: &str,
    output_name: &str,
    result: Result<Outcome>,
) -> TableReport {
    let state = match &result {
        Ok(outcome) => TableState::Completed(outcome.clone()),
        Err(error) if matches!(error.kind, Kind::Cancelled) => TableState::Canceled,
        Err(error) => {
            tracing::debug!(table = schema_id, ?error, "table failed");
            cx.observer.log(
                Level::Error,
                schema_id,
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
        cx.observer.table(schema_id, output_name, state);
    }
    TableReport {
        schema_id: schema_id.to_owned(),
        output_name: output_name.to_owned(),
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
    let tables = cx.spec.tables.iter().map(|table| &table.schema_id);
    let others = cx.spec.stream.iter().flat_map(|stream| &stream.others);
    let scope = Scope {
        namespaces: None,
        tables: Some(tables.chain(others).cloned().collect()),
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
