//! Wire types of schedules: those within a sync (snake_case) and those of
//! `/api/bulk/syncs/{id}/schedules` (camelCase, as the contract has it). All times are UTC.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::wire::{Actor, Echoed, echoed};

/// How often a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Frequency {
    /// Never by itself.
    Manual,
    /// As soon as may be, at most every five minutes.
    Continuous,
    Hourly,
    Daily,
    Weekly,
    /// By its parts, as in a crontab.
    Custom,
    /// The same as `custom`, made with a form.
    Builder,
    /// When other syncs have finished.
    RunAfter,
    /// Of older versions: several schedules in one, see `multi`.
    Multi,
    /// When a dbt Cloud job has finished.
    DbtCloud,
}

/// Which fields a schedule carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum SelectiveMode {
    /// All of them.
    #[default]
    None,
    IncrementalFields,
    #[serde(rename = "nonincrementalFields")]
    NonIncrementalFields,
}

/// How the executions that a schedule starts begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleSyncMode {
    /// Where the last one ended.
    #[default]
    Normal,
    Refetch,
    Resync,
    Rebuild,
}

/// The syncs whose end starts this one. (Our own addition to bulk schedules, spelled as in the
/// schedules of model syncs.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunAfter {
    #[serde(default)]
    pub bulk_sync_ids: Vec<Uuid>,
    #[serde(default)]
    pub sync_ids: Vec<Uuid>,
}

/// The schedule of a sync that carries every schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkDefaultSchedule)]
pub struct DefaultSchedule {
    pub created_at: Option<DateTime<Utc>>,
    pub created_by: Option<Actor>,
    pub day_of_month: Option<String>,
    pub day_of_week: Option<String>,
    pub frequency: Frequency,
    pub hour: Option<String>,
    pub id: Uuid,
    pub minute: Option<String>,
    pub month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,
    pub updated_at: Option<DateTime<Utc>>,
    pub updated_by: Option<Actor>,
}

/// A further schedule of a sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkAdditionalSchedule)]
pub struct AdditionalSchedule {
    pub created_at: Option<DateTime<Utc>>,
    pub created_by: Option<Actor>,
    pub day_of_month: Option<String>,
    pub day_of_week: Option<String>,
    pub frequency: Frequency,
    pub hour: Option<String>,
    pub id: Uuid,
    pub minute: Option<String>,
    pub month: Option<String>,
    pub resync_mode: ScheduleSyncMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,
    /// Ids of the schemas it carries; all of them if empty.
    pub schemas: Vec<String>,
    pub selective_mode: SelectiveMode,
    pub updated_at: Option<DateTime<Utc>>,
    pub updated_by: Option<Actor>,
}

/// The default schedule in a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkDefaultScheduleInput)]
pub struct DefaultScheduleInput {
    pub frequency: Frequency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "0")]
    pub minute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "6")]
    pub hour: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_week: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_by: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_by: Option<Echoed>,
}

/// A further schedule in a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkAdditionalScheduleInput)]
pub struct AdditionalScheduleInput {
    pub frequency: Frequency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_week: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    /// A schedule that the sync has already; it is changed, and a new one made without an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_mode: Option<ScheduleSyncMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selective_mode: Option<SelectiveMode>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_by: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_by: Option<Echoed>,
}

/// The one `schedule` that a sync has in versions up to 2024-02-08, in requests and answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkSingleSchedule)]
pub struct SingleSchedule {
    pub frequency: Frequency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_week: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    /// With `frequency: multi`: the schedules it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi: Option<MultiSchedule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,
}

/// Several schedules in one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkMultiSchedule)]
pub struct MultiSchedule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedules: Option<Vec<ItemizedSchedule>>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A schedule and the fields that it carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BulkItemizedSchedule)]
pub struct ItemizedSchedule {
    pub item: SelectiveMode,
    #[schema(no_recursion)]
    pub schedule: SingleSchedule,
}

/// A schedule as `/api/bulk/syncs/{id}/schedules` gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BulkSchedule)]
pub struct Schedule {
    pub created_at: DateTime<Utc>,
    /// The user who made it.
    pub created_by: Option<Uuid>,
    pub day_of_month: Option<String>,
    pub day_of_week: Option<String>,
    pub deleted_at: Option<DateTime<Utc>>,
    pub deleted_by: Option<Uuid>,
    pub frequency: Frequency,
    pub hour: Option<String>,
    /// What the paths of single schedules end in. (Our own addition.)
    pub id: Uuid,
    pub is_default: bool,
    pub minute: Option<String>,
    pub month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,
    /// Ids of the schemas it carries; all of them if empty.
    pub schemas: Vec<String>,
    pub selective_mode: SelectiveMode,
    pub sync_id: Uuid,
    pub sync_mode: ScheduleSyncMode,
    pub updated_at: DateTime<Utc>,
    /// The user who changed it last.
    pub updated_by: Option<Uuid>,
}

/// Adds a schedule to a sync, or replaces one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SaveBulkSchedule)]
pub struct SaveSchedule {
    pub schedule: ScheduleInput,
}

/// A schedule in a request. `schemas` and `syncMode` are our own addition: where they are left out
/// of an update they stay, since official clients cannot send them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = BulkScheduleInput)]
pub struct ScheduleInput {
    pub frequency: Frequency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_week: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub month: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after: Option<RunAfter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_after_success_only: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selective_mode: Option<SelectiveMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_mode: Option<ScheduleSyncMode>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_by: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub deleted_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub deleted_by: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub id: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub is_default: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub sync_id: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_by: Option<Echoed>,
}
