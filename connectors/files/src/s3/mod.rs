//! `s3`: a bucket on AWS or any server that speaks its protocol.

mod config;
mod connect;

use std::{
    env,
    sync::{Arc, LazyLock},
};

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
    connection::FileConnection,
    format::Format,
    layout::Layout,
    options::{SourceOptions, destination_form, from_query},
    s3::config::{Config, ConnectionForm},
};

pub struct S3Connector;

static ABOUT: About = About {
    id: "s3",
    name: "S3",
    logo: "s3.svg",
    category: "file",
    source: true,
    destination: true,
    enrichment: false,
    logging: true,
    history: false,
    env_config: || json!({}),
    initial_configuration: || {
        json!({
            "auth_mode": "access_key_and_secret",
            "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "s3_bucket_region": "us-east-1",
            "s3_bucket_name": "s3://tideway/dataset"
        })
    },
    schemes: &["s3"],
};

static FORMS: LazyLock<Forms> = LazyLock::new(|| Forms {
    connection: Form::of::<ConnectionForm>(),
    source: Form::of::<SourceOptions>(),
    destination: destination_form(Format::Csv),
});

#[async_trait]
impl Connector for S3Connector {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn forms(&self) -> &Forms {
        &FORMS
    }

    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>> {
        let config: Config = form::parse(configuration)?;
        let layout = Layout::new(&form::parse(configuration)?)?;
        let place = connect::open(&config, &cx.outbound).await?;
        Ok(Arc::new(FileConnection::remote(place, layout)))
    }

    /// `s3://bucket/prefix?format=parquet&region=eu-central-1`, with settings of the
    /// layout and the destination, and `endpoint` for other servers than AWS. Keys come
    /// from `s3://KEY:SECRET@bucket` or from the variables that AWS's own tools read.
    fn parse_url(&self, url: &Url) -> Result<Endpoint> {
        let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
        let bucket = bucket.ok_or_else(|| {
            Error::config("the URL names no bucket").hint("s3://bucket/folder?format=parquet")
        })?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let more = [("region", "s3_bucket_region"), ("endpoint", "endpoint")];
        let (mut configuration, options) = from_query(url, &more)?;
        let folder = decoded(url.path());
        configuration.insert("s3_bucket_name".into(), format!("{bucket}{folder}").into());
        let mut fill = |field: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty())
                && !configuration.contains_key(field)
            {
                configuration.insert(field.to_owned(), value.into());
            }
        };
        let variable = |name: &str| env::var(name).ok();
        if url.username().is_empty() {
            fill("aws_access_key_id", variable("AWS_ACCESS_KEY_ID"));
            fill("aws_secret_access_key", variable("AWS_SECRET_ACCESS_KEY"));
            fill("aws_session_token", variable("AWS_SESSION_TOKEN"));
        } else {
            fill("aws_access_key_id", Some(decoded(url.username())));
            fill("aws_secret_access_key", url.password().map(decoded));
        }
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        fill(
            "s3_bucket_region",
            region.or_else(|| Some("us-east-1".to_owned())),
        );
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        fill("endpoint", endpoint);
        let has_key = configuration.contains_key("aws_access_key_id");
        let mode = if has_key {
            "access_key_and_secret"
        } else {
            "iam_role"
        };
        configuration.insert("auth_mode".into(), mode.into());
        Ok(Endpoint {
            configuration: configuration.into(),
            options,
        })
    }
}
