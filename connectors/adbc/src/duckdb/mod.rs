//! DuckDB database files, as source and destination.

mod config;
mod connect;
mod discover;
mod errors;
mod file;
mod interval;
mod read;
mod rows;
mod sql;
mod types;
mod write;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use tideway_core::{
    Connection, Connector, Error, Result,
    connector::{About, Choice, ConnectCx, Endpoint, Forms},
    form::{self, Form},
};
use url::Url;

use crate::driver::Library;
use config::{Config, DestinationOptions, SourceOptions};
use connect::DuckDbConnection;
use file::Access;

/// Lanes that read from or write to one file at once.
const LANES: usize = 4;

/// Rows that DuckDB works on at once. It must not be handed more in one piece: a cast of
/// longer ones writes past the end of its memory.
const VECTOR_ROWS: usize = 2048;

static LIBRARY: Library = Library {
    system: "DuckDB",
    stem: "duckdb",
    entry_point: b"duckdb_adbc_init",
    variable: "TIDEWAY_DUCKDB_LIBRARY",
    remedy: "`make run` fetches it; or take it from the npm package \
             @duckdb/node-bindings-linux-x64 (1.5.6-r.1) and set TIDEWAY_DUCKDB_LIBRARY to its path",
};

/// The kind of connection.
pub struct DuckDbConnector;

static ABOUT: About = About {
    id: "duckdb",
    name: "DuckDB",
    logo: "duckdb.svg",
    category: "database",
    source: true,
    destination: true,
    enrichment: false,
    logging: false,
    history: true,
    env_config: || json!({}),
    initial_configuration: || json!({"path": ""}),
    schemes: &["duckdb"],
};

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<Config>(),
    source: Form::of::<SourceOptions>(),
    destination: Form::of::<DestinationOptions>(),
});

#[async_trait]
impl Connector for DuckDbConnector {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        Ok(Arc::new(connection(configuration, cx)?))
    }

    /// `duckdb:///absolute/path.duckdb` or `duckdb://relative/path.duckdb`, with
    /// `?schema=`, `?memory_limit=` and `?threads=`.
    fn parse_url(&self, url: &Url) -> Result<Endpoint> {
        let path = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
        let path = percent_decode_str(&path)
            .decode_utf8()
            .map_err(|_| Error::config("the path is not valid UTF-8").field("path"))?;
        if path.is_empty() {
            return Err(Error::config("the URL names no file")
                .field("path")
                .hint("write duckdb:///absolute/path.duckdb or duckdb://relative/path.duckdb"));
        }
        let mut configuration = Map::from_iter([("path".to_owned(), path.into())]);
        let mut options = Map::new();
        for (name, value) in url.query_pairs() {
            let settings = match name.as_ref() {
                "schema" => &mut options,
                "memory_limit" | "threads" => &mut configuration,
                other => {
                    return Err(
                        Error::config(format!("{other} is no setting of a DuckDB URL"))
                            .field(other)
                            .hint("use schema, memory_limit or threads"),
                    );
                }
            };
            let value = match name.as_ref() {
                "threads" => value
                    .parse::<u16>()
                    .map_or(value.as_ref().into(), Value::from),
                _ => value.as_ref().into(),
            };
            settings.insert(name.into_owned(), value);
        }
        Ok(Endpoint {
            configuration: configuration.into(),
            options: options.into(),
        })
    }

    async fn choices(
        &self,
        field: &str,
        configuration: &Value,
        cx: &ConnectCx,
    ) -> Result<Vec<Choice>> {
        if field != "schema" {
            return Err(Error::config(format!("{field} has no list of values")).field(field));
        }
        let namespaces = connection(configuration, cx)?.namespaces().await?;
        Ok(namespaces
            .into_iter()
            .map(|name| Choice {
                value: name.as_str().into(),
                label: name,
            })
            .collect())
    }
}

fn connection(configuration: &Value, cx: &ConnectCx) -> Result<DuckDbConnection> {
    let config: Config = form::parse(configuration)?;
    let access = Access::new(&config, cx.data_dir.clone())?;
    Ok(DuckDbConnection::new(access))
}
