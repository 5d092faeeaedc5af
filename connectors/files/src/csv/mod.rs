//! `csv`: a CSV file at a URL, as a source.

mod config;
mod connect;
mod read;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tideway_core::{
    Connection, Connector, Error, Result,
    connector::{About, ConnectCx, Endpoint, Forms},
    form::{self, Form},
};
use url::Url;

use crate::{
    csv::{config::Config, connect::Remote, read::CsvConnection},
    options::SourceOptions,
};

pub struct CsvConnector;

static ABOUT: About = About {
    id: "csv",
    name: "CSV URL",
    logo: "csv.svg",
    category: "file",
    source: true,
    destination: false,
    enrichment: false,
    logging: false,
    history: false,
    env_config: || json!({}),
    initial_configuration: || json!({"url": "https://www.example.com/orders.csv"}),
    schemes: &["http", "https"],
};

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<Config>(),
    source: Form::of::<SourceOptions>(),
    destination: Form::empty(),
});

#[async_trait]
impl Connector for CsvConnector {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config: Config = form::parse(configuration)?;
        Ok(Arc::new(CsvConnection::new(Remote::new(
            config,
            cx.outbound.clone(),
        )?)))
    }

    /// `https://user:password@www.example.com/orders.csv`; the user is left out where
    /// none is needed.
    fn parse_url(&self, url: &Url) -> Result<Endpoint> {
        let mut url = url.clone();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = decoded(url.username());
        let password = url.password().map(decoded);
        let bare = url.set_username("").and_then(|()| url.set_password(None));
        bare.map_err(|()| Error::config("this is not the URL of a file").field("url"))?;
        let mut configuration = json!({"url": url.as_str()});
        if !user.is_empty() || password.is_some() {
            let basic = json!({"username": user, "password": password.unwrap_or_default()});
            configuration["auth"] = json!({"basic": basic});
        }
        Ok(Endpoint {
            configuration,
            options: json!({}),
        })
    }
}
