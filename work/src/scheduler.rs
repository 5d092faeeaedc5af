//! Fires schedules: by the clock, and after other syncs. Every process runs one; the
//! store hands each firing to a single one of them.

use std::time::Duration;

use chrono::Utc;
use rand::Rng;
use tideway_core::Result;
use tideway_store::{
    Author, Execution, ExecutionDraft, ExecutionStatus, FetchMode, Fired, Frequency, ResyncMode,
    Schedule, ScheduleMode, Trigger,
};

use crate::{Work, schedule::next_fire};

const TICK: Duration = Duration::from_secs(1);
const AT_ONCE: u32 = 100;
/// Continuous syncs are spread over so much.
const JITTER_MILLIS: u64 = 10_000;

pub async fn run(work: Work) {
    loop {
        for step in [plan(&work).await, fire(&work).await, follow(&work).await] {
            if let Err(error) = step {
                tracing::warn!(%error, "the scheduler could not do a step");
            }
        }
        if !work.pause(TICK).await {
            return;
        }
    }
}

fn next(schedule: &Schedule) -> Option<chrono::DateTime<Utc>> {
    let jitter = Duration::from_millis(rand::rng().random_range(0..JITTER_MILLIS));
    next_fire(&schedule.timing, Utc::now(), jitter).unwrap_or_else(|error| {
        tracing::warn!(schedule = %schedule.id, %error, "a schedule cannot fire");
        None
    })
}

/// Gives new and changed schedules their first time.
async fn plan(work: &Work) -> Result<()> {
    for schedule in work.store.schedules().unplanned(AT_ONCE).await? {
        let at = match follows_on(work, &schedule).await? {
            true => Some(Utc::now()),
            false => next(&schedule),
        };
        work.store.schedules().plan(&schedule, at).await?;
    }
    Ok(())
}

/// A stream that is there already goes on at once.
async fn follows_on(work: &Work, schedule: &Schedule) -> Result<bool> {
    if schedule.timing.frequency != Frequency::Continuous {
        return Ok(false);
    }
    let streams = work.store.streams();
    let stream = streams.of_sync(schedule.organization_id, schedule.sync_id);
    Ok(stream.await?.is_some())
}

async fn fire(work: &Work) -> Result<()> {
    for schedule in work.store.schedules().due(AT_ONCE).await? {
        let draft = draft(&schedule, Trigger::Scheduled);
        match work
            .store
            .schedules()
            .fire(&schedule, next(&schedule), &draft)
            .await?
        {
            Fired::Started(execution) => {
                tracing::info!(sync = %schedule.sync_id, %execution, "scheduled");
            }
            // No two runs of one sync at once: this firing is left out.
            Fired::Overlap => {
                tracing::info!(sync = %schedule.sync_id, "still running, firing left out");
            }
            Fired::Lost => {}
        }
    }
    Ok(())
}

/// Starts the syncs that wait for one that has ended.
async fn follow(work: &Work) -> Result<()> {
    for ended in work.store.executions().unfollowed(AT_ONCE).await? {
        let drafts: Vec<_> = work
            .store
            .schedules()
            .after(ended.sync_id)
            .await?
            .into_iter()
            .filter(|schedule| follows(schedule, &ended))
            .map(|schedule| {
                let draft = draft(&schedule, Trigger::RunAfter);
                (schedule.organization_id, schedule.sync_id, draft)
            })
            .collect();
        work.store.executions().follow(ended.id, &drafts).await?;
    }
    Ok(())
}

fn follows(schedule: &Schedule, ended: &Execution) -> bool {
    match ended.status {
        ExecutionStatus::Completed => true,
        ExecutionStatus::Canceled => false,
        _ => !schedule.run_after_success_only,
    }
}

fn draft(schedule: &Schedule, trigger: Trigger) -> ExecutionDraft {
    ExecutionDraft {
        trigger,
        schedule_id: Some(schedule.id),
        resync_mode: match schedule.resync_mode {
            ScheduleMode::Normal => None,
            ScheduleMode::Refetch => Some(ResyncMode::Refetch),
            ScheduleMode::Resync => Some(ResyncMode::Resync),
            ScheduleMode::Rebuild => Some(ResyncMode::Rebuild),
        },
        fetch_mode: FetchMode::None,
        selective_mode: schedule.selective_mode,
        test: false,
        only_schemas: schedule.schemas.clone(),
        created_by: Author::system(),
    }
}
