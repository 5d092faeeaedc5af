//! The stream's place in the log: a logical replication slot.

use std::time::Duration;

use tideway_core::{Error, Kind, Result};
use tokio::time::{Instant, sleep};

use super::position::Lsn;
use crate::{
    connect::{Replication, Session, explain},
    sql::{ident, literal},
};

/// Every slot that we make reads through this plugin, which every server has.
const PLUGIN: &str = "pgoutput";
/// For transactions that were open when a slot is made: it waits for their end.
const PATIENCE: Duration = Duration::from_secs(300);
/// For the session that read from a slot before, to be gone.
pub const HANDOVER: Duration = Duration::from_secs(10);

/// A slot as the server shows it.
#[derive(Debug, Clone)]
pub struct Slot {
    pub name: String,
    plugin: Option<String>,
    here: bool,
    pub active_pid: Option<i32>,
    /// Up to where its reader is done.
    pub confirmed: Lsn,
    /// From where on the log is kept.
    pub restart: Option<Lsn>,
    pub wal_status: Option<String>,
    pub safe_wal_size: Option<i64>,
    invalidated: Option<String>,
}

impl Slot {
    /// Newer attributes are looked up as JSON, for older servers lack them.
    pub async fn find(session: &Session, name: &str) -> Result<Option<Slot>> {
        const FIND: &str = "\
            SELECT s.plugin::pg_catalog.text, s.active_pid, \
              s.database = pg_catalog.current_database() AND s.slot_type = 'logical' AS here, \
              s.confirmed_flush_lsn::pg_catalog.text, s.restart_lsn::pg_catalog.text, \
              pg_catalog.to_jsonb(s) ->> 'wal_status', \
              (pg_catalog.to_jsonb(s) ->> 'safe_wal_size')::pg_catalog.int8, \
              COALESCE(pg_catalog.to_jsonb(s) ->> 'invalidation_reason', \
                CASE WHEN pg_catalog.to_jsonb(s) ->> 'conflicting' = 'true' THEN 'conflict' END) \
            FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1";
        let row = session.query_opt(FIND, &[&name]).await.map_err(explain)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let slot = || -> Result<Slot, tokio_postgres::Error> {
            let (confirmed, restart): (Option<&str>, Option<&str>) =
                (row.try_get(3)?, row.try_get(4)?);
            Ok(Slot {
                name: name.to_owned(),
                plugin: row.try_get(0)?,
                active_pid: row.try_get(1)?,
                here: row.try_get::<_, Option<bool>>(2)?.unwrap_or_default(),
                confirmed: confirmed.and_then(Lsn::parse).unwrap_or_default(),
                restart: restart.and_then(Lsn::parse),
                wal_status: row.try_get(5)?,
                safe_wal_size: row.try_get(6)?,
                invalidated: row.try_get(7)?,
            })
        };
        slot().map(Some).map_err(explain)
    }

    /// Makes one; gives where it begins.
    pub async fn create(session: &Session, name: &str) -> Result<Lsn> {
        let timeout = PATIENCE.as_millis();
        session
            .run(&format!("SET statement_timeout = {timeout}"))
            .await?;
        let made = session
            .query_one(
                "SELECT lsn::pg_catalog.text FROM \
                 pg_catalog.pg_create_logical_replication_slot($1, $2)",
                &[&name, &PLUGIN],
            )
            .await
            .map_err(explain);
        session.run("SET statement_timeout = 0").await?;
        let row = made.map_err(|error| unmade(error, name))?;
        let lsn: &str = row.try_get(0).map_err(explain)?;
        Lsn::parse(lsn).ok_or_else(|| Error::bug("the server writes a position in another way"))
    }

    /// Refuses a slot that something else was made for.
    pub fn check_ours(&self) -> Result<()> {
        let what = if !self.here {
            "is not a logical slot of this database"
        } else if self.plugin.as_deref() != Some(PLUGIN) {
            "was not made for pgoutput"
        } else {
            return Ok(());
        };
        Err(
            Error::config(format!("replication slot {} {what}", self.name))
                .field("replication_slot")
                .hint("name another slot, or none: one is made then"),
        )
    }

    /// Why nothing can be read from it any more.
    pub fn lost(&self) -> Option<String> {
        let name = &self.name;
        match (self.invalidated.as_deref(), self.wal_status.as_deref()) {
            (Some("wal_removed") | None, Some("lost")) => Some(format!(
                "replication slot {name} was lost: it kept more log than max_slot_wal_keep_size allows"
            )),
            (Some(reason), _) => Some(format!(
                "replication slot {name} was lost: the server invalidated it ({reason})"
            )),
            (None, _) => None,
        }
    }

    /// Moves the slot on without reading from it. What is behind it already stays so.
    pub async fn advance(session: &Session, name: &str, to: Lsn) -> Result<()> {
        let statement = format!(
            "SELECT pg_catalog.pg_replication_slot_advance({}, {})",
            literal(name),
            literal(&to.to_string())
        );
        let deadline = Instant::now() + HANDOVER;
        loop {
            let slot = Slot::existing(session, name).await?;
            if slot.confirmed >= to {
                return Ok(());
            }
            match session.run(&statement).await {
                Err(error) if error.kind == Kind::Conflict && Instant::now() < deadline => {}
                outcome => return outcome,
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing reads from the slot, and gives it.
    ///
    /// # Errors
    /// `Drift` where it is gone or lost, `Unavailable` where another session keeps it.
    pub async fn free(session: &Session, name: &str) -> Result<Slot> {
        let deadline = Instant::now() + HANDOVER;
        loop {
            let slot = Slot::existing(session, name).await?;
            let Some(pid) = slot.active_pid else {
                return Ok(slot);
            };
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "replication slot {name} is read by another session (process {pid})"
                ))
                .hint("end the other session, or wait until the server notices that it is gone (wal_sender_timeout)"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn existing(session: &Session, name: &str) -> Result<Slot> {
        let found = Slot::find(session, name).await?;
        let slot = found.ok_or_else(|| Error::drift(format!("replication slot {name} is gone")))?;
        match slot.lost() {
            Some(lost) => Err(Error::drift(lost)),
            None => Ok(slot),
        }
    }

    /// Drops the slot if it is there, the session that reads from it first.
    pub async fn drop(session: &Session, name: &str) -> Result<()> {
        const END_READER: &str = "\
            SELECT pg_catalog.pg_terminate_backend(active_pid) \
            FROM pg_catalog.pg_replication_slots \
            WHERE slot_name = $1 AND active_pid IS NOT NULL";
        let deadline = Instant::now() + HANDOVER;
        let statement = format!(
            "SELECT pg_catalog.pg_drop_replication_slot({})",
            literal(name)
        );
        while Slot::find(session, name).await?.is_some() {
            session
                .execute(END_READER, &[&name])
                .await
                .map_err(explain)?;
            match session.run(&statement).await {
                Ok(()) => return Ok(()),
                // In use still, or gone already.
                Err(_) if Instant::now() < deadline => {}
                Err(error) => return Err(error.while_(format!("replication slot {name}"))),
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Makes a slot for as long as the session lasts. Gives the name of a snapshot that shows
/// what committed before the slot begins, and where that is. The snapshot can be taken over
/// until the session's next command.
pub async fn export(session: &mut Replication, name: &str) -> Result<(String, Lsn)> {
    let command = format!(
        "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL {PLUGIN} EXPORT_SNAPSHOT",
        ident(name)
    );
    let made = tokio::time::timeout(PATIENCE, session.ask(&command)).await;
    let rows = made.unwrap_or_else(|_| Err(Error::timeout("")));
    let rows = rows.map_err(|error| unmade(error, name))?;
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter();
    let (begin, snapshot) = (row.nth(1).flatten(), row.next().flatten());
    let begin = begin.as_deref().and_then(Lsn::parse);
    match (begin, snapshot) {
        (Some(begin), Some(snapshot)) => Ok((snapshot, begin)),
        _ => Err(Error::bug("the server tells of a new slot in another way")),
    }
}

fn unmade(error: Error, name: &str) -> Error {
    let error = match error.kind {
        Kind::Timeout => Error::timeout("transactions that were open did not end in time")
            .hint("end transactions that are open for long (pg_stat_activity), prepared ones too"),
        Kind::RateLimited { .. } | Kind::Unavailable => {
            error.hint("drop slots that nobody reads from, or raise max_replication_slots")
        }
        Kind::Permission => error.hint("ALTER ROLE … REPLICATION"),
        _ => error,
    };
    error.while_(format!("making replication slot {name}"))
}
