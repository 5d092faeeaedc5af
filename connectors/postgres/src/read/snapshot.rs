//! The view of the database that all tables of a run are read through.

use std::{
    collections::HashMap,
    future::{Future, Ready},
    sync::{Arc, Mutex as StdMutex},
    time::Duration,
};

use async_trait::async_trait;
use tideway_core::{
    Error, Kind, Part, Payload, Result, TableId,
    payload::Format,
    source::{BatchStream, PayloadStream, Read, Scan, Snapshot},
    sums::Sums,
};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Row, SimpleQueryMessage};

use super::{
    activity::{READING, oldest_open, server_time},
    pass, plan,
    relation::Relation,
    stream,
};
use crate::{
    connect::{Postgres, Session, explain},
    sql::literal,
};

/// How long a session waits for a table that the holder has locked already.
const QUEUED: Duration = Duration::from_secs(5);
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// One consistent view. It lasts as long as its holder's transaction.
pub struct PostgresSnapshot {
    postgres: Postgres,
    /// Its transaction exports the view, and keeps tables from being dropped or rewritten
    /// once they are planned.
    pub holder: Steady,
    /// A view that is a little older, for marks: see [`super::tracking`].
    pub before: Before,
    /// By which other sessions take the view over.
    exported: String,
    /// Sessions that see the view and have nothing to do.
    idle: StdMutex<Vec<Session>>,
    relations: StdMutex<HashMap<TableId, Arc<Relation>>>,
}

/// A view from before all transactions that are not in the snapshot, but for the oldest.
pub struct Before {
    pub view: Steady,
    /// The server's time, microseconds since 1970.
    pub at: i64,
    /// Start of the oldest transaction that went on when the snapshot was taken.
    pub oldest_open: Option<i64>,
}

impl PostgresSnapshot {
    pub async fn open(postgres: &Postgres) -> Result<PostgresSnapshot> {
        let (snapshot, ()) = Self::open_as(postgres, None::<Ready<_>>).await?;
        Ok(snapshot)
    }

    /// The view that `export` names once it is awaited, with what comes along with it.
    pub async fn open_at<T: Default>(
        postgres: &Postgres,
        export: impl Future<Output = Result<(String, T)>> + Send,
    ) -> Result<(PostgresSnapshot, T)> {
        Self::open_as(postgres, Some(export)).await
    }

    async fn open_as<T: Default>(
        postgres: &Postgres,
        export: Option<impl Future<Output = Result<(String, T)>> + Send>,
    ) -> Result<(PostgresSnapshot, T)> {
        let before = reading_session(postgres).await?;
        before.run(BEGIN).await?;
        // The first statement takes the view, so the time is not before it.
        let at = server_time(&before).await?;
        let holder = reading_session(postgres).await?;
        let oldest_open = oldest_open(&holder, at).await?;
        let mut along = T::default();
        match export {
            None => holder.run(BEGIN).await?,
            Some(export) => {
                let (exported, came) = export.await?;
                along = came;
                holder.run(&take(&exported)).await?;
            }
        }
        let exported = holder
            .query_one("SELECT pg_catalog.pg_export_snapshot()", &[])
            .await;
        let exported = exported.and_then(|row| row.try_get(0)).map_err(explain)?;
        let snapshot = PostgresSnapshot {
            postgres: postgres.clone(),
            holder: Steady::new(holder).await?,
            before: Before {
                view: Steady::new(before).await?,
                at,
                oldest_open,
            },
            exported,
            idle: StdMutex::default(),
            relations: StdMutex::default(),
        };
        Ok((snapshot, along))
    }

    /// A session in a transaction that sees this view.
    pub async fn session(self: &Arc<Self>) -> Result<Lease> {
        let idle = self.idle().pop().filter(|session| !session.is_closed());
        let session = match idle {
            Some(session) => session,
            None => self.new_session().await?,
        };
        Ok(Lease {
            session: Some(session),
            snapshot: self.clone(),
        })
    }

    async fn new_session(&self) -> Result<Session> {
        let session = reading_session(&self.postgres).await?;
        let taken = session.run(&take(&self.exported)).await;
        taken.map_err(|error| match error.kind {
            Kind::Bug | Kind::Data | Kind::Conflict => {
                Error::unavailable("the snapshot was lost: the session that held it has ended")
            }
            _ => error,
        })?;
        Ok(session)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// The table as it is in this view.
    pub async fn relation(&self, id: &TableId) -> Result<Arc<Relation>> {
        let known = self.relations().get(id).cloned();
        if let Some(relation) = known {
            return Ok(relation);
        }
        let relation = Arc::new(Relation::find(&self.holder, id).await?);
        self.relations().insert(id.clone(), relation.clone());
        Ok(relation)
    }

    /// Whether the server knows what characters its texts are made of, so that all of them
    /// arrive as UTF-8.
    pub async fn encodes_text(&self) -> Result<bool> {
        let answer = self.holder.ask("SHOW server_encoding").await?;
        let encoding = answer.into_iter().next().flatten();
        Ok(encoding.is_some_and(|encoding| encoding != "SQL_ASCII"))
    }

    fn relations(&self) -> std::sync::MutexGuard<'_, HashMap<TableId, Arc<Relation>>> {
        self.relations
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// An error about a table, with its name, and the statement that grants what is missing.
    pub fn about(&self, table: &TableId, error: Error) -> Error {
        let role = &self.postgres.config.username;
        let error = match error.kind {
            Kind::Permission => error.hint(format!("GRANT SELECT ON {table} TO \"{role}\"")),
            Kind::Missing => error.hint("restore it, or switch it off in the sync"),
            _ => error,
        };
        error.while_(table)
    }
}

#[async_trait]
impl Snapshot for PostgresSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let planned = plan::plan(self, read).await;
        planned.map_err(|error| self.about(&read.table.id, error))
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        stream::read(self, read, part)
    }

    async fn formats(&self, read: &Read) -> Result<Vec<Format>> {
        let formats = pass::formats(self, read).await;
        formats.map_err(|error| self.about(&read.table.id, error))
    }

    fn read_as(self: Arc<Self>, read: Arc<Read>, part: Part, _: &Format) -> PayloadStream {
        stream::pass(self, read, part)
    }

    fn add_up(&self, format: &Format, payload: &Payload, sums: &mut Sums) -> Result<()> {
        pass::add_up(&payload.bytes, format.columns.len(), sums)
    }
}

/// Begins a transaction that sees a view that another session exported.
///
/// Whoever wants a table for himself alone waits for the view's holder, and all others wait
/// behind him: this session too, for as long as the holder stays. The server sees no deadlock
/// in that, so the wait has an end, and the table is read from another view.
fn take(exported: &str) -> String {
    format!(
        "{BEGIN}; SET LOCAL lock_timeout = '{}ms'; SET TRANSACTION SNAPSHOT {}",
        QUEUED.as_millis(),
        literal(exported)
    )
}

async fn reading_session(postgres: &Postgres) -> Result<Session> {
    let session = postgres.client().await?;
    session
        .run(&format!("SET application_name = {}", literal(READING)))
        .await?;
    Ok(session)
}

/// A session that reads one part. Unless it is given back, it is ended, in the middle of
/// whatever the server is sending.
pub struct Lease {
    session: Option<Session>,
    snapshot: Arc<PostgresSnapshot>,
}

impl Lease {
    pub fn session(&self) -> Result<&Session> {
        self.session
            .as_ref()
            .ok_or_else(|| Error::bug("the session was given back"))
    }

    pub fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.snapshot.idle().push(session);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            session.hang_up();
        }
    }
}

/// A transaction that outlives failing statements: each is behind a savepoint, and one
/// that failed, or that nobody waited for, is undone before the next.
pub struct Steady {
    /// The server's `server_version_num`.
    pub version: u32,
    guarded: Mutex<Guarded>,
}

struct Guarded {
    session: Session,
    undo: bool,
}

impl Steady {
    async fn new(session: Session) -> Result<Steady> {
        session.run("SAVEPOINT tideway").await?;
        Ok(Steady {
            version: session.version,
            guarded: Mutex::new(Guarded {
                session,
                undo: false,
            }),
        })
    }

    /// Runs statements; gives the last row's values, as text. Locks that they take are
    /// kept until the snapshot is dropped.
    pub async fn ask(&self, sql: &str) -> Result<Vec<Option<String>>> {
        let mut guarded = self.ready().await?;
        let answers = guarded.session.simple_query(sql).await;
        let last = answers
            .map_err(explain)?
            .into_iter()
            .rev()
            .find_map(|answer| match answer {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|at| row.get(at).map(str::to_owned))
                        .collect(),
                ),
                _ => None,
            });
        guarded.undo = false;
        Ok(last.unwrap_or_default())
    }

    /// As [`Steady::ask`], for one statement with parameters and typed rows.
    pub async fn rows(
        &self,
        sql: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let mut guarded = self.ready().await?;
        let rows = guarded
            .session
            .query(sql, parameters)
            .await
            .map_err(explain)?;
        guarded.undo = false;
        Ok(rows)
    }

    async fn ready(&self) -> Result<MutexGuard<'_, Guarded>> {
        let mut guarded = self.guarded.lock().await;
        let settle = if guarded.undo {
            "ROLLBACK TO SAVEPOINT tideway; "
        } else {
            ""
        };
        // Until the statement is known to have passed, it is one to be undone.
        guarded.undo = true;
        guarded
            .session
            .run(&format!(
                "{settle}RELEASE SAVEPOINT tideway; SAVEPOINT tideway"
            ))
            .await?;
        Ok(guarded)
    }
}
