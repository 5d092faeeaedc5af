//! Connectors as the API shows them.

use serde_json::Value;
use tideway_core::{Connector, connector::About, form::Form};

use crate::{
    connection_types::wire::{Capabilities, ConfigurationForm, ConnectionType, OauthPrompt},
    wire::JsonObject,
};

/// The address that the published example of this entry shows; clients compare with it.
const POSTGRESQL_LOGO: &str = "https://connect-assets.polytomic.com/logos/postgresql.svg";

pub fn connection_type(connector: &dyn Connector, public_url: &str) -> ConnectionType {
    let about = connector.about();
    ConnectionType {
        capabilities: Capabilities {
            destination: about.destination,
            enrichment: about.enrichment,
            logging: about.logging,
            orchestration: false,
            source: about.source,
        },
        configuration_form: configuration_form(&connector.forms().connection),
        env_config: object((about.env_config)()),
        id: about.id.to_owned(),
        initial_configuration: object((about.initial_configuration)()),
        logo_dark_url: None,
        logo_url: Some(logo_url(about, public_url)),
        name: about.name.to_owned(),
        oauth_prompt: OauthPrompt::default(),
        use_oauth: false,
    }
}

fn configuration_form(form: &Form) -> ConfigurationForm {
    ConfigurationForm {
        jsonschema: object(form.json_schema.clone()),
        uischema: object(form.ui_schema.clone()),
    }
}

pub fn logo_url(about: &About, public_url: &str) -> String {
    match about.id {
        "postgresql" => POSTGRESQL_LOGO.to_owned(),
        _ => format!("{public_url}/logos/{}", about.logo),
    }
}

/// The object that a value is; an empty one in place of anything else.
pub fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(fields) => fields,
        _ => JsonObject::new(),
    }
}
