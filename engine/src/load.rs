//! One table of a run, from its checkpoint to its next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::AtomicI64, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde_json::json;
use tideway_core::{
    Checkpoint, Cursor, Error, Kind, Part, Result, Retry, WriteMode,
    capability::Replay,
    checkpoint::Progress,
    destination::{Destination, Load, Outcome, TableLoad},
    failpoint,
    payload::Format,
    source::{Read, Snapshot, Tracking},
};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    boundary::Boundary,
    lanes::{TableFlow, load_parts},
    meter::TableMeter,
    observe::{Level, TableState},
    plan::{PlannedWrite, Streaming, TablePlan},
    run::RunCx,
    shape::Shaper,
    snapshots::View,
    staged::{self, Tally},
    stream::recover,
};

/// Rows that a test run reads per table.
const TEST_ROWS: u64 = 5;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the ids of all loads of one execution and table begin with: 16 letters and digits.
pub fn load_stem(execution_id: &str, schema_id: &str) -> String {
    let hash = xxh3_128(format!("{execution_id}/{schema_id}").as_bytes());
    format!("{:016x}", hash as u64)
}

/// Names one execution's load of one table. Loads of the same execution begin alike and
/// end in the fence of the worker's lease, so that a worker which lost its lease without
/// knowing it stages in a place of its own. A table that is read again within a run, since
/// its stream could not be followed, is loaded under a further id.
fn load_ids(cx: &RunCx, plan: &TablePlan) -> (String, String) {
    let stem = load_stem(&cx.spec.execution_id, &plan.schema_id);
    let fence = cx.spec.fence;
    let id = match &plan.stream {
        Some(Streaming { again, .. }) if *again > 0 => format!("{stem}{fence:x}r{again:x}"),
        _ => format!("{stem}{fence:x}"),
    };
    (stem, id)
}

/// Loads the table, trying again as the error's kind allows. Other tables do not notice.
pub async fn load_table(
    cx: &RunCx,
    mut plan: TablePlan,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let meter = cx.meter.table(&plan.schema_id);
    for attempt in 1.. {
        let views = match plan.stream {
            Some(_) => &cx.anchors,
            None => &cx.snapshots,
        };
        let (generation, attempted) = match views.current().await {
            Ok(view) => (
                view.generation,
                attempt_table(cx, &plan, view, &meter, cancel).await,
            ),
            Err(error) => (u64::MAX, Err(error)),
        };
        let error = match attempted {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        let pause = match error.retry() {
            Retry::Never => return Err(error),
            _ if attempt >= cx.spec.budget.attempts => return Err(error),
            Retry::After(pause) => pause,
            Retry::Backoff => LONGEST_PAUSE.min(Duration::from_millis(500 << attempt.min(10))),
        };
        cx.observer.log(
            Level::Warn,
            &plan.schema_id,
            format!(
                "attempt {attempt} failed, trying again in {} ms: {error}",
                pause.as_millis()
            ),
            json!({"kind": error.kind.word(), "hint": error.advice()}),
        );
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return Err(Error::cancelled()),
        }
        meter.reset();
        views.renew(generation).await;
        if error.kind == Kind::Drift {
            let stream = plan.stream.clone();
            plan = cx.replan(&plan.schema_id).await?;
            plan.stream = stream;
        }
    }
    Err(Error::bug("the loop of attempts ended"))
}

async fn attempt_table(
    cx: &RunCx,
    plan: &TablePlan,
    view: View,
    meter: &Arc<TableMeter>,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let (stem, id) = load_ids(cx, plan);
    let mut checkpoint = cx.ledger.load(&plan.schema_id).await?;
    // What another execution left, which failed or was canceled, is settled before it is
    // forgotten: it may have put rows in place without hearing of it.
    if let Some(progress) = &checkpoint.progress
        && !progress.load_id.starts_with(&stem)
    {
        recover(cx, plan, &mut checkpoint).await?;
    }
    // Whether a streamed table is to be read at all was decided before.
    if plan.stream.is_none()
        && checkpoint
            .finished_load
            .as_ref()
            .is_some_and(|load| load.starts_with(&stem))
    {
        return Ok(Outcome {
            repeated: true,
            ..Outcome::default()
        });
    }
    let cursor = checkpoint.cursor.clone().filter(|cursor| {
        cx.spec.resync.is_none()
            && plan.stream.is_none()
            && Some(&cursor.column) == plan.tracking.as_ref()
    });
    let earlier = checkpoint
        .progress
        .as_ref()
        .map(|progress| progress.load_id.clone());
    let mut kept = Kept {
        cx,
        schema_id: &plan.schema_id,
        id,
        checkpoint,
    };
    let resume = kept.resumable(plan);
    // Of a worker that lost its lease, and may not know it.
    if let Some(earlier) = earlier.filter(|earlier| *earlier != kept.id) {
        // Invariant 5: not that of a worker who has taken over from this one.
        kept.write_down().await?;
        if withdraw(cx, plan, &earlier).await? {
            kept.settle().await?;
            return Ok(Outcome {
                repeated: true,
                ..Outcome::default()
            });
        }
    }
    kept.announce().await?;
    failpoint::reach("load.announced");
    if let Some(streaming) = &plan.stream {
        kept.checkpoint.shape = plan.shape();
        kept.checkpoint.mark.clone_from(&streaming.mark);
    }
    let load = begin(cx, plan, &kept.id, cursor.is_none(), resume).await?;
    failpoint::reach("load.begun");
    for change in load.schema_changes() {
        cx.observer
            .log(Level::Info, &plan.schema_id, change.0.clone(), json!({}));
    }
    if load.finished() {
        return finished_before(load.as_ref(), &mut kept).await;
    }
    let filled = fill(
        cx,
        plan,
        view,
        meter,
        cancel,
        &mut kept,
        load.as_ref(),
        cursor,
        resume,
    )
    .await;
    let Err(error) = &filled else { return filled };
    let goes_on = kept.resumable(plan) && error.retry() != Retry::Never;
    if !goes_on {
        // It carries this lease's fence: another worker can only have withdrawn it. Cleaning
        // up may fail for the same reason; the first error counts.
        if let Err(second) = load.abandon().await {
            tracing::warn!(table = plan.schema_id, error = %second, "staging not removed");
        }
    }
    filled
}

async fn begin(
    cx: &RunCx,
    plan: &TablePlan,
    id: &str,
    complete: bool,
    resume: bool,
) -> Result<Box<dyn TableLoad>> {
    let begun = destination(cx)?.begin(load_of(cx, plan, id, complete, resume));
    begun.await
}

/// Removes what an earlier attempt staged; tells whether it had taken effect.
pub async fn withdraw(cx: &RunCx, plan: &TablePlan, id: &str) -> Result<bool> {
    let load = load_of(cx, plan, id, true, true);
    destination(cx)?.withdraw(load).await
}

fn destination(cx: &RunCx) -> Result<&dyn Destination> {
    let roles = cx.spec.destination.roles();
    roles.need_destination(&cx.spec.destination_type)
}

fn load_of(cx: &RunCx, plan: &TablePlan, id: &str, complete: bool, resume: bool) -> Load {
    Load {
        id: id.to_owned(),
        target: plan.target.clone(),
        write: plan.write(complete),
        disposition: plan.disposition,
        record_timestamps: cx.spec.record_timestamps,
        truncate_existing: plan.truncate_existing,
        resume,
        forgets: Vec::new(),
        options: cx.spec.destination_options.clone(),
    }
}

/// An earlier attempt died between the destination's last step and the checkpoint.
async fn finished_before(load: &dyn TableLoad, kept: &mut Kept<'_>) -> Result<Outcome> {
    let outcome = load.finish().await?;
    kept.settle().await?;
    Ok(outcome)
}

#[allow(clippy::too_many_arguments)] // one caller; the steps read best in one place
async fn fill(
    cx: &RunCx,
    plan: &TablePlan,
    view: View,
    meter: &Arc<TableMeter>,
    cancel: &CancellationToken,
    kept: &mut Kept<'_>,
    load: &dyn TableLoad,
    cursor: Option<Cursor>,
    resume: bool,
) -> Result<Outcome> {
    let read = Arc::new(read_request(cx, plan, cursor.clone()));
    let earlier = kept.checkpoint.progress.take().filter(|_| resume);
    let snapshot = view.snapshot;
    let progress = match earlier {
        Some(progress) => Progress {
            landed: load.landed().clone(),
            ..progress
        },
        None => {
            let scan = snapshot.plan(&read).await?;
            meter
                .rows_expected
                .store(scan.row_estimate.unwrap_or(0), Relaxed);
            Progress {
                load_id: kept.id.clone(),
                parts: scan.parts,
                landed: load.landed().clone(),
                cursor: scan.cursor.filter(|_| plan.stream.is_none()),
                stream: view.position,
            }
        }
    };
    let boundary = match (&plan.tracking, plan.write) {
        (Some(column), PlannedWrite::Append) if plan.stream.is_none() => Some(Boundary::new(
            column,
            cursor.as_ref(),
            progress.cursor.as_ref(),
        )),
        _ => None,
    };
    let resumed = !progress.landed.is_empty();
    let todo = progress
        .parts
        .iter()
        .filter(|part| !progress.landed.contains(&part.id))
        .cloned()
        .collect();
    kept.checkpoint.progress = Some(progress);
    kept.save().await?;
    failpoint::reach("load.planned");

    let passing = match boundary.is_none() && !cx.spec.test && plan.keeps_rows_as_they_are() {
        true => agreed_format(snapshot.as_ref(), &read, load).await?,
        false => None,
    };
    if let Some(format) = &passing {
        let message = format!("rows pass through undecoded, as {}", format.name);
        cx.observer
            .log(Level::Debug, &plan.schema_id, message, json!({}));
    }
    let first = kept.checkpoint.finished_load.is_none() || cx.spec.resync.is_some();
    let flow = Arc::new(TableFlow {
        snapshot,
        read,
        passing,
        shaper: Shaper::new(plan, &cx.spec.obfuscation_key, cx.started_at)?,
        boundary,
        queue: Mutex::new(todo),
        memory: cx.memory.clone(),
        meter: meter.clone(),
        cancel: cancel.clone(),
        remaining: cx.spec.test.then(|| AtomicI64::new(TEST_ROWS as i64)),
        notes: Mutex::new(BTreeMap::new()),
        tally: Tally::of(cx, plan, load, first),
    });
    load_parts(&flow, load, &cx.slots, cx.lanes, kept).await?;
    report_notes(
        cx,
        plan,
        &flow
            .notes
            .lock()
            .unwrap_or_else(|broken| broken.into_inner()),
    );

    if cx.spec.test {
        load.abandon().await?;
        kept.forget().await?;
        let place = format!("{} (test, not kept)", plan.target.name);
        return Ok(Outcome {
            place,
            ..Outcome::default()
        });
    }
    if let (Some(boundary), Some(progress)) = (&flow.boundary, &mut kept.checkpoint.progress)
        && let Some(cursor) = &mut progress.cursor
    {
        cursor.boundary = boundary.hashes();
    }
    let verified = staged::verify(cx, plan, &flow, load, cancel, resumed).await?;
    // Invariant 2: before the destination changes hands, the ledger knows what cursor
    // belongs to this load, and that no other worker has taken over.
    kept.save().await?;
    if cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    cx.observer
        .table(&plan.schema_id, &plan.target.name, TableState::Processing);
    failpoint::reach("load.filled");
    let outcome = load.finish().await?;
    failpoint::reach("load.finished");
    kept.settle().await?;
    failpoint::reach("load.settled");
    let told = outcome.notes.iter();
    let told = told.map(|note| ((note.column.clone(), note.what.clone()), note.rows));
    report_notes(cx, plan, &told.collect());
    Ok(Outcome {
        verified,
        ..outcome
    })
}

/// The first form that the source offers and the destination takes.
async fn agreed_format(
    snapshot: &dyn Snapshot,
    read: &Read,
    load: &dyn TableLoad,
) -> Result<Option<Format>> {
    let mut offered = snapshot.formats(read).await?.into_iter();
    Ok(offered.find(|format| load.takes(format)))
}

fn read_request(cx: &RunCx, plan: &TablePlan, cursor: Option<Cursor>) -> Read {
    let unfiltered = plan.filters.is_empty() && plan.cutoff.is_none();
    Read {
        table: plan.table.clone(),
        columns: plan.read.clone(),
        // A streamed table is read whole; its tracking field only serves the cutoff.
        tracking: plan
            .tracking
            .clone()
            .filter(|_| plan.stream.is_none())
            .map(|column| Tracking { column, cursor }),
        mode: match plan.write {
            PlannedWrite::Append => WriteMode::Append,
            PlannedWrite::Replace => WriteMode::Snapshot,
            PlannedWrite::Merge(_) => WriteMode::Replicate,
        },
        limit: (cx.spec.test && unfiltered).then_some(TEST_ROWS),
        batch_bytes: cx.batch_bytes,
        lanes: cx.lanes,
    }
}

/// The table's checkpoint while its load goes on. A test run keeps nothing but, for as long
/// as it is staged, the name of its load.
pub struct Kept<'a> {
    cx: &'a RunCx,
    schema_id: &'a str,
    id: String,
    checkpoint: Checkpoint,
}

impl Kept<'_> {
    /// Whether an attempt may go on where an earlier one stopped. The hashes at the
    /// boundary die with the attempt that gathered them, so an append by cursor cannot.
    fn resumable(&self, plan: &TablePlan) -> bool {
        let appends_by_cursor = plan.write == PlannedWrite::Append && plan.tracking.is_some();
        // Parts read as of different positions would not meet the stream at one of them.
        self.cx.spec.source.capabilities().replay == Replay::Stable
            && plan.stream.is_none()
            && !appends_by_cursor
            && self
                .checkpoint
                .progress
                .as_ref()
                // Without parts it was announced and never planned: there is nothing to go on with.
                .is_some_and(|p| p.load_id == self.id && !p.parts.is_empty())
    }

    /// Notes the load's id before anything is staged under it, so that the next attempt
    /// can clear away what this one leaves behind.
    async fn announce(&mut self) -> Result<()> {
        if self
            .checkpoint
            .progress
            .as_ref()
            .is_some_and(|progress| progress.load_id == self.id)
        {
            return Ok(());
        }
        self.checkpoint.progress = Some(Progress {
            load_id: self.id.clone(),
            parts: Vec::new(),
            landed: BTreeSet::new(),
            cursor: None,
            stream: None,
        });
        self.write_down().await
    }

    /// The staging of a test run is gone, and so is what was noted about it.
    async fn forget(&mut self) -> Result<()> {
        self.checkpoint.progress = None;
        self.write_down().await
    }

    pub async fn landed(&mut self, part: &Part) -> Result<()> {
        failpoint::reach("load.landed");
        if let Some(progress) = &mut self.checkpoint.progress {
            progress.landed.insert(part.id.clone());
        }
        // What an attempt cannot go on from need not be written down part by part.
        match self.cx.spec.source.capabilities().replay {
            Replay::Stable => self.save().await,
            Replay::Snapshot => Ok(()),
        }
    }

    async fn save(&self) -> Result<()> {
        if self.cx.spec.test {
            return Ok(());
        }
        self.write_down().await
    }

    async fn write_down(&self) -> Result<()> {
        self.cx.ledger.save(self.schema_id, &self.checkpoint).await
    }

    /// The load is durable at the destination; now, and only now, the cursor moves
    /// (invariant 1).
    async fn settle(&mut self) -> Result<()> {
        if let Some(progress) = self.checkpoint.progress.take() {
            self.checkpoint.cursor = progress.cursor;
            self.checkpoint.stream = progress.stream;
        }
        self.checkpoint.finished_load = Some(self.id.clone());
        self.save().await
    }
}

pub fn report_notes(cx: &RunCx, plan: &TablePlan, notes: &BTreeMap<(String, String), u64>) {
    for ((column, what), rows) in notes {
        cx.observer.log(
            Level::Warn,
            &plan.schema_id,
            format!("{column}: {what} in {rows} rows"),
            json!({"column": column, "what": what, "rows": rows}),
        );
    }
}
