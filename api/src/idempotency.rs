//! `Idempotency-Key`: a repeated request gets the outcome of the first.

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tideway_core::Error;
use tideway_store::{Begun, Request as Fingerprinted, StoredResponse, Ticket};

use crate::{
    auth::Caller,
    body::too_large,
    problem::{Answer, Problem},
    state::ApiState,
};

pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells that an answer is a replay.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Answers above this size are given and not kept: a repeat is carried out once more.
const LARGEST: u64 = 4 << 20;

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
    let request = Request::from_parts(parts, Body::from(body));
    // On a task of its own: a client that gives up and repeats finds the outcome.
    let answered = tokio::spawn(answer(state.clone(), ticket.clone(), request, next)).await;
    match answered {
        Ok(answered) => answered,
        Err(broken) => {
            store.abandon(&ticket).await?;
            match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::unavailable("the server is stopping").into()),
            }
        }
    }
}

/// Carries the request out and keeps what came of it.
async fn answer(state: ApiState, ticket: Ticket, request: Request, next: Next) -> Answer<Response> {
    let store = state.store().idempotency();
    let (parts, body) = next.run(request).await.into_parts();
    if body.size_hint().upper().is_none_or(|size| size > LARGEST) {
        store.abandon(&ticket).await?;
        return Ok(Response::from_parts(parts, body));
    }
    let body = to_bytes(body, LARGEST as usize)
        .await
        .map_err(|error| Error::bug("an answer could not be read").because(error))?;
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
