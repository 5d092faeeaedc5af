//! Errors as answers: `{key, message, status, metadata}`. The error's kind alone decides the
//! status; causes and secrets never leave the process.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tideway_core::{Error, Kind, form::FieldError};

use crate::{envelope::ApiError, wire::JsonObject};

const NOT_SUPPORTED: &str = "not_supported";

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    pub key: &'static str,
    pub message: String,
    pub metadata: JsonObject,
    /// Seconds, for `Retry-After`.
    pub retry_after: Option<u64>,
}

pub type Answer<T> = Result<T, Problem>;

impl Problem {
    pub fn new(status: StatusCode, key: &'static str, message: impl Into<String>) -> Self {
        Problem {
            status,
            key,
            message: message.into(),
            metadata: JsonObject::new(),
            retry_after: None,
        }
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// The request can be understood, but a value in it does not fit.
    pub fn unprocessable(field: &str, message: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
            .with("field", field)
    }

    pub fn unauthorized(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// An operation of the contract that there is no code for.
    pub fn not_built(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_IMPLEMENTED, "not_implemented", message)
            .with("documentation", "docs/status.md")
    }

    /// A value that the contract allows and that there is no code for. The operation itself
    /// is there, so it is the request that does not fit.
    pub fn not_yet(field: &str, message: impl Into<String>) -> Self {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, NOT_SUPPORTED, message)
            .with("field", field)
            .with("documentation", "docs/status.md")
    }

    /// Every trouble with the settings of a form.
    pub fn of_fields(troubles: &[FieldError]) -> Self {
        let messages: Vec<&str> = troubles.iter().map(|t| t.message.as_str()).collect();
        let fields: JsonObject = troubles
            .iter()
            .map(|t| (t.field.clone(), Value::from(t.message.as_str())))
            .collect();
        let mut problem = Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_configuration",
            messages.join("; "),
        )
        .with("fields", fields);
        if let Some(first) = troubles.first() {
            problem = problem.with("field", first.field.as_str());
        }
        problem
    }

    /// An error of the connected system, with that status: nothing is wrong with the
    /// caller's own key, whatever the system thinks of the stored one.
    pub fn upstream(status: StatusCode, error: &Error) -> Self {
        let status = match error.kind {
            Kind::Bug => StatusCode::INTERNAL_SERVER_ERROR,
            _ => status,
        };
        let key = match error.kind {
            Kind::Unsupported => NOT_SUPPORTED,
            _ => "connection_error",
        };
        described(status, key, error)
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.to_owned(), value.into());
        self
    }
}

fn described(status: StatusCode, key: &'static str, error: &Error) -> Problem {
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(?error, "a request failed by our fault");
    }
    let mut problem = Problem::new(status, key, format!("{error}: {}", error.advice()))
        .with("kind", error.kind.word())
        .with("hint", error.advice());
    if let Some(field) = error.blamed_field() {
        problem = problem.with("field", field);
    }
    problem
}

/// Errors of the store and of our own checks.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let (status, key) = match error.kind {
            Kind::Missing => (StatusCode::NOT_FOUND, "not_found"),
            Kind::Conflict | Kind::Fenced | Kind::Drift => (StatusCode::CONFLICT, "conflict"),
            Kind::Permission | Kind::Auth => (StatusCode::FORBIDDEN, "forbidden"),
            Kind::Config if error.blamed_field() == Some("page_token") => {
                (StatusCode::BAD_REQUEST, "bad_request")
            }
            Kind::Config | Kind::Data => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable"),
            Kind::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Kind::Unavailable | Kind::Timeout | Kind::Full | Kind::Cancelled => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Kind::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, NOT_SUPPORTED),
            Kind::Bug => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        };
        let mut problem = described(status, key, &error);
        problem.retry_after = match error.kind {
            Kind::RateLimited { after } => Some(after.map_or(1, |pause| pause.as_secs().max(1))),
            Kind::Unavailable | Kind::Timeout => Some(1),
            // The first request with the key will have its answer soon.
            Kind::Conflict if error.blamed_field() == Some("Idempotency-Key") => Some(1),
            _ => None,
        };
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ApiError {
            key: self.key.to_owned(),
            message: self.message,
            metadata: self.metadata,
            status: self.status.as_u16(),
        };
        let mut response = (self.status, Json(json!(body))).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
