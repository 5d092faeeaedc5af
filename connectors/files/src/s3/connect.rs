//! Opening a bucket.

use std::{env, sync::Arc, time::Duration};

use futures::StreamExt;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector},
    path::Path,
};
use tideway_core::{Error, Result, outbound::Outbound};
use tideway_network::http::{self, Redirects};

use super::config::{AuthMode, Config};
use crate::{place::Place, trouble::Blame};

/// One request moves a few MiB at most, so a minute is long.
const REQUEST_TIME: Duration = Duration::from_secs(60);
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// A store that does not answer is given up within about ten seconds; the engine tries
/// again later if that makes sense.
const RETRIES: usize = 2;
/// Where ambient credentials come from, other than a key.
const WEB_IDENTITY: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const AMBIENT: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    WEB_IDENTITY,
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

pub async fn open(config: &Config, outbound: &Outbound) -> Result<Place> {
    if config.enable_event_notifications == Some(true) {
        return Err(
            Error::unsupported("reading by event notifications is not built")
                .field("enable_event_notifications")
                .hint("leave it off: new files are found in every run"),
        );
    }
    let (bucket, prefix) = bucket_and_prefix(&config.s3_bucket_name)?;
    let region = match config.s3_bucket_region.trim() {
        "" => "us-east-1",
        region => region,
    };
    let mut builder = signed_in(config)?
        .with_bucket_name(bucket)
        .with_region(region)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(2),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: Duration::from_secs(20),
        });
    let mut plain = false;
    if let Some(endpoint) = config
        .endpoint
        .as_deref()
        .map(str::trim)
        .filter(|e| !e.is_empty())
    {
        let url = url::Url::parse(endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                Error::config("the endpoint is not an address")
                    .field("endpoint")
                    .hint("write it with its scheme: http://127.0.0.1:9000")
            })?;
        http::permit(outbound, &url, "endpoint")?;
        plain = url.scheme() == "http";
        builder = builder
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_virtual_hosted_style_request(false);
    }
    let store = builder
        .with_client_options(ClientOptions::new().with_allow_http(plain))
        .with_http_connector(Judged {
            outbound: outbound.clone(),
            plain,
        })
        .build()
        .map_err(|error| {
            Error::config("the settings do not make up a connection").because(error)
        })?;
    let root = Path::parse(prefix).map_err(|error| {
        Error::config("the folder in the bucket's name cannot be used")
            .field("s3_bucket_name")
            .because(error)
    })?;
    let place = Place {
        store: Arc::new(store),
        shown: match prefix {
            "" => format!("s3://{bucket}"),
            _ => format!("s3://{bucket}/{prefix}"),
        },
        root,
        folder: None,
        only: None,
        blame: Blame {
            place: "s3_bucket_name",
            remote: true,
        },
    };
    reach(&place).await?;
    Ok(place)
}

/// Makes the store's client one that keeps to the policy.
#[derive(Debug)]
struct Judged {
    outbound: Outbound,
    /// Without TLS.
    plain: bool,
}

impl HttpConnector for Judged {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let settings = reqwest::Client::builder()
            .timeout(REQUEST_TIME)
            .https_only(!self.plain)
            .http1_only()
            // Sizes have to be those of what is stored.
            .no_gzip();
        let client = http::client(
            self.outbound.clone(),
            Redirects::Follow,
            CONNECT_TIME,
            settings,
        );
        let client = client.map_err(|error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        })?;
        Ok(HttpClient::new(client))
    }
}

/// One small request: it shows whether server, bucket and keys are right.
async fn reach(place: &Place) -> Result<()> {
    let prefix = (!place.root.as_ref().is_empty()).then_some(&place.root);
    match place.store.list(prefix).next().await {
        Some(Err(error)) => Err(place.trouble(&format!("opening {}", place.shown), error)),
        _ => Ok(()),
    }
}

fn signed_in(config: &Config) -> Result<AmazonS3Builder> {
    if config.auth_mode == AuthMode::IamRole {
        return ambient(config);
    }
    let missing = |field: &str| Error::config(format!("{field} is missing")).field(field);
    let key = config
        .aws_access_key_id
        .as_deref()
        .map(str::trim)
        .filter(|key| !key.is_empty());
    let secret = config
        .aws_secret_access_key
        .as_ref()
        .filter(|secret| !secret.is_empty());
    let builder = AmazonS3Builder::new()
        .with_access_key_id(key.ok_or_else(|| missing("aws_access_key_id"))?)
        .with_secret_access_key(
            secret
                .ok_or_else(|| missing("aws_secret_access_key"))?
                .expose(),
        );
    Ok(
        match config
            .aws_session_token
            .as_ref()
            .filter(|token| !token.is_empty())
        {
            Some(token) => builder.with_token(token.expose()),
            None => builder,
        },
    )
}

/// The credentials that the surroundings give: keys, a web identity (which can take on a
/// role), or a container's.
fn ambient(config: &Config) -> Result<AmazonS3Builder> {
    let given = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let unsupported =
        |what: &str, hint: &str| Err(Error::unsupported(what).field("auth_mode").hint(hint));
    if !AMBIENT.iter().any(|name| given(name)) {
        return unsupported(
            "there are no AWS credentials in Tideway's surroundings to use a role with",
            "set auth_mode to access_key_and_secret, or run Tideway where AWS gives it a role",
        );
    }
    let role = config
        .iam_role_arn
        .as_deref()
        .map(str::trim)
        .filter(|role| !role.is_empty());
    match role {
        None => Ok(AmazonS3Builder::from_env()),
        Some(role) if given(WEB_IDENTITY) => {
            Ok(AmazonS3Builder::from_env().with_config(AmazonS3ConfigKey::RoleArn, role))
        }
        Some(_) => unsupported(
            "taking on a role is only built for web identities",
            "leave iam_role_arn empty to use the credentials as they are, or set auth_mode to access_key_and_secret",
        ),
    }
}

fn bucket_and_prefix(name: &str) -> Result<(&str, &str)> {
    let name = name.trim();
    let name = name.strip_prefix("s3://").unwrap_or(name).trim_matches('/');
    let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
    if bucket.is_empty() {
        return Err(Error::config("the bucket's name is missing").field("s3_bucket_name"));
    }
    Ok((bucket, prefix.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_come_with_and_without_scheme_and_folder() {
        for (name, expected) in [
            ("bucket", ("bucket", "")),
            ("s3://bucket/", ("bucket", "")),
            ("bucket/a/b/", ("bucket", "a/b")),
            (" s3://bucket/a ", ("bucket", "a")),
        ] {
            assert_eq!(bucket_and_prefix(name).unwrap(), expected);
        }
        assert!(bucket_and_prefix("s3://").is_err());
    }
}
