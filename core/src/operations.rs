//! The changes of a batch as a destination asks for them, row by row.

use crate::{Batch, Error, Op, Ops, Result};
use arrow_array::{Array, BooleanArray, UInt8Array};

/// The operations of a batch of changes, and which of its values stay as they are at the
/// destination.
pub struct Operations<'a> {
    codes: &'a UInt8Array,
    keeping: &'a [(usize, BooleanArray)],
    key: &'a [usize],
    columns: usize,
}

impl<'a> Operations<'a> {
    /// `key` are the indexes of the key columns.
    ///
    /// # Errors
    /// `Bug` where the batch is not made as its documentation says.
    pub fn of(batch: &'a Batch, key: &'a [usize]) -> Result<Operations<'a>> {
        let Ops::Each(codes) = &batch.ops else {
            return Err(Error::bug("rows of a scan arrived for a load of changes"));
        };
        let (rows, columns) = (batch.row_count(), batch.rows.num_columns());
        let known = codes.values().iter().all(|code| Op::of(*code).is_some());
        if codes.len() != rows || codes.null_count() > 0 || !known {
            return Err(Error::bug("a row of a change stream has no operation"));
        }
        let fits = |(column, array): &(usize, BooleanArray)| {
            let whole = array.len() == rows && array.null_count() == 0;
            whole && *column < columns && !key.contains(column)
        };
        if !batch.kept.iter().all(fits) {
            return Err(Error::bug("what changes keep does not fit their rows"));
        }
        Ok(Operations {
            codes,
            keeping: &batch.kept,
            key,
            columns,
        })
    }

    /// The code of the row's [`Op`].
    pub fn code(&self, row: usize) -> u8 {
        self.codes.value(row)
    }

    fn deletes(&self, row: usize) -> bool {
        self.code(row) == Op::Delete as u8
    }

    pub fn keeps(&self, row: usize, column: usize) -> bool {
        let mut keeping = self.keeping.iter();
        keeping.any(|(at, rows)| *at == column && rows.value(row))
    }

    /// Whether the row has no value of its own in this column.
    pub fn lacks(&self, row: usize, column: usize) -> bool {
        (self.deletes(row) && !self.key.contains(&column)) || self.keeps(row, column)
    }

    /// Whether the row keeps any value.
    pub fn keeps_some(&self, row: usize) -> bool {
        !self.deletes(row) && self.keeping.iter().any(|(_, rows)| rows.value(row))
    }

    /// A digit per column, `1` where the row keeps its value; nothing where it keeps none.
    pub fn kept(&self, row: usize) -> Option<String> {
        if !self.keeps_some(row) {
            return None;
        }
        let digit = |column| if self.keeps(row, column) { '1' } else { '0' };
        Some((0..self.columns).map(digit).collect())
    }
}
