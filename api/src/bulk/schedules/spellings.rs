//! The three ways to write the schedules of a sync, read into one and written from one.
//!
//! `default_schedule` with `additional_schedules` is today's; `schedules`, a plain list, stands in
//! an early guide to the same version; `schedule`, a single one that can hold several as `multi`,
//! is that of versions up to 2024-02-08.

use super::wire::{
    AdditionalSchedule, AdditionalScheduleInput, DefaultSchedule, DefaultScheduleInput, Frequency,
    ItemizedSchedule, MultiSchedule, ScheduleSyncMode, SelectiveMode, SingleSchedule,
};

/// The schedules that a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedSchedules {
    pub default: DefaultScheduleInput,
    pub additional: Vec<AdditionalScheduleInput>,
}

/// What is wrong with the schedules of a request, and in which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSpellingError {
    pub field: &'static str,
    pub message: &'static str,
}

/// The fields of a request that speak of schedules, as they came.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleFields<'a> {
    pub default_schedule: Option<&'a DefaultScheduleInput>,
    pub additional_schedules: Option<&'a [AdditionalScheduleInput]>,
    pub schedule: Option<&'a SingleSchedule>,
    pub schedules: Option<&'a [AdditionalScheduleInput]>,
}

impl ScheduleFields<'_> {
    /// What they ask for; `None` where the request does not speak of schedules at all.
    pub fn read(self) -> Result<Option<RequestedSchedules>, ScheduleSpellingError> {
        let error = |field, message| Err(ScheduleSpellingError { field, message });
        let requested = match (self.default_schedule, self.schedule, self.schedules) {
            (Some(default), None, None) => RequestedSchedules {
                default: default.clone(),
                additional: self.additional_schedules.unwrap_or_default().to_vec(),
            },
            (None, _, _)
                if self
                    .additional_schedules
                    .is_some_and(|list| !list.is_empty()) =>
            {
                return error(
                    "additional_schedules",
                    "additional_schedules come beside a default_schedule, which is missing",
                );
            }
            (None, Some(single), None) => from_single(single)?,
            (None, None, Some(list)) => from_list(list),
            (None, None, None) => return Ok(None),
            (_, Some(_), _) => {
                return error(
                    "schedule",
                    "schedule is the older way to write default_schedule: give one of them only",
                );
            }
            (_, _, Some(_)) => {
                return error(
                    "schedules",
                    "schedules is another way to write default_schedule and \
                     additional_schedules: give one of them only",
                );
            }
        };
        let multi = |frequency| frequency == Frequency::Multi;
        if multi(requested.default.frequency)
            || requested.additional.iter().any(|one| multi(one.frequency))
        {
            return error(
                "frequency",
                "frequency multi belongs to the older field schedule and cannot be nested: \
                 use default_schedule and additional_schedules",
            );
        }
        Ok(Some(requested))
    }
}

fn from_single(single: &SingleSchedule) -> Result<RequestedSchedules, ScheduleSpellingError> {
    if single.frequency != Frequency::Multi {
        return Ok(RequestedSchedules {
            default: as_default(&as_additional(single, SelectiveMode::None)),
            additional: Vec::new(),
        });
    }
    let items = single
        .multi
        .as_ref()
        .and_then(|multi| multi.schedules.as_deref());
    let Some(items) = items else {
        return Err(ScheduleSpellingError {
            field: "schedule.multi.schedules",
            message: "frequency multi needs the schedules that it stands for",
        });
    };
    let list: Vec<_> = items
        .iter()
        .map(|one| as_additional(&one.schedule, one.item))
        .collect();
    Ok(from_list(&list))
}

/// The first schedule that carries everything is the default one; without such a one, nothing runs
/// by default.
fn from_list(list: &[AdditionalScheduleInput]) -> RequestedSchedules {
    let carries_all = |one: &AdditionalScheduleInput| {
        one.selective_mode.unwrap_or_default() == SelectiveMode::None
            && one.resync_mode.unwrap_or_default() == ScheduleSyncMode::Normal
            && one.schemas.as_ref().is_none_or(Vec::is_empty)
    };
    let default_at = list.iter().position(carries_all);
    RequestedSchedules {
        default: match default_at {
            Some(at) => as_default(&list[at]),
            None => DefaultScheduleInput::new(Frequency::Manual),
        },
        additional: (list.iter().enumerate())
            .filter(|(at, _)| Some(*at) != default_at)
            .map(|(_, one)| one.clone())
            .collect(),
    }
}

fn as_default(one: &AdditionalScheduleInput) -> DefaultScheduleInput {
    DefaultScheduleInput {
        minute: one.minute.clone(),
        hour: one.hour.clone(),
        day_of_week: one.day_of_week.clone(),
        day_of_month: one.day_of_month.clone(),
        month: one.month.clone(),
        id: one.id,
        run_after: one.run_after.clone(),
        run_after_success_only: one.run_after_success_only,
        ..DefaultScheduleInput::new(one.frequency)
    }
}

fn as_additional(single: &SingleSchedule, item: SelectiveMode) -> AdditionalScheduleInput {
    AdditionalScheduleInput {
        minute: single.minute.clone(),
        hour: single.hour.clone(),
        day_of_week: single.day_of_week.clone(),
        day_of_month: single.day_of_month.clone(),
        month: single.month.clone(),
        run_after: single.run_after.clone(),
        run_after_success_only: single.run_after_success_only,
        selective_mode: Some(item),
        ..AdditionalScheduleInput::new(single.frequency)
    }
}

impl DefaultScheduleInput {
    /// A schedule of this frequency and nothing else.
    pub fn new(frequency: Frequency) -> Self {
        Self {
            frequency,
            minute: None,
            hour: None,
            day_of_week: None,
            day_of_month: None,
            month: None,
            id: None,
            run_after: None,
            run_after_success_only: None,
            created_at: None,
            created_by: None,
            updated_at: None,
            updated_by: None,
        }
    }
}

impl AdditionalScheduleInput {
    /// A schedule of this frequency and nothing else.
    pub fn new(frequency: Frequency) -> Self {
        Self {
            frequency,
            minute: None,
            hour: None,
            day_of_week: None,
            day_of_month: None,
            month: None,
            id: None,
            resync_mode: None,
            run_after: None,
            run_after_success_only: None,
            schemas: None,
            selective_mode: None,
            created_at: None,
            created_by: None,
            updated_at: None,
            updated_by: None,
        }
    }
}

impl SingleSchedule {
    /// A schedule of this frequency and nothing else.
    pub fn new(frequency: Frequency) -> Self {
        Self {
            frequency,
            minute: None,
            hour: None,
            day_of_week: None,
            day_of_month: None,
            month: None,
            multi: None,
            run_after: None,
            run_after_success_only: None,
        }
    }

    /// The schedules of a sync as versions up to 2024-02-08 show them. What these cannot say,
    /// `schemas` and `resync_mode` of additional schedules, is lost.
    pub fn from_schedules(default: &DefaultSchedule, additional: &[AdditionalSchedule]) -> Self {
        let single = Self {
            minute: default.minute.clone(),
            hour: default.hour.clone(),
            day_of_week: default.day_of_week.clone(),
            day_of_month: default.day_of_month.clone(),
            month: default.month.clone(),
            run_after: default.run_after.clone(),
            run_after_success_only: default.run_after_success_only,
            ..Self::new(default.frequency)
        };
        if additional.is_empty() {
            return single;
        }
        let runs_by_default = single.frequency != Frequency::Manual;
        let first = runs_by_default.then_some(ItemizedSchedule {
            item: SelectiveMode::None,
            schedule: single,
        });
        let rest = additional.iter().map(|one| ItemizedSchedule {
            item: one.selective_mode,
            schedule: Self {
                minute: one.minute.clone(),
                hour: one.hour.clone(),
                day_of_week: one.day_of_week.clone(),
                day_of_month: one.day_of_month.clone(),
                month: one.month.clone(),
                run_after: one.run_after.clone(),
                run_after_success_only: one.run_after_success_only,
                ..Self::new(one.frequency)
            },
        });
        Self {
            multi: Some(MultiSchedule {
                schedules: Some(first.into_iter().chain(rest).collect()),
                kind: None,
            }),
            ..Self::new(Frequency::Multi)
        }
    }
}
