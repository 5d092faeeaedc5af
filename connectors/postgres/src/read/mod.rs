//! The source role.

mod column;
mod decode;
mod interval;
mod numeric;
use std::sync::Arc;
use async_trait::async_trait;
use serde_json::Value;
use tideway_core::{Catalog, Error, Result, source::{Scope, Snapshot, Source}};
use crate::connect::Postgres;

#[async_trait]
impl Source for Postgres {
    async fn discover(&self, _scope: &Scope) -> Result<Catalog> {
        Ok(Catalog::default())
    }
    async fn open(&self, _options: &Value) -> Result<Arc<dyn Snapshot>> {
        Err(Error::bug("stub"))
    }
}
