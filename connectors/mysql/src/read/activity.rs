//! Transactions that were open when a snapshot was taken. What they commit later carries
//! tracking values from before the snapshot, so the next run must not begin after them.

use std::{collections::HashSet, time::Duration};

use tideway_core::{Error, Result};

use crate::{
    connect::{Session, sees_transactions},
    discover::text,
};

/// Most transactions end within milliseconds: waiting that long for them lets the next run
/// begin where this one ends.
const PATIENCE: Duration = Duration::from_secs(1);
/// The server's list of transactions is a copy, made anew when nobody has looked at it for a
/// tenth of a second.
const PAUSE: Duration = Duration::from_millis(130);

/// A transaction that has written nothing for so long is taken for a reader. The same time is
/// assumed where the account may not see the transactions of others.
const LONGEST_SILENCE_MICROS: i64 = 3_600_000_000;

/// Transactions that may write, and statements that go on: one that waits for a lock has its
/// `NOW()` already and is no transaction yet. Times of the first list are in the server's own
/// zone. The last column says whether something was written for certain.
const OPEN: &str = "\
SELECT CONCAT('t', trx_mysql_thread_id, ' ', trx_started), \
TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6)), trx_rows_modified > 0 \
FROM information_schema.INNODB_TRX \
WHERE trx_is_read_only = 0 AND trx_mysql_thread_id <> CONNECTION_ID() \
UNION ALL SELECT CONCAT('s', ID, ' ', CRC32(INFO), ' ', UNIX_TIMESTAMP() - TIME), \
(TIME + 1) * 1000000, 1 FROM information_schema.PROCESSLIST \
WHERE COMMAND IN ('Query', 'Execute') AND ID <> CONNECTION_ID() AND TIME >= 0 \
AND INFO IS NOT NULL AND INFO NOT LIKE 'SELECT%' AND INFO NOT LIKE '(SELECT%'";

struct Open {
    /// Never the same for two transactions or statements.
    id: String,
    age: i64,
    has_written: bool,
}

/// Waits a moment for the transactions that are open now. Gives the start of the oldest that
/// goes on, in microseconds since 1970 on the server's clock; `None` where all that began
/// before now have ended. `now` is the server's time at or before the call.
pub async fn oldest_open(session: &mut Session, now: i64) -> Result<Option<i64>> {
    let assumed = now.saturating_sub(LONGEST_SILENCE_MICROS);
    if !sees_transactions(session).await? {
        return Ok(Some(assumed));
    }
    session.run("SET time_zone = 'SYSTEM'").await?;
    let remaining = wait_for_all(session).await?;
    session.run("SET time_zone = '+00:00'").await?;
    let now = server_time(session).await?;
    let started = remaining
        .iter()
        .filter(|open| open.has_written || open.age <= LONGEST_SILENCE_MICROS)
        .map(|open| now.saturating_sub(open.age));
    let oldest = started.min();
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
async fn wait_for_all(session: &mut Session) -> Result<Vec<Open>> {
    tokio::time::sleep(PAUSE).await;
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

async fn open(session: &mut Session) -> Result<Vec<Open>> {
    let rows = session.rows(OPEN).await?;
    let open = rows.iter().map(|row| Open {
        id: text(row, 0),
        age: text(row, 1).parse().unwrap_or(LONGEST_SILENCE_MICROS),
        has_written: text(row, 2) != "0",
    });
    Ok(open.collect())
}

/// The server's time in microseconds since 1970.
pub async fn server_time(session: &mut Session) -> Result<i64> {
    let time = session
        .value("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))")
        .await?;
    time.and_then(|time| time.parse().ok())
        .ok_or_else(|| Error::bug("the server does not tell its time"))
}
