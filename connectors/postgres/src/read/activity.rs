//! Transactions that were open when a snapshot was taken. What they commit later carries
//! tracking values from before the snapshot, so the next run must not begin after them.

use std::{collections::HashSet, time::Duration};

use tideway_core::{Error, Result};

use crate::{
    connect::{Session, explain},
    sql::literal,
};

/// `application_name` of sessions that hold or read a snapshot. They never write, so
/// nothing waits for them.
pub const READING: &str = "tideway reading";

/// Most transactions end within milliseconds: waiting that long for them lets the next
/// run begin where this one ends.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A transaction that has written nothing for so long is taken for a reader. The same
/// time is assumed where the server does not tell when a transaction began (other
/// roles' ones without `pg_read_all_stats`, a primary's seen from a standby).
const LONGEST_SILENCE_MICROS: i64 = 3_600_000_000;

/// Every transaction holds a lock on its own virtual number, which all roles may see.
const OPEN: &str = "\
SELECT l.pid || ' ' || l.virtualtransaction, \
  (EXTRACT(epoch FROM a.xact_start) * 1000000)::pg_catalog.int8, \
  EXISTS (SELECT FROM pg_catalog.pg_locks x WHERE x.pid = l.pid \
    AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock' AND x.granted) \
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted \
  AND l.virtualxid = l.virtualtransaction \
  AND a.datname = pg_catalog.current_database() AND a.usesysid IS NOT NULL \
  AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name <> ";

/// When a prepared transaction began is not kept, only when it was prepared.
const PREPARED: &str = "\
SELECT pg_catalog.pg_is_in_recovery(), \
  (EXTRACT(epoch FROM pg_catalog.min(prepared)) * 1000000)::pg_catalog.int8 \
FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()";

struct Open {
    /// Process and virtual number: never the same for two transactions.
    id: String,
    started_at: Option<i64>,
    has_written: bool,
}

/// Waits a moment for the transactions that are open now. Gives the start of the oldest
/// that goes on, in microseconds since 1970 on the server's clock; `None` where all that
/// began before now have ended. `now` is the server's time at or before the call.
pub async fn oldest_open(session: &Session, now: i64) -> Result<Option<i64>> {
    let (standby, prepared_at) = prepared(session).await?;
    let assumed = now.saturating_sub(LONGEST_SILENCE_MICROS);
    if standby {
        return Ok(Some(assumed));
    }
    let prepared = prepared_at.map(|at| at.saturating_sub(LONGEST_SILENCE_MICROS));
    let remaining = wait_for_all(session).await?;
    let started = remaining.iter().filter_map(|open| match open.started_at {
        None => Some(assumed),
        Some(at) if open.has_written || at >= assumed => Some(at),
        Some(_) => None,
    });
    let oldest = started.chain(prepared).min();
    if let Some(at) = oldest.filter(|at| *at < assumed) {
        let minutes = (now - at) / 60_000_000;
        tracing::warn!(
            minutes,
            "a transaction has been open for long; rows are read again from before it"
        );
    }
    Ok(oldest)
}

/// Those open now that are still open after a while.
async fn wait_for_all(session: &Session) -> Result<Vec<Open>> {
    let mut remaining = open(session).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !remaining.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(PAUSE).await;
        let first: HashSet<String> = remaining.into_iter().map(|open| open.id).collect();
        remaining = open(session).await?;
        remaining.retain(|open| first.contains(&open.id));
    }
    Ok(remaining)
}

async fn open(session: &Session) -> Result<Vec<Open>> {
    let statement = format!("{OPEN}{}", literal(READING));
    let rows = session.query(&statement, &[]).await.map_err(explain)?;
    let open = rows.iter().map(|row| {
        Ok(Open {
            id: row.try_get(0)?,
            started_at: row.try_get(1)?,
            has_written: row.try_get(2)?,
        })
    });
    let open: Result<Vec<Open>, tokio_postgres::Error> = open.collect();
    open.map_err(explain)
}

async fn prepared(session: &Session) -> Result<(bool, Option<i64>)> {
    let row = session.query_one(PREPARED, &[]).await.map_err(explain)?;
    let standby = row.try_get(0).map_err(explain)?;
    let prepared_at = row.try_get(1).map_err(explain)?;
    Ok((standby, prepared_at))
}

/// The server's time in microseconds since 1970.
pub async fn server_time(session: &Session) -> Result<i64> {
    let row = session
        .query_one(
            "SELECT (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8",
            &[],
        )
        .await
        .map_err(explain)?;
    row.try_get(0)
        .map_err(|error| Error::bug(format!("the server's time: {error}")))
}
