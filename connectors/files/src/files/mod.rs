//! `files`: a folder on this machine.

mod config;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tideway_core::{
    Connection, Connector, Error, Result,
    connector::{About, ConnectCx, Endpoint, Forms},
    form::{self, Form},
};
use url::Url;

use crate::{
    connection::FileConnection,
    files::config::{Config, ConnectionForm},
    format::Format,
    layout::Layout,
    options::{SourceOptions, destination_form, from_query},
};

pub struct FilesConnector;

static ABOUT: About = About {
    id: "files",
    name: "Files",
    logo: "files.svg",
    category: "file",
    source: true,
    destination: true,
    enrichment: false,
    logging: true,
    history: false,
    env_config: || json!({}),
    initial_configuration: || json!({"path": "/var/data/exports"}),
    schemes: &["file"],
};

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<ConnectionForm>(),
    source: Form::of::<SourceOptions>(),
    destination: destination_form(Format::Parquet),
});

#[async_trait]
impl Connector for FilesConnector {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, _cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config: Config = form::parse(configuration)?;
        let layout = Layout::new(&form::parse(configuration)?)?;
        let path = PathBuf::from(config.path.trim());
        if !path.is_absolute() {
            return Err(
                Error::config("the folder's path does not begin at the root")
                    .field("path")
                    .hint("write the whole path, such as /var/data/exports"),
            );
        }
        Ok(Arc::new(FileConnection::local(path, layout)))
    }

    /// `file:///folder?format=parquet`, with settings of the layout and the destination.
    fn parse_url(&self, url: &Url) -> Result<Endpoint> {
        let path = url.to_file_path().map_err(|()| {
            Error::config("this is not a path on this machine")
                .hint("three slashes and the whole path: file:///folder")
        })?;
        let (mut configuration, options) = from_query(url, &[])?;
        configuration.insert("path".into(), path.to_string_lossy().into());
        Ok(Endpoint {
            configuration: configuration.into(),
            options,
        })
    }
}
