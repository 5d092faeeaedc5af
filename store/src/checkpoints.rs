//! How far each table of a sync has been read. Written by whoever holds the lease, and
//! only after the destination has made the rows durable (invariant 1).

use tideway_core::{Checkpoint, Error, Result, checkpoint::CHECKPOINT_VERSION};
use uuid::Uuid;

use crate::{Lease, Store, clock, db::values, queue};

pub struct Checkpoints<'a>(pub(crate) &'a Store);

impl Checkpoints<'_> {
    /// None before the first one was saved.
    pub async fn load(&self, sync: Uuid, schema_id: &str) -> Result<Option<Checkpoint>> {
        let sql = "SELECT version, state FROM checkpoints WHERE sync_id = $1 AND schema_id = $2";
        let Some(row) = self.0.db().maybe(sql, values![sync, schema_id]).await? else {
            return Ok(None);
        };
        let version = row.int("version")?;
        if version > i64::from(CHECKPOINT_VERSION) {
            return Err(Error::config(format!(
                "the checkpoint of {schema_id} was written by a newer release (version {version})"
            ))
            .hint("run it with that release or a newer one"));
        }
        row.json("state").map(Some)
    }

    /// Tables of the sync with a place in its change stream.
    pub async fn streamed(&self, sync: Uuid) -> Result<Vec<String>> {
        let sql = "SELECT schema_id, state FROM checkpoints WHERE sync_id = $1 ORDER BY schema_id";
        let mut streamed = Vec::new();
        for row in self.0.db().all(sql, values![sync]).await? {
            let checkpoint: Checkpoint = row.json("state")?;
            if checkpoint.stream.is_some() {
                streamed.push(row.text("schema_id")?);
            }
        }
        Ok(streamed)
    }

    /// Fails with Fenced once the lease is lost.
    pub async fn save(
        &self,
        lease: &Lease,
        schema_id: &str,
        checkpoint: &Checkpoint,
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        queue::guard(&mut tx, lease).await?;
        tx.execute(
            "INSERT INTO checkpoints (sync_id, schema_id, version, state, updated_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (sync_id, schema_id) DO UPDATE SET version = excluded.version,
               state = excluded.state, updated_at = excluded.updated_at",
            values![
                lease.sync_id,
                schema_id,
                i64::from(checkpoint.v),
                crate::json(checkpoint)?,
                clock::now()
            ],
        )
        .await?;
        tx.commit().await
    }

    /// The table begins anew.
    pub async fn forget(&self, lease: &Lease, schema_id: &str) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        queue::guard(&mut tx, lease).await?;
        let sql = "DELETE FROM checkpoints WHERE sync_id = $1 AND schema_id = $2";
        tx.execute(sql, values![lease.sync_id, schema_id]).await?;
        tx.commit().await
    }
}
