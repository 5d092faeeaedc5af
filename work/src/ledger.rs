//! The engine's checkpoints in the metadata store, guarded by the lease.

use async_trait::async_trait;
use tideway_core::{Checkpoint, Result};
use tideway_engine::Ledger;
use tideway_store::{Lease, Store};

pub struct StoreLedger {
    pub store: Store,
    pub lease: Lease,
}

#[async_trait]
impl Ledger for StoreLedger {
    async fn load(&self, schema_id: &str) -> Result<Checkpoint> {
        let kept = self
            .store
            .checkpoints()
            .load(self.lease.sync_id, schema_id)
            .await?;
        Ok(kept.unwrap_or_default())
    }

    async fn save(&self, schema_id: &str, checkpoint: &Checkpoint) -> Result<()> {
        self.store
            .checkpoints()
            .save(&self.lease, schema_id, checkpoint)
            .await
    }
}
