//! Headers that every answer carries, so that a browser does nothing with it that it was
//! not made for.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

const EVERYWHERE: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];
/// The API reference runs scripts of its own, and nobody else's. It styles with attributes.
const REFERENCE: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; frame-ancestors 'none'";
/// Data is for programs: nothing in it is to be run or loaded.
const DATA: &str = "default-src 'none'; frame-ancestors 'none'";

/// Adds the headers, unless the handler has set them.
pub async fn strict(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let reference = path == "/docs" || path.starts_with("/docs/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in EVERYWHERE {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    let policy = if reference { REFERENCE } else { DATA };
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(policy));
    if !reference {
        // Answers belong to the one who asked, at the time of asking.
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
    response
}
