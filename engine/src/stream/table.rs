//! One table of a stream. It gathers the changes it is told, stages them, and puts them in
//! place when enough time has passed; while one unit is put in place, the next one is
//! being filled. A table that is slow or fails does so alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tideway_core::{Batch, Checkpoint, Error, Note, Position, Result, destination::Outcome};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    collapse::collapse,
    positions::Positions,
    shape::ChangeShaper,
    unit::{self, Settled, Unit, UnitId},
};
use crate::{
    load::report_notes,
    meter::TableMeter,
    plan::{PlannedWrite, TablePlan},
    run::RunCx,
    shape::Shaper,
};

/// A table changes hands at most this often, unless the stream ends.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Cleaning up must not hold up the end of a run.
const CLEAR_WITHIN: Duration = Duration::from_secs(10);

/// What a table is told.
pub enum Told {
    /// With the permit for its memory, which is given back once the rows are staged.
    Rows(Batch, OwnedSemaphorePermit),
    Truncate,
    Barrier(Position),
    /// A barrier whose position is to be remembered though nothing happened.
    Advance(Position),
    /// Memory is short: stage what has gathered.
    Relieve,
    /// Put in place what can be, and stop.
    End,
}

/// How a table left the stream.
pub struct Ended {
    pub checkpoint: Checkpoint,
    /// The id of the unit that would come next.
    pub next: UnitId,
    pub outcome: Outcome,
    /// Changes after the last barrier had been told and were thrown away.
    pub dirty: bool,
    pub result: Result<()>,
}

/// A table in the stream.
pub struct Streamed {
    cx: Arc<RunCx>,
    plan: Arc<TablePlan>,
    shaper: ChangeShaper,
    meter: Arc<TableMeter>,
    positions: Arc<Positions>,
    checkpoint: Checkpoint,
    /// The last barrier told.
    reached: Position,
    /// Something was told after it.
    dirty: bool,
    gathered: Vec<(Batch, OwnedSemaphorePermit)>,
    gathered_bytes: usize,
    /// From so many bytes on the changes are staged.
    part_bytes: usize,
    unit: Unit,
    /// Loads that are settled and not forgotten yet.
    spent: Vec<String>,
    finishing: Option<AbortOnDropHandle<Result<Settled>>>,
    finished_at: Instant,
    outcome: Outcome,
    notes: BTreeMap<(String, String), u64>,
}

impl Streamed {
    /// The table as it stands at the position of its checkpoint.
    pub fn new(
        cx: Arc<RunCx>,
        plan: TablePlan,
        checkpoint: Checkpoint,
        next: UnitId,
        positions: Arc<Positions>,
    ) -> Result<Self> {
        let reached = checkpoint
            .stream
            .clone()
            .ok_or_else(|| Error::bug("a table without a position cannot be followed"))?;
        let shaper = Shaper::new(&plan, &cx.spec.obfuscation_key, cx.started_at)?;
        Ok(Streamed {
            shaper: ChangeShaper::new(&plan, shaper),
            meter: cx.meter.table(&plan.schema_id),
            part_bytes: (cx.spec.budget.bytes / 8).clamp(64 << 10, 16 << 20),
            cx,
            plan: Arc::new(plan),
            positions,
            checkpoint,
            reached,
            dirty: false,
            gathered: Vec::new(),
            gathered_bytes: 0,
            unit: Unit::new(next, false, Vec::new()),
            spent: Vec::new(),
            finishing: None,
            finished_at: Instant::now(),
            outcome: Outcome::default(),
            notes: BTreeMap::new(),
        })
    }

    /// Follows what it is told until the end.
    pub async fn run(
        mut self,
        mut told: mpsc::UnboundedReceiver<Told>,
        cancel: CancellationToken,
    ) -> Ended {
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::cancelled()),
            result = self.follow(&mut told) => result,
        };
        self.gathered.clear();
        let unit = self.change_unit();
        // It carries this lease's fence: another worker can only have withdrawn it. What is
        // being put in place is for whoever comes next to look into.
        if self.finishing.is_none() {
            match timeout(CLEAR_WITHIN, unit.abandon()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(table = self.plan.schema_id, %error, "staging not removed");
                }
                Err(_) => {
                    tracing::warn!(table = self.plan.schema_id, "staging not removed in time")
                }
            }
        }
        report_notes(&self.cx, &self.plan, &self.notes);
        Ended {
            checkpoint: self.checkpoint,
            next: self.unit.id.clone(),
            outcome: self.outcome,
            dirty: self.dirty,
            result,
        }
    }

    async fn follow(&mut self, told: &mut mpsc::UnboundedReceiver<Told>) -> Result<()> {
        // Named before anything is staged, so that what is left behind can be found.
        self.checkpoint.progress = Some(unit::announced(&self.unit.id));
        self.save().await?;
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                done = joined(&mut self.finishing), if self.finishing.is_some() => {
                    self.settled(done?);
                }
                () = sleep_until(due.unwrap_or(self.finished_at)), if due.is_some() => {
                    self.put_in_place().await?;
                }
                told = told.recv() => match told {
                    Some(Told::End) | None => return self.end().await,
                    Some(told) => self.take(told).await?,
                },
            }
        }
    }

    /// When the unit is to be put in place; a barrier must have been the last thing told.
    fn due(&self) -> Option<Instant> {
        let ready = self.holds() && !self.dirty && self.finishing.is_none();
        ready.then(|| self.finished_at + FLUSH_EVERY)
    }

    fn holds(&self) -> bool {
        !self.gathered.is_empty() || self.unit.holds()
    }

    async fn take(&mut self, told: Told) -> Result<()> {
        match told {
            Told::Rows(batch, permit) => self.gather(batch, permit).await,
            Told::Truncate => self.truncate().await,
            Told::Barrier(position) => {
                self.reached = position;
                self.dirty = false;
                Ok(())
            }
            Told::Advance(position) => {
                self.reached = position;
                self.dirty = false;
                if self.holds() || self.finishing.is_some() {
                    return Ok(()); // its own position comes with the unit
                }
                self.checkpoint.stream = Some(self.reached.clone());
                self.save().await
            }
            Told::Relieve => self.stage().await,
            Told::End => Ok(()),
        }
    }

    async fn gather(&mut self, mut batch: Batch, permit: OwnedSemaphorePermit) -> Result<()> {
        self.dirty = true;
        self.note(std::mem::take(&mut batch.notes));
        let mut batch = match self.plan.write {
            PlannedWrite::Append => self.shaper.rows(batch)?,
            _ => self.shaper.changes(batch)?,
        };
        self.note(std::mem::take(&mut batch.notes));
        let (rows, bytes) = (batch.row_count(), batch.byte_count());
        self.meter.rows_read.fetch_add(rows as u64, Relaxed);
        self.meter.bytes_read.fetch_add(bytes as u64, Relaxed);
        if rows == 0 {
            return Ok(());
        }
        self.gathered.push((batch, permit));
        self.gathered_bytes += bytes;
        match self.gathered_bytes >= self.part_bytes {
            true => self.stage().await,
            false => Ok(()),
        }
    }

    /// All rows are gone: what was told before is worth nothing any more.
    async fn truncate(&mut self) -> Result<()> {
        if self.plan.write == PlannedWrite::Append {
            return Ok(()); // appended rows stay
        }
        self.dirty = true;
        self.gathered.clear();
        self.gathered_bytes = 0;
        // The same id again: what was staged under it is thrown away first.
        let next = Unit::new(self.unit.id.clone(), true, self.spent.clone());
        let worthless = std::mem::replace(&mut self.unit, next);
        worthless.abandon().await
    }

    /// Begins the next unit, and hands out the one that was being filled.
    fn change_unit(&mut self) -> Unit {
        let next = Unit::new(self.unit.id.next(), false, self.spent.clone());
        std::mem::replace(&mut self.unit, next)
    }

    /// Makes what has gathered a part of the unit.
    async fn stage(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let gathered = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let (batches, permits): (Vec<Batch>, Vec<OwnedSemaphorePermit>) =
            gathered.into_iter().unzip();
        let told: usize = batches.iter().map(Batch::row_count).sum();
        match self.plan.write {
            PlannedWrite::Append => {
                for batch in &batches {
                    let accepted = self.unit.stage(&self.cx, &self.plan, batch).await?;
                    self.note(accepted.notes);
                }
            }
            _ => {
                let batch = collapse(&batches, &self.shaper.key)?;
                drop(batches);
                let accepted = self.unit.stage(&self.cx, &self.plan, &batch).await?;
                self.note(accepted.notes);
            }
        }
        drop(permits);
        self.meter.rows_landed.fetch_add(told as u64, Relaxed);
        Ok(())
    }

    /// Begins to put the unit in place, up to the last barrier, and opens the next one.
    async fn put_in_place(&mut self) -> Result<()> {
        self.stage().await?;
        let unit = self.change_unit();
        let finish = unit::finish(
            self.cx.clone(),
            self.plan.clone(),
            unit,
            self.checkpoint.clone(),
            self.reached.clone(),
        );
        self.finishing = Some(AbortOnDropHandle::new(tokio::spawn(finish)));
        Ok(())
    }

    fn settled(&mut self, settled: Settled) {
        self.finishing = None;
        self.checkpoint = settled.checkpoint;
        self.spent.retain(|load| !settled.forgotten.contains(load));
        self.spent.push(settled.load);
        let mut outcome = settled.outcome;
        self.note(std::mem::take(&mut outcome.notes));
        unit::add(&mut self.outcome, &outcome);
        self.finished_at = Instant::now();
        self.publish();
    }

    async fn end(&mut self) -> Result<()> {
        if self.finishing.is_some() {
            let done = joined(&mut self.finishing).await?;
            self.settled(done);
        }
        if !self.dirty {
            if self.holds() {
                self.put_in_place().await?;
                let done = joined(&mut self.finishing).await?;
                self.settled(done);
            }
            self.checkpoint.stream = Some(self.reached.clone());
        }
        let unit = self.change_unit();
        unit.abandon().await?;
        self.checkpoint.progress = None;
        self.save().await
    }

    async fn save(&mut self) -> Result<()> {
        self.cx
            .ledger
            .save(&self.plan.schema_id, &self.checkpoint)
            .await?;
        self.publish();
        Ok(())
    }

    /// The source may forget what lies before this, as far as this table goes.
    fn publish(&self) {
        if let Some(position) = &self.checkpoint.stream {
            self.positions.set(&self.plan.schema_id, position.clone());
        }
    }

    fn note(&mut self, notes: Vec<Note>) {
        for note in notes {
            self.meter.warnings.fetch_add(note.rows, Relaxed);
            *self.notes.entry((note.column, note.what)).or_insert(0) += note.rows;
        }
    }
}

async fn joined<T>(handle: &mut Option<AbortOnDropHandle<Result<T>>>) -> Result<T> {
    let Some(running) = handle else {
        return Err(Error::bug("nothing is being put in place"));
    };
    let done = running.await;
    *handle = None;
    done.map_err(|error| Error::bug(format!("putting changes in place stopped: {error}")))?
}
