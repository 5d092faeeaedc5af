//! The change-stream role: following a database's log from a snapshot onwards.
//!
//! A stream belongs to one sync. `attach` makes its place in the log, or finds it;
//! `snapshot` shows the rows exactly as of a position; `follow` tells all that happened
//! after. A table is read from a snapshot once and followed from the snapshot's position,
//! so snapshot and stream meet without a gap and without an overlap. Every table has a
//! position of its own: what the destination has made durable for it. The source may
//! forget what lies before the lowest of them (invariant 1), and is told so by `confirm`.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;

use crate::{Batch, Column, Position, Result, TableId, schema::Table, source::Snapshot};

/// One thing that a change stream says.
pub enum Change {
    /// Changes of one table in the order they happened, each row with its operation
    /// ([`crate::Ops::Each`]), in exactly the columns that were asked for. An update that
    /// changes the key is a delete of the old key and an insert of the new one. Of a
    /// deleted row only the key columns need a value.
    Rows { table: TableId, batch: Batch },
    /// The table no longer looks as it was asked for (columns came, went or changed their
    /// type, or it was dropped: `None`). Nothing more is told of it in this stream.
    Reshaped {
        table: TableId,
        now: Option<Table>,
        /// The rows that were there before changed too, without being told one by one
        /// (a new column with a default, a changed type): only a new snapshot shows them.
        rewritten: bool,
    },
    /// All rows of the table are gone.
    Truncate(TableId),
    /// The table's changes cannot be told, for a reason of its own (a value that cannot be
    /// read, a right that was taken away). Nothing more is told of it in this stream; the
    /// other tables go on.
    Failed { table: TableId, error: crate::Error },
    /// Everything up to here has been told: a place where a checkpoint may stand. Comes
    /// between transactions only, also when the log moved without touching our tables.
    Barrier {
        position: Position,
        /// When the last transaction before it was committed, in microseconds since 1970
        /// on the source's clock; `None` where nothing was told since the last barrier.
        committed_at: Option<i64>,
    },
}

/// The stream of a sync.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The sync's id; what the source makes for the stream (slot, publication) is named
    /// after it.
    pub id: String,
    /// The sync's `source_configuration`.
    pub options: Value,
    /// Every table that the sync streams.
    pub tables: Vec<TableId>,
}

/// What [`Changes::attach`] found.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The earliest position from which the stream can be followed.
    pub position: Position,
    /// The place in the log was made just now, or had been lost and was made anew (with
    /// the reason): tables whose position is older have a gap and need a new snapshot.
    pub fresh: Option<String>,
    /// Where others could take a table out of what the log is read for and put it back,
    /// without a word in the log: what its membership is known by now. Where it was another
    /// when the table was read, the table has a gap.
    pub marks: HashMap<TableId, String>,
    /// Tables that cannot be streamed as they are, each with what to do about it.
    pub refused: Vec<(TableId, crate::Error)>,
}

/// A view of the rows as of exactly `position`.
pub struct Anchor {
    pub position: Position,
    pub snapshot: Arc<dyn Snapshot>,
}

/// What to follow.
#[derive(Debug, Clone)]
pub struct Follow {
    pub tables: Vec<Followed>,
    /// End with a barrier at or after this position; `None`: go on until dropped.
    pub until: Option<Position>,
    /// Aim for batches of this many bytes over all tables together.
    pub batch_bytes: usize,
}

/// One table of a stream.
#[derive(Debug, Clone)]
pub struct Followed {
    pub table: Table,
    /// The columns wanted, in this order; a subset of the table's.
    pub columns: Vec<Column>,
    /// The columns by which rows are told apart, all among `columns`.
    pub key: Vec<String>,
    /// Only what happened after this is told.
    pub from: Position,
}

/// How far behind the stream is, and how much longer the log is kept.
#[derive(Debug, Clone, Default)]
pub struct Lag {
    /// The end of the log now.
    pub end: Option<Position>,
    pub bytes: Option<u64>,
    pub retained_bytes: Option<u64>,
    /// Bytes that may still be written before the log is cut off under us.
    pub headroom_bytes: Option<u64>,
    /// Why the log may be lost, or has been, in words for people.
    pub warning: Option<String>,
}

#[async_trait]
pub trait Changes: Send + Sync {
    /// Makes the stream's place in the log, or finds it, and checks each table.
    ///
    /// # Errors
    /// `Config` or `Permission` where the server is not set up for it, with what to do.
    async fn attach(&self, stream: &Stream) -> Result<Attached>;

    /// Names the stream's place in the log among all there are: where the server is, and what
    /// is made there. Settings that change it leave the old place behind, to be released.
    fn place(&self, stream: &Stream) -> Result<String> {
        Ok(stream.id.clone())
    }

    /// A snapshot with exactly its position in the stream, to read tables that have none.
    /// Ends when it is dropped; a run that lost it takes another one.
    async fn snapshot(&self, stream: &Stream) -> Result<Anchor>;

    /// Follows the log from the lowest `from` on.
    fn follow(&self, stream: &Stream, follow: Follow) -> BoxStream<'static, Result<Change>>;

    /// Where two positions of this source stand to each other.
    fn compare(&self, left: &Position, right: &Position) -> Ordering;

    /// The end of the log at this moment.
    async fn end(&self) -> Result<Position>;

    /// Lets the source forget everything up to `through`; called only after the
    /// destination has made it durable (invariant 1). May be called while `follow` runs.
    async fn confirm(&self, stream: &Stream, through: &Position) -> Result<()>;

    async fn lag(&self, stream: &Stream, reached: &Position) -> Result<Lag>;

    /// Gives up the place in the log and removes what was made for it. Calling it twice is
    /// not an error.
    async fn release(&self, stream: &Stream) -> Result<()>;
}
