//! A server of its own for each test.

use std::{path::PathBuf, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tideway_api::{ApiSettings, ApiState, router};
use tideway_core::Secret;
use tideway_store::{Bootstrap, Keyring, Store};
use tideway_work::{Work, WorkSettings};
use tower::ServiceExt;

pub const KEY: &str = "a-key-for-tests-0123456789";

pub struct Server {
    pub store: Store,
    router: Router,
    folder: TempDir,
}

pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Response {
    /// The `data` of a success.
    pub fn data(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body["data"].clone()
    }

    pub fn refused(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.body["status"], status);
        self.body
    }
}

impl Server {
    pub async fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("tideway.db").display());
        let store = Store::open(&url, Keyring::generate().unwrap())
            .await
            .unwrap();
        let wanted = Bootstrap {
            api_key: Some(Secret::new(KEY)),
            ..Bootstrap::default()
        };
        store.bootstrap(&wanted).await.unwrap();
        let settings = WorkSettings {
            data_dir: folder.path().to_owned(),
            ..WorkSettings::default()
        };
        let work = Work::new(store.clone(), settings);
        let settings = ApiSettings {
            public_url: "http://tideway.test".to_owned(),
            body_limit: 1 << 20,
        };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let router = router(ApiState::new(work, settings, metrics));
        Server {
            store,
            router,
            folder,
        }
    }

    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Response {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
            .body(body)
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Response {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Response {
        self.send("POST", path, Some(body)).await
    }

    /// A database file with the table `orders`, of three rows.
    pub fn shop(&self) -> PathBuf {
        let path = self.folder.path().join("shop.db");
        let shop = rusqlite::Connection::open(&path).unwrap();
        shop.execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT NOT NULL, total NUMERIC);
             INSERT INTO orders VALUES (1, 'Lisbon', 10), (2, 'Oslo', 20), (3, 'Rome', NULL);",
        )
        .unwrap();
        path
    }

    pub fn path_of(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A connection to [`Server::shop`], inspected. Gives its id.
    pub async fn connect_shop(&self) -> String {
        let configuration = json!({"path": self.shop()});
        let request = json!({"name": "Shop", "type": "sqlite", "configuration": configuration});
        let saved = self.post("/api/connections", request).await.data();
        let id = saved["id"].as_str().unwrap().to_owned();
        self.inspected(&id).await;
        id
    }

    /// Waits until the inspection of a connection is over.
    pub async fn inspected(&self, id: &str) {
        for _ in 0..200 {
            let status = self
                .get(&format!("/api/connections/{id}/schemas/status"))
                .await
                .data();
            if status["cache_status"] == "fresh" && !status["last_refresh_finished"].is_null() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the inspection does not end");
    }
}
