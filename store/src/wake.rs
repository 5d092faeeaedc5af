//! The hint that work was queued, so that workers need not ask often. It may get lost,
//! as when PostgreSQL restarts: workers also ask by themselves now and then.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgListener};
use tideway_core::Result;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time,
};

use crate::{
    Store,
    db::{Db, Tx, values},
};

const CHANNEL: &str = "tideway_work";
/// The pause after PostgreSQL hung up on the listener.
const REDIAL: Duration = Duration::from_secs(2);

/// Rings for every waiting worker. On PostgreSQL it rings in all processes.
pub(crate) struct Bell {
    rope: watch::Sender<()>,
    listener: Option<AbortHandle>,
}

impl Bell {
    pub fn hang(db: &Db) -> Bell {
        let (rope, _) = watch::channel(());
        let listener = match db {
            Db::Sqlite { .. } => None,
            Db::Postgres { pool } => {
                let task: JoinHandle<()> = tokio::spawn(listen(pool.clone(), rope.clone()));
                Some(task.abort_handle())
            }
        };
        Bell { rope, listener }
    }

    pub fn silence(&self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.silence();
    }
}

async fn listen(pool: PgPool, rope: watch::Sender<()>) {
    loop {
        match PgListener::connect_with(&pool).await {
            Ok(mut listener) => {
                if listener.listen(CHANNEL).await.is_ok() {
                    // Something may have been queued while nobody listened.
                    rope.send_replace(());
                    while listener.recv().await.is_ok() {
                        rope.send_replace(());
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot listen for queued work"),
        }
        if pool.is_closed() {
            return;
        }
        time::sleep(REDIAL).await;
    }
}

/// Waits for work, or a while.
pub struct Wake(watch::Receiver<()>);

impl Wake {
    /// Returns when something was queued since the last call, or after `patience`.
    pub async fn wait(&mut self, patience: Duration) {
        if let Ok(Err(_closed)) = time::timeout(patience, self.0.changed()).await {
            time::sleep(patience).await;
        }
    }
}

impl Store {
    /// To be called before the first look at the queue, so that nothing is missed.
    pub fn wake(&self) -> Wake {
        Wake(self.0.bell.rope.subscribe())
    }

    /// Tells the workers of this process; those of others hear [`announce`].
    pub(crate) fn ring(&self) {
        self.0.bell.rope.send_replace(());
    }
}

/// Makes the end of this transaction ring in the processes that listen.
pub(crate) async fn announce(tx: &mut Tx) -> Result<()> {
    if tx.is_postgres() {
        tx.all("SELECT pg_notify($1, '')::TEXT AS told", values![CHANNEL])
            .await?;
    }
    Ok(())
}
