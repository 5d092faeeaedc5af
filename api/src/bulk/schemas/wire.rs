//! Wire types of `/api/bulk/syncs/{id}/schemas`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::wire::{Echoed, IdOr, echoed, present, timestamp};

/// A schema of a sync, as lists give it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSchemaSummary {
    /// Older records are left out.
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    /// The history table; left out unless one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_history_output_name: Option<String>,
    /// Whether the cutoff of the sync is ignored here.
    pub disable_data_cutoff: bool,
    pub enabled: bool,
    pub history_enabled: bool,
    /// The id of the schema in the source.
    #[schema(example = "public.orders")]
    pub id: String,
    /// The table that is written, by all rules of naming.
    pub output_name: String,
    /// The field by which the destination partitions; empty for none.
    pub partition_key: String,
    /// The field that shows what is new; empty for none.
    pub tracking_field: String,
    /// The name a user gave the table; empty for none.
    pub user_output_name: String,
}

/// A schema of a sync, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSchema {
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_history_output_name: Option<String>,
    pub disable_data_cutoff: bool,
    pub enabled: bool,
    pub fields: Vec<BulkField>,
    /// Only records that pass all of them are read.
    pub filters: Vec<BulkFilter>,
    pub history_enabled: bool,
    #[schema(example = "public.orders")]
    pub id: String,
    pub output_name: String,
    pub partition_key: String,
    pub tracking_field: String,
    pub user_output_name: String,
}

/// A field of a schema of a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkField {
    pub enabled: bool,
    pub id: String,
    /// Whether the destination gets a hash in place of the value.
    pub obfuscated: bool,
    pub output_name: String,
    pub user_output_name: String,
}

/// A condition on the records to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_id: Option<String>,
    pub function: FilterFunction,
    /// What to compare with; its form depends on the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    pub value: Option<Value>,
}

/// How a filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum FilterFunction {
    Equality,
    Inequality,
    IsNull,
    IsNotNull,
    True,
    False,
    OnOrAfter,
    OnOrBefore,
    GreaterThan,
    GreaterThanEqual,
    LessThan,
    LessThanEqual,
    StringContains,
    StringStartsWith,
    StringEndsWith,
    StringDoesNotContain,
    StringDoesNotStartWith,
    StringDoesNotEndWith,
    StringOneOf,
    StringNotOneOf,
    Between,
    ArrayContains,
    ArrayDoesNotContain,
    InTheLast,
    RelativeOnOrBefore,
    RelativeOnOrAfter,
    StringLike,
    StringNotLike,
    StringMatchesTrimmed,
}

/// The configuration of one schema among several; where it may be a bare id instead, that enables
/// the schema with all its fields. Absent settings keep their value where the
/// schema is part of the sync already, and have their default otherwise; absent `fields` always
/// stand for all fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaConfiguration {
    #[schema(example = "public.orders")]
    pub id: String,
    /// Null clears it.
    #[serde(
        default,
        deserialize_with = "timestamp::present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub data_cutoff_timestamp: Option<Option<DateTime<Utc>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_data_cutoff: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<IdOr<FieldConfiguration>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<BulkFilter>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_enabled: Option<bool>,
    /// Null or the empty string clears it.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub partition_key: Option<Option<String>>,
    /// Null or the empty string clears it.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub tracking_field: Option<Option<String>>,
    /// The empty string clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_output_name: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub destination_history_output_name: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub output_name: Option<Echoed>,
}

/// The configuration of one field; where it may be a bare id instead, that enables the field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldConfiguration {
    pub id: String,
    /// True unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub enabled: Option<bool>,
    /// Whether the destination gets a hash in place of the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obfuscate: Option<bool>,
    /// The same as `obfuscate`, by the name that answers use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obfuscated: Option<bool>,
    /// The empty string clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_output_name: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub output_name: Option<Echoed>,
}

impl FieldConfiguration {
    /// What the request says of obfuscation, by either name.
    pub fn obfuscation(&self) -> Option<bool> {
        self.obfuscate.or(self.obfuscated)
    }
}

/// Changes some schemas of a sync (PATCH); others stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchBulkSchemas {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Vec<IdOr<SchemaConfiguration>>>,
}

/// Replaces the configuration of one schema (PUT): what is left out gets its default, save
/// `history_enabled`, which stays. Older versions send it as a PATCH, and there all but `fields`
/// stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateBulkSchema {
    #[serde(
        default,
        deserialize_with = "timestamp::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_data_cutoff: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Absent or empty: all fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<IdOr<FieldConfiguration>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<BulkFilter>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking_field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_output_name: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub destination_history_output_name: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub id: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub output_name: Option<Echoed>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BulkSchemaListQuery {
    /// Only enabled (true) or only disabled (false) schemas.
    #[serde(default, rename = "filters[enabled]")]
    #[param(required = false)]
    pub enabled: Option<bool>,
}
