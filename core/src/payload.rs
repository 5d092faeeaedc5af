//! Rows in a form that source and destination share, carried without being looked into.
//!
//! Arrow batches are the form that everyone speaks. Where both sides know another one, rows
//! need not be decoded and encoded again: the source says in which [`Format`]s it can give a
//! table's rows ([`crate::source::Snapshot::formats`]), the destination whether it takes one
//! of them as it is ([`crate::destination::TableLoad::takes`]), and the engine lets them pass
//! where nothing has to be done to the rows on their way. Either side may refuse for reasons
//! of its own; then the rows travel as batches.

use bytes::Bytes;

/// A form of rows, with everything that has to agree for bytes to mean the same to both.
///
/// Two formats that are equal are the same form. Columns go by position: what they are called
/// on either side is no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Fixed by whoever defines the form, and no other's: `postgresql-copy`.
    pub name: &'static str,
    /// What each column's bytes are, in the form's own words.
    pub columns: Vec<String>,
}

/// Whole rows in a form that was agreed on. How large one is, is the source's choice.
#[derive(Clone)]
pub struct Payload {
    pub bytes: Bytes,
    /// How many rows these are: what has been read is compared with what became durable.
    pub row_count: u64,
}

impl Payload {
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }
}

/// Values do not belong into logs.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload")
            .field("bytes", &self.bytes.len())
            .field("row_count", &self.row_count)
            .finish()
    }
}
