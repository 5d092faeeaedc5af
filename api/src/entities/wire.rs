//! Wire types of `/api/entities/{id}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::wire::JsonObject;

/// What an id stands for, and where to fetch it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entity {
    /// The path to GET it at.
    #[schema(example = "/api/connections/248df4b7-aa70-47b8-a036-33ac447e668d")]
    pub canonical_path: String,
    /// A little more about it, such as the `schema_ids` of a bulk execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub context: Option<JsonObject>,
    pub id: Uuid,
    /// Left out where the caller's own organization is the only one it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,
    /// What it is part of, by the type of the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relationships: Option<BTreeMap<String, EntityRelationship>>,
    #[serde(rename = "type")]
    pub kind: EntityKind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntityRelationship {
    pub id: Uuid,
    pub path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    Organization,
    User,
    Connection,
    Model,
    Sync,
    SyncExecution,
    BulkSync,
    BulkSyncExecution,
    Harbor,
    HarborContext,
}
