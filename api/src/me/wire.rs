//! Wire types of `/api/me`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The caller, as its credential tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    pub credential: Credential,
    pub email: Option<String>,
    /// Left out unless the caller is a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    pub is_organization: bool,
    pub is_partner: bool,
    pub is_system: bool,
    pub is_user: bool,
    pub organization_id: Option<Uuid>,
    pub organization_name: Option<String>,
    /// The name of a user's role, for older clients.
    #[schema(deprecated)]
    pub role: Option<String>,
}

/// How the caller proved who it is, and what that allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Credential {
    pub api_key_profile: Option<ApiKeyProfile>,
    pub harbor: Option<CredentialHarbor>,
    #[schema(example = "api_key")]
    pub method: String,
    pub mode: Option<String>,
    pub oauth_client_id: Option<String>,
    pub oauth_resource: Option<String>,
}

/// What a scoped API key is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyProfile {
    pub capabilities: KeyCapabilities,
    pub description: Option<String>,
    pub id: String,
    pub kind: String,
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCapabilities {
    pub query: Option<ConnectionScope>,
    pub schemas: Option<ConnectionScope>,
}

/// The connections that something is allowed on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionScope {
    pub connection_ids: Vec<Uuid>,
}

/// The harbor that a credential is bound to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CredentialHarbor {
    pub actions_enabled: bool,
    pub description: Option<String>,
    pub id: Uuid,
    pub mcp_server_url: Option<String>,
    pub name: String,
}
