//! Wire types of `/api/events` and `/api/events_types`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{AnyOfBuilder, Schema},
    },
};
use uuid::Uuid;

use crate::wire::timestamp;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    pub created_at: DateTime<Utc>,
    pub event: EventPayload,
    pub id: Uuid,
    pub organization_id: Uuid,
    #[serde(rename = "type")]
    pub kind: EventType,
}

/// What can happen; `/api/events_types` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    #[serde(rename = "sync.running")]
    SyncRunning,
    #[serde(rename = "sync.completed")]
    SyncCompleted,
    #[serde(rename = "sync.completed_with_errors")]
    SyncCompletedWithErrors,
    #[serde(rename = "sync.failed")]
    SyncFailed,
    #[serde(rename = "sync.canceled")]
    SyncCanceled,
    #[serde(rename = "bulk_sync.running")]
    BulkSyncRunning,
    #[serde(rename = "bulk_sync.completed")]
    BulkSyncCompleted,
    /// (The missing plural is the contract's.)
    #[serde(rename = "bulk_sync.completed_with_error")]
    BulkSyncCompletedWithError,
    #[serde(rename = "bulk_sync.failed")]
    BulkSyncFailed,
    #[serde(rename = "bulk_sync.canceled")]
    BulkSyncCanceled,
}

impl EventType {
    pub const ALL: [Self; 10] = [
        Self::SyncRunning,
        Self::SyncCompleted,
        Self::SyncCompletedWithErrors,
        Self::SyncFailed,
        Self::SyncCanceled,
        Self::BulkSyncRunning,
        Self::BulkSyncCompleted,
        Self::BulkSyncCompletedWithError,
        Self::BulkSyncFailed,
        Self::BulkSyncCanceled,
    ];
}

/// The particulars of an event; which ones there are depends on its `type`.
// Some payloads look alike, so the schema is an `anyOf`, where a derived one would be a `oneOf`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum EventPayload {
    SyncRunning(SyncRunning),
    SyncCompleted(Box<SyncCompleted>),
    SyncCompletedWithErrors(SyncCompletedWithErrors),
    SyncFailed(SyncFailed),
    SyncCanceled(SyncCanceled),
    BulkSyncRunning(BulkSyncRunning),
    BulkSyncCompleted(BulkSyncCompleted),
    BulkSyncCompletedWithError(BulkSyncCompletedWithError),
    BulkSyncFailed(BulkSyncFailed),
    BulkSyncCanceled(BulkSyncCanceled),
}

impl EventPayload {
    pub fn kind(&self) -> EventType {
        match self {
            Self::SyncRunning(_) => EventType::SyncRunning,
            Self::SyncCompleted(_) => EventType::SyncCompleted,
            Self::SyncCompletedWithErrors(_) => EventType::SyncCompletedWithErrors,
            Self::SyncFailed(_) => EventType::SyncFailed,
            Self::SyncCanceled(_) => EventType::SyncCanceled,
            Self::BulkSyncRunning(_) => EventType::BulkSyncRunning,
            Self::BulkSyncCompleted(_) => EventType::BulkSyncCompleted,
            Self::BulkSyncCompletedWithError(_) => EventType::BulkSyncCompletedWithError,
            Self::BulkSyncFailed(_) => EventType::BulkSyncFailed,
            Self::BulkSyncCanceled(_) => EventType::BulkSyncCanceled,
        }
    }
}

impl PartialSchema for EventPayload {
    fn schema() -> RefOr<Schema> {
        AnyOfBuilder::new()
            .item(Ref::from_schema_name(SyncRunning::name()))
            .item(Ref::from_schema_name(SyncCompleted::name()))
            .item(Ref::from_schema_name(SyncCompletedWithErrors::name()))
            .item(Ref::from_schema_name(SyncFailed::name()))
            .item(Ref::from_schema_name(SyncCanceled::name()))
            .item(Ref::from_schema_name(BulkSyncRunning::name()))
            .item(Ref::from_schema_name(BulkSyncCompleted::name()))
            .item(Ref::from_schema_name(BulkSyncCompletedWithError::name()))
            .item(Ref::from_schema_name(BulkSyncFailed::name()))
            .item(Ref::from_schema_name(BulkSyncCanceled::name()))
            .description(Some("The particulars, by the `type` of the event."))
            .into()
    }
}

impl ToSchema for EventPayload {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((T::name().into_owned(), T::schema()));
            T::schemas(schemas);
        }
        add::<SyncRunning>(schemas);
        add::<SyncCompleted>(schemas);
        add::<SyncCompletedWithErrors>(schemas);
        add::<SyncFailed>(schemas);
        add::<SyncCanceled>(schemas);
        add::<BulkSyncRunning>(schemas);
        add::<BulkSyncCompleted>(schemas);
        add::<BulkSyncCompletedWithError>(schemas);
        add::<BulkSyncFailed>(schemas);
        add::<BulkSyncCanceled>(schemas);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncRunning {
    pub destination_connection_id: Uuid,
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub source_connection_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncCompleted {
    pub destination_connection_id: Uuid,
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    /// Null unless a schedule started it.
    pub schedule: Option<EventSchedule>,
    pub source_connection_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
    #[schema(example = "scheduled")]
    pub trigger_source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncCompletedWithError {
    pub destination_connection_id: Uuid,
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub schedule: Option<EventSchedule>,
    pub source_connection_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub trigger_source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncFailed {
    pub destination_connection_id: Uuid,
    pub error: String,
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub schedule: Option<EventSchedule>,
    pub source_connection_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub trigger_source: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncCanceled {
    pub destination_connection_id: Uuid,
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub source_connection_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
}

/// The schedule that started an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventSchedule {
    pub frequency: String,
    pub id: Option<Uuid>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SyncRunning {
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub target_connection_id: Uuid,
}

/// The lists of records are URLs of log files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SyncCompleted {
    pub deleted_records: Vec<String>,
    pub error_count: i64,
    pub errored_records: Vec<String>,
    pub execution_id: Uuid,
    pub inserted_count: i64,
    pub inserted_records: Vec<String>,
    pub logs_url: Option<String>,
    pub organization_id: Uuid,
    pub record_count: i64,
    pub schedule: Option<SyncEventSchedule>,
    pub status: SyncStatus,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub target_connection_id: Uuid,
    pub total_records: Vec<String>,
    pub trigger: String,
    pub updated_count: i64,
    pub updated_records: Vec<String>,
    pub upserted_count: i64,
    pub warning_count: i64,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SyncCompletedWithErrors {
    pub error: String,
    pub execution_id: Uuid,
    pub number_of_errors: i64,
    pub number_of_warnings: i64,
    pub organization_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub target_connection_id: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SyncFailed {
    pub error: String,
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub target_connection_id: Uuid,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SyncCanceled {
    pub execution_id: Uuid,
    pub organization_id: Uuid,
    pub status: SyncStatus,
    pub sync_id: Uuid,
    pub sync_name: String,
    pub target_connection_id: Uuid,
}

/// The schedule that started an execution of a model sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SyncEventSchedule {
    pub frequency: String,
}

/// Where an execution of a model sync stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    Created,
    Scheduled,
    Queued,
    Waiting,
    Running,
    Processing,
    Canceling,
    Canceled,
    Completed,
    Failed,
    Interrupted,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventListQuery {
    /// For system callers: whose events.
    #[serde(default)]
    #[param(required = false)]
    pub organization_id: Option<Uuid>,
    /// Only events of this type.
    #[serde(default, rename = "type", alias = "event_type")]
    #[param(required = false, inline)]
    pub kind: Option<EventType>,
    /// Only events after this moment.
    #[serde(default, deserialize_with = "timestamp::optional")]
    #[param(required = false)]
    pub starting_after: Option<DateTime<Utc>>,
    /// Only events before this moment.
    #[serde(default, deserialize_with = "timestamp::optional")]
    #[param(required = false)]
    pub ending_before: Option<DateTime<Utc>>,
    /// At most 100, whatever is asked for.
    #[serde(default)]
    #[param(required = false, default = 10, maximum = 4294967295i64)]
    pub limit: Option<u32>,
    /// Where to go on, from the page before.
    #[serde(default)]
    #[param(required = false)]
    pub page_token: Option<String>,
}
