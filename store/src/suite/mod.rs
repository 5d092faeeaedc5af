//! One suite for both databases: every test of [`both!`] runs on a SQLite file of its
//! own and on a fresh database of the server at `TIDEWAY_TEST_POSTGRES_URL`.

mod catalogs;
mod connections;
mod crashes;
mod executions;
mod idempotency;
mod isolation;
mod keys;
mod migrations;
mod pages;
mod queue;
mod races;
mod records;
mod scale;
mod schedules;
mod secrets;
mod streams;
mod syncs;

use std::{cell::RefCell, panic::AssertUnwindSafe, task::Poll};

use futures::FutureExt;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tideway_core::{Kind, Result, WriteMode};
use uuid::Uuid;

use crate::{
    Author, Bootstrap, BulkSync, Configuration, Connection, ConnectionDraft, Keyring, Store,
    SyncDraft, SyncSchema, SyncSettings,
    db::{Db, Value},
};

/// Runs each function on both databases, as `sqlite::name` and `postgres::name`.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { crate::suite::on_sqlite(super::$name).await })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { crate::suite::on_postgres(super::$name).await })*
        }
    };
}

use both;

const POSTGRES: &str = "TIDEWAY_TEST_POSTGRES_URL";

/// An empty database. It can be opened many times, as several processes would.
struct Site {
    url: String,
    keyring: Keyring,
    folder: TempDir,
}

impl Site {
    async fn open(&self) -> Store {
        Store::open(&self.url, self.keyring.clone()).await.unwrap()
    }

    async fn with_shop(&self) -> Shop {
        Shop::set_up(self.open().await).await
    }
}

async fn on_sqlite(test: impl AsyncFnOnce(&Site)) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/tideway.db", folder.path().display());
    test(&Site {
        url,
        keyring: Keyring::generate().unwrap(),
        folder,
    })
    .await;
}

async fn on_postgres(test: impl AsyncFnOnce(&Site)) {
    let server = std::env::var(POSTGRES)
        .unwrap_or_else(|_| panic!("{POSTGRES} is not set: run through `make test`"));
    let name = format!("tideway_store_{}", Uuid::now_v7().simple());
    on_server(&server, &format!("CREATE DATABASE {name}")).await;
    let (base, _) = server.rsplit_once('/').unwrap();
    let site = Site {
        url: format!("{base}/{name}"),
        keyring: Keyring::generate().unwrap(),
        folder: tempfile::tempdir().unwrap(),
    };
    let outcome = AssertUnwindSafe(test(&site)).catch_unwind().await;
    on_server(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

async fn on_server(server: &str, sql: &str) {
    let mut connection = PgConnection::connect(server).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// An organization with two connections and a sync between them.
struct Shop {
    store: Store,
    organization: Uuid,
    author: Author,
    source: Connection,
    destination: Connection,
    sync: BulkSync,
}

impl Shop {
    async fn set_up(store: Store) -> Shop {
        let first = store.bootstrap(&Bootstrap::default()).await.unwrap();
        Shop::within(store, first.organization.id).await
    }

    async fn within(store: Store, organization: Uuid) -> Shop {
        let author = Author::system();
        let connections = store.connections();
        let source = connections
            .create(organization, &author, &connection("shop"))
            .await
            .unwrap();
        let destination = connections
            .create(organization, &author, &connection("warehouse"))
            .await
            .unwrap();
        let draft = sync("shop to warehouse", &source, &destination);
        let schemas = [
            SyncSchema::new("public.orders"),
            SyncSchema::new("public.items"),
        ];
        let sync = store
            .bulk_syncs()
            .create(organization, &author, &draft, &schemas, &[])
            .await
            .unwrap();
        Shop {
            store,
            organization,
            author,
            source,
            destination,
            sync,
        }
    }

    /// Another sync between the same connections.
    async fn another_sync(&self, name: &str) -> BulkSync {
        let draft = sync(name, &self.source, &self.destination);
        let syncs = self.store.bulk_syncs();
        syncs
            .create(self.organization, &self.author, &draft, &[], &[])
            .await
            .unwrap()
    }
}

fn connection(name: &str) -> ConnectionDraft {
    ConnectionDraft {
        name: name.to_owned(),
        kind: "postgresql".to_owned(),
        configuration: Configuration::new(json!({ "host": "db", "password": "hunter2" })),
        policies: Vec::new(),
        status: "healthy".to_owned(),
        status_error: None,
        saved: true,
        parent_connection_id: None,
        healthcheck_interval: None,
        next_health_check_at: None,
    }
}

fn sync(name: &str, source: &Connection, destination: &Connection) -> SyncDraft {
    SyncDraft {
        name: name.to_owned(),
        source_connection_id: source.id,
        destination_connection_id: destination.id,
        mode: WriteMode::Replicate,
        active: true,
        settings: SyncSettings::default(),
    }
}

fn kind<T>(outcome: Result<T>) -> Kind {
    match outcome {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error.kind,
    }
}

/// Changes rows behind the store's back.
async fn tamper(store: &Store, sql: &str) {
    let changed = store.db().execute(sql, Vec::new()).await.unwrap();
    assert!(changed > 0, "nothing was changed by {sql}");
}

async fn count(store: &Store, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) AS n FROM {table}");
    store
        .db()
        .one("count", &sql, Vec::new())
        .await
        .unwrap()
        .int("n")
        .unwrap()
}

/// Work that dies at its `polls`-th step; `None` if it died before its end.
async fn cut_off<T>(work: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut work = Box::pin(work);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

tokio::task_local! {
    static STATEMENTS: RefCell<Vec<(String, Vec<Value>)>>;
}

pub(crate) fn note_statement(sql: &str, values: &[Value]) {
    // Outside of `statements_of` nobody takes notes.
    let _ = STATEMENTS.try_with(|notes| notes.borrow_mut().push((sql.to_owned(), values.to_vec())));
}

/// What the work sends to the database.
async fn statements_of<T>(work: impl Future<Output = T>) -> (T, Vec<(String, Vec<Value>)>) {
    STATEMENTS
        .scope(RefCell::default(), async {
            let outcome = work.await;
            (outcome, STATEMENTS.with(RefCell::take))
        })
        .await
}

/// How the database would run a statement, as lines of text.
async fn plan_of(db: &Db, sql: &str, values: Vec<Value>) -> Vec<String> {
    let (explain, column) = match db.is_postgres() {
        true => ("EXPLAIN", "QUERY PLAN"),
        false => ("EXPLAIN QUERY PLAN", "detail"),
    };
    let rows = db.all(&format!("{explain} {sql}"), values).await.unwrap();
    rows.iter().map(|row| row.text(column).unwrap()).collect()
}
