//! Reading: one snapshot for all tables of a run, each cut into ranges of pages that are
//! copied out in binary form, every range through a session that sees the same snapshot.

mod activity;
pub mod column;
pub mod decode;
mod interval;
mod numeric;
pub mod pass;
mod plan;
mod relation;
pub mod snapshot;
mod stream;
mod tracking;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tideway_core::{
    Catalog, Result, form,
    source::{Scope, Snapshot, Source},
};

use crate::{config::SourceOptions, connect::Postgres, discover};
use snapshot::PostgresSnapshot;

#[async_trait]
impl Source for Postgres {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        let session = self.client().await?;
        let catalog = discover::discover(&session, scope).await?;
        self.keep(session);
        Ok(catalog)
    }

    async fn open(&self, options: &Value) -> Result<Arc<dyn Snapshot>> {
        if !options.is_null() {
            form::parse::<SourceOptions>(options)
                .map_err(|error| error.while_("source_configuration"))?;
        }
        Ok(Arc::new(PostgresSnapshot::open(self).await?))
    }
}
