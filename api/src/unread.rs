//! Requests that are answered before their body has come, such as a refusal of the key.
//!
//! Many clients send head and body in two writes. If the answer overtakes the body, the
//! HTTP layer closes a connection that the client has been told to keep, and the client's
//! next request falls into nothing. So the rest of the body is taken in first; where that
//! would be too much or take too long, the answer says that the connection ends with it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes, HttpBody},
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;

/// How much of a body nobody wants is read for the sake of the connection, in bytes.
const MOST: usize = 256 << 10;
/// How long is waited for it.
const LONGEST: Duration = Duration::from_secs(2);

/// Answers the request once its body has come, whether or not the handler read it.
pub async fn taken_in(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let (back, mut returned) = oneshot::channel();
    let lent = Lent {
        body: Some(body.into_data_stream()),
        back: Some(back),
    };
    let mut response = next
        .run(Request::from_parts(parts, Body::from_stream(lent)))
        .await;
    // A handler may hold the body beyond its answer; then what it leaves is not waited for.
    let whole = match returned.try_recv() {
        Ok(rest) => drained(rest).await,
        Err(_) => false,
    };
    if !whole {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads to the end. False if the end is too far off, or if the client broke off.
async fn drained(mut rest: BodyDataStream) -> bool {
    let reading = async {
        let mut left = MOST;
        while let Some(chunk) = rest.next().await {
            match chunk.ok().and_then(|chunk| left.checked_sub(chunk.len())) {
                Some(less) => left = less,
                None => return false,
            }
        }
        true
    };
    tokio::time::timeout(LONGEST, reading)
        .await
        .unwrap_or(false)
}

/// A body that comes back when it is dropped.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.body {
            Some(body) => body.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody waits for it any more when the request itself was given up.
            let _ = back.send(body);
        }
    }
}
