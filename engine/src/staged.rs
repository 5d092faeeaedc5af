//! Whether what is staged is what was read: before a load is put in place, the destination
//! reads its staging place back, and both are compared. A load that differs never becomes
//! visible, and nobody else's writes can be taken for a difference.
//! docs/decisions/verification.md says more.

use std::{collections::BTreeSet, sync::Mutex, time::Instant};

use serde_json::json;
use tideway_core::{
    Column, Error, Kind, LogicalType, Result,
    destination::{ReadBack, TableLoad},
    sums::{Sums, Verification, is_compared},
};
use tokio_util::sync::CancellationToken;

use crate::{
    lanes::TableFlow,
    observe::Level,
    plan::{PlannedWrite, TablePlan, Verify},
    run::RunCx,
};

/// What has been read, as it was handed to the writers.
pub struct Tally {
    pub sums: Mutex<Sums>,
    /// What is added up of each column of a batch.
    pub types: Vec<Option<LogicalType>>,
    /// Columns whose values the destination altered by a policy.
    altered: Mutex<BTreeSet<String>>,
}

impl Tally {
    /// For the first load of a table, or for each, as the run asks; not for a test.
    pub fn of(cx: &RunCx, plan: &TablePlan, load: &dyn TableLoad, first: bool) -> Option<Tally> {
        let wanted = match cx.spec.verify {
            Verify::Never => false,
            Verify::FirstLoads => first,
            Verify::Always => true,
        };
        let type_of = |column: &Column| {
            let compared = is_compared(column.logical) && load.tells_apart(column);
            compared.then_some(column.logical)
        };
        (wanted && !cx.spec.test).then(|| Tally {
            sums: Mutex::new(Sums::new(plan.target.columns.len())),
            types: plan.target.columns.iter().map(type_of).collect(),
            altered: Mutex::default(),
        })
    }

    pub fn join(&self, part: &Sums) {
        let sums = self.sums.lock();
        sums.unwrap_or_else(|broken| broken.into_inner()).join(part);
    }

    pub fn note(&self, column: &str) {
        let altered = self.altered.lock();
        let mut altered = altered.unwrap_or_else(|broken| broken.into_inner());
        altered.insert(column.to_owned());
    }
}

/// Compares what was read with what is staged; `None` where nobody asked. What could not be
/// compared is told of, and the load goes on.
///
/// # Errors
/// `Data` where they differ; `Cancelled`.
pub async fn verify(
    cx: &RunCx,
    plan: &TablePlan,
    flow: &TableFlow,
    load: &dyn TableLoad,
    cancel: &CancellationToken,
    resumed: bool,
) -> Result<Option<Verification>> {
    let Some(tally) = &flow.tally else {
        return Ok(None);
    };
    let unknown = |reason: String| {
        let found = Verification::NotVerified { reason };
        cx.observer.log(
            Level::Warn,
            &plan.schema_id,
            found.to_string(),
            json!(found),
        );
        Ok(Some(found))
    };
    if resumed {
        return unknown("parts of it were read by an earlier attempt".to_owned());
    }
    let keyless = |plan: &TablePlan| {
        let mut columns = plan.target.columns.iter();
        columns.any(|column| column.nullable && plan.target.key.contains(&column.name))
    };
    if matches!(plan.write, PlannedWrite::Merge(_)) && keyless(plan) {
        return unknown("rows may lack a key, and are left out then".to_owned());
    }
    let begun = Instant::now();
    let staged = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::cancelled()),
        staged = read_back(cx, flow, load) => staged,
    };
    let staged = match staged {
        Ok(Some(staged)) => staged,
        Ok(None) => {
            let what = &cx.spec.destination_type;
            return Ok(Some(Verification::NotVerified {
                reason: format!("loads of {what} are not read back yet"),
            }));
        }
        Err(error) if error.kind == Kind::Fenced => return Err(error),
        // Whatever it is, it is not what was written.
        Err(error) if matches!(error.kind, Kind::Data | Kind::Drift) => {
            return Err(not_what_was_read(plan, &error.to_string()));
        }
        Err(error) => return unknown(error.to_string()),
    };
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let found = judge(plan, flow.passing.is_some(), tally, &staged, milliseconds)?;
    cx.observer.log(
        Level::Info,
        &plan.schema_id,
        found.to_string(),
        json!(found),
    );
    Ok(Some(found))
}

/// The lanes of the table are done, so that their places in the run's memory and at the
/// destination are free.
async fn read_back(cx: &RunCx, flow: &TableFlow, load: &dyn TableLoad) -> Result<Option<Sums>> {
    let slot = cx.slots.clone().acquire_owned().await;
    let mut slots = vec![slot.map_err(|_| Error::cancelled())?];
    while slots.len() < cx.lanes
        && let Ok(slot) = cx.slots.clone().try_acquire_owned()
    {
        slots.push(slot);
    }
    // Invariant 8: a batch per lane is in memory.
    let _room = cx.memory.admit(slots.len() * cx.batch_bytes).await?;
    let how = ReadBack {
        format: flow.passing.as_ref(),
        lanes: slots.len(),
        batch_bytes: cx.batch_bytes,
    };
    load.read_back(&how).await
}

fn judge(
    plan: &TablePlan,
    passed: bool,
    tally: &Tally,
    staged: &Sums,
    milliseconds: u64,
) -> Result<Verification> {
    let sums = tally.sums.lock();
    let read = sums.unwrap_or_else(|broken| broken.into_inner());
    let altered = tally.altered.lock();
    let altered = altered.unwrap_or_else(|broken| broken.into_inner());
    let name = |at: usize| {
        plan.target
            .columns
            .get(at)
            .map(|column| column.name.clone())
    };
    let differing: Vec<String> = read
        .differing(staged)
        .into_iter()
        .filter_map(name)
        .collect();
    let differing: Vec<String> = differing
        .into_iter()
        .filter(|name| !altered.contains(name))
        .collect();
    // A row's sum takes all its columns in.
    let rows_differ = read.rows.sum != staged.rows.sum && altered.is_empty();
    let (here, there) = (read.rows.rows, staged.rows.rows);
    if here != there || rows_differ || !differing.is_empty() {
        let how = match (here == there, differing.is_empty()) {
            (false, _) => format!("{here} rows were read and {there} are staged"),
            (true, true) => format!("values of {here} rows are in other rows than they were"),
            (true, false) => format!("values differ in {}", differing.join(", ")),
        };
        return Err(not_what_was_read(plan, &how));
    }
    let columns = plan.target.columns.iter().zip(&tally.types);
    let left_out = columns.filter(|(column, compared)| {
        altered.contains(&column.name) || (!passed && compared.is_none())
    });
    Ok(Verification::Verified {
        row_count: here,
        checksum: format!("{:032x}", read.rows.sum),
        columns_left_out: left_out.map(|(column, _)| column.name.clone()).collect(),
        milliseconds,
    })
}

fn not_what_was_read(plan: &TablePlan, how: &str) -> Error {
    Error::data(format!(
        "what is staged for {} is not what was read: {how}",
        plan.target.name
    ))
    .hint(
        "nothing was put in place; check the destination's storage, triggers and whatever \
         else writes to what begins with _tideway_, then run the sync again",
    )
}
