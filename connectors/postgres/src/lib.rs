//! PostgreSQL, and what speaks its protocol under another name, as a source and a destination
//! of bulk syncs.

mod changes;
mod cloud_sql;
mod config;
mod connect;
#[cfg(feature = "decoders")]
pub mod decoders;
mod discover;
#[cfg(fuzzing)]
pub mod fuzz;
#[cfg(all(test, not(fuzzing)))]
mod fuzz;
mod read;
mod sql;
mod types;
mod url;
mod write;

use std::sync::{Arc, LazyLock};

use ::url::Url;
use async_trait::async_trait;
use serde_json::{Value, json};
use tideway_core::{
    Connection, Connector, Result,
    connector::{About, Choice, ConnectCx, Endpoint, Forms},
    form::{self, Form},
};

use self::{
    cloud_sql::CloudSql,
    config::{Config, DestinationOptions, SourceOptions},
    connect::Postgres,
};

/// A name that a server goes by, with the form that belongs to it. Whatever the form, its
/// settings come to be a [`Config`], and from there on there is no difference.
pub struct Dialect {
    about: &'static About,
    forms: LazyLock<Forms>,
    config: fn(&Value) -> Result<Config>,
}

pub static POSTGRESQL: Dialect = Dialect {
    about: &ABOUT,
    forms: LazyLock::new(|| forms(Form::of::<Config>())),
    config: form::parse,
};

pub static GOOGLE_CLOUD_SQL: Dialect = Dialect {
    about: &About {
        id: "googlecloudsql",
        name: "Google Cloud PostgreSQL",
        logo: "googlecloudsql.svg",
        env_config: || json!({}),
        initial_configuration: || json!({"connection_name": "10.0.0.3:5432", "username": "postgres"}),
        schemes: &[],
        ..ABOUT
    },
    forms: LazyLock::new(|| forms(Form::of::<CloudSql>())),
    config: |configuration| form::parse::<CloudSql>(configuration)?.config(),
};

const ABOUT: About = About {
    id: "postgresql",
    name: "PostgreSQL",
    logo: "postgresql.svg",
    category: "database",
    source: true,
    destination: true,
    enrichment: false,
    logging: false,
    history: true,
    env_config: || json!({"PGSSLMODE": "require"}),
    initial_configuration: || {
        json!({
            "host": "db.example.com",
            "port": 5432,
            "database": "analytics",
            "username": "polytomic_user",
            "sslmode": "require"
        })
    },
    schemes: &["postgresql", "postgres"],
};

fn forms(connection: Form) -> Forms {
    Forms {
        connection,
        source: Form::of::<SourceOptions>(),
        destination: Form::of::<DestinationOptions>(),
    }
}

#[async_trait]
impl Connector for Dialect {
    fn about(&self) -> &'static About {
        self.about
    }

    fn forms(&self) -> &Forms {
        &self.forms
    }

    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config = (self.config)(configuration)?;
        Ok(Arc::new(Postgres::open(config, cx).await?))
    }

    fn parse_url(&self, url: &Url) -> Result<Endpoint> {
        url::parse(url)
    }

    async fn choices(
        &self,
        field: &str,
        configuration: &Value,
        cx: &ConnectCx,
    ) -> Result<Vec<Choice>> {
        discover::choices(field, self.config, configuration, cx).await
    }
}
