//! MySQL, MariaDB, and what speaks their protocol under another name, as a source and a
//! destination of bulk syncs.

mod calendar;
mod changes;
mod cloud_sql;
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
    cloud_sql::CloudSql,
    config::{Config, DestinationOptions, SourceOptions},
    connect::MySql,
};

/// A name that a server goes by, with the form that belongs to it. Whatever the form, its
/// settings come to be a [`Config`], and from there on there is no difference.
pub struct Dialect {
    about: &'static About,
    forms: LazyLock<Forms>,
    config: fn(&Value) -> Result<Config>,
}

pub static MYSQL: Dialect = Dialect {
    about: &ABOUT,
    forms: LazyLock::new(|| forms(Form::of::<Config>())),
    config: form::parse,
};

pub static GOOGLE_CLOUD_MYSQL: Dialect = Dialect {
    about: &About {
        id: "googlecloudmysql",
        name: "Google Cloud MySQL",
        logo: "googlecloudmysql.svg",
        initial_configuration: || json!({"connection_name": "10.0.0.3:3306", "username": "root"}),
        schemes: &[],
        ..ABOUT
    },
    forms: LazyLock::new(|| forms(Form::of::<CloudSql>())),
    config: |configuration| form::parse::<CloudSql>(configuration)?.config(),
};

const ABOUT: About = About {
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
        discover::choices(field, self.config, configuration, cx).await
    }
}
