//! `Idempotency-Key`: a repeated request gets the outcome of the first.

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tideway_store::{Begun, Request as Fingerprinted, StoredResponse};

use crate::{
    auth::Caller,
    body::too_large,
    problem::{Answer, Problem},
    state::ApiState,
};

pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells that an answer is a replay.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Answers above this size are not kept; none of ours come near it.
const LARGEST: usize = 4 << 20;

pub async fn replay(
    State(state): State<ApiState>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let changes = !matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    let Some(key) = request.headers().get(HEADER).filter(|_| changes).cloned() else {
        return Ok(next.run(request).await);
    };
    let key = checked(&key)?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, state.settings.body_limit)
        .await
        .map_err(|_| too_large())?;
    let store = state.store().idempotency();
    let fingerprinted = Fingerprinted {
        method: parts.method.to_string(),
        path: parts
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        fingerprint: hex::encode(Sha256::digest(&body)),
    };
    let ticket = match store
        .begin(caller.actor.key_id, &key, &fingerprinted)
        .await?
    {
        Begun::Replay(stored) => return Ok(replayed(stored)),
        Begun::Fresh(ticket) => ticket,
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        store.abandon(&ticket).await?;
        return Err(Problem::from(tideway_core::Error::bug(
            "an answer is too large to be kept",
        )));
    };
    let headers = [header::CONTENT_TYPE, header::LOCATION]
        .into_iter()
        .filter_map(|name| {
            let value = parts.headers.get(&name)?.to_str().ok()?.to_owned();
            Some((name.to_string(), value))
        })
        .collect();
    let stored = StoredResponse {
        status: parts.status.as_u16(),
        headers,
        body: body.to_vec(),
    };
    store.finish(&ticket, &stored).await?;
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn checked(key: &HeaderValue) -> Answer<String> {
    let valid = |text: &&str| {
        (8..=255).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    key.to_str()
        .ok()
        .filter(valid)
        .map(str::to_owned)
        .ok_or_else(|| {
            Problem::bad_request("Idempotency-Key must have 8 to 255 characters of A-Z a-z 0-9 _ -")
                .with("field", "Idempotency-Key")
        })
}

fn replayed(stored: StoredResponse) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = (status, Bytes::from(stored.body)).into_response();
    for (name, value) in stored.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
