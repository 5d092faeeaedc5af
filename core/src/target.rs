//! The model-sync target role: records written one by one into business apps and
//! tables, found by an identity, each with an outcome of its own.

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::{Column, Result};

/// An object that records can be written to, with what each field allows.
#[derive(Debug, Clone)]
pub struct TargetObject {
    pub id: String,
    pub name: String,
    pub modes: Vec<RecordMode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordMode {
    Create,
    Update,
    UpdateOrCreate,
    Replace,
    Append,
    Remove,
    Snapshot,
}

#[derive(Debug, Clone)]
pub struct TargetField {
    pub column: Column,
    pub createable: bool,
    pub updateable: bool,
    pub required: bool,
    /// Comparisons by which a record can be found through this field.
    pub identity_functions: Vec<Identity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Equality,
    ISubstring,
    OneOf,
    DomainMatch,
    HostnameMatch,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOutcome {
    Inserted {
        remote_id: Option<String>,
    },
    Updated {
        remote_id: Option<String>,
    },
    Deleted,
    /// Not written and why; goes to the error log of the execution.
    Rejected {
        reason: String,
        retry: bool,
    },
}

#[async_trait]
pub trait Target: Send + Sync {
    async fn objects(&self) -> Result<Vec<TargetObject>>;
    async fn fields(&self, object: &str) -> Result<Vec<TargetField>>;

    /// For each row of `keys` the ids of the records that match it by `identity`.
    async fn lookup(
        &self,
        object: &str,
        identity: Identity,
        keys: &RecordBatch,
    ) -> Result<Vec<Vec<String>>>;

    /// One outcome per row, in order. An `Err` means that nothing is known of the
    /// batch: the target was not reached.
    async fn write(
        &self,
        object: &str,
        mode: RecordMode,
        records: &RecordBatch,
    ) -> Result<Vec<RecordOutcome>>;
}
