//! PostgreSQL as a source and a destination of bulk syncs.

mod changes;
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
    config::{Config, DestinationOptions, SourceOptions},
    connect::Postgres,
};

static ABOUT: About = About {
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

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<Config>(),
    source: Form::of::<SourceOptions>(),
    destination: Form::of::<DestinationOptions>(),
});

pub struct PostgresConnector;

#[async_trait]
impl Connector for PostgresConnector {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config: Config = form::parse(configuration)?;
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
        discover::choices(field, configuration, cx).await
    }
}
