//! Wire types of `/api/connection_types`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::wire::JsonObject;

/// A kind of system that can be connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionType {
    pub capabilities: Capabilities,
    #[serde(rename = "configurationForm")]
    pub configuration_form: ConfigurationForm,
    /// Settings that apply to every connection of the type in this deployment.
    #[serde(rename = "envConfig")]
    #[schema(value_type = Object)]
    pub env_config: JsonObject,
    #[schema(example = "postgresql")]
    pub id: String,
    /// What a new connection's form starts from.
    #[serde(rename = "initialConfiguration")]
    #[schema(value_type = Object)]
    pub initial_configuration: JsonObject,
    /// The logo for dark backgrounds.
    pub logo_dark_url: Option<String>,
    pub logo_url: Option<String>,
    #[schema(example = "PostgreSQL")]
    pub name: String,
    pub oauth_prompt: OauthPrompt,
    /// Whether connecting goes through the service's own sign-in page.
    pub use_oauth: bool,
}

/// The parts a connection of the type can play.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ConnectionCapabilities)]
pub struct Capabilities {
    pub destination: bool,
    pub enrichment: bool,
    /// Can receive the record logs of executions.
    pub logging: bool,
    /// Can start syncs by events of its own.
    pub orchestration: bool,
    pub source: bool,
}

/// A form: what may be filled in, and how to draw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationForm {
    /// JSON Schema of the `configuration` of a connection.
    #[schema(value_type = Object)]
    pub jsonschema: JsonObject,
    /// Widgets by field name.
    #[schema(value_type = Object)]
    pub uischema: JsonObject,
}

/// When the sign-in page is offered: `when` the field `key` has the value `value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OauthPrompt {
    pub key: Option<String>,
    pub value: Option<String>,
    #[schema(example = "never")]
    pub when: String,
}

impl Default for OauthPrompt {
    fn default() -> Self {
        Self {
            key: None,
            value: None,
            when: "never".to_owned(),
        }
    }
}

/// Asks for the values that one field of a form can take, before the connection exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterValuesRequest {
    /// The field to complete.
    pub field: String,
    /// A stored connection whose configuration lies beneath `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<Uuid>,
    /// The configuration as filled in so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<JsonObject>,
    /// What the user has typed, to narrow the values by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// Values by field name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = BTreeMap<String, ParameterValues>)]
pub struct ParameterValuesByField(pub BTreeMap<String, ParameterValues>);

/// The values that a field can take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ParameterValues {
    /// Whether a value beyond the list may be made up.
    pub allows_creation: bool,
    pub values: Vec<ParameterValue>,
}

/// One value that a field can take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ParameterValue {
    pub label: String,
    /// Where the value sits in a hierarchy, if there is one.
    pub path: Option<String>,
    #[schema(value_type = Value)]
    pub value: Value,
}
