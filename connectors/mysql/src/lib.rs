//! MySQL and MariaDB as a source and a destination of bulk syncs.

mod calendar;
mod changes;
mod config;
mod connect;
mod discover;
#[cfg(fuzzing)]
pub mod fuzz;
#[cfg(all(test, not(fuzzing)))]
mod fuzz;
mod read;
mod sql;
#[doc(hidden)]
pub mod testing;
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
    connect::MySql,
};

static ABOUT: About = About {
    id: "mysql",
    name: "MySQL",
    logo: "mysql.svg",
    category: "database",
    source: true,
    destination: true,
    enrichment: false,
    logging: false,
    history: true,
    env_config: || json!({}),
    initial_configuration: || {
        json!({
            "hostname": "database.example.com",
            "port": 3306,
            "account": "polytomic_user",
            "dbname": "mydb",
            "ssl": true
        })
    },
    schemes: &["mysql", "mariadb"],
};

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<Config>(),
    source: Form::of::<SourceOptions>(),
    destination: Form::of::<DestinationOptions>(),
});

pub struct MySqlConnector;

#[async_trait]
impl Connector for MySqlConnector {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config: Config = form::parse(configuration)?;
        Ok(Arc::new(MySql::open(config, cx).await?))
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
