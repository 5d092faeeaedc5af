//! A unit: the changes of one table between two barriers, staged part by part and then
//! put in place by one load.
//!
//! Loads are told apart by their order within the run. The ledger knows the unit that is
//! being put in place, with the position that the table has afterwards, before the
//! destination's table changes hands (invariant 2); the position counts only when it has
//! (invariant 1). The ledger also names the unit that comes next, so that a later attempt
//! finds what this one leaves behind.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::json;
use tideway_core::{
    Batch, Checkpoint, Error, Position, Result, Retry,
    checkpoint::Progress,
    destination::{Accepted, Disposition, Lane, Load, Outcome, TableLoad, Write},
    failpoint,
};

use crate::{
    load::{self, load_stem},
    observe::Level,
    plan::{PlannedWrite, TablePlan},
    run::RunCx,
};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Names one load of a stream. The letter keeps it apart from a scan's, whose id is the
/// stem and a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitId {
    stem: String,
    fence: u64,
    ordinal: u64,
}

impl UnitId {
    pub fn first(execution_id: &str, schema_id: &str, fence: u64) -> Self {
        UnitId {
            stem: load_stem(execution_id, schema_id),
            fence,
            ordinal: 0,
        }
    }

    pub fn next(&self) -> Self {
        UnitId {
            ordinal: self.ordinal + 1,
            ..self.clone()
        }
    }

    /// `None` for a load of a scan.
    pub fn parse(id: &str) -> Option<Self> {
        let (stem, rest) = id.split_at_checked(16)?;
        let (fence, ordinal) = rest.split_once('u')?;
        Some(UnitId {
            stem: stem.to_owned(),
            fence: u64::from_str_radix(fence, 16).ok()?,
            ordinal: u64::from_str_radix(ordinal, 16).ok()?,
        })
    }
}

impl std::fmt::Display for UnitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:x}u{:x}", self.stem, self.fence, self.ordinal)
    }
}

/// Names the unit in the ledger before anything is staged under it.
pub fn announced(id: &UnitId) -> Progress {
    Progress {
        load_id: id.to_string(),
        parts: Vec::new(),
        landed: BTreeSet::new(),
        cursor: None,
        stream: None,
    }
}

async fn begin(
    cx: &RunCx,
    plan: &TablePlan,
    id: &UnitId,
    emptied: bool,
    forgets: &[String],
    resume: bool,
) -> Result<Box<dyn TableLoad>> {
    let write = match plan.write {
        PlannedWrite::Merge(deletes) => Write::Changes {
            complete: emptied,
            deletes,
        },
        PlannedWrite::Append => Write::Append,
        PlannedWrite::Replace => {
            return Err(Error::bug("a table that is replaced is not streamed"));
        }
    };
    let destination = cx
        .spec
        .destination
        .roles()
        .need_destination(&cx.spec.destination_type)?;
    destination
        .begin(Load {
            id: id.to_string(),
            target: plan.target.clone(),
            write,
            disposition: Disposition::Retain,
            record_timestamps: cx.spec.record_timestamps,
            truncate_existing: plan.truncate_existing,
            resume,
            forgets: forgets.to_vec(),
            options: cx.spec.destination_options.clone(),
        })
        .await
}

/// A unit that is being filled.
pub struct Unit {
    pub id: UnitId,
    /// The table was emptied at the source before these changes.
    emptied: bool,
    /// Units before this one that are settled, and of which its load lets the last trace go.
    forgets: Vec<String>,
    load: Option<Box<dyn TableLoad>>,
    lane: Option<Box<dyn Lane>>,
    parts: BTreeSet<String>,
}

impl Unit {
    pub fn new(id: UnitId, emptied: bool, forgets: Vec<String>) -> Self {
        Unit {
            id,
            emptied,
            forgets,
            load: None,
            lane: None,
            parts: BTreeSet::new(),
        }
    }

    /// Anything to be put in place.
    pub fn holds(&self) -> bool {
        self.emptied || !self.parts.is_empty()
    }

    /// Makes the changes durable at the destination's staging place.
    pub async fn stage(&mut self, cx: &RunCx, plan: &TablePlan, batch: &Batch) -> Result<Accepted> {
        // Ids sort as they follow on each other: parts are applied in that order.
        let part = format!("{:010}", self.parts.len());
        let mut attempt = 0;
        let accepted = loop {
            attempt += 1;
            match self.try_stage(cx, plan, batch, &part).await {
                Ok(accepted) => break accepted,
                Err(error) => pause(cx, plan, attempt, error).await?,
            }
            (self.load, self.lane) = (None, None);
        };
        self.parts.insert(part);
        failpoint::reach("unit.staged");
        Ok(accepted)
    }

    async fn try_stage(
        &mut self,
        cx: &RunCx,
        plan: &TablePlan,
        batch: &Batch,
        part: &str,
    ) -> Result<Accepted> {
        if self.load.is_none() {
            self.load = Some(self.open(cx, plan).await?);
        }
        let load = self
            .load
            .as_ref()
            .ok_or_else(|| Error::bug("a unit has no load"))?;
        if load.landed().contains(part) {
            return Ok(Accepted::default());
        }
        if self.lane.is_none() {
            self.lane = Some(load.lane().await?);
        }
        let lane = self
            .lane
            .as_mut()
            .ok_or_else(|| Error::bug("a unit has no lane"))?;
        let accepted = lane.write(batch.clone()).await?;
        let durable = lane.commit(part).await?;
        if durable.rows != batch.row_count() as u64 {
            return Err(Error::bug(format!(
                "part {part}: {} changes were written but {} became durable",
                batch.row_count(),
                durable.rows
            )));
        }
        Ok(accepted)
    }

    /// Opens the load, or opens it again with all that has landed.
    async fn open(&mut self, cx: &RunCx, plan: &TablePlan) -> Result<Box<dyn TableLoad>> {
        let resume = !self.parts.is_empty();
        let load = begin(cx, plan, &self.id, self.emptied, &self.forgets, resume).await?;
        for change in load.schema_changes() {
            cx.observer
                .log(Level::Info, &plan.schema_id, change.0.clone(), json!({}));
        }
        still_there(load.as_ref(), &self.parts)?;
        Ok(load)
    }

    /// Removes what was staged.
    pub async fn abandon(self) -> Result<()> {
        match self.load {
            Some(load) => load.abandon().await,
            None => Ok(()),
        }
    }
}

/// What has become of a unit.
pub struct Settled {
    pub checkpoint: Checkpoint,
    pub outcome: Outcome,
    /// The load that put it in place; nobody asks for it any more.
    pub load: String,
    /// Those before it of which no trace is left.
    pub forgotten: Vec<String>,
}

/// Without this a load whose staging was lost would be put in place as if it were empty.
fn still_there(load: &dyn TableLoad, parts: &BTreeSet<String>) -> Result<()> {
    if load.finished() || parts.is_subset(load.landed()) {
        return Ok(());
    }
    Err(Error::conflict("changes that were staged are gone")
        .hint("start the sync again: it goes on from where the table stands"))
}

/// Puts the unit in place and moves the table's position on to `through`.
pub async fn finish(
    cx: Arc<RunCx>,
    plan: Arc<TablePlan>,
    mut unit: Unit,
    mut checkpoint: Checkpoint,
    through: Position,
) -> Result<Settled> {
    unit.lane = None;
    // Invariant 2: the ledger knows what this load means, and that no other worker has
    // taken over, before the table changes hands.
    checkpoint.progress = Some(Progress {
        stream: Some(through.clone()),
        ..announced(&unit.id)
    });
    cx.ledger.save(&plan.schema_id, &checkpoint).await?;
    failpoint::reach("unit.known");
    let mut attempt = 0;
    let outcome = loop {
        attempt += 1;
        if attempt > 1 {
            // Whoever took over has withdrawn it: nothing is to be staged under its id again.
            cx.ledger.save(&plan.schema_id, &checkpoint).await?;
        }
        match try_put(&cx, &plan, &mut unit).await {
            Ok(outcome) => break outcome,
            Err(error) => pause(&cx, &plan, attempt, error).await?,
        }
    };
    failpoint::reach("unit.put");
    // Invariant 1: durable now.
    let id = unit.id.to_string();
    checkpoint.stream = Some(through);
    checkpoint.finished_load = Some(id.clone());
    checkpoint.progress = Some(announced(&unit.id.next()));
    cx.ledger.save(&plan.schema_id, &checkpoint).await?;
    failpoint::reach("unit.settled");
    Ok(Settled {
        checkpoint,
        outcome,
        load: id,
        forgotten: unit.forgets,
    })
}

async fn try_put(cx: &RunCx, plan: &TablePlan, unit: &mut Unit) -> Result<Outcome> {
    let load = match unit.load.take() {
        Some(load) => load,
        None => {
            let load = begin(cx, plan, &unit.id, unit.emptied, &unit.forgets, true).await?;
            still_there(load.as_ref(), &unit.parts)?;
            load
        }
    };
    if unit.parts.is_empty() && !load.finished() {
        // The table was only emptied: an empty part, so that there is something to finish with.
        load.lane().await?.commit("0000000000").await?;
    }
    load.finish().await
}

/// Waits before the next attempt, or says that there is none.
async fn pause(cx: &RunCx, plan: &TablePlan, attempt: u32, error: Error) -> Result<()> {
    let pause = match error.retry() {
        Retry::Never => return Err(error),
        _ if attempt >= cx.spec.budget.attempts => return Err(error),
        Retry::After(pause) => pause,
        Retry::Backoff => LONGEST_PAUSE.min(Duration::from_millis(250 << attempt.min(10))),
    };
    cx.observer.log(
        Level::Warn,
        &plan.schema_id,
        format!(
            "attempt {attempt} at writing changes failed, trying again in {} ms: {error}",
            pause.as_millis()
        ),
        json!({"kind": error.kind.word(), "hint": error.advice()}),
    );
    tokio::time::sleep(pause).await;
    Ok(())
}

pub fn add(sum: &mut Outcome, more: &Outcome) {
    sum.inserted += more.inserted;
    sum.updated += more.updated;
    sum.deleted += more.deleted;
    sum.unchanged += more.unchanged;
    sum.notes.extend(more.notes.iter().cloned());
    if !more.place.is_empty() {
        sum.place.clone_from(&more.place);
    }
}

/// Settles what an earlier attempt, or an earlier run, left unfinished, whether it streamed
/// the table or read it: what it had put in place counts, what it had only staged is thrown
/// away.
pub async fn recover(cx: &RunCx, plan: &TablePlan, checkpoint: &mut Checkpoint) -> Result<()> {
    let Some(progress) = checkpoint.progress.clone() else {
        return Ok(());
    };
    // Invariant 5: nothing of a worker who has taken over from this one.
    cx.ledger.save(&plan.schema_id, checkpoint).await?;
    let unit = UnitId::parse(&progress.load_id);
    if load::withdraw(cx, plan, &progress.load_id).await? {
        checkpoint.stream = progress.stream;
        if unit.is_none() {
            checkpoint.cursor = progress.cursor;
        }
        checkpoint.finished_load = Some(progress.load_id);
    }
    // While a unit is put in place, the next one is being filled.
    if let Some(id) = unit {
        load::withdraw(cx, plan, &id.next().to_string()).await?;
    }
    checkpoint.progress = None;
    cx.ledger.save(&plan.schema_id, checkpoint).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_units_can_be_read_back_and_fit() {
        let first = UnitId::first("0199-execution", "public.orders", 0x1f);
        let id = first.next().next();
        assert_eq!(UnitId::parse(&id.to_string()), Some(id.clone()));
        assert!(id.to_string().len() <= 32);
        // A scan's load is none of them.
        let scan = format!("{}1f", load_stem("0199-execution", "public.orders"));
        assert_eq!(UnitId::parse(&scan), None);
    }
}
