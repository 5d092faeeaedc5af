//! Reading: one view for all tables of a run, held by several sessions; each table is cut into
//! ranges of its primary key, which are sent in the binary protocol.

mod activity;
pub mod column;
mod decimal;
pub mod decode;
pub mod keys;
pub mod plan;
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

use crate::{config::SourceOptions, connect::MySql, discover};
use snapshot::MySqlSnapshot;

#[async_trait]
impl Source for MySql {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        discover::discover(self, scope).await
    }

    async fn open(&self, options: &Value) -> Result<Arc<dyn Snapshot>> {
        if !options.is_null() {
            form::parse::<SourceOptions>(options)
                .map_err(|error| error.while_("source_configuration"))?;
        }
        Ok(Arc::new(MySqlSnapshot::open(self).await?))
    }
}
