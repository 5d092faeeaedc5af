//! Waiting for others: long enough for a report to end, never in their way for long.

use std::time::{Duration, Instant};

use tideway_core::{Error, Kind, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::ddl::Place;
use crate::{connect::Session, sql::literal};

/// All in all.
const PATIENCE: Duration = Duration::from_secs(120);
/// While we wait for a table, everybody else queues up behind us; so we step back now and then
/// to let them through.
const TURN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);

fn turn(place: &Place) -> String {
    // Names of locks have 64 characters at most and know no case.
    let name = format!("tideway_{:016x}", xxh3_64(place.to_string().as_bytes()));
    literal(&name)
}

/// Waits until no other load of this table is in its first or last step, and keeps others out
/// until [`give_up_turn`], or until the session ends.
pub async fn take_turn(session: &mut Session, place: &Place) -> Result<()> {
    let sql = format!("SELECT GET_LOCK({}, {})", turn(place), PATIENCE.as_secs());
    match session.value(&sql).await?.as_deref() {
        Some("1") => Ok(()),
        _ => Err(
            Error::timeout(format!("another load of {place} does not come to its end"))
                .hint("look for a session that holds a lock whose name begins with tideway_"),
        ),
    }
}

pub async fn give_up_turn(session: &mut Session, place: &Place) -> Result<()> {
    let sql = format!("DO RELEASE_LOCK({})", turn(place));
    session.run(&sql).await.map(|_| ())
}

/// Runs a statement that needs the table for itself.
pub async fn alone(session: &mut Session, place: &Place, sql: &str) -> Result<()> {
    let started = Instant::now();
    let wait = async |session: &mut Session, time: Duration| {
        let sql = format!("SET SESSION lock_wait_timeout = {}", time.as_secs());
        session.run(&sql).await
    };
    wait(session, TURN).await?;
    let outcome = loop {
        match session.run(sql).await {
            Err(error) if error.kind == Kind::Timeout && started.elapsed() + TURN < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            outcome => break outcome,
        }
    };
    if session.settled() {
        wait(session, PATIENCE).await?;
    }
    outcome.map(|_| ()).map_err(|error| match error.kind {
        Kind::Timeout => error.while_(format!("{place} is in use")).hint(
            "wait until whoever uses the table is done, or end that session (SHOW PROCESSLIST)",
        ),
        _ => error.while_(place),
    })
}
