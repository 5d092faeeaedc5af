//! Wire types of `/api/connections`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::wire::{Actor, Echoed, IdOr, JsonObject, echoed};

/// A configured system. Secrets in `configuration` are redacted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// Calls made to the service in the last 24 hours; null where they are not counted.
    pub api_calls_last_24_hours: Option<i64>,
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    pub created_at: DateTime<Utc>,
    pub created_by: Option<Actor>,
    pub id: Uuid,
    pub name: String,
    pub organization_id: Uuid,
    /// The connection that this one is a shared copy of.
    pub parent_connection_id: Option<Uuid>,
    /// Ids of the permission policies on it.
    pub policies: Vec<Uuid>,
    /// Null when it is not known.
    pub rate_limit: Option<RateLimit>,
    /// False while setting it up is not finished, such as before a sign-in.
    pub saved: bool,
    pub status: ConnectionStatus,
    /// Why it is not healthy.
    pub status_error: Option<String>,
    #[serde(rename = "type")]
    pub kind: ConnectionTypeSummary,
    pub updated_at: DateTime<Utc>,
    pub updated_by: Option<Actor>,
}

/// A connection just created or updated, with what is left to do to finish it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SavedConnection {
    /// The code to type in at the service.
    pub auth_code: Option<String>,
    /// The page at which to sign in.
    pub auth_url: Option<String>,
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    /// How often its health is checked; null follows the deployment.
    pub healthcheck_interval: Option<String>,
    pub id: Uuid,
    pub name: String,
    pub organization_id: Uuid,
    pub policies: Vec<Uuid>,
    pub saved: bool,
    pub status: ConnectionStatus,
    pub status_error: Option<String>,
    #[serde(rename = "type")]
    pub kind: ConnectionTypeSummary,
}

/// What the latest check of a connection said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionStatus {
    /// Not checked yet.
    Unknown,
    Healthy,
    Unhealthy,
}

/// The type of a connection, in brief.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionTypeSummary {
    #[schema(example = "postgresql")]
    pub id: String,
    pub logo_dark_url: Option<String>,
    pub logo_url: Option<String>,
    pub name: String,
    /// What connections of the type can be used for, such as `bulksyncsource`.
    pub operations: Vec<String>,
}

/// Whether the service has been seen to refuse calls for their number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RateLimit {
    pub currently_limited: bool,
    /// When the observation lapses; no promise of the service.
    pub expires_at: Option<DateTime<Utc>>,
    pub limited_since: Option<DateTime<Utc>>,
}

/// Creates a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnection {
    pub name: String,
    /// The id of a connection type.
    #[serde(rename = "type")]
    #[schema(example = "postgresql")]
    pub kind: String,
    /// As the type's JSON Schema says.
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    /// How often to check its health, such as `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck_interval: Option<String>,
    /// For partner callers: the organization to create it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<Uuid>>,
    /// Where a sign-in returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// Whether to connect before saving; true unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub validate: Option<bool>,
}

/// Replaces a connection (PUT). Takes an object as `GET` answered it, changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateConnection {
    pub name: String,
    /// The whole configuration: what is left out is cleared.
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck_interval: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<Uuid>>,
    /// Whether to begin a new sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect: Option<bool>,
    /// May be left out; if given, it has to be the type that the connection has.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<IdOr<ConnectionTypeById>>,
    /// Whether to connect before saving; true unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub validate: Option<bool>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub api_calls_last_24_hours: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub auth_code: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub auth_url: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub created_by: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub id: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub parent_connection_id: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub rate_limit: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub saved: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub status: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub status_error: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_by: Option<Echoed>,
}

/// Changes parts of a connection (PATCH, the update of older versions): what is left out stays, in
/// `configuration` too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchConnection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub configuration: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck_interval: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<Uuid>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect: Option<bool>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<IdOr<ConnectionTypeById>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub validate: Option<bool>,
}

/// A connection type as an answer gives it, of which the id alone counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionTypeById {
    #[schema(example = "postgresql")]
    pub id: String,
}

impl IdOr<ConnectionTypeById> {
    pub fn type_id(&self) -> &str {
        match self {
            Self::Id(id) => id,
            Self::Object(object) => &object.id,
        }
    }
}

/// Tries a configuration without saving it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestConnection {
    #[serde(rename = "type")]
    #[schema(example = "postgresql")]
    pub kind: String,
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    /// A stored connection whose configuration lies beneath the given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<Uuid>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteConnectionQuery {
    /// Delete what uses the connection along with it, in place of refusing.
    #[serde(default)]
    #[param(required = false, default = false)]
    pub force: bool,
}

/// Calls made through a connection in the last 24 hours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionUsage {
    /// The busiest first; empty unless `reportsSyncStats`.
    pub by_sync: Vec<SyncUsage>,
    /// Null where calls are not counted.
    #[serde(rename = "callsLast24h")]
    pub calls_last_24h: Option<i64>,
    pub connection_id: Uuid,
    pub reports_sync_stats: bool,
}

/// Calls that one sync made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncUsage {
    pub categories: Vec<UsageCategory>,
    /// When its latest execution started.
    pub last_run_at: Option<DateTime<Utc>>,
    pub sync_id: Uuid,
    /// Empty if the sync is gone.
    pub sync_name: String,
    pub sync_type: SyncKind,
    pub total_calls: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncKind {
    Model,
    Bulk,
}

/// Calls of one sort, as the service sorts them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageCategory {
    pub calls: i64,
    pub key: String,
    pub label: String,
}
