//! Roles that answer questions: a query in the system's own language, and the
//! enrichment of rows by an outside service.

use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::{Column, Result, source::BatchStream};

/// Limits that the system must keep, or the query fails.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    pub rows: Option<u64>,
    pub time: Duration,
    /// Refuse anything that could write.
    pub read_only: bool,
}

#[async_trait]
pub trait Query: Send + Sync {
    /// The columns that the query would give, without running it.
    async fn describe(&self, query: &str) -> Result<Vec<Column>>;
    async fn run(&self, query: &str, limits: &QueryLimits) -> Result<BatchStream>;
}

#[async_trait]
pub trait Enrich: Send + Sync {
    /// Alternative sets of input fields, each sufficient alone.
    async fn inputs(&self) -> Result<Vec<Vec<Column>>>;
    async fn outputs(&self) -> Result<Vec<Column>>;
    /// As many rows as came in, in the same order; unknown ones are null.
    async fn enrich(&self, rows: &RecordBatch) -> Result<RecordBatch>;
}
