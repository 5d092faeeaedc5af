//! A plain client of the HTTP API.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;
use tideway_core::{Error, Result, Secret};

pub struct Client {
    http: reqwest::Client,
    server: String,
    key: Secret,
}

impl Client {
    pub fn new(server: &str, key: &str) -> Result<Client> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build()
            .map_err(|error| Error::bug(format!("no HTTP client: {error}")))?;
        let server = server.trim_end_matches('/').to_owned();
        Ok(Client {
            http,
            server,
            key: Secret::new(key),
        })
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.send(Method::GET, path, None).await?["data"].take())
    }

    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        match self.get(path).await? {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        Ok(self.send(Method::POST, path, Some(body)).await?["data"].take())
    }

    /// Makes something and gives its id.
    pub async fn create(&self, path: &str, body: &Value) -> Result<String> {
        let made = self.post(path, body).await?;
        made["id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Error::bug(format!("the answer of {path} holds no id")))
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.server))
            .bearer_auth(self.key.expose())
            .header("X-Polytomic-Version", "2025-09-18");
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| {
            Error::unavailable(format!("{} does not answer: {error}", self.server))
                .hint("start it with `tideway serve`, or name it with --server")
        })?;
        answer(method, path, response).await
    }
}

async fn answer(method: Method, path: &str, response: Response) -> Result<Value> {
    let status = response.status();
    let text = response
        .text()
        .await
        .map_err(|error| Error::unavailable(format!("the answer broke off: {error}")))?;
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    if status.is_success() {
        return Ok(body);
    }
    let message = body["message"].as_str().unwrap_or("no reason given");
    let error = format!("{method} {path} answered {status}: {message}");
    Err(if status.as_u16() == 401 {
        Error::auth(error)
    } else {
        Error::config(error)
    })
}
