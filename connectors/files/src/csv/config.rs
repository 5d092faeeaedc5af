use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use tideway_core::Secret;

/// Settings of a connection to a CSV file at a URL.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config {
    /// Where the file is, such as `https://www.example.com/orders.csv`.
    #[schemars(title = "Base URL")]
    pub url: String,
    #[serde(default)]
    #[schemars(title = "Headers")]
    pub headers: Vec<Pair>,
    #[serde(default)]
    #[schemars(title = "Query string parameters")]
    pub parameters: Vec<Pair>,
    #[serde(default)]
    #[schemars(title = "Authentication method")]
    pub auth: Auth,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    #[schemars(title = "Name", extend("examples" = ["foo"]))]
    pub name: String,
    #[serde(default)]
    #[schemars(title = "Value", extend("examples" = ["bar"]))]
    pub value: String,
}

/// At most one of these.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    #[schemars(title = "Basic authentication")]
    pub basic: Option<Basic>,
    #[schemars(title = "Header key")]
    pub header: Option<SecretPair>,
    #[schemars(title = "Query string authentication parameters")]
    pub query: Option<Vec<SecretPair>>,
    #[schemars(title = "OAuth")]
    pub oauth: Option<OAuth>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    #[schemars(title = "Username", extend("examples" = ["user@example.com"]))]
    pub username: String,
    #[serde(default)]
    #[schemars(
        title = "Password",
        extend("sensitive" = true, "password" = true, "examples" = ["secret"])
    )]
    pub password: Secret,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretPair {
    #[schemars(title = "Name", extend("examples" = ["foo"]))]
    pub name: String,
    #[serde(default)]
    #[schemars(title = "Value", extend("sensitive" = true, "examples" = ["bar"]))]
    pub value: Secret,
}

/// Client credentials.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    #[schemars(title = "Client ID", extend("examples" = ["client_id"]))]
    pub client_id: String,
    #[schemars(
        title = "Client secret",
        extend("sensitive" = true, "password" = true, "examples" = ["client_secret"])
    )]
    pub client_secret: Secret,
    #[schemars(
        title = "Token endpoint",
        extend("examples" = ["https://example.com/oauth/token"])
    )]
    pub token_endpoint: String,
    #[serde(default)]
    #[schemars(title = "Extra form data")]
    pub extra_form_data: Vec<Pair>,
    #[serde(default)]
    #[schemars(title = "Scopes")]
    pub scopes: Vec<String>,
    /// 1 sends id and secret in the form, 2 in a header; otherwise both are tried.
    #[schemars(title = "Auth style")]
    pub auth_style: Option<i64>,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Extra form data often holds keys too.
        f.debug_struct("OAuth")
            .field("client_id", &self.client_id)
            .field("token_endpoint", &self.token_endpoint)
            .finish_non_exhaustive()
    }
}
