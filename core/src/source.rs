//! The bulk source role: consistent scans of whole tables, cut into parts.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future, stream::BoxStream};
use serde_json::Value;

use crate::{
    Batch, Catalog, Column, Cursor, Error, Part, Payload, Result, Table, WriteMode,
    payload::Format, sums::Sums,
};

/// Rows of one part, each batch about [`Read::batch_bytes`] large. Dropping the
/// stream stops the reading.
pub type BatchStream = BoxStream<'static, Result<Batch>>;

/// The same rows in a form other than Arrow.
pub type PayloadStream = BoxStream<'static, Result<Payload>>;

/// What to discover. `None` means everything that the account may see.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only these namespaces.
    pub namespaces: Option<Vec<String>>,
    /// Only these tables, by id.
    pub tables: Option<Vec<String>>,
}

/// A request to read one table.
#[derive(Debug, Clone)]
pub struct Read {
    pub table: Table,
    /// The columns wanted, in this order; a subset of the table's.
    pub columns: Vec<Column>,
    /// Read by this tracking field, from where the cursor stands.
    pub tracking: Option<Tracking>,
    /// How the rows will be written (append keeps boundary hashes).
    pub mode: WriteMode,
    /// At most this many rows in all (test runs).
    pub limit: Option<u64>,
    /// Aim for batches of this many bytes. A single larger row still passes.
    pub batch_bytes: usize,
    /// How many parts would keep all lanes busy.
    pub lanes: usize,
}

#[derive(Debug, Clone)]
pub struct Tracking {
    pub column: String,
    /// `None` on the first run: everything is read and the cursor begins.
    pub cursor: Option<Cursor>,
}

/// How a table will be read.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Largest first. An empty table has one part too, so that its load finishes.
    pub parts: Vec<Part>,
    pub row_estimate: Option<u64>,
    pub byte_estimate: Option<u64>,
    /// Where the next run goes on, if this one is carried through.
    pub cursor: Option<Cursor>,
}

#[async_trait]
pub trait Source: Send + Sync {
    async fn discover(&self, scope: &Scope) -> Result<Catalog>;

    /// A view of the source that does not change while it is held; all tables of a
    /// run are read through one. `options` is the sync's `source_configuration`.
    async fn open(&self, options: &Value) -> Result<Arc<dyn Snapshot>>;
}

#[async_trait]
pub trait Snapshot: Send + Sync {
    async fn plan(&self, read: &Read) -> Result<Scan>;

    /// Called from several lanes at once, once per part.
    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream;

    /// Forms other than Arrow in which these very rows can be had, the best one first, every
    /// value as it is at the source.
    async fn formats(&self, _read: &Read) -> Result<Vec<Format>> {
        Ok(Vec::new())
    }

    /// As [`Snapshot::read`], in one of the formats that it offers.
    fn read_as(self: Arc<Self>, _: Arc<Read>, _: Part, format: &Format) -> PayloadStream {
        let error = Error::bug(format!("rows cannot be read as {}", format.name));
        future::ready(Err(error)).into_stream().boxed()
    }

    /// Adds rows in one of these formats up, by their bytes.
    fn add_up(&self, format: &Format, _: &Payload, _: &mut Sums) -> Result<()> {
        Err(Error::bug(format!("nobody adds up {}", format.name)))
    }
}
