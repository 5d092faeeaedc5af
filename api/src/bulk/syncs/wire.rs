//! Wire types of `/api/bulk/syncs`.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, Visitor},
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    bulk::{
        schedules::{
            spellings::ScheduleFields,
            wire::{
                AdditionalSchedule, AdditionalScheduleInput, DefaultSchedule, DefaultScheduleInput,
                SingleSchedule,
            },
        },
        schemas::wire::SchemaConfiguration,
    },
    wire::{Actor, Echoed, IdOr, JsonObject, echoed, timestamp},
};

/// A bulk sync: tables of one connection, carried to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkSync {
    /// Whether its schedules start it; by hand it can be started always.
    pub active: bool,
    /// Left out in versions up to 2024-02-08, which have `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_schedules: Option<Vec<AdditionalSchedule>>,
    pub automatically_add_new_fields: Discover,
    pub automatically_add_new_objects: Discover,
    /// Null follows the deployment.
    pub concurrency_limit: Option<u32>,
    pub created_at: DateTime<Utc>,
    pub created_by: Option<Actor>,
    /// Older records are left out, in every schema that does not say otherwise.
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    /// Left out in versions up to 2024-02-08, which have `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_schedule: Option<DefaultSchedule>,
    #[schema(value_type = Object)]
    pub destination_configuration: JsonObject,
    pub destination_connection_id: Uuid,
    /// Whether tables go without the time columns that are added otherwise.
    pub disable_record_timestamps: bool,
    /// In versions up to 2024-02-08 only: whether new objects are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub discover: Option<bool>,
    pub id: Uuid,
    pub mode: BulkMode,
    pub name: String,
    pub normalize_names: NormalizeNames,
    pub organization_id: Uuid,
    pub policies: Vec<Uuid>,
    /// Null follows the deployment.
    pub resync_concurrency_limit: Option<u32>,
    /// In versions up to 2024-02-08 only: all schedules in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub schedule: Option<SingleSchedule>,
    #[schema(value_type = Object)]
    pub source_configuration: JsonObject,
    pub source_connection_id: Uuid,
    pub updated_at: DateTime<Utc>,
    pub updated_by: Option<Actor>,
}

impl BulkSync {
    /// The same, as versions up to 2024-02-08 show it.
    pub fn with_single_schedule(mut self) -> Self {
        let additional = self.additional_schedules.take().unwrap_or_default();
        self.schedule = (self.default_schedule.take())
            .map(|default| SingleSchedule::from_schedules(&default, &additional));
        self.discover = Some(self.automatically_add_new_objects != Discover::None);
        self
    }
}

/// How rows get into the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BulkMode {
    /// Every run replaces the tables.
    Snapshot,
    /// Changes are merged in by primary key, deletions too.
    Replicate,
    /// New rows are added, none is changed.
    Append,
}

/// What is taken up by itself when the source has something new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Discover {
    All,
    OnlyIncremental,
    OnlyNonIncremental,
    None,
}

/// [`Discover`] in a request; older versions write true for `all` and false for `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum DiscoverInput {
    Policy(Discover),
    Flag(bool),
}

impl From<DiscoverInput> for Discover {
    fn from(input: DiscoverInput) -> Self {
        match input {
            DiscoverInput::Policy(policy) => policy,
            DiscoverInput::Flag(true) => Discover::All,
            DiscoverInput::Flag(false) => Discover::None,
        }
    }
}

impl<'de> Deserialize<'de> for DiscoverInput {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InputVisitor;

        impl Visitor<'_> for InputVisitor {
            type Value = DiscoverInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`all`, `onlyIncremental`, `onlyNonIncremental` or `none`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Discover::deserialize(name.into_deserializer()).map(DiscoverInput::Policy)
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
                Ok(DiscoverInput::Flag(flag))
            }
        }

        from.deserialize_any(InputVisitor)
    }
}

/// Whether names are made plain for the destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormalizeNames {
    #[default]
    Enabled,
    Disabled,
    Legacy,
}

/// Creates a bulk sync (POST), or replaces the configuration of one (PUT): what is left out gets
/// its default. Takes an object as `GET` answered it, changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SaveBulkSync {
    pub name: String,
    pub source_connection_id: Uuid,
    pub destination_connection_id: Uuid,
    /// As the schema from `bulksync/target` of the destination says.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub destination_configuration: JsonObject,
    /// As the schema from `bulksync/source` of the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub source_configuration: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BulkMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Required, unless one of the older spellings `schedule` and `schedules` is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_schedule: Option<DefaultScheduleInput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_schedules: Option<Vec<AdditionalScheduleInput>>,
    /// Versions up to 2024-02-08: all schedules in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub schedule: Option<SingleSchedule>,
    /// All schedules in a list; the first that carries everything is the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub schedules: Option<Vec<AdditionalScheduleInput>>,
    /// On creation all schemas of the source unless given. On update the others are disabled if
    /// given, and nothing changes if absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Vec<IdOr<SchemaConfiguration>>>,
    /// `none` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatically_add_new_objects: Option<DiscoverInput>,
    /// `all` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatically_add_new_fields: Option<DiscoverInput>,
    /// Of older versions: stands for both of the above where they are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(deprecated)]
    pub discover: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize_names: Option<NormalizeNames>,
    #[serde(
        default,
        deserialize_with = "timestamp::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = false)]
    pub disable_record_timestamps: Option<bool>,
    /// Tables at a time; null or 0 follows the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295i64)]
    pub concurrency_limit: Option<u32>,
    /// The same for executions with a resync mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295i64)]
    pub resync_concurrency_limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<Uuid>>,
    /// For partner callers: the organization it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,

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
    pub updated_at: Option<Echoed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = echoed)]
    pub updated_by: Option<Echoed>,
}

impl SaveBulkSync {
    /// Its schedules, by whichever spelling; see [`ScheduleFields::read`].
    pub fn schedule_fields(&self) -> ScheduleFields<'_> {
        ScheduleFields {
            default_schedule: self.default_schedule.as_ref(),
            additional_schedules: self.additional_schedules.as_deref(),
            schedule: self.schedule.as_ref(),
            schedules: self.schedules.as_deref(),
        }
    }

    /// What to do with new objects.
    pub fn discover_objects(&self) -> Discover {
        (self.automatically_add_new_objects)
            .or(self.discover.map(DiscoverInput::Flag))
            .map_or(Discover::None, Discover::from)
    }

    /// What to do with new fields.
    pub fn discover_fields(&self) -> Discover {
        (self.automatically_add_new_fields)
            .or(self.discover.map(DiscoverInput::Flag))
            .map_or(Discover::All, Discover::from)
    }
}

/// Changes parts of a bulk sync (PATCH, the update of older versions); what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchBulkSync {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub destination_configuration: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_connection_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BulkMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<Uuid>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<SingleSchedule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub source_configuration: Option<JsonObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_connection_id: Option<Uuid>,
}

/// Switches the schedules of a sync on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateBulkSync {
    pub active: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkSyncActivation {
    pub active: bool,
    pub id: Uuid,
}

/// Who hears of failures, and what counts as one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BulkErrorHandling)]
pub struct ErrorHandling {
    /// How far the reading of the change stream may fall behind before executions fail: seconds, or
    /// items for sources that queue. Null follows the deployment.
    pub ingestion_failure_threshold: Option<u32>,
    /// Mail addresses.
    pub subscribers: Vec<String>,
}

/// Changes the error handling of a sync; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateBulkErrorHandling)]
pub struct UpdateErrorHandling {
    /// 0 clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 4294967295i64)]
    pub ingestion_failure_threshold: Option<u32>,
    /// The whole list; empty for nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribers: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BulkSyncListQuery {
    /// Leaves out paused syncs (true), or active ones (false).
    #[serde(default)]
    #[param(required = false)]
    pub active: Option<bool>,
    /// Where to go on, from the page before.
    #[serde(default)]
    #[param(required = false)]
    pub page_token: Option<String>,
    /// At most 50, whatever is asked for.
    #[serde(default)]
    #[param(required = false, default = 50, maximum = 4294967295i64)]
    pub limit: Option<u32>,
}

/// Of reading and deleting a sync.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RefreshSchemasQuery {
    /// Inspect the source first. Without meaning when deleting.
    #[serde(default)]
    #[param(required = false, default = false)]
    pub refresh_schemas: bool,
}
