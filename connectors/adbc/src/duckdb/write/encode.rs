//! From our Arrow arrays to those that DuckDB takes into its columns.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int16Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMicrosecondArray,
    builder::StringBuilder,
    cast::AsArray,
    new_null_array,
    types::{Date32Type, TimestampMicrosecondType},
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::nullif::nullif;
use tideway_core::{
    Batch, Error, LogicalType, Note, Ops, Result,
    operations::Operations,
    types::{DATE_MINUS_INFINITY, TIMESTAMP_MINUS_INFINITY, decimal_nans},
};

use super::stage::{Fill, StageColumn};
use crate::duckdb::{interval::Interval, types};

pub struct Encoded {
    pub rows: RecordBatch,
    pub notes: Vec<Note>,
}

/// The rows as the staging table has them. `key` are the indexes of the key columns where
/// the rows are changes.
pub fn encode(
    columns: &[StageColumn],
    batch: &Batch,
    first_row: i64,
    key: Option<&[usize]>,
) -> Result<Encoded> {
    let count = batch.row_count();
    let operations = key.map(|key| Operations::of(batch, key)).transpose()?;
    if operations.is_none() && matches!(batch.ops, Ops::Each(_)) {
        return Err(Error::bug("changes arrived for a load of whole rows"));
    }
    let mut notes = Vec::new();
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for column in columns {
        let (field, array) = match column.fill {
            Fill::Data(index) => data(column, batch, index, operations.as_ref(), &mut notes)?,
            Fill::Op => {
                let codes = operations.iter().flat_map(|operations| {
                    (0..count).map(move |row| i16::from(operations.code(row)))
                });
                unmarked(column, Arc::new(Int16Array::from_iter_values(codes)))
            }
            Fill::Kept => {
                let kept = operations
                    .iter()
                    .flat_map(|operations| (0..count).map(move |row| operations.kept(row)));
                unmarked(column, Arc::new(kept.collect::<StringArray>()))
            }
            Fill::Null => unmarked(column, new_null_array(&DataType::Utf8, count)),
            Fill::Now => unmarked(column, now(count)),
            Fill::Row => {
                let end = first_row.saturating_add(count as i64);
                unmarked(
                    column,
                    Arc::new(Int64Array::from_iter_values(first_row..end)),
                )
            }
        };
        fields.push(field);
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| Error::bug(format!("staging rows: {error}")))?;
    Ok(Encoded { rows, notes })
}

fn unmarked(column: &StageColumn, array: ArrayRef) -> (Field, ArrayRef) {
    (
        Field::new(&column.name, array.data_type().clone(), true),
        array,
    )
}

fn now(count: usize) -> ArrayRef {
    let now = chrono::Utc::now().timestamp_micros();
    Arc::new(TimestampMicrosecondArray::from(vec![now; count]).with_timezone("UTC"))
}

fn data(
    column: &StageColumn,
    batch: &Batch,
    index: usize,
    operations: Option<&Operations<'_>>,
    notes: &mut Vec<Note>,
) -> Result<(Field, ArrayRef)> {
    let schema = batch.rows.schema();
    let (Some(field), Some(array)) = (schema.fields().get(index), batch.rows.columns().get(index))
    else {
        return Err(Error::bug(format!("no values for column {}", column.name)));
    };
    let logical = LogicalType::of(field)
        .ok_or_else(|| Error::bug(format!("column {} has no logical type", column.name)))?;
    let array = &told(array, index, operations)?;
    let array = match logical {
        LogicalType::Decimal { precision, scale } => {
            let wanted = match types::decimal(precision, scale) {
                Some((precision, scale)) => DataType::Decimal128(precision as u8, scale as i8),
                None => DataType::Utf8,
            };
            cast(column, &numbers(column, array, notes)?, &wanted)?
        }
        LogicalType::Date => dates(array),
        LogicalType::Timestamp | LogicalType::TimestampTz => timestamps(array),
        LogicalType::Interval => intervals(column, array.as_string(), notes),
        LogicalType::Uuid => return Ok(uuids(column, array)),
        _ => array.clone(),
    };
    Ok(unmarked(column, array))
}

/// The values without those that changes do not tell.
fn told(array: &ArrayRef, index: usize, operations: Option<&Operations<'_>>) -> Result<ArrayRef> {
    let Some(operations) = operations else {
        return Ok(array.clone());
    };
    let lacks = |row| Some(operations.lacks(row, index));
    let lacking: BooleanArray = (0..array.len()).map(lacks).collect();
    match lacking.true_count() {
        0 => Ok(array.clone()),
        _ => nullif(array, &lacking)
            .map_err(|error| Error::bug(format!("taking values out of changes: {error}"))),
    }
}

/// DuckDB's decimals are all numbers.
fn numbers(column: &StageColumn, array: &ArrayRef, notes: &mut Vec<Note>) -> Result<ArrayRef> {
    let Some(nans) = decimal_nans(array) else {
        return Ok(array.clone());
    };
    notes.push(Note {
        column: column.name.clone(),
        what: "NaN stored as null".to_owned(),
        rows: nans.true_count() as u64,
    });
    nullif(array, &nans).map_err(|error| Error::bug(format!("taking NaN out of decimals: {error}")))
}

fn cast(column: &StageColumn, array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    // The message of the cast would quote the value.
    cast_with_options(array, wanted, &strict)
        .map_err(|_| Error::data(format!("column {}: a value does not fit", column.name)))
}

/// DuckDB takes 16 bytes for a UUID only where the field says that they are one.
fn uuids(column: &StageColumn, array: &ArrayRef) -> (Field, ArrayRef) {
    let extension = HashMap::from([
        ("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned()),
        ("ARROW:extension:metadata".to_owned(), String::new()),
    ]);
    let (field, array) = unmarked(column, array.clone());
    (field.with_metadata(extension), array)
}

/// DuckDB's minus infinities are one above ours.
fn dates(array: &ArrayRef) -> ArrayRef {
    let days = array.as_primitive::<Date32Type>();
    if !days.values().contains(&DATE_MINUS_INFINITY) {
        return array.clone();
    }
    Arc::new(days.unary::<_, Date32Type>(|day| day.max(-i32::MAX)))
}

fn timestamps(array: &ArrayRef) -> ArrayRef {
    let micros = array.as_primitive::<TimestampMicrosecondType>();
    if !micros.values().contains(&TIMESTAMP_MINUS_INFINITY) {
        return array.clone();
    }
    let theirs = micros.unary::<_, TimestampMicrosecondType>(|micro| micro.max(-i64::MAX));
    Arc::new(theirs.with_timezone_opt(micros.timezone()))
}

fn intervals(column: &StageColumn, texts: &StringArray, notes: &mut Vec<Note>) -> ArrayRef {
    let mut lost = 0;
    let mut words = StringBuilder::with_capacity(texts.len(), texts.len() * 40);
    for text in texts {
        let interval = text.and_then(Interval::from_iso);
        lost += u64::from(text.is_some() && interval.is_none());
        words.append_option(interval.map(Interval::to_duckdb));
    }
    if lost > 0 {
        notes.push(Note {
            column: column.name.clone(),
            what: "interval that DuckDB cannot hold stored as null".to_owned(),
            rows: lost,
        });
    }
    Arc::new(words.finish())
}
