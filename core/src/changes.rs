//! The change-stream role: following a database's log from a snapshot onwards.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Batch, Position, Result, TableId, schema::Table, source::Snapshot};

/// One thing that a change stream says. A barrier covers everything before it.
pub enum Change {
    Rows {
        table: TableId,
        batch: Batch,
    },
    /// The table looks like this from here on.
    Schema(Table),
    Truncate(TableId),
    /// A transaction ended or the log was idle: a place where a checkpoint may stand.
    Barrier(Position),
}

/// How far behind the stream is, and how much longer the log is kept.
#[derive(Debug, Clone, Default)]
pub struct Lag {
    pub bytes: Option<u64>,
    pub seconds: Option<f64>,
    pub retained_bytes: Option<u64>,
    /// Bytes that may still be written before the log is cut off under us.
    pub headroom_bytes: Option<u64>,
}

/// Where the stream begins, with a snapshot that shows the rows exactly there.
pub struct Anchor {
    pub position: Position,
    pub snapshot: std::sync::Arc<dyn Snapshot>,
}

#[async_trait]
pub trait Changes: Send + Sync {
    async fn anchor(&self, tables: &[TableId]) -> Result<Anchor>;
    fn follow(&self, from: Position) -> BoxStream<'static, Result<Change>>;
    /// Lets the source forget everything up to `through`; called only after the
    /// destination has made it durable (invariant 1).
    async fn confirm(&self, through: &Position) -> Result<()>;
    async fn lag(&self) -> Result<Lag>;
    /// Gives up the place in the log. Calling it twice is not an error.
    async fn release(&self) -> Result<()>;
}
