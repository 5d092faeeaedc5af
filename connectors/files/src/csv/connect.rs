//! Downloading: sign-in, redirects, errors.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, LAST_MODIFIED, LOCATION, RETRY_AFTER},
};
use serde::Deserialize;
use tideway_core::{Error, Kind, Result, Secret, outbound::Outbound};
use tideway_network::http::{self, Redirects};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use url::Url;

use super::config::{Config, OAuth};
use crate::format::Input;

const MOST_REDIRECTS: usize = 5;
/// How long a server may be silent, in the middle of a download too.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The address of one file, with all that a request for it needs.
pub struct Remote {
    pub url: Url,
    config: Config,
    outbound: Outbound,
    client: Client,
    token: Mutex<Option<Token>>,
}

struct Token {
    value: Secret,
    /// Not used from then on.
    until: Instant,
}

/// A download that has begun.
pub struct Download {
    /// Differs whenever the content does, if the server says so.
    pub version: Option<String>,
    pub size: Option<u64>,
    response: Response,
}

impl Remote {
    pub fn new(config: Config, outbound: Outbound) -> Result<Self> {
        let wrong = |what: &str| Error::config(what.to_owned()).field("url");
        let mut url = Url::parse(config.url.trim())
            .map_err(|error| wrong(&format!("this is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("the URL does not begin with http:// or https://"));
        }
        let auth = &config.auth;
        let ways = [
            auth.basic.is_some(),
            auth.header.is_some(),
            auth.query.as_ref().is_some_and(|query| !query.is_empty()),
            auth.oauth.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Err(Error::config("more than one way to sign in is set")
                .field("auth")
                .hint("keep one of basic, header, query and oauth"));
        }
        url.set_fragment(None);
        if !config.parameters.is_empty() {
            let pairs = config
                .parameters
                .iter()
                .map(|pair| (&pair.name, &pair.value));
            url.query_pairs_mut().extend_pairs(pairs);
        }
        // Followed by hand: what signs us in must not go to another server.
        let redirects = Redirects::Show;
        let settings = Client::builder().read_timeout(SILENCE);
        Ok(Remote {
            client: http::client(outbound.clone(), redirects, CONNECT_TIME, settings)?,
            url,
            config,
            outbound,
            token: Mutex::new(None),
        })
    }

    /// The file's name without what may be secret.
    pub fn shown(&self) -> String {
        format!(
            "{}{}",
            self.url.host_str().unwrap_or_default(),
            self.url.path()
        )
    }

    /// Begins a download. `None` if the server still has the version `unless`.
    pub async fn get(&self, unless: Option<&str>) -> Result<Option<Download>> {
        let mut renewed = false;
        loop {
            let response = self.follow(unless).await?;
            // A token may be withdrawn before its time: one more try with a new one.
            if response.status() == StatusCode::UNAUTHORIZED
                && self.config.auth.oauth.is_some()
                && !std::mem::replace(&mut renewed, true)
            {
                *self.token.lock().await = None;
                continue;
            }
            return self.accept(response);
        }
    }

    async fn follow(&self, unless: Option<&str>) -> Result<Response> {
        let mut url = self.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            http::permit(&self.outbound, &url, "url")?;
            let mut request = self
                .client
                .get(url.clone())
                .header("accept", "text/csv, */*;q=0.5");
            if url.origin() == self.url.origin() {
                request = self.signed(request).await?;
            }
            if let Some(version) = unless {
                request = request.header(IF_NONE_MATCH, version);
            }
            let response = request.send().await.map_err(|error| self.failed(error))?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED
            {
                return Ok(response);
            }
            let target = text_of(response.headers(), LOCATION.as_str());
            let next = target.and_then(|target| url.join(&target).ok());
            url = next
                .filter(|next| matches!(next.scheme(), "http" | "https"))
                .ok_or_else(|| {
                    Error::unavailable(format!("{} redirects to nowhere", self.shown()))
                        .field("url")
                })?;
        }
        Err(Error::config(format!("{} redirects too often", self.shown())).field("url"))
    }

    async fn signed(&self, mut request: RequestBuilder) -> Result<RequestBuilder> {
        for pair in &self.config.headers {
            request = request.header(&pair.name, &pair.value);
        }
        let auth = &self.config.auth;
        if let Some(basic) = &auth.basic {
            request = request.basic_auth(&basic.username, Some(basic.password.expose()));
        }
        if let Some(header) = &auth.header {
            request = request.header(&header.name, header.value.expose());
        }
        for pair in auth.query.iter().flatten() {
            request = request.query(&[(&pair.name, pair.value.expose())]);
        }
        if let Some(oauth) = &auth.oauth {
            request = request.bearer_auth(self.token(oauth).await?.expose());
        }
        Ok(request)
    }

    fn accept(&self, response: Response) -> Result<Option<Download>> {
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(self.refused(status, response.headers()));
        }
        let kind = text_of(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        if kind.starts_with("text/html") {
            return Err(
                Error::data(format!("{} is a web page, not a CSV file", self.shown()))
                    .field("url")
                    .hint("check the address; a page to sign in looks like this too"),
            );
        }
        let headers = response.headers();
        let version =
            text_of(headers, ETAG.as_str()).or_else(|| text_of(headers, LAST_MODIFIED.as_str()));
        Ok(Some(Download {
            version,
            size: response.content_length(),
            response,
        }))
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> Error {
        let what = format!("{} answers {}", self.shown(), status.as_u16());
        let after = retry_after(headers);
        match status.as_u16() {
            401 | 403 => Error::auth(what).field("auth"),
            404 | 410 => Error::missing(what).field("url"),
            408 => Error::timeout(what),
            429 => Error::new(Kind::RateLimited { after }, what),
            503 if after.is_some() => Error::new(Kind::RateLimited { after }, what),
            500..=599 => Error::unavailable(what),
            _ => Error::config(what).field("url"),
        }
    }

    fn failed(&self, error: reqwest::Error) -> Error {
        // The URL may hold keys.
        let error = error.without_url();
        let shown = self.shown();
        if let Some(refused) = http::refusal(&error, &shown) {
            return refused.field("url");
        }
        if error.is_builder() {
            return Error::config("a header or parameter cannot be sent").field("headers");
        }
        let found = match error.is_timeout() {
            true => Error::timeout(format!("{shown} does not answer")),
            false => Error::unavailable(format!("{shown} cannot be reached")),
        };
        found.field("url").because(error)
    }

    /// A token that is valid for a while yet.
    async fn token(&self, oauth: &OAuth) -> Result<Secret> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.until > Instant::now()) {
            return Ok(token.value.clone());
        }
        let token = self.fetch_token(oauth).await?;
        let value = token.value.clone();
        *held = Some(token);
        Ok(value)
    }

    async fn fetch_token(&self, oauth: &OAuth) -> Result<Token> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: Secret,
            expires_in: Option<serde_json::Value>,
        }
        let in_header_first = oauth.auth_style != Some(1);
        let mut response = self.ask_token(oauth, in_header_first).await?;
        if !response.status().is_success() && !matches!(oauth.auth_style, Some(1 | 2)) {
            response = self.ask_token(oauth, false).await?;
        }
        let status = response.status();
        if !status.is_success() {
            let what = format!("the token endpoint answers {}", status.as_u16());
            return Err(match status.as_u16() {
                429 => Error::new(
                    Kind::RateLimited {
                        after: retry_after(response.headers()),
                    },
                    what,
                ),
                500..=599 => Error::unavailable(what).field("auth.oauth.token_endpoint"),
                404 => Error::missing(what).field("auth.oauth.token_endpoint"),
                _ => Error::auth(what).field("auth.oauth.client_secret"),
            });
        }
        let answer: Answer = response.json().await.map_err(|error| {
            Error::auth("the token endpoint gives no token")
                .field("auth.oauth.token_endpoint")
                .because(error.without_url())
        })?;
        let seconds = match answer.expires_in {
            Some(serde_json::Value::Number(number)) => number.as_u64().unwrap_or(300),
            Some(serde_json::Value::String(text)) => text.parse().unwrap_or(300),
            _ => 300,
        };
        // Renewed at half of its life: a download may begin at any moment.
        let until = Instant::now() + Duration::from_secs(seconds.min(86_400) / 2);
        Ok(Token {
            value: answer.access_token,
            until,
        })
    }

    async fn ask_token(&self, oauth: &OAuth, in_header: bool) -> Result<Response> {
        let mut form: Vec<(&str, &str)> = vec![("grant_type", "client_credentials")];
        let scopes = oauth.scopes.join(" ");
        if !scopes.is_empty() {
            form.push(("scope", &scopes));
        }
        for pair in &oauth.extra_form_data {
            form.push((&pair.name, &pair.value));
        }
        if !in_header {
            form.push(("client_id", &oauth.client_id));
            form.push(("client_secret", oauth.client_secret.expose()));
        }
        const FIELD: &str = "auth.oauth.token_endpoint";
        let place = Url::parse(&oauth.token_endpoint)
            .map_err(|_| Error::config("the token endpoint is not a URL").field(FIELD))?;
        http::permit(&self.outbound, &place, FIELD)?;
        let shown = place.host_str().unwrap_or_default().to_owned();
        let mut request = self.client.post(place).form(&form);
        if in_header {
            request = request.basic_auth(&oauth.client_id, Some(oauth.client_secret.expose()));
        }
        request.send().await.map_err(|error| {
            let refused = http::refusal(&error, &shown);
            let error = refused.unwrap_or_else(|| {
                Error::unavailable("the token endpoint cannot be reached")
                    .because(error.without_url())
            });
            error.field(FIELD)
        })
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text_of(headers, RETRY_AFTER.as_str())?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(
        (at.with_timezone(&Utc) - Utc::now())
            .to_std()
            .unwrap_or_default(),
    )
}

impl Download {
    /// The content as a reader for a thread that may block, fetched a little ahead.
    pub fn into_input(self, shown: &str) -> Input {
        let (sender, receiver) = mpsc::channel(8);
        let shown = shown.to_owned();
        let mut content = self.response.bytes_stream();
        let task = tokio::spawn(async move {
            while let Some(piece) = content.next().await {
                let piece = piece.map_err(|error| {
                    let error = error.without_url();
                    let found = match error.is_timeout() {
                        true => Error::timeout(format!("{shown} stopped in the middle")),
                        false => Error::unavailable(format!("{shown} broke off in the middle")),
                    };
                    found.because(error)
                });
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        Box::new(Body {
            receiver,
            task,
            current: Bytes::new(),
        })
    }
}

struct Body {
    receiver: mpsc::Receiver<Result<Bytes>>,
    task: JoinHandle<()>,
    current: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece.map_err(std::io::Error::other)?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.task.abort();
    }
}
