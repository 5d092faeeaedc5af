//! Rows in flight.

use arrow_array::{Array, BooleanArray, RecordBatch, UInt8Array};

/// What happened to a row at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    Insert = 0,
    Update = 1,
    Delete = 2,
}

impl Op {
    /// The operation with this code.
    pub fn of(code: u8) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete]
            .into_iter()
            .find(|op| *op as u8 == code)
    }
}

/// The operation of each row of a batch.
#[derive(Debug, Clone)]
pub enum Ops {
    /// Rows of a scan: each is the row as it stands.
    Rows,
    /// Rows of a change stream, one [`Op`] code each, in the order they happened.
    Each(UInt8Array),
}

/// Something that had to be done to a value, told once per column and batch:
/// nothing is altered silently (invariant 7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub column: String,
    /// For people, the same words each time: `NaN stored as null`.
    pub what: String,
    pub rows: u64,
}

/// Rows of one table with their operations, sized in bytes rather than rows.
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: RecordBatch,
    pub ops: Ops,
    /// Values that a change leaves as they are and does not tell (PostgreSQL's unchanged
    /// TOAST): for a column's index the rows where it is so. Never null, as long as the
    /// batch; what `rows` holds there means nothing.
    pub kept: Vec<(usize, BooleanArray)>,
    pub notes: Vec<Note>,
}

impl Batch {
    pub fn of_rows(rows: RecordBatch) -> Self {
        Batch {
            rows,
            ops: Ops::Rows,
            kept: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn row_count(&self) -> usize {
        self.rows.num_rows()
    }

    /// Memory that the rows hold, which is what budgets count.
    pub fn byte_count(&self) -> usize {
        let ops = match &self.ops {
            Ops::Rows => 0,
            Ops::Each(codes) => codes.get_array_memory_size(),
        };
        let kept: usize = self
            .kept
            .iter()
            .map(|(_, rows)| rows.get_array_memory_size())
            .sum();
        self.rows.get_array_memory_size() + ops + kept
    }
}
