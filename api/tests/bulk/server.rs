//! A whole Tideway in the test's process: two SQLite files with a connection each, a store,
//! a worker and the API.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tideway_api::{ApiSettings, ApiState};
use tideway_core::Secret;
use tideway_store::{Bootstrap, Configuration, ConnectionDraft, Keyring, Store};
use tideway_work::{Work, WorkSettings};
use tower::ServiceExt;
use uuid::Uuid;

pub const KEY: &str = "tideway-test-key-0123456789abcdef";

pub struct Server {
    router: Router,
    pub work: Work,
    pub source: Uuid,
    pub destination: Uuid,
    folder: tempfile::TempDir,
}

/// Status, headers as `name: value` and body of an answer.
pub struct Answered {
    pub status: StatusCode,
    pub body: Value,
    pub text: String,
}

impl Server {
    /// Without workers, what is started stays queued.
    pub async fn start(workers: usize) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("tideway.db").display());
        let store = Store::open(&url, Keyring::generate().unwrap())
            .await
            .unwrap();
        let first = Bootstrap {
            api_key: Some(Secret::new(KEY)),
            ..Bootstrap::default()
        };
        let first = store.bootstrap(&first).await.unwrap();
        let shop = rusqlite::Connection::open(folder.path().join("shop.db")).unwrap();
        shop.execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, total TEXT, changed TEXT);
             INSERT INTO orders VALUES (1, '9.50', '2026-01-01'), (2, '12.00', '2026-01-02');
             CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);
             INSERT INTO users VALUES (7, 'ada@example.com');",
        )
        .unwrap();
        let mut connections = Vec::new();
        for (name, file) in [("shop", "shop.db"), ("lake", "lake.db")] {
            let author = tideway_store::Author::system();
            let draft = ConnectionDraft {
                name: name.into(),
                kind: "sqlite".into(),
                configuration: Configuration::new(json!({"path": folder.path().join(file)})),
                policies: vec![],
                status: "healthy".into(),
                status_error: None,
                saved: true,
                parent_connection_id: None,
                healthcheck_interval: None,
                next_health_check_at: None,
            };
            let made = store
                .connections()
                .create(first.organization.id, &author, &draft)
                .await;
            connections.push(made.unwrap().id);
        }
        let work = Work::new(
            store,
            WorkSettings {
                workers,
                data_dir: folder.path().to_owned(),
                ..WorkSettings::default()
            },
        );
        if workers > 0 {
            work.start();
        }
        let settings = ApiSettings {
            public_url: "http://tideway.test".into(),
            body_limit: 1 << 20,
        };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let router = tideway_api::router(ApiState::new(work.clone(), settings, metrics));
        Server {
            router,
            work,
            source: connections[0],
            destination: connections[1],
            folder,
        }
    }

    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answered {
        self.send_as("2025-09-18", method, path, body).await
    }

    pub async fn send_as(
        &self,
        version: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answered {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {KEY}"))
            .header("x-polytomic-version", version)
            .body(body.map_or_else(Body::empty, |body| body.to_string().into()))
            .unwrap();
        self.answer(request).await
    }

    /// Without a key.
    pub async fn open(&self, url: &str) -> Answered {
        let path = url.strip_prefix("http://tideway.test").unwrap();
        self.answer(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    async fn answer(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Answered { status, body, text }
    }

    /// The `data` of an answer that must be a success.
    #[track_caller]
    pub fn data(answered: Answered) -> Value {
        assert_eq!(answered.status, StatusCode::OK, "{}", answered.text);
        answered.body["data"].clone()
    }

    pub async fn get(&self, path: &str) -> Value {
        Server::data(self.send("GET", path, None).await)
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        Server::data(self.send("POST", path, Some(body)).await)
    }

    /// A request for a sync from the shop to the lake.
    pub fn sync(&self, more: Value) -> Value {
        let mut body = json!({
            "name": "shop to lake",
            "source_connection_id": self.source,
            "destination_connection_id": self.destination,
            "default_schedule": {"frequency": "manual"},
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    }

    /// Its path.
    pub async fn create(&self, more: Value) -> String {
        let made = self.post("/api/bulk/syncs", self.sync(more)).await;
        format!("/api/bulk/syncs/{}", made["id"].as_str().unwrap())
    }

    /// The execution once it is over.
    pub async fn ended(&self, path: &str) -> Value {
        for _ in 0..600 {
            let execution = self.get(path).await;
            if !execution["completed_at"].is_null() {
                return execution;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} does not end");
    }

    pub fn lake(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("lake.db")).unwrap()
    }
}
