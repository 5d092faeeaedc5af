//! Where checkpoints live. The server keeps them in the metadata store, guarded by the
//! fence of the worker's lease; `tideway copy` keeps them in memory.

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;
use tideway_core::{Checkpoint, Result};

#[async_trait]
pub trait Ledger: Send + Sync {
    async fn load(&self, schema_id: &str) -> Result<Checkpoint>;

    /// Fails with [`tideway_core::Kind::Fenced`] once another worker owns the run.
    async fn save(&self, schema_id: &str, checkpoint: &Checkpoint) -> Result<()>;
}

#[derive(Default)]
pub struct MemoryLedger(Mutex<HashMap<String, Checkpoint>>);

#[async_trait]
impl Ledger for MemoryLedger {
    async fn load(&self, schema_id: &str) -> Result<Checkpoint> {
        let kept = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        Ok(kept.get(schema_id).cloned().unwrap_or_default())
    }

    async fn save(&self, schema_id: &str, checkpoint: &Checkpoint) -> Result<()> {
        let mut kept = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        kept.insert(schema_id.to_owned(), checkpoint.clone());
        Ok(())
    }
}
