//! What the rows of a load add up to, so that what was read can be compared with what is
//! staged at the destination: whole rows by one sum, the cells of each column by another, in
//! any order. Where whole rows differ, the columns tell which values are not the same.

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    LogicalType, Result,
    digest::{Cells, Digest},
};

/// Rows added up. Those of one side and of the other have to be in the same form: Arrow
/// batches by their values, undecoded rows by their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    pub rows: Digest,
    /// By the column's place; 64 bits modulo 2⁶⁴.
    pub columns: Vec<u64>,
}

/// Whether values of this type are added up in batches. Documents and intervals are not: what
/// two systems print of the same one may differ in ways that are no harm.
pub fn is_compared(logical: LogicalType) -> bool {
    !matches!(logical, LogicalType::Json | LogicalType::Interval)
}

/// Whether a value of one type that is kept as a value of a wider one
/// ([`LogicalType::widest`]) is added up as the same.
pub fn is_same_kept_as(logical: LogicalType, wider: LogicalType) -> bool {
    use LogicalType as L;
    let is_number = |logical| {
        matches!(
            logical,
            L::Int16
                | L::Int32
                | L::Int64
                | L::UInt64
                | L::Float32
                | L::Float64
                | L::Decimal { .. }
                | L::Numeric
        )
    };
    logical == wider
        || (is_number(logical) && is_number(wider))
        || matches!(
            (logical, wider),
            (L::Date, L::Timestamp) | (L::Uuid | L::Text, L::Text)
        )
}

impl Sums {
    /// Of no rows yet, which have so many columns.
    pub fn new(columns: usize) -> Sums {
        Sums {
            rows: Digest::default(),
            columns: vec![0; columns],
        }
    }

    /// One cell, with whatever marks it off from the next.
    #[inline]
    pub fn add_cell(&mut self, column: usize, bytes: &[u8]) {
        if let Some(sum) = self.columns.get_mut(column) {
            *sum = sum.wrapping_add(xxh3_64(bytes));
        }
    }

    /// One row, all its cells together.
    #[inline]
    pub fn add_row(&mut self, bytes: &[u8]) {
        self.rows += Digest::of_row(bytes);
    }

    /// The rows of a batch, of whose columns those without a type are left out.
    ///
    /// # Errors
    /// `Bug` where a column is not there or is carried by another Arrow type.
    pub fn add_batch(&mut self, rows: &RecordBatch, types: &[Option<LogicalType>]) -> Result<()> {
        let places = types.iter().enumerate();
        let compared: Vec<(usize, LogicalType)> = places
            .filter_map(|(at, logical)| Some((at, (*logical)?)))
            .collect();
        let cells = Cells::new(rows, compared.iter().copied())?;
        let mut buffer = Vec::new();
        for row in 0..rows.num_rows() {
            buffer.clear();
            for (cell, (column, _)) in compared.iter().enumerate() {
                let begun = buffer.len();
                cells.row(row, [cell], &mut buffer);
                self.add_cell(*column, buffer.get(begun..).unwrap_or_default());
            }
            self.add_row(&buffer);
        }
        Ok(())
    }

    /// The same rows, of so many columns, where the columns that were added up stand at
    /// `places` and nothing is known of the others.
    pub fn spread(&self, places: &[usize], columns: usize) -> Sums {
        let mut spread = Sums {
            rows: self.rows,
            ..Sums::new(columns)
        };
        for (sum, at) in self.columns.iter().zip(places) {
            if let Some(place) = spread.columns.get_mut(*at) {
                *place = *sum;
            }
        }
        spread
    }

    /// More rows of the same columns.
    pub fn join(&mut self, more: &Sums) {
        self.rows += more.rows;
        for (sum, more) in self.columns.iter_mut().zip(&more.columns) {
            *sum = sum.wrapping_add(*more);
        }
    }

    /// Places of the columns whose cells are not the same.
    pub fn differing(&self, other: &Sums) -> Vec<usize> {
        let pairs = self.columns.iter().zip(&other.columns).enumerate();
        pairs
            .filter(|(_, (one, other))| one != other)
            .map(|(at, _)| at)
            .collect()
    }
}

/// Whether what a load staged was what had been read, as found before it was put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Verification {
    Verified {
        /// How many rows there are, on both sides.
        row_count: u64,
        /// Their sum, in hex.
        checksum: String,
        /// Columns that were not compared: types that are printed in several ways, values
        /// that were altered by a policy.
        columns_left_out: Vec<String>,
        /// How long the reading back took.
        milliseconds: u64,
    },
    /// The load went on all the same.
    NotVerified { reason: String },
}

impl std::fmt::Display for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verification::Verified {
                row_count,
                checksum,
                columns_left_out,
                milliseconds,
            } => {
                write!(
                    f,
                    "verified: {row_count} rows, checksum {checksum}, in {milliseconds} ms"
                )?;
                match columns_left_out.as_slice() {
                    [] => Ok(()),
                    left_out => write!(f, ", without {}", left_out.join(", ")),
                }
            }
            Verification::NotVerified { reason } => write!(f, "not verified: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    const TYPES: [Option<LogicalType>; 2] = [Some(LogicalType::Int64), Some(LogicalType::Text)];

    fn sums(rows: &[(i64, Option<&str>)]) -> Sums {
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
        ]);
        let (numbers, texts): (Vec<i64>, Vec<Option<&str>>) = rows.iter().copied().unzip();
        let columns: Vec<Arc<dyn arrow_array::Array>> = vec![
            Arc::new(Int64Array::from(numbers)),
            Arc::new(StringArray::from(texts)),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let mut sums = Sums::new(2);
        sums.add_batch(&batch, &TYPES).unwrap();
        sums
    }

    #[test]
    fn rows_agree_in_any_order_and_in_any_pieces() {
        let mut pieces = sums(&[(2, None)]);
        pieces.join(&sums(&[(1, Some("a"))]));
        assert_eq!(pieces, sums(&[(1, Some("a")), (2, None)]));
    }

    #[test]
    fn differing_columns_are_named_and_values_in_another_row_are_found() {
        let right = sums(&[(1, Some("a")), (2, None)]);
        let altered = sums(&[(1, Some("")), (2, None)]);
        assert_eq!(right.differing(&altered), [1]);
        let exchanged = sums(&[(1, None), (2, Some("a"))]);
        assert_eq!(right.differing(&exchanged), [0; 0]);
        assert_ne!(right.rows, exchanged.rows);
        assert_ne!(right, sums(&[(1, Some("a")), (2, None), (2, None)]));
    }
}
