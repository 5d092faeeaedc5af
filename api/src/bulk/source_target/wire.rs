//! Wire types of `/api/connections/{id}/bulksync/source` and `…/target`.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    bulk::{executions::wire::ResyncMode, syncs::wire::BulkMode},
    schemas::wire::Schema,
    wire::JsonObject,
};

/// What a connection offers as a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSource {
    pub capabilities: BulkSourceCapabilities,
    /// JSON Schema of a sync's `source_configuration`; null where there is nothing to configure.
    #[schema(value_type = Option<Object>)]
    pub configuration: Option<JsonObject>,
    /// From the cache; with fields only if `include_fields` is true.
    pub schemas: Vec<Schema>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkSourceCapabilities {
    /// Whether what stands before the last dot of a schema id is a namespace.
    pub supports_namespaces: bool,
    pub supports_tracking_fields: bool,
}

/// What a connection offers as a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkTarget {
    /// JSON Schema of a sync's `destination_configuration`.
    #[schema(value_type = Object)]
    pub configuration: JsonObject,
    pub modes: Vec<SupportedBulkMode>,
    pub supported_resync_modes: Vec<ResyncMode>,
    /// Whether `replicate` can keep a history table beside each table.
    pub supports_history_mode: bool,
}

/// A mode that a destination can write in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SupportedBulkMode {
    pub description: String,
    pub id: BulkMode,
    pub label: String,
    pub requires_identity: bool,
    pub supports_field_sync_mode: bool,
    pub supports_target_filters: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BulkSourceQuery {
    /// Give the fields of every schema too; slow for large sources.
    #[serde(default)]
    #[param(required = false, default = false)]
    pub include_fields: bool,
}
