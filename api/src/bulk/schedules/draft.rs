//! From the schedules of a request to what is stored, checked.

use std::collections::BTreeSet;

use tideway_store::{
    Frequency, RunAfter, Schedule, ScheduleDraft, ScheduleMode, SelectiveMode, Timing,
};
use tideway_work::schedule;
use uuid::Uuid;

use super::{
    spellings::{RequestedSchedules, ScheduleFields},
    wire,
};
use crate::{
    problem::{Answer, Problem},
    state::ApiState,
};

/// The sync whose schedules are written.
pub struct Setting<'a> {
    pub state: &'a ApiState,
    pub organization: Uuid,
    /// None while it is being created.
    pub sync: Option<Uuid>,
    /// Ids of its schemas.
    pub schemas: &'a BTreeSet<String>,
}

/// What the request says of schedules; none is an error that names `default_schedule`.
pub fn required(fields: ScheduleFields<'_>) -> Answer<RequestedSchedules> {
    match fields.read() {
        Ok(Some(requested)) => Ok(requested),
        Ok(None) => Err(Problem::unprocessable(
            "default_schedule",
            "default_schedule is missing; {\"frequency\": \"manual\"} is one that never fires",
        )),
        Err(wrong) => Err(Problem::unprocessable(wrong.field, wrong.message)),
    }
}

impl Setting<'_> {
    /// All schedules of a sync. Those with an id that the sync knows keep it.
    pub async fn drafts(
        &self,
        requested: &RequestedSchedules,
        existing: &[Schedule],
    ) -> Answer<Vec<ScheduleDraft>> {
        let default = &requested.default;
        let mut drafts = vec![ScheduleDraft {
            default: true,
            id: default
                .id
                .or(existing.iter().find(|one| one.default).map(|one| one.id)),
            run_after: run_after(default.run_after.as_ref()),
            run_after_success_only: default.run_after_success_only.unwrap_or_default(),
            ..ScheduleDraft::new(Timing {
                frequency: default.frequency.into(),
                minute: default.minute.clone(),
                hour: default.hour.clone(),
                day_of_week: default.day_of_week.clone(),
                day_of_month: default.day_of_month.clone(),
                month: default.month.clone(),
                cron: None,
            })
        }];
        drafts.extend(requested.additional.iter().map(additional));
        let mut taken = BTreeSet::new();
        for (index, draft) in drafts.iter_mut().enumerate() {
            let known = |id: &Uuid| existing.iter().any(|one| one.id == *id);
            draft.id = draft.id.filter(|id| known(id) && taken.insert(*id));
            let field = match index {
                0 => "default_schedule".to_owned(),
                _ => format!("additional_schedules.{}", index - 1),
            };
            self.check(&field, draft).await?;
        }
        Ok(drafts)
    }

    /// One schedule; `stored` is the one that it replaces.
    pub async fn draft(
        &self,
        input: wire::ScheduleInput,
        stored: Option<&Schedule>,
    ) -> Answer<ScheduleDraft> {
        let draft = ScheduleDraft {
            id: None,
            default: stored.is_some_and(|stored| stored.default),
            schemas: input
                .schemas
                .or_else(|| stored.map(|stored| stored.schemas.clone()))
                .unwrap_or_default(),
            selective_mode: input.selective_mode.map_or(SelectiveMode::None, Into::into),
            resync_mode: input
                .sync_mode
                .map(Into::into)
                .or(stored.map(|stored| stored.resync_mode))
                .unwrap_or(ScheduleMode::Normal),
            run_after: run_after(input.run_after.as_ref()),
            run_after_success_only: input.run_after_success_only.unwrap_or_default(),
            ..ScheduleDraft::new(Timing {
                frequency: input.frequency.into(),
                minute: input.minute,
                hour: input.hour,
                day_of_week: input.day_of_week,
                day_of_month: input.day_of_month,
                month: input.month,
                cron: None,
            })
        };
        if draft.default && carries_less(&draft) {
            return Err(Problem::unprocessable(
                "schedule",
                "the default schedule carries everything in the normal way; add another schedule for less",
            ));
        }
        self.check("schedule", &draft).await?;
        Ok(draft)
    }

    async fn check(&self, field: &str, draft: &ScheduleDraft) -> Answer<()> {
        let wrong = |name: &str, message: String| {
            let field = format!("{field}.{name}");
            Err(Problem::unprocessable(
                &field,
                format!("{field}: {message}"),
            ))
        };
        match draft.timing.frequency {
            Frequency::DbtCloud => {
                return Err(Problem::not_yet(
                    &format!("{field}.frequency"),
                    "schedules of dbt Cloud jobs are not built yet",
                ));
            }
            Frequency::Multi => {
                return wrong(
                    "frequency",
                    "multi belongs to the older field schedule; write each schedule by itself"
                        .into(),
                );
            }
            _ => {}
        }
        if let Err(error) = schedule::check(&draft.timing) {
            return Err(
                Problem::unprocessable(field, format!("{field}: {}", error.what()))
                    .with("hint", error.advice()),
            );
        }
        if let Some(unknown) = draft.schemas.iter().find(|id| !self.schemas.contains(*id)) {
            return wrong("schemas", format!("the sync has no schema {unknown}"));
        }
        self.check_run_after(field, draft).await
    }

    async fn check_run_after(&self, field: &str, draft: &ScheduleDraft) -> Answer<()> {
        let wrong = |message: String| {
            let field = format!("{field}.run_after");
            Err(Problem::unprocessable(
                &field,
                format!("{field}: {message}"),
            ))
        };
        let RunAfter {
            bulk_sync_ids,
            sync_ids,
        } = &draft.run_after;
        if !sync_ids.is_empty() {
            return Err(Problem::not_yet(
                &format!("{field}.run_after.sync_ids"),
                "running after model syncs is not built yet",
            ));
        }
        if draft.timing.frequency == Frequency::RunAfter && bulk_sync_ids.is_empty() {
            return wrong("name the syncs to run after in bulk_sync_ids".into());
        }
        for id in bulk_sync_ids {
            if self.sync == Some(*id) {
                return wrong("a sync cannot run after itself".into());
            }
            if let Err(error) = self
                .state
                .store()
                .bulk_syncs()
                .get(self.organization, *id)
                .await
            {
                return match error.kind {
                    tideway_core::Kind::Missing => wrong(format!("there is no bulk sync {id}")),
                    _ => Err(error.into()),
                };
            }
        }
        Ok(())
    }
}

fn additional(input: &wire::AdditionalScheduleInput) -> ScheduleDraft {
    ScheduleDraft {
        id: input.id,
        schemas: input.schemas.clone().unwrap_or_default(),
        selective_mode: input.selective_mode.map_or(SelectiveMode::None, Into::into),
        resync_mode: input.resync_mode.map_or(ScheduleMode::Normal, Into::into),
        run_after: run_after(input.run_after.as_ref()),
        run_after_success_only: input.run_after_success_only.unwrap_or_default(),
        ..ScheduleDraft::new(Timing {
            frequency: input.frequency.into(),
            minute: input.minute.clone(),
            hour: input.hour.clone(),
            day_of_week: input.day_of_week.clone(),
            day_of_month: input.day_of_month.clone(),
            month: input.month.clone(),
            cron: None,
        })
    }
}

fn carries_less(draft: &ScheduleDraft) -> bool {
    !draft.schemas.is_empty()
        || draft.selective_mode != SelectiveMode::None
        || draft.resync_mode != ScheduleMode::Normal
}

fn run_after(input: Option<&wire::RunAfter>) -> RunAfter {
    input.map_or_else(RunAfter::default, |after| RunAfter {
        bulk_sync_ids: after.bulk_sync_ids.clone(),
        sync_ids: after.sync_ids.clone(),
    })
}
