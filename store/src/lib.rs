//! All metadata behind one [`Store`]: connections, bulk syncs, their executions and
//! checkpoints, logs, events, keys. It lives in SQLite (embedded, the default) or in
//! PostgreSQL (shared by many processes); both pass the same tests.
//!
//! Every method that takes an `organization` sees that organization only: another's id
//! is [`tideway_core::Kind::Missing`] (invariant 10).

mod bootstrap;
mod calls;
mod cancel;
mod catalogs;
mod checkpoints;
mod clock;
mod connections;
mod db;
mod entities;
mod events;
mod executions;
mod fault;
mod idempotency;
mod jobs;
mod keyring;
pub mod keys;
mod logs;
mod migrate;
mod obfuscation;
mod page;
mod people;
mod prune;
mod queue;
mod row;
mod schedules;
mod secrets;
mod signatures;
mod streams;
mod sync_schemas;
mod syncs;
mod timing;
mod user_fields;
mod wake;
mod words;

#[cfg(test)]
mod suite;

use std::sync::Arc;

use serde::Serialize;
use tideway_core::{Error, Result};

pub use bootstrap::{Bootstrap, Bootstrapped};
pub use calls::{SyncUsage, Usage};
pub use catalogs::{CatalogState, Catalogs};
pub use checkpoints::Checkpoints;
pub use connections::{Connection, ConnectionDraft, Connections, Health, RateLimit};
pub use entities::{Entities, Entity, EntityKind};
pub use events::{EVENT_KINDS, Event, EventFilter, Events};
pub use executions::{
    Cancel, Execution, ExecutionDraft, ExecutionFilter, ExecutionStatus, Executions, FetchMode,
    Latest, ResyncMode, SchemaExecution, Trigger,
};
pub use idempotency::{Begun, Idempotency, Request, StoredResponse, Ticket};
pub use jobs::{Job, JobStatus, Jobs};
pub use keyring::{KEY_FILE, Keyring};
pub use keys::{ApiKey, Keys};
pub use logs::{LogEntry, Logs, NewLogEntry};
pub use page::{Page, PageRequest};
pub use people::{Actor, ActorKind, Author, Organization, Organizations, User};
pub use prune::{Pruned, Retention};
pub use queue::{Claim, Lease, Queue, SchemaProgress};
pub use schedules::{Fired, Schedule, ScheduleDraft, Schedules};
pub use secrets::{Configuration, Rotation};
pub use streams::{Attachment, StreamState, Streams, SyncStream};
pub use sync_schemas::{FieldSelection, RowFilter, SyncSchema, SyncSchemas};
pub use syncs::{
    BulkSync, BulkSyncs, Discover, ErrorHandling, NormalizeNames, SyncDraft, SyncFilter, SyncName,
    SyncSettings,
};
pub use timing::{Frequency, RunAfter, ScheduleMode, SelectiveMode, Timing};
pub use user_fields::{KeyField, UserField};
pub use wake::Wake;

use db::{Db, values};

/// A handle to the metadata; clones share the same connections.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Db,
    keyring: Keyring,
    bell: wake::Bell,
}

macro_rules! handles {
    ($($(#[$about:meta])* $name:ident => $handle:ident),* $(,)?) => {
        impl Store {
            $($(#[$about])* pub fn $name(&self) -> $handle<'_> { $handle(self) })*
        }
    };
}

handles! {
    organizations => Organizations,
    keys => Keys,
    connections => Connections,
    /// What connections were found to hold.
    catalogs => Catalogs,
    bulk_syncs => BulkSyncs,
    sync_schemas => SyncSchemas,
    schedules => Schedules,
    executions => Executions,
    /// The worker's side of executions.
    queue => Queue,
    checkpoints => Checkpoints,
    /// Change streams at the sources.
    streams => Streams,
    logs => Logs,
    events => Events,
    jobs => Jobs,
    idempotency => Idempotency,
    entities => Entities,
}

impl Store {
    /// Opens `sqlite:///path` (made if missing) or `postgresql://…`, and brings it up to
    /// date. Fails with Config where the keyring is not the one of this database.
    pub async fn open(url: &str, keyring: Keyring) -> Result<Store> {
        let db = Db::open(url).await?;
        migrate::migrate(&db).await?;
        let bell = wake::Bell::hang(&db);
        let store = Store(Arc::new(Inner { db, keyring, bell }));
        store.check_keyring().await?;
        Ok(store)
    }

    /// The database answers.
    pub async fn ready(&self) -> Result<()> {
        self.db()
            .one("answer", "SELECT 1 AS answer", values![])
            .await
            .map(drop)
    }

    /// Ends all connections; calls that follow fail.
    pub async fn close(&self) {
        self.0.bell.silence();
        self.db().close().await;
    }

    /// `sqlite` or `postgresql`, for logs and diagnosis.
    pub fn kind(&self) -> &'static str {
        if self.db().is_postgres() {
            "postgresql"
        } else {
            "sqlite"
        }
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }
}

/// JSON as it is stored.
fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::bug("a record cannot be written as JSON").because(error))
}
