//! Transactions that are alike whatever the role's or the database's own settings are.

use tideway_core::Result;
use tokio_postgres::{IsolationLevel, Transaction};

use crate::connect::{Session, explain};

use super::lock;

/// What is committed must survive a crash of the server (invariant 1). Stricter settings
/// are left alone.
const DURABLE: &str = "SELECT pg_catalog.set_config('synchronous_commit', 'on', true) \
    WHERE pg_catalog.current_setting('synchronous_commit') = 'off'";

/// Begins a transaction in which each statement sees what others have committed by then.
pub async fn begin(session: &mut Session) -> Result<Transaction<'_>> {
    let transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .start()
        .await
        .map_err(explain)?;
    let settings = format!("{DURABLE}; {}", lock::limit());
    transaction
        .batch_execute(&settings)
        .await
        .map_err(explain)?;
    Ok(transaction)
}

/// The same for a session that is kept beside what runs in its transaction.
pub async fn begin_by_hand(session: &Session) -> Result<()> {
    let limit = lock::limit();
    session
        .run(&format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {DURABLE}; {limit}"
        ))
        .await
}
