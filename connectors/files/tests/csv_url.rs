//! CSV over HTTP, from a server of the test's own.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tideway_core::{Connection, Connector, Kind, LogicalType as L, connector::ConnectCx};
use tideway_files::CsvConnector;

use crate::support::*;

#[derive(Clone, Default)]
struct Server {
    content: Arc<Mutex<(String, Vec<u8>)>>,
    downloads: Arc<AtomicUsize>,
    tokens: Arc<AtomicUsize>,
    other: Arc<Mutex<String>>,
    leaked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn put(&self, version: &str, content: impl Into<Vec<u8>>) {
        *self.content.lock().unwrap() = (version.to_owned(), content.into());
    }

    async fn start(&self) -> String {
        let routes = Router::new()
            .route("/files/orders.csv", get(file))
            .route("/files/orders.csv.gz", get(file))
            .route("/basic.csv", get(basic))
            .route("/header.csv", get(with_header))
            .route("/query.csv", get(with_query))
            .route("/oauth.csv", get(with_token))
            .route("/token", post(token))
            .route("/status/{code}", get(status))
            .route(
                "/page.csv",
                get(async || ([(header::CONTENT_TYPE, "text/html")], "<html>")),
            )
            .route("/loop.csv", get(async || redirect("/loop.csv")))
            .route("/moved.csv", get(async || redirect("/files/orders.csv")))
            .route("/elsewhere.csv", get(elsewhere))
            .route("/leak.csv", get(leak))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        format!("http://{address}")
    }
}

fn redirect(to: &str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response()
}

async fn file(State(server): State<Server>, headers: HeaderMap) -> Response {
    let (version, content) = server.content.lock().unwrap().clone();
    let asked = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if !version.is_empty() && asked == Some(&version) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    server.downloads.fetch_add(1, SeqCst);
    match version.is_empty() {
        true => content.into_response(),
        false => ([(header::ETAG, version)], content).into_response(),
    }
}

fn guarded(open: bool) -> Response {
    match open {
        true => "id\n1\n".into_response(),
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn basic(headers: HeaderMap) -> Response {
    // u:p
    guarded(
        headers
            .get("authorization")
            .is_some_and(|value| value == "Basic dTpw"),
    )
}

async fn with_header(headers: HeaderMap) -> Response {
    guarded(
        headers.get("x-key").is_some_and(|v| v == "k")
            && headers.get("x-more").is_some_and(|v| v == "m"),
    )
}

async fn with_query(Query(query): Query<std::collections::HashMap<String, String>>) -> Response {
    let has = |name: &str, value: &str| query.get(name).is_some_and(|found| found == value);
    guarded(has("key", "k&=") && has("more", "m") && has("own", "1"))
}

/// The first token that is given out is not accepted.
async fn with_token(headers: HeaderMap) -> Response {
    guarded(
        headers
            .get("authorization")
            .is_some_and(|value| value == "Bearer token-1"),
    )
}

async fn token(State(server): State<Server>, request: Request<Body>) -> Response {
    // id:s in a header, as most servers want it
    let signed = request
        .headers()
        .get("authorization")
        .is_some_and(|value| value == "Basic aWQ6cw==");
    let form = axum::body::to_bytes(request.into_body(), 10_000)
        .await
        .unwrap();
    let form = String::from_utf8(form.to_vec()).unwrap();
    if !signed || form != "grant_type=client_credentials&scope=a+b&audience=x" {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let number = server.tokens.fetch_add(1, SeqCst);
    axum::Json(json!({"access_token": format!("token-{number}"), "expires_in": 3600}))
        .into_response()
}

async fn status(axum::extract::Path(code): axum::extract::Path<u16>) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    match code {
        StatusCode::TOO_MANY_REQUESTS => (code, [(header::RETRY_AFTER, "7")]).into_response(),
        _ => code.into_response(),
    }
}

async fn elsewhere(State(server): State<Server>) -> Response {
    redirect(&format!("{}/leak.csv", server.other.lock().unwrap()))
}

async fn leak(State(server): State<Server>, headers: HeaderMap) -> Response {
    let names = headers.keys().map(|name| name.as_str().to_owned());
    server.leaked.lock().unwrap().extend(names);
    "id\n1\n".into_response()
}

async fn open(url: String, more: Value) -> Arc<dyn Connection> {
    let mut configuration = more;
    configuration["url"] = url.into();
    connect(&CsvConnector, configuration).await
}

async fn failure(url: String, more: Value) -> tideway_core::Error {
    let connection = open(url, more).await;
    let source = connection.roles().source.unwrap();
    source.discover(&Default::default()).await.unwrap_err()
}

#[tokio::test]
async fn a_file_is_a_table_named_like_it() {
    let server = Server::default();
    server.put("\"v1\"", "id,name\n1,Ada\n2,\n");
    let base = server.start().await;
    let connection = open(format!("{base}/files/orders.csv?x=1"), json!({})).await;
    assert!(connection.check().await.passed());
    let table = table(&*connection, "orders").await;
    assert_eq!(shape(&table), [("id", L::Int64), ("name", L::Text)]);
    assert_eq!(rows_of(&*connection, "orders").await, rows("1|Ada\n2|∅"));
    assert!(connection.roles().destination.is_none());
}

#[tokio::test]
async fn packed_files_are_unpacked() {
    let server = Server::default();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"id\n1\n").unwrap();
    server.put("", gzip.finish().unwrap());
    let base = server.start().await;
    let connection = open(format!("{base}/files/orders.csv.gz"), json!({})).await;
    assert_eq!(rows_of(&*connection, "orders").await, rows("1"));
}

#[tokio::test]
async fn every_way_to_sign_in_works_and_a_wrong_one_is_told() {
    let server = Server::default();
    let base = server.start().await;
    let pair = |name: &str, value: &str| json!({"name": name, "value": value});
    let oauth = json!({
        "client_id": "id", "client_secret": "s", "token_endpoint": format!("{base}/token"),
        "scopes": ["a", "b"], "extra_form_data": [pair("audience", "x")]
    });
    let ways = [
        (
            "basic.csv",
            json!({"auth": {"basic": {"username": "u", "password": "p"}}}),
        ),
        (
            "header.csv",
            json!({"auth": {"header": pair("x-key", "k")}, "headers": [pair("x-more", "m")]}),
        ),
        (
            "query.csv?own=1",
            json!({"auth": {"query": [pair("key", "k&=")]}, "parameters": [pair("more", "m")]}),
        ),
        ("oauth.csv", json!({"auth": {"oauth": oauth}})),
    ];
    for (path, settings) in ways {
        let connection = open(format!("{base}/{path}"), settings).await;
        assert_eq!(tables(&*connection).await.len(), 1, "{path}");
        let error = failure(format!("{base}/{path}"), json!({})).await;
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Auth, Some("auth")),
            "{path}"
        );
    }
    let both = json!({"url": base, "auth": {"basic": {"username": "u"}, "header": pair("a", "b")}});
    let error = CsvConnector
        .connect(&both, &ConnectCx::default())
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("auth"))
    );
}

#[tokio::test]
async fn answers_become_errors_of_their_kind() {
    let base = Server::default().start().await;
    for (code, kind) in [
        (401, Kind::Auth),
        (403, Kind::Auth),
        (404, Kind::Missing),
        (
            429,
            Kind::RateLimited {
                after: Some(Duration::from_secs(7)),
            },
        ),
        (500, Kind::Unavailable),
        (418, Kind::Config),
    ] {
        let error = failure(format!("{base}/status/{code}"), json!({})).await;
        assert_eq!(error.kind, kind);
    }
    let error = failure(format!("{base}/page.csv"), json!({})).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Data, Some("url"))
    );
    let error = failure(
        "http://127.0.0.1:1/secret-path.csv?key=s3cret".into(),
        json!({}),
    )
    .await;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    let error = failure(format!("{base}/loop.csv"), json!({})).await;
    assert_eq!(error.kind, Kind::Config);
    for url in ["ftp://x/y.csv", "x.csv"] {
        let connected = CsvConnector
            .connect(&json!({"url": url}), &ConnectCx::default())
            .await;
        assert_eq!(connected.err().unwrap().blamed_field(), Some("url"));
    }
}

#[tokio::test]
async fn redirects_are_followed_without_what_signs_us_in() {
    let (here, there) = (Server::default(), Server::default());
    here.put("", "id\n5\n");
    let base = here.start().await;
    *here.other.lock().unwrap() = there.start().await;
    let settings = json!({
        "headers": [{"name": "x-secret", "value": "s"}],
        "auth": {"header": {"name": "x-key", "value": "k"}}
    });
    let connection = open(format!("{base}/moved.csv"), settings.clone()).await;
    assert_eq!(rows_of(&*connection, "moved").await, rows("5"));
    let connection = open(format!("{base}/elsewhere.csv"), settings).await;
    assert_eq!(rows_of(&*connection, "elsewhere").await, rows("1"));
    let leaked = there.leaked.lock().unwrap().clone();
    assert!(!leaked.is_empty());
    assert!(
        !leaked.iter().any(|name| name.starts_with("x-")),
        "{leaked:?}"
    );
}

#[tokio::test]
async fn a_version_that_was_looked_at_is_not_looked_at_again() {
    let server = Server::default();
    server.put("\"v1\"", "id\n1\n");
    let base = server.start().await;
    let connection = open(format!("{base}/files/orders.csv"), json!({})).await;
    tables(&*connection).await;
    tables(&*connection).await;
    assert_eq!(server.downloads.load(SeqCst), 1);
    // Another version is, and a read that expected the old one says so.
    let table = table(&*connection, "orders").await;
    server.put("\"v2\"", "id\n1\nx\n");
    let error = read(&*connection, read_request(&table))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Drift);
    assert_eq!(rows_of(&*connection, "orders").await, rows("1\nx"));
}

#[tokio::test]
async fn a_tracking_field_works_here_too() {
    let server = Server::default();
    server.put("", "id,at\n1,2024-01-01\n2,2024-01-05\n");
    let base = server.start().await;
    let connection = open(format!("{base}/files/orders.csv"), json!({})).await;
    let table = table(&*connection, "orders").await;
    let first = read(&*connection, tracked(&table, "at", None))
        .await
        .unwrap();
    let cursor = first.cursor.unwrap();
    assert_eq!(cursor.from.as_deref(), Some("2024-01-05"));
    server.put("", "id,at\n1,2024-01-01\n2,2024-01-05\n3,2024-01-06\n");
    let second = read(&*connection, tracked(&table, "at", Some(cursor)))
        .await
        .unwrap();
    assert_eq!(second.rows.len(), 2);
}

#[tokio::test]
async fn a_limited_read_does_not_take_the_whole_file() {
    let server = Server::default();
    server.put("", format!("id\n{}", "1\n".repeat(100_000)));
    let base = server.start().await;
    let connection = open(format!("{base}/files/orders.csv"), json!({})).await;
    let table = table(&*connection, "orders").await;
    let mut request = read_request(&table);
    request.limit = Some(5);
    assert_eq!(read(&*connection, request).await.unwrap().rows.len(), 5);
}
