//! Request bodies, paths and query strings, with errors that name the field.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::problem::Problem;

/// A JSON body. Taken whatever the content type says; an empty one reads as `{}`.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(unreadable)?;
        let text: &[u8] = if bytes.trim_ascii().is_empty() {
            b"{}"
        } else {
            &bytes
        };
        if holds_nul(text) {
            return Err(Problem::bad_request(
                "the body holds a NUL character; leave it out",
            ));
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if inner.is_data() {
                let message = format!("{path}: {}", without_position(&inner));
                Problem::bad_request(message).with("field", path)
            } else {
                Problem::bad_request(format!("the body is not JSON: {inner}"))
            }
        })?;
        json.end()
            .map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
        Ok(Body(value))
    }
}

/// Whether a string in the JSON text has a NUL character, which databases cannot hold. A
/// backslash that is itself escaped does not begin one.
fn holds_nul(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escaped = &rest[at + 1..];
        if escaped.starts_with(b"u0000") {
            return true;
        }
        rest = escaped.get(1..).unwrap_or_default();
    }
    false
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

fn unreadable(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    Problem::bad_request("the body could not be read to its end")
}

pub fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "payload_too_large",
        "the body is larger than this server takes; send less, or raise --body-limit-mib",
    )
}

/// The query string.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::bad_request(
                "the query string holds a NUL character; leave it out",
            ));
        }
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            Problem::bad_request(format!("query string: {}", rejection.body_text()))
        })?;
        Ok(Query(query.0))
    }
}

/// One id in the path. What is no UUID names nothing, so it is not found.
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(PathId(id(&text)?))
    }
}

/// The parameters of the path, as text.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // No id has a NUL character, and databases cannot be asked for one.
        if parts.uri.path().contains("%00") {
            return Err(nothing_here());
        }
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|path| Path(path.0))
            .map_err(|_| nothing_here())
    }
}

fn nothing_here() -> Problem {
    Problem::not_found("there is nothing at this path")
}

/// A UUID of the path.
pub fn id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text)
        .map_err(|_| Problem::not_found(format!("there is nothing with the id {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_told_from_a_backslash_before_u0000() {
        for (text, nul) in [
            (r#"{"a": "\u0000"}"#.to_owned(), true),
            (r#"{"a": "\\u0000"}"#.to_owned(), false),
            (r#"{"a": "\n\u0000"}"#.to_owned(), true),
            (r#"{"a": "\\\u0000"}"#.to_owned(), true),
            (r#"{"a": "\u0001"}"#.to_owned(), false),
            ("\\".to_owned(), false),
        ] {
            assert_eq!(holds_nul(text.as_bytes()), nul, "{text}");
        }
    }
}
