//! Small answers of queries about the database itself.

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use tideway_core::{Error, Result};

/// Columns that were selected as VARCHAR.
pub struct Text;

impl Text {
    pub fn column(batches: &[RecordBatch], index: usize) -> Result<Vec<Option<String>>> {
        let mut values = Vec::new();
        for batch in batches {
            let column = batch.columns().get(index);
            let texts = column
                .and_then(|column| column.as_string_opt::<i32>())
                .ok_or_else(unexpected)?;
            values.extend(texts.iter().map(|text| text.map(str::to_owned)));
        }
        Ok(values)
    }
}

/// The one number of a query that was selected as BIGINT; null counts as 0.
pub fn number(batches: &[RecordBatch]) -> Result<i64> {
    let column = batches.first().and_then(|batch| batch.columns().first());
    let numbers = column
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .filter(|numbers| !numbers.is_empty())
        .ok_or_else(unexpected)?;
    Ok(if numbers.is_null(0) {
        0
    } else {
        numbers.value(0)
    })
}

fn unexpected() -> Error {
    Error::bug("DuckDB answers a query about itself in another form")
}
