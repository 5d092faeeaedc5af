//! The view of the server that all tables of a run are read through.
//!
//! A view cannot be handed from one session to another. So as many sessions as will read are
//! opened first, and all of them begin their transactions while a read lock keeps everybody
//! from committing: that takes milliseconds, and then all see the same. An account that may
//! not lock the server reads through one session.

mod anchor;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex},
};

use async_trait::async_trait;
use tideway_core::{
    Error, Kind, Part, Result, TableId,
    source::{BatchStream, Read, Scan, Snapshot},
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::{
    activity::{oldest_open, server_time},
    plan, stream,
};
use crate::{
    changes::Place,
    connect::{LANES, MySql, Session},
    discover::{Described, describe},
    sql::qualified,
};

/// `READ ONLY` keeps us out of the list of those who might write.
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// While we wait for the lock, everybody who writes queues up behind us.
const LOCK_SECONDS: u32 = 3;

/// One consistent view. It lasts as long as the transactions of its sessions.
pub struct MySqlSnapshot {
    mysql: MySql,
    pool: Pool,
    /// A view that is a little older, for marks: see [`super::tracking`].
    pub before: Before,
    tables: StdMutex<HashMap<TableId, Arc<Described>>>,
}

/// A view from before all transactions that are not in the snapshot, but for the oldest.
pub struct Before {
    pub view: Mutex<Session>,
    /// The server's time, microseconds since 1970.
    pub at: i64,
    /// Start of the oldest transaction that went on when the snapshot was taken.
    pub oldest_open: Option<i64>,
}

impl Before {
    /// Looks, and gives the session that looked too.
    async fn look(mysql: &MySql) -> Result<(Before, Session)> {
        let mut before = mysql.session().await?;
        before.run(BEGIN).await?;
        let at = server_time(&mut before).await?;
        let mut first = mysql.session().await?;
        let oldest_open = oldest_open(&mut first, at).await?;
        let before = Before {
            view: Mutex::new(before),
            at,
            oldest_open,
        };
        Ok((before, first))
    }
}

/// Sessions that see the view.
struct Pool {
    idle: StdMutex<Vec<Session>>,
    free: Arc<Semaphore>,
    /// How many there are, idle or not.
    alive: StdMutex<usize>,
}

impl MySqlSnapshot {
    pub async fn open(mysql: &MySql) -> Result<MySqlSnapshot> {
        let (before, first) = Before::look(mysql).await?;
        let sessions = begin_together(mysql, first).await?;
        Ok(MySqlSnapshot::of(mysql, before, sessions))
    }

    /// A view of the tables as of exactly the place in the binary log that comes with it, and
    /// with the transactions up to there.
    ///
    /// # Errors
    /// `Permission` where the account may lock neither the server nor the tables,
    /// `Timeout` where others hold them for too long.
    pub async fn open_at(
        mysql: &MySql,
        tables: &[TableId],
    ) -> Result<(MySqlSnapshot, Place, Option<String>)> {
        let (before, first) = Before::look(mysql).await?;
        let (sessions, place, gtid) = anchor::begin_at(mysql, first, tables).await?;
        Ok((MySqlSnapshot::of(mysql, before, sessions), place, gtid))
    }

    fn of(mysql: &MySql, before: Before, sessions: Vec<Session>) -> MySqlSnapshot {
        MySqlSnapshot {
            mysql: mysql.clone(),
            pool: Pool {
                free: Arc::new(Semaphore::new(sessions.len())),
                alive: StdMutex::new(sessions.len()),
                idle: StdMutex::new(sessions),
            },
            before,
            tables: StdMutex::default(),
        }
    }

    /// A session that sees this view, once one is free.
    pub async fn session(self: &Arc<Self>) -> Result<Lease> {
        let (session, permit) = self.pool.take().await?;
        Ok(Lease {
            session: Some(session),
            permit: Some(permit),
            snapshot: self.clone(),
        })
    }

    /// Runs something that leaves its session as it was, in this view.
    pub async fn with<T>(&self, work: impl AsyncFnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let (mut session, permit) = self.pool.take().await?;
        let result = work(&mut session).await;
        if session.settled() {
            self.pool.give_back(session, permit);
        } else {
            self.pool.lose(permit);
        }
        result
    }

    /// The table as it is now.
    pub async fn table(&self, id: &TableId) -> Result<Arc<Described>> {
        let known = self.tables().get(id).cloned();
        if let Some(table) = known {
            return Ok(table);
        }
        let database = id.namespace.as_deref().unwrap_or_default();
        let found = self
            .with(async |session: &mut Session| describe(session, database, &id.name).await)
            .await?;
        let found = found.ok_or_else(|| {
            Error::missing("it is not there any more, or the account may not see it")
        })?;
        let found = Arc::new(found);
        self.tables().insert(id.clone(), found.clone());
        Ok(found)
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, HashMap<TableId, Arc<Described>>> {
        self.tables
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// An error about a table, with its name, and the statement that grants what is missing.
    pub fn about(&self, table: &TableId, error: Error) -> Error {
        let account = &self.mysql.config.account;
        let database = table.namespace.as_deref().unwrap_or_default();
        let error = match error.kind {
            Kind::Permission => error.hint(format!(
                "GRANT SELECT ON {} TO '{account}'@'%'",
                qualified(database, &table.name)
            )),
            Kind::Missing => error.hint("restore it, or switch it off in the sync"),
            _ => error,
        };
        error.while_(table)
    }
}

/// As many sessions as will read besides the first. A server that has no room for more is
/// read with fewer.
async fn others(mysql: &MySql) -> Vec<Session> {
    let others = (1..LANES).map(|_| mysql.session());
    let others = futures::future::join_all(others).await;
    others.into_iter().filter_map(Result::ok).collect()
}

/// Sessions whose views are one.
async fn begin_together(mysql: &MySql, mut first: Session) -> Result<Vec<Session>> {
    let mut sessions = others(mysql).await;
    if !sessions.is_empty() {
        first
            .run(&format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS}"))
            .await?;
        if let Err(error) = first.run("FLUSH TABLES WITH READ LOCK").await {
            tracing::info!(%error, "one session reads: the server cannot be locked for an instant");
            sessions.clear();
        }
        first.run("SET SESSION lock_wait_timeout = 120").await?;
    }
    let all = std::iter::once(&mut first).chain(&mut sessions);
    let begun = futures::future::try_join_all(all.map(|session| session.run(BEGIN))).await;
    // Whatever has happened, nobody waits for us any longer.
    let unlocked = first.run("UNLOCK TABLES").await;
    begun?;
    unlocked?;
    sessions.push(first);
    Ok(sessions)
}

impl Pool {
    async fn take(&self) -> Result<(Session, OwnedSemaphorePermit)> {
        let permit = self.free.clone().acquire_owned().await;
        let permit = permit.map_err(|_| lost())?;
        let session = self.idle().pop().ok_or_else(lost)?;
        Ok((session, permit))
    }

    fn give_back(&self, session: Session, permit: OwnedSemaphorePermit) {
        self.idle().push(session);
        drop(permit);
    }

    /// A session is gone, and with it its part in the view.
    fn lose(&self, permit: OwnedSemaphorePermit) {
        permit.forget();
        let mut alive = self
            .alive
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        *alive = alive.saturating_sub(1);
        if *alive == 0 {
            self.free.close();
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

fn lost() -> Error {
    Error::unavailable("the snapshot was lost: the sessions that held it have ended")
}

#[async_trait]
impl Snapshot for MySqlSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let planned = plan::plan(self, read).await;
        planned.map_err(|error| self.about(&read.table.id, error))
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        stream::read(self, read, part)
    }
}

/// A session that reads one part. Unless it is given back, it is ended, in the middle of
/// whatever the server is sending.
pub struct Lease {
    session: Option<Session>,
    permit: Option<OwnedSemaphorePermit>,
    snapshot: Arc<MySqlSnapshot>,
}

impl Lease {
    pub fn session(&mut self) -> Result<&mut Session> {
        self.session
            .as_mut()
            .ok_or_else(|| Error::bug("the session was given back"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (Some(session), Some(permit)) = (self.session.take(), self.permit.take()) else {
            return;
        };
        if session.settled() {
            self.snapshot.pool.give_back(session, permit);
        } else {
            self.snapshot.pool.lose(permit);
        }
    }
}
