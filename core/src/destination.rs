//! The bulk destination role: tables that are loaded part by part and change hands
//! in one step.
//!
//! A load goes `begin` → any number of lanes, each `write`, `write`, `commit(part)` →
//! `finish`. Rows land in a staging place first; `finish` merges, swaps or appends
//! them in one atomic step where the system has one, so readers never see half a
//! load (invariant 3). Every step may be repeated after a crash: `begin` with the
//! same load id finds what has landed, `finish` of a finished load changes nothing.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    Batch, Column, Error, Note, Payload, Result,
    history::{VALID_FROM, VALID_TO},
    payload::Format,
    sums::{Sums, Verification},
};

/// The table to be written, in the destination's names.
#[derive(Debug, Clone)]
pub struct TargetTable {
    pub namespace: Option<String>,
    pub name: String,
    /// Data columns only; the system columns of [`Stamps`] come on top.
    pub columns: Vec<Column>,
    /// Names of the key columns among `columns`; empty where there is no key.
    pub key: Vec<String>,
    /// The column by which the destination partitions the table, where it can.
    pub partition_key: Option<String>,
    /// The table beside it that keeps its history ([`crate::history`]), where one is kept.
    pub history: Option<String>,
}

/// How rows become the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Add the rows to those that are there.
    Append,
    /// The rows are the table.
    Replace,
    /// Insert, or update by key. With `complete`, the rows are all that the source
    /// holds, and keys that are not among them are handled by `deletes`.
    Merge { complete: bool, deletes: Deletes },
    /// The rows are changes, each with its operation ([`crate::Ops::Each`]), told apart by
    /// key. Within a part each key occurs once. `finish` applies the parts in the order of
    /// their ids, all in one step: inserts and updates put the row as it is now whether or
    /// not it is there, but for the values that it keeps ([`Batch::kept`]). With `complete`,
    /// the source emptied its table before these changes: in the same step keys that are in
    /// none of them are handled by `deletes`. Counts are those of the parts, one after the
    /// other; a delete of a key that is not there counts as nothing.
    Changes { complete: bool, deletes: Deletes },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// Set [`DELETED_AT`]; a key that comes back is cleared again.
    Soft,
    Hard,
}

/// What becomes of rows that were there before the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    Retain,
    /// Emptied in the same step as the new rows appear; the table itself, its
    /// grants and the views on it stay.
    Truncate,
    /// Dropped and made anew.
    Rebuild,
}

/// System columns. `DELETED_AT` exists wherever deletes are soft; the other two
/// unless `disable_record_timestamps`. All are timestamps with zone.
pub const DELETED_AT: &str = "_polytomic_deleted_at";
pub const CREATED_AT: &str = "_polytomic_created_at";
pub const UPDATED_AT: &str = "_polytomic_updated_at";

/// Names that no column of the source can have at a destination, the system columns of
/// [`crate::history`] among them.
pub const SYSTEM_COLUMNS: [&str; 5] = [DELETED_AT, CREATED_AT, UPDATED_AT, VALID_FROM, VALID_TO];

#[derive(Debug, Clone)]
pub struct Load {
    /// The same for every attempt of one execution at one table; fit for use in
    /// identifiers and file names (lower-case letters, digits, at most 32 bytes).
    pub id: String,
    pub target: TargetTable,
    pub write: Write,
    pub disposition: Disposition,
    /// Keep [`CREATED_AT`] and [`UPDATED_AT`].
    pub record_timestamps: bool,
    /// Empty and refill the existing table instead of swapping in a new one, so
    /// that views on it and grants survive (`advanced.truncate_existing`).
    pub truncate_existing: bool,
    /// Parts of an earlier attempt may be kept; otherwise what was staged under
    /// this id is thrown away first.
    pub resume: bool,
    /// Finished loads that nobody will ask for any more. That they were finished may be
    /// forgotten in the last step of this one, so that streams leave no trail of loads.
    pub forgets: Vec<String>,
    /// The sync's `destination_configuration`.
    pub options: Value,
}

impl Load {
    /// Whether rows for whose key nothing was staged stay as they are.
    pub fn touches_staged_rows_only(&self) -> bool {
        let partial = matches!(
            self.write,
            Write::Merge {
                complete: false,
                ..
            } | Write::Changes {
                complete: false,
                ..
            }
        );
        partial && self.disposition == Disposition::Retain
    }

    /// How rows are handled for whose key nothing was staged; `None` where they stay.
    pub fn vanished(&self) -> Option<Deletes> {
        match self.write {
            Write::Merge { complete, deletes } | Write::Changes { complete, deletes } => {
                complete.then_some(deletes)
            }
            Write::Append | Write::Replace => None,
        }
    }

    /// The system columns that the load keeps up, in the order in which they stand.
    pub fn system_columns(&self) -> Vec<&'static str> {
        let soft = matches!(
            self.write,
            Write::Merge {
                deletes: Deletes::Soft,
                ..
            } | Write::Changes {
                deletes: Deletes::Soft,
                ..
            }
        );
        let mut names = Vec::new();
        names.extend(soft.then_some(DELETED_AT));
        if self.record_timestamps {
            names.extend([CREATED_AT, UPDATED_AT]);
        }
        names
    }
}

/// A change made to the target so that the load fits, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaChange(pub String);

/// The answer to a write: the destination has taken the rows over, but they may
/// still be lost until the part is committed.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    pub notes: Vec<Note>,
}

/// The answer to a commit: the part survives a crash of either side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durable {
    pub rows: u64,
}

/// What a finished load did to the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Rows that arrived and were there already, value for value.
    pub unchanged: u64,
    /// What had to be done to values that could not be told before the last step.
    pub notes: Vec<Note>,
    /// Another attempt had finished this load before.
    pub repeated: bool,
    /// Where the rows are now, for people (`schema.table`, a path).
    pub place: String,
    /// What the engine found out about the rows before this step; `None` where nobody asked.
    pub verified: Option<Verification>,
}

/// How staged rows are read back.
#[derive(Debug, Clone, Copy)]
pub struct ReadBack<'a> {
    /// The form in which they came and are added up ([`crate::source::Snapshot::add_up`]);
    /// `None`: as batches, of the columns that [`crate::sums::is_compared`] by their types
    /// in the load and that the load [`TableLoad::tells_apart`].
    pub format: Option<&'a Format>,
    /// How many sessions may read at once.
    pub lanes: usize,
    /// Aim for batches of this many bytes.
    pub batch_bytes: usize,
}

#[async_trait]
pub trait Destination: Send + Sync {
    /// Brings the target's columns up to date (adding, widening; never dropping)
    /// and opens the staging place.
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>>;

    /// Removes what an earlier attempt staged under the load's id, and tells whether it had
    /// finished: then nothing of it is undone. That attempt may not know that it is over, and
    /// be in its last step: either it finishes and is seen to, or it cannot finish any more.
    async fn withdraw(&self, load: Load) -> Result<bool> {
        let load = self
            .begin(Load {
                resume: true,
                ..load
            })
            .await?;
        match load.finished() {
            true => load.finish().await.map(drop)?,
            false => load.abandon().await?,
        }
        Ok(load.finished())
    }
}

#[async_trait]
pub trait TableLoad: Send + Sync {
    /// What `begin` had to change.
    fn schema_changes(&self) -> &[SchemaChange];

    /// Ids of the parts that an earlier attempt has made durable.
    fn landed(&self) -> &BTreeSet<String>;

    /// This very load was finished by an earlier attempt.
    fn finished(&self) -> bool;

    /// Whether lanes take rows in this form as they are, with the same outcome as batches
    /// of the same rows.
    fn takes(&self, _format: &Format) -> bool {
        false
    }

    async fn lane(&self) -> Result<Box<dyn Lane>>;

    /// Whether what is staged of a column shows which values it was given; otherwise the
    /// column is left out of what is added up as batches.
    fn tells_apart(&self, _column: &Column) -> bool {
        true
    }

    /// Reads what has been staged and adds it up, once all parts have landed and before
    /// `finish`; nothing is altered. `None` where the system cannot be read back.
    ///
    /// # Errors
    /// `Data` and `Drift` where what is staged is none of what could have been written;
    /// all others mean that nothing is known of it.
    async fn read_back(&self, _how: &ReadBack<'_>) -> Result<Option<Sums>> {
        Ok(None)
    }

    /// Turns what was staged into the table, in one step.
    async fn finish(&self) -> Result<Outcome>;

    /// Removes what was staged. The table itself is as it was before.
    async fn abandon(&self) -> Result<()>;
}

#[async_trait]
pub trait Lane: Send {
    async fn write(&mut self, batch: Batch) -> Result<Accepted>;

    /// As [`Lane::write`], in a form that the load takes.
    async fn write_payload(&mut self, _payload: Payload) -> Result<Accepted> {
        Err(Error::bug("rows came in a form that was not agreed on"))
    }

    /// Makes everything written since the last commit durable under the part's id,
    /// all or nothing.
    async fn commit(&mut self, part_id: &str) -> Result<Durable>;
}
