//! The tables of a run that follow the source's change stream. Those without a position
//! are read from an anchored snapshot first, by the same lanes as every other table; then
//! the log is followed from the lowest position, until the end of the log or of the time
//! that is given. See `core/src/changes.rs` for what a stream promises.

mod collapse;
mod follow;
mod positions;
mod session;
mod shape;
mod table;
mod unit;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;
use tideway_core::{
    Catalog, Error, Kind, Position, Result, Retry, TableId,
    changes::{Attached, Changes, Stream},
    destination::Outcome,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    observe::{Level, StreamState, TableState},
    plan::{StreamSpec, Streaming, SyncSpec, TablePlan},
    run::{Controls, RunCx, TableReport, conclude},
};

use session::Session;
use unit::UnitId;
pub(crate) use unit::recover;

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What became of the streamed tables.
pub struct Streamed {
    pub reports: Vec<TableReport>,
    pub state: StreamState,
}

/// A table of the stream.
struct Member {
    plan: TablePlan,
    cancel: CancellationToken,
    outcome: Outcome,
    next: UnitId,
    /// Where it stood when it had changed its shape the last time.
    reshaped_at: Option<Position>,
}

/// The streamed part of a run, ready to go.
pub struct Streams {
    cx: Arc<RunCx>,
    spec: StreamSpec,
    /// What the tables are planned from: as the stream shows them, while it runs.
    planning: SyncSpec,
    catalog: Catalog,
    stream: Stream,
    controls: Arc<Controls>,
    members: BTreeMap<String, Member>,
    reports: Vec<TableReport>,
    /// What was found at the source, until it has been seen to.
    attached: Option<Attached>,
    ends_at: Option<Instant>,
    /// The end of the log as of the first following.
    until: Option<Position>,
}

/// Tables that are read by scan after all, each with its plan.
pub type Scans = Vec<(String, TablePlan)>;

/// Makes the stream's place at the source, or finds it. Tables that the source cannot
/// stream are handed back; where nothing can be streamed now, each table has the error.
pub async fn attach(
    cx: &Arc<RunCx>,
    spec: StreamSpec,
    catalog: Catalog,
    planned: Scans,
    controls: &Arc<Controls>,
) -> (Streams, Scans) {
    let started = Instant::now();
    let ids = planned.iter().map(|(id, _)| id).chain(&spec.others);
    let tables = ids
        .filter_map(|id| Some(catalog.table(id)?.id.clone()))
        .collect();
    let stream = Stream {
        id: spec.id.clone(),
        options: cx.spec.source_options.clone(),
        tables,
    };
    cx.anchors.follow(&stream);
    let member = |schema_id: &str, plan: TablePlan| Member {
        plan: TablePlan {
            stream: Some(Streaming::default()),
            ..plan
        },
        cancel: controls.table(schema_id),
        outcome: Outcome::default(),
        next: UnitId::first(&cx.spec.execution_id, schema_id, cx.spec.fence),
        reshaped_at: None,
    };
    let mut streams = Streams {
        cx: cx.clone(),
        ends_at: spec.follow_for.map(|time| started + time),
        spec,
        planning: cx.spec.clone(),
        catalog,
        stream,
        controls: controls.clone(),
        members: BTreeMap::new(),
        reports: Vec::new(),
        attached: None,
        until: None,
    };
    let attached = streams.attach_patiently().await;
    let mut scans = Vec::new();
    for (schema_id, plan) in planned {
        let refused = attached.as_ref().ok().and_then(|attached| {
            let mut refused = attached.refused.iter();
            refused.find(|(table, _)| *table == plan.table.id)
        });
        if let Some((_, error)) = refused {
            cx.observer.log(
                Level::Warn,
                &schema_id,
                format!("not streamed, read as a whole instead: {error}"),
                json!({"hint": error.advice()}),
            );
            scans.push((schema_id, plan));
            continue;
        }
        cx.observer
            .table(&schema_id, &plan.target.name, TableState::Running);
        for remark in &plan.remarks {
            cx.observer
                .log(Level::Warn, &schema_id, remark.clone(), json!({}));
        }
        let member = member(&schema_id, plan);
        streams.members.insert(schema_id, member);
    }
    let refused: Vec<TableId> = attached
        .as_ref()
        .map(|attached| {
            attached
                .refused
                .iter()
                .map(|(table, _)| table.clone())
                .collect()
        })
        .unwrap_or_default();
    streams
        .stream
        .tables
        .retain(|table| !refused.contains(table));
    cx.anchors.follow(&streams.stream);
    match attached {
        Ok(attached) => streams.attached = Some(attached),
        Err(error) => streams.stopped(&mut StreamState::default(), &error),
    }
    (streams, scans)
}

impl Streams {
    /// Follows until the end; what befalls single tables stands in the reports.
    pub async fn run(mut self) -> Streamed {
        let mut state = StreamState::default();
        let mut attempt = 0;
        while !self.members.is_empty() {
            let ended = Session::of(&mut self).run().await;
            state = ended.state;
            if ended.moved {
                attempt = 0;
            }
            let Some(error) = ended.error else {
                if ended.again {
                    continue;
                }
                break;
            };
            attempt += 1;
            if let Err(error) = self.pause(attempt, error).await {
                self.stopped(&mut state, &error);
                break;
            }
            match self.attach_patiently().await {
                Ok(attached) => self.attached = Some(attached),
                Err(error) => self.stopped(&mut state, &error),
            }
        }
        for (schema_id, member) in std::mem::take(&mut self.members) {
            self.conclude(&schema_id, &member.plan.target.name, Ok(member.outcome));
        }
        Streamed {
            reports: self.reports,
            state,
        }
    }

    fn changes(&self) -> Result<&dyn Changes> {
        let roles = self.cx.spec.source.roles();
        roles
            .changes
            .ok_or_else(|| Error::bug("the source has no change stream any more"))
    }

    async fn attach_patiently(&self) -> Result<Attached> {
        for attempt in 1.. {
            let attached = tokio::select! {
                () = self.controls.cancelled() => return Err(Error::cancelled()),
                attached = self.changes()?.attach(&self.stream) => attached,
            };
            match attached {
                Ok(attached) => return Ok(attached),
                Err(error) => self.pause(attempt, error).await?,
            }
        }
        Err(Error::bug("the loop of attempts ended"))
    }

    /// Waits before the next attempt, or says that there is none.
    async fn pause(&self, attempt: u32, error: Error) -> Result<()> {
        // A place in the log that is still in use is left soon; one that is gone is found
        // to be gone when it is attached.
        let passes = matches!(error.kind, Kind::Conflict | Kind::Missing);
        let pause = match error.retry() {
            Retry::Never if !passes => return Err(error),
            _ if attempt >= self.cx.spec.budget.attempts => return Err(error),
            Retry::After(pause) => pause,
            _ => LONGEST_PAUSE.min(Duration::from_millis(500 << attempt.min(10))),
        };
        self.cx.observer.ingest(
            Level::Warn,
            "",
            format!(
                "the change stream broke off, trying again in {} ms: {error}",
                pause.as_millis()
            ),
            json!({"kind": error.kind.word(), "hint": error.advice()}),
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.controls.cancelled() => Err(Error::cancelled()),
        }
    }

    /// The stream cannot be followed, for now.
    fn stopped(&mut self, state: &mut StreamState, error: &Error) {
        if !matches!(error.kind, Kind::Cancelled | Kind::Fenced) {
            let message = format!("the change stream cannot be followed: {error}");
            let payload = json!({"kind": error.kind.word(), "hint": error.advice()});
            self.cx.observer.ingest(Level::Error, "", message, payload);
            state.error = Some(error.to_string());
            self.cx.observer.stream(state);
        }
        for (schema_id, member) in std::mem::take(&mut self.members) {
            self.conclude(&schema_id, &member.plan.target.name, Err(error.clone()));
        }
    }

    fn conclude(&mut self, schema_id: &str, output_name: &str, result: Result<Outcome>) {
        let report = conclude(&self.cx, schema_id, output_name, result);
        self.reports.push(report);
    }
}
