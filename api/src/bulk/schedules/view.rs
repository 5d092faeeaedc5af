//! Schedules as they are shown: within a sync, and by themselves.

use tideway_store as store;
use uuid::Uuid;

use super::wire::{
    AdditionalSchedule, DefaultSchedule, Frequency, RunAfter, Schedule, ScheduleSyncMode,
    SelectiveMode,
};
use crate::bulk::syncs::view::actor;

mirrored!(store::Frequency, Frequency:
    Manual, Continuous, Hourly, Daily, Weekly, Custom, Builder, RunAfter, Multi, DbtCloud);
mirrored!(store::SelectiveMode, SelectiveMode: None, IncrementalFields, NonIncrementalFields);
mirrored!(store::ScheduleMode, ScheduleSyncMode: Normal, Refetch, Resync, Rebuild);

pub fn default_schedule(stored: &store::Schedule) -> DefaultSchedule {
    let timing = stored.timing.clone();
    DefaultSchedule {
        created_at: Some(stored.created_at),
        created_by: Some(actor(&stored.created_by)),
        day_of_month: timing.day_of_month,
        day_of_week: timing.day_of_week,
        frequency: timing.frequency.into(),
        hour: timing.hour,
        id: stored.id,
        minute: timing.minute,
        month: timing.month,
        run_after: run_after(stored),
        run_after_success_only: success_only(stored),
        updated_at: Some(stored.updated_at),
        updated_by: Some(actor(&stored.updated_by)),
    }
}

pub fn additional_schedule(stored: &store::Schedule) -> AdditionalSchedule {
    let timing = stored.timing.clone();
    AdditionalSchedule {
        created_at: Some(stored.created_at),
        created_by: Some(actor(&stored.created_by)),
        day_of_month: timing.day_of_month,
        day_of_week: timing.day_of_week,
        frequency: timing.frequency.into(),
        hour: timing.hour,
        id: stored.id,
        minute: timing.minute,
        month: timing.month,
        resync_mode: stored.resync_mode.into(),
        run_after: run_after(stored),
        run_after_success_only: success_only(stored),
        schemas: stored.schemas.clone(),
        selective_mode: stored.selective_mode.into(),
        updated_at: Some(stored.updated_at),
        updated_by: Some(actor(&stored.updated_by)),
    }
}

pub fn schedule(stored: store::Schedule) -> Schedule {
    let (run_after, run_after_success_only) = (run_after(&stored), success_only(&stored));
    let timing = stored.timing;
    Schedule {
        created_at: stored.created_at,
        created_by: user(&stored.created_by),
        day_of_month: timing.day_of_month,
        day_of_week: timing.day_of_week,
        deleted_at: None,
        deleted_by: None,
        frequency: timing.frequency.into(),
        hour: timing.hour,
        id: stored.id,
        is_default: stored.default,
        minute: timing.minute,
        month: timing.month,
        run_after,
        run_after_success_only,
        schemas: stored.schemas,
        selective_mode: stored.selective_mode.into(),
        sync_id: stored.sync_id,
        sync_mode: stored.resync_mode.into(),
        updated_at: stored.updated_at,
        updated_by: user(&stored.updated_by),
    }
}

fn user(author: &store::Author) -> Option<Uuid> {
    (author.kind == store::ActorKind::User).then_some(author.id)
}

fn fires_after_others(stored: &store::Schedule) -> bool {
    stored.timing.frequency == store::Frequency::RunAfter
}

fn run_after(stored: &store::Schedule) -> Option<RunAfter> {
    fires_after_others(stored).then(|| RunAfter {
        bulk_sync_ids: stored.run_after.bulk_sync_ids.clone(),
        sync_ids: stored.run_after.sync_ids.clone(),
    })
}

fn success_only(stored: &store::Schedule) -> Option<bool> {
    fires_after_others(stored).then_some(stored.run_after_success_only)
}
