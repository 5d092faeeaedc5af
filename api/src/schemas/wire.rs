//! Wire types of `/api/connections/{id}/schemas`.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::Value;
use utoipa::ToSchema;

use crate::wire::{JsonObject, present};

/// A table or object of a connection, as last inspected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schema {
    /// Null where fields were not asked for.
    pub fields: Option<Vec<SchemaField>>,
    /// For databases `schema.table`; for services the object's name.
    #[schema(example = "public.orders")]
    pub id: String,
    pub name: String,
}

/// A column or attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SchemaField {
    pub association: Option<Association>,
    pub id: String,
    /// Whether it is part of the primary key, overrides included.
    pub is_primary_key: bool,
    pub name: String,
    /// For documents: the JSONPath at which the value lies.
    pub path: Option<String>,
    /// What a user set in place of `source_primary_key`; left out where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key_override: Option<bool>,
    /// The type in the source's own words.
    pub remote_type: Option<String>,
    /// Whether the source says that it is part of the primary key.
    pub source_primary_key: bool,
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// The type in detail: a name, or a list that begins with one.
    pub type_spec: Option<TypeDefinition>,
    /// Whether a user defined or overrode the field.
    pub user_managed: bool,
    /// The values it may have, where the source lists them.
    pub values: Option<Vec<PickValue>>,
}

/// What a field refers to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Association {
    pub id: String,
    pub name: String,
    /// Ids of the schemas referred to.
    pub reference_to: Vec<String>,
    pub referenced_field: Option<String>,
}

/// One value of a field with a fixed choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PickValue {
    /// Values that other fields must have for this one to be allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<BTreeMap<String, String>>,
    pub label: String,
    pub value: String,
}

/// The coarse type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    Unknown,
    String,
    Number,
    Boolean,
    Datetime,
    Array,
    Object,
    Binary,
}

/// The coarse types that a user may give a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserFieldType {
    String,
    Number,
    Boolean,
    Datetime,
    Array,
    Object,
    Binary,
}

/// A type in detail: a name, or for types with parameters a list such as `["decimal", 38, 9]`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TypeDefinition {
    Name(TypeName),
    Compound(Vec<Value>),
}

/// The types without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TypeName {
    Binary,
    Boolean,
    Date,
    Datetime,
    DatetimeTz,
    Time,
    Number,
    String,
    Smallint,
    Int,
    Bigint,
    Single,
    Double,
}

impl<'de> Deserialize<'de> for TypeDefinition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct DefinitionVisitor;

        impl<'de> Visitor<'de> for DefinitionVisitor {
            type Value = TypeDefinition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a type (string), or a list that begins with one")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                TypeName::deserialize(name.into_deserializer()).map(TypeDefinition::Name)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(TypeDefinition::Compound)
            }
        }

        from.deserialize_any(DefinitionVisitor)
    }
}

/// How far the inspection of a connection has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SchemaCacheStatus {
    pub cache_status: CacheStatus,
    pub last_refresh_finished: Option<DateTime<Utc>>,
    pub last_refresh_started: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheStatus {
    Fresh,
    Refreshing,
}

/// Sample records, each an object by field id. In answers: `Data<Vec<Record>>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct Record(pub JsonObject);

/// Defines fields that the source does not report, or redefines them. A field whose `field_id` is
/// taken by a user's field already replaces that one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsertFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<UserField>>,
}

/// A field that a user defines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserField {
    pub field_id: String,
    pub label: String,
    #[serde(rename = "type")]
    pub kind: UserFieldType,
    /// The type in detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<TypeDefinition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value)]
    pub example: Option<Value>,
    /// For values within a document: the JSONPath at which the value lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Changes parts of a field; a field that the source reports gets an override.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchField {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Without a `definition` beside it, a new type drops the detailed one.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<UserFieldType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<TypeDefinition>,
    /// Null clears it.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Value)]
    pub example: Option<Option<Value>>,
    /// The empty string clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Replaces all primary-key overrides of a schema; an empty list removes them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPrimaryKeys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<PrimaryKeyOverride>>,
}

/// Whether one field is part of the primary key, whatever the source says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrimaryKeyOverride {
    pub field_id: String,
    pub is_primary_key: bool,
}
