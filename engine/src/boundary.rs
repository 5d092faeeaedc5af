//! Keeps append from storing a row twice.
//!
//! An incremental read begins at the last value seen, inclusive, and sometimes before it
//! (see [`tideway_core::Cursor`]): rows with that value may have come since. Merging
//! makes the overlap harmless. Appending needs to know which rows of the overlap are
//! at the destination already: their hashes are kept with the cursor, as a multiset.

use std::{collections::HashMap, sync::Mutex};

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_ord::cmp;
use arrow_row::{RowConverter, SortField};
use tideway_core::{Cursor, Error, Result};
use xxhash_rust::xxh3::xxh3_128;

use crate::filter::scalar_of;

/// More rows than this share the boundary only if the tracking field hardly moves.
const MOST: usize = 2_000_000;

pub struct Boundary {
    column: String,
    /// Rows that are at the destination already, with how often.
    seen: Mutex<HashMap<u128, u32>>,
    /// The next run will read again from here.
    next_from: Option<String>,
    /// Rows at or above `next_from`, for the next run.
    next: Mutex<Vec<u128>>,
}

impl Boundary {
    pub fn new(column: &str, prior: Option<&Cursor>, next: Option<&Cursor>) -> Self {
        let mut seen = HashMap::new();
        for hash in prior.iter().flat_map(|cursor| &cursor.boundary) {
            if let Ok(hash) = u128::from_str_radix(hash, 16) {
                *seen.entry(hash).or_insert(0) += 1;
            }
        }
        Boundary {
            column: column.to_owned(),
            seen: Mutex::new(seen),
            next_from: next.and_then(|cursor| cursor.from.clone()),
            next: Mutex::new(Vec::new()),
        }
    }

    /// Which rows are new. Remembers those that the next run will meet again.
    pub fn pass(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let hashes = row_hashes(rows)?;
        let again = self.read_again(rows)?;
        let mut seen = self
            .seen
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let mut next = self
            .next
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let fresh = hashes
            .iter()
            .enumerate()
            .map(|(row, hash)| {
                if again.is_valid(row) && again.value(row) {
                    next.push(*hash);
                }
                match seen.get_mut(hash) {
                    Some(count) if *count > 0 => {
                        *count -= 1;
                        Some(false)
                    }
                    _ => Some(true),
                }
            })
            .collect();
        if next.len() > MOST {
            return Err(Error::data(format!(
                "more than {MOST} rows share the latest values of the tracking field {}",
                self.column
            ))
            .field("tracking_field")
            .hint("choose a tracking field that grows with every change, or use mode replicate"));
        }
        Ok(fresh)
    }

    /// The hashes to keep with the next cursor.
    pub fn hashes(&self) -> Vec<String> {
        let next = self
            .next
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        next.iter().map(|hash| format!("{hash:032x}")).collect()
    }

    /// Rows that the next run's `>= from` will give again. What cannot be compared is
    /// taken to be among them: too many hashes do no harm, too few double a row.
    fn read_again(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let column = rows
            .column_by_name(&self.column)
            .ok_or_else(|| Error::bug("the tracking field is not among the columns read"))?;
        let Some(from) = &self.next_from else {
            return Ok(BooleanArray::from(vec![true; rows.num_rows()]));
        };
        match scalar_of(column, &serde_json::Value::String(from.clone())) {
            Some(from) => cmp::gt_eq(column, &from)
                .map_err(|error| Error::bug(format!("comparing the tracking field: {error}"))),
            None => Ok(BooleanArray::from(vec![true; rows.num_rows()])),
        }
    }
}

fn row_hashes(rows: &RecordBatch) -> Result<Vec<u128>> {
    let bug = |error: arrow_schema::ArrowError| Error::bug(format!("hashing rows: {error}"));
    let fields = rows
        .columns()
        .iter()
        .map(|c| SortField::new(c.data_type().clone()))
        .collect();
    let converter = RowConverter::new(fields).map_err(bug)?;
    let encoded = converter.convert_columns(rows.columns()).map_err(bug)?;
    Ok(encoded.iter().map(|row| xxh3_128(row.as_ref())).collect())
}
