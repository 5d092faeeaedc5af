//! Waiting for locks: long enough for a report to end, never in the way of others for
//! long, and with the name of whoever is in the way.

use std::time::{Duration, Instant};

use tideway_core::{Error, Kind, Result};
use tokio_postgres::{Client, GenericClient, Row, Transaction};

use crate::connect::explain;

use super::ddl::{Place, cell};

/// All in all.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 120 });
/// While we wait for an exclusive lock, everybody else queues up behind us; so we step
/// back now and then to let them through.
const TURN: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
const PAUSE: Duration = Duration::from_millis(500);

/// Gives up statements of this transaction that wait too long for a lock.
pub async fn limit_waiting(transaction: &Transaction<'_>) -> Result<()> {
    set_timeout(transaction, PATIENCE).await
}

async fn set_timeout(transaction: &Transaction<'_>, time: Duration) -> Result<()> {
    let sql = format!("SET LOCAL lock_timeout = {}", time.as_millis());
    transaction.batch_execute(&sql).await.map_err(explain)
}

/// Waits until no other load of this table is in its last step, and keeps others out
/// until the transaction ends.
pub async fn take_turn(transaction: &Transaction<'_>, place: &Place) -> Result<()> {
    let key = turn_key(transaction, place).await?;
    let lock = transaction.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&key]);
    lock.await.map(|_| ()).map_err(explain)
}

async fn turn_key<C: GenericClient>(client: &C, place: &Place) -> Result<i64> {
    const HASH: &str = "SELECT pg_catalog.hashtextextended($1, 0)";
    let name = format!("tideway {}", place.sql());
    let row = client.query_one(HASH, &[&name]).await.map_err(explain)?;
    cell(&row, 0)
}

/// Locks the table against everybody until the transaction ends.
pub async fn lock_table(transaction: &mut Transaction<'_>, place: &Place) -> Result<()> {
    let started = Instant::now();
    let sql = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", place.sql());
    set_timeout(transaction, TURN).await?;
    loop {
        let turn = transaction.transaction().await.map_err(explain)?;
        match turn.batch_execute(&sql).await {
            Ok(()) => {
                turn.commit().await.map_err(explain)?;
                return limit_waiting(transaction).await;
            }
            Err(error) if is_timeout(&error) && started.elapsed() + TURN < PATIENCE => {
                turn.rollback().await.map_err(explain)?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(explain(error)),
        }
    }
}

fn is_timeout(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "55P03")
}

/// Another load's turn, or any lock on the table.
const HOLDERS: &str = "\
SELECT l.pid, a.usename::text, a.application_name FROM pg_catalog.pg_locks l \
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
WHERE l.granted AND l.pid IS NOT NULL AND l.pid <> pg_catalog.pg_backend_pid() \
AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
AND (l.locktype = 'advisory' AND l.objsubid = 1 \
AND ((l.classid::bigint << 32) | l.objid::bigint) = $1 \
OR l.locktype = 'relation' AND l.relation = (SELECT c.oid FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $2 AND c.relname = $3)) \
ORDER BY l.locktype, a.xact_start LIMIT 1";

/// The error with the name of whoever holds what was waited for in vain. Comes after the
/// transaction was rolled back, so whoever it was may be gone.
pub async fn name_blocker(client: &Client, place: &Place, error: Error) -> Error {
    if error.kind != Kind::Timeout {
        return error;
    }
    let Ok(Some((pid, name))) = holder(client, place).await else {
        return error.while_(place);
    };
    Error::timeout(format!("{place} is locked by {name}")).hint(format!(
        "wait until that session is done, or end it: SELECT pg_terminate_backend({pid})"
    ))
}

async fn holder(client: &Client, place: &Place) -> Result<Option<(i32, String)>> {
    let key = turn_key(client, place).await?;
    let found = client.query_opt(HOLDERS, &[&key, &place.schema, &place.name]);
    let found = found.await.map_err(explain)?;
    found.as_ref().map(described).transpose()
}

fn described(row: &Row) -> Result<(i32, String)> {
    let pid: i32 = cell(row, 0)?;
    let role: Option<String> = cell(row, 1)?;
    let application: Option<String> = cell(row, 2)?;
    let role = role.unwrap_or_else(|| "unknown".to_owned());
    let name = match application.filter(|application| !application.is_empty()) {
        Some(application) => format!("session {pid} of role {role} ({application})"),
        None => format!("session {pid} of role {role}"),
    };
    Ok((pid, name))
}
