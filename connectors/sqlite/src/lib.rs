//! SQLite database files, as source and destination.
//!
//! A file is opened when it is needed and closed when the last load or snapshot on it is
//! gone. Reading is in [`read`], writing in [`write`], what is stored how in [`types`].

mod config;
mod connect;
mod discover;
mod moment;
mod number;
mod read;
mod sql;
mod types;
mod value;
mod write;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock, Weak},
};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tideway_core::{
    Capabilities, CheckReport, Connection, Connector, Error, Result, Roles, WriteMode,
    capability::Replay,
    connector::{About, ConnectCx, Endpoint, Forms},
    form::{self, Form},
    naming::NamePolicy,
};
use url::Url;

use config::{Config, DestinationOptions, SourceOptions};
use write::Writer;

/// The kind of connection.
pub struct Sqlite;

static ABOUT: About = About {
    id: "sqlite",
    name: "SQLite",
    logo: "sqlite.svg",
    category: "database",
    source: true,
    destination: true,
    enrichment: false,
    logging: false,
    history: true,
    env_config: || json!({}),
    initial_configuration: || json!({"path": ""}),
    schemes: &["sqlite"],
};

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<Config>(),
    source: Form::of::<SourceOptions>(),
    destination: Form::of::<DestinationOptions>(),
});

static CAPABILITIES: Capabilities = Capabilities {
    incremental: true,
    namespaces: false,
    replay: Replay::Snapshot,
    // There is one writer per file. Lanes beyond the first would only wait for it, and
    // hold memory that the first may need.
    lanes: 1,
    modes: &WriteMode::ALL,
    history: ABOUT.history,
    names: NamePolicy::new(255, true),
};

#[async_trait]
impl Connector for Sqlite {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, _: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config: Config = form::parse(configuration)?;
        Ok(Arc::new(Database {
            file: config.file()?,
            writer: tokio::sync::Mutex::new(Weak::new()),
        }))
    }

    /// `sqlite:///folder/shop.db` is absolute; `sqlite://shop.db` and `sqlite:shop.db`
    /// are below the working folder.
    fn parse_url(&self, url: &Url) -> Result<Endpoint> {
        let wrong = |what: &str| {
            Error::config(format!("sqlite URL: {what}"))
                .hint("write sqlite:///folder/file.db, or sqlite:file.db for a file in this folder")
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("parameters are not known here"));
        }
        if url.port().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("a file has no user and no port"));
        }
        let path = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
        let path = percent_decode_str(&path).decode_utf8();
        let path = path
            .map_err(|_| wrong("the path is not UTF-8"))?
            .into_owned();
        let config = Config { path };
        config.file()?;
        Ok(Endpoint {
            configuration: json!({"path": config.path}),
            options: json!({}),
        })
    }
}

/// One database file.
struct Database {
    file: PathBuf,
    /// The connection that all loads of this file share, while there are any.
    writer: tokio::sync::Mutex<Weak<Writer>>,
}

#[async_trait]
impl Connection for Database {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            source: Some(self),
            destination: Some(self),
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        let file = self.file.clone();
        let checked = connect::blocking(move || Ok(connect::check(&file))).await;
        checked.unwrap_or_else(|error| {
            let mut report = CheckReport::default();
            report.fail("open file", &error);
            report
        })
    }
}
