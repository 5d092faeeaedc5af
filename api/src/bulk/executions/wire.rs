//! Wire types of `/api/bulk/syncs/{id}/executions`, of `/api/bulk/syncs/status` and of console
//! logs.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{jobs::wire::Job, wire::JsonObject};

/// One run of a bulk sync.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkExecution)]
pub struct Execution {
    pub completed_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub error_count: i64,
    pub fetch_mode: FetchMode,
    pub id: Uuid,
    /// Whether it carries a chosen part of the schemas only.
    pub is_partial: bool,
    pub is_resync: bool,
    pub is_test: bool,
    pub output_disposition: OutputDisposition,
    pub record_count: i64,
    pub schemas: Vec<SchemaExecution>,
    pub started_at: Option<DateTime<Utc>>,
    pub status: ExecutionStatus,
    pub status_message: Option<String>,
    /// What started it, such as `manual` or `scheduled`.
    #[serde(rename = "type")]
    #[schema(example = "scheduled")]
    pub kind: String,
    pub updated_at: DateTime<Utc>,
    /// The version of Tideway that ran it last.
    pub version: Option<String>,
    pub warning_count: i64,
}

/// The part of an execution that carries one schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkSchemaExecution)]
pub struct SchemaExecution {
    pub completed_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub error_count: i64,
    pub output_name: String,
    pub record_count: i64,
    /// The id of the schema.
    #[schema(example = "public.orders")]
    pub schema: String,
    pub started_at: Option<DateTime<Utc>>,
    pub status: SchemaExecutionStatus,
    pub status_message: Option<String>,
    pub updated_at: DateTime<Utc>,
    /// Whether the destination was found to have what had been read, before the rows were put
    /// in place; absent where that was not asked for, as in runs after the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    pub version: Option<String>,
    pub warning_count: i64,
}

/// What the rows that were read and those at the destination add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkSchemaVerification)]
pub struct Verification {
    /// The sum of the hashes of all rows, in whatever order, in hex.
    pub checksum: Option<String>,
    /// Columns that were not compared: documents and intervals of decoded rows, and columns
    /// of which values were altered by a policy.
    pub columns_left_out: Vec<String>,
    /// How long the reading back took.
    pub milliseconds: Option<u64>,
    /// Why it was not verified.
    pub reason: Option<String>,
    pub row_count: Option<u64>,
    pub status: VerificationStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BulkSchemaVerificationStatus)]
pub enum VerificationStatus {
    Verified,
    NotVerified,
}

/// Where an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BulkExecutionStatus)]
pub enum ExecutionStatus {
    Created,
    Scheduled,
    Running,
    Exporting,
    Canceling,
    Canceled,
    Completed,
    Failed,
    Processing,
    /// Finished, with errors in some schemas.
    Errors,
    Interrupted,
}

/// Where one schema of an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BulkSchemaExecutionStatus)]
pub enum SchemaExecutionStatus {
    Created,
    Scheduled,
    Running,
    Exporting,
    Canceled,
    Completed,
    Failed,
    Interrupted,
    Processing,
}

/// How an execution begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResyncMode {
    /// Read everything again; keep what is in the destination and merge into it.
    Refetch,
    /// Read everything again into emptied tables.
    Resync,
    /// Read everything again into tables made new.
    Rebuild,
}

/// Which computed fields are read again in full; matters to sources with formulas only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FetchMode {
    #[default]
    None,
    Incremental,
    Full,
}

/// What an execution does with rows that are in the destination already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputDisposition {
    #[default]
    Retain,
    Truncate,
    Rebuild,
}

/// Starts an execution. Every field may be left out, and the body too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StartBulkExecution)]
pub struct StartExecution {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_mode: Option<FetchMode>,
    /// Not together with `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_mode: Option<ResyncMode>,
    /// Of older versions: true stands for `resync_mode: rebuild`. From 2025-09-18 on it is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub resync: Option<bool>,
    /// Ids of the schemas to carry; all enabled ones if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Vec<String>>,
    /// Whether to carry no more than five records of each schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub test: Option<bool>,
}

/// The answer to a request to cancel, which is carried out later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CancelAccepted {
    pub message: String,
}

/// Where a sync stands now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncStatus {
    /// Null while nothing runs.
    pub current_execution: Option<Execution>,
    /// Null where the source has no change stream.
    pub ingestion_status: Option<IngestionStatus>,
    /// The latest one that is over.
    pub last_execution: Option<Execution>,
    pub next_execution_time: Option<DateTime<Utc>>,
}

/// How far the reading of the source's change stream has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IngestionStatus {
    pub enabled: bool,
    /// The newest position of the source.
    pub highwater_mark: Option<String>,
    pub is_running: bool,
    /// The position read to.
    pub position: Option<String>,
    pub position_time: Option<DateTime<Utc>>,
    pub status: IngestionLevel,
    pub status_message: Option<String>,
    pub updated_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IngestionLevel {
    Ok,
    Warning,
    Error,
}

/// One sync on the dashboard: each enabled schema once, by its running or else latest execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncOverview {
    #[serde(rename = "nextExecutionTime")]
    pub next_execution_time: Option<DateTime<Utc>>,
    pub schemas: Vec<SchemaOverview>,
    /// Null before the first execution.
    pub status: Option<ExecutionStatus>,
    pub sync_id: Uuid,
}

/// One schema on the dashboard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkSchemaOverview)]
pub struct SchemaOverview {
    pub completed_at: Option<DateTime<Utc>>,
    pub error_count: i64,
    pub execution_id: Uuid,
    pub record_count: i64,
    #[schema(example = "public.orders")]
    pub schema: String,
    pub started_at: Option<DateTime<Utc>>,
    pub status: SchemaExecutionStatus,
    pub status_message: Option<String>,
    pub warning_count: i64,
}

/// Log files of an execution. (The capitals are the contract's.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogFiles {
    /// When the URLs stop working.
    #[serde(rename = "Expires")]
    pub expires: DateTime<Utc>,
    #[serde(rename = "URLs")]
    pub urls: Vec<String>,
}

/// The answer to a request to pack logs: a job to wait for, or the archive if it is there already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogExportStarted {
    pub data: Option<LogExport>,
    pub job: Option<Job>,
}

/// A packed archive of logs; the `result` of a job of type `exportlogs` too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogExport {
    pub url: String,
}

/// The newest lines of a console log, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleLog {
    pub entries: Vec<ConsoleLogEntry>,
    /// Hand it back as `after` for what comes later.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleLogEntry {
    pub id: String,
    #[schema(example = "info")]
    pub level: String,
    pub message: String,
    #[schema(value_type = Object)]
    pub payload: JsonObject,
    pub timestamp: DateTime<Utc>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExecutionListQuery {
    /// Where to go on, from the page before.
    #[serde(default)]
    #[param(required = false)]
    pub page_token: Option<String>,
    /// Only executions that are over, by the time they last changed.
    #[serde(default)]
    #[param(required = false, default = false)]
    pub only_terminal: bool,
    /// The oldest first.
    #[serde(default)]
    #[param(required = false, default = false)]
    pub ascending: bool,
    /// At most 100, whatever is asked for.
    #[serde(default)]
    #[param(required = false, default = 50, maximum = 4294967295i64)]
    pub limit: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConsoleLogQuery {
    /// At most 50, whatever is asked for.
    #[serde(default)]
    #[param(required = false, default = 50, maximum = 4294967295i64)]
    pub limit: Option<u32>,
    /// Only entries after this cursor.
    #[serde(default)]
    #[param(required = false)]
    pub after: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct IngestConsoleLogQuery {
    /// Only entries that concern this sync.
    #[serde(default)]
    #[param(required = false)]
    pub sync_id: Option<Uuid>,
    /// At most 50, whatever is asked for.
    #[serde(default)]
    #[param(required = false, default = 50, maximum = 4294967295i64)]
    pub limit: Option<u32>,
    /// Only entries after this cursor.
    #[serde(default)]
    #[param(required = false)]
    pub after: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogExportQuery {
    /// Mail the caller when the archive is ready.
    #[serde(default)]
    #[param(required = false, default = false)]
    pub notify: bool,
}

/// Which syncs to report on. `sync_id` may be repeated, which serde's derive cannot read.
#[derive(Debug, Clone, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OverviewQuery {
    /// All syncs of the organization.
    #[param(required = false, default = false)]
    pub all: bool,
    /// All active syncs of the organization.
    #[param(required = false, default = false)]
    pub active: bool,
    /// These syncs, unless `all` or `active` is true; may be repeated.
    #[param(required = false, style = Form, explode)]
    pub sync_id: Vec<Uuid>,
}

impl<'de> Deserialize<'de> for OverviewQuery {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct QueryVisitor;

        impl<'de> Visitor<'de> for QueryVisitor {
            type Value = OverviewQuery;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("query parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut query = OverviewQuery::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "all" => query.all = flag(&name, &map.next_value::<String>()?)?,
                        "active" => query.active = flag(&name, &map.next_value::<String>()?)?,
                        "sync_id" => query.sync_id.push(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(query)
            }
        }

        fn flag<E: de::Error>(name: &str, text: &str) -> Result<bool, E> {
            text.parse()
                .map_err(|_| E::custom(format_args!("`{name}` is true or false, not `{text}`")))
        }

        from.deserialize_map(QueryVisitor)
    }
}
