//! From DuckDB's Arrow arrays to ours.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, RecordBatch, StringArray,
    builder::StringBuilder,
    cast::AsArray,
    types::{Date32Type, TimestampMicrosecondType, TimestampNanosecondType},
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use tideway_core::{
    Batch, Column, Error, LogicalType, Note, Result,
    schema::arrow_schema,
    types::{DATE_MINUS_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::duckdb::{interval::Interval, types};

/// DuckDB's minus infinities are one above ours.
const DUCKDB_DATE_MINUS_INFINITY: i32 = -i32::MAX;
const DUCKDB_TIMESTAMP_MINUS_INFINITY: i64 = -i64::MAX;

pub struct Decoder {
    columns: Vec<Column>,
    schema: SchemaRef,
}

impl Decoder {
    pub fn new(columns: &[Column]) -> Self {
        Decoder {
            columns: columns.to_vec(),
            schema: arrow_schema(columns),
        }
    }

    pub fn decode(&self, rows: &RecordBatch) -> Result<Batch> {
        let mut notes = Vec::new();
        let arrays = self
            .columns
            .iter()
            .zip(rows.columns())
            .map(|(column, array)| decoded(column, array, &mut notes))
            .collect::<Result<Vec<_>>>()?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| Error::drift(format!("the table has changed: {error}")))?;
        Ok(Batch {
            notes,
            ..Batch::of_rows(rows)
        })
    }
}

fn decoded(column: &Column, array: &ArrayRef, notes: &mut Vec<Note>) -> Result<ArrayRef> {
    let mut note = |what: &str, rows: usize| {
        if rows > 0 {
            notes.push(Note {
                column: column.name.clone(),
                what: what.to_owned(),
                rows: rows as u64,
            });
        }
    };
    match (column.logical, array.data_type()) {
        (LogicalType::Timestamp, DataType::Timestamp(TimeUnit::Nanosecond, None)) => {
            let (array, cut) = from_nanos(array);
            note("nanoseconds cut to microseconds", cut);
            return Ok(array);
        }
        (LogicalType::Interval, DataType::Utf8) => return intervals(column, array.as_string()),
        (LogicalType::Json, DataType::Utf8) if types::has_floats(&column.remote_type) => {
            let (array, replaced) = without_nan(array.as_string());
            note("NaN or infinity in JSON stored as null", replaced);
            return Ok(array);
        }
        _ => {}
    }
    let array = cast_to(column, array)?;
    Ok(match column.logical {
        LogicalType::Date => dates(&array),
        LogicalType::Timestamp | LogicalType::TimestampTz => timestamps(&array),
        _ => array,
    })
}

fn cast_to(column: &Column, array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = column.logical.arrow();
    if *array.data_type() == wanted {
        return Ok(array.clone());
    }
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, &wanted, &strict).map_err(|_| {
        // The message of the cast would quote the value.
        Error::data(format!(
            "field {}: a value of type {} is not a {}",
            column.name,
            column.remote_type,
            column.logical.coarse()
        ))
    })
}

fn dates(array: &ArrayRef) -> ArrayRef {
    let days = array.as_primitive::<Date32Type>();
    if !days.values().contains(&DUCKDB_DATE_MINUS_INFINITY) {
        return array.clone();
    }
    Arc::new(days.unary::<_, Date32Type>(|day| match day {
        DUCKDB_DATE_MINUS_INFINITY => DATE_MINUS_INFINITY,
        day => day,
    }))
}

fn timestamps(array: &ArrayRef) -> ArrayRef {
    let micros = array.as_primitive::<TimestampMicrosecondType>();
    if !micros.values().contains(&DUCKDB_TIMESTAMP_MINUS_INFINITY) {
        return array.clone();
    }
    let ours = micros.unary::<_, TimestampMicrosecondType>(|micro| match micro {
        DUCKDB_TIMESTAMP_MINUS_INFINITY => TIMESTAMP_MINUS_INFINITY,
        micro => micro,
    });
    Arc::new(ours.with_timezone_opt(micros.timezone()))
}

/// Microseconds, rounded down, and how many values had to be.
fn from_nanos(array: &ArrayRef) -> (ArrayRef, usize) {
    let nanos = array.as_primitive::<TimestampNanosecondType>();
    let finite = |nano: i64| nano.unsigned_abs() != i64::MAX.unsigned_abs();
    let cut = nanos
        .iter()
        .flatten()
        .filter(|nano| finite(*nano) && nano % 1000 != 0)
        .count();
    let micros = nanos.unary::<_, TimestampMicrosecondType>(|nano| match nano {
        DUCKDB_TIMESTAMP_MINUS_INFINITY => TIMESTAMP_MINUS_INFINITY,
        i64::MAX => i64::MAX,
        nano => nano.div_euclid(1000),
    });
    (Arc::new(micros), cut)
}

fn intervals(column: &Column, texts: &StringArray) -> Result<ArrayRef> {
    let mut iso = StringBuilder::with_capacity(texts.len(), texts.len() * 16);
    for text in texts {
        let Some(text) = text else {
            iso.append_null();
            continue;
        };
        let interval = Interval::from_duckdb(text).ok_or_else(|| {
            Error::bug(format!(
                "field {}: DuckDB spells an interval otherwise",
                column.name
            ))
        })?;
        iso.append_value(interval.to_iso());
    }
    Ok(Arc::new(iso.finish()))
}

/// JSON in which `NaN` and `Infinity` outside of strings have become `null`, and in how
/// many documents.
fn without_nan(texts: &StringArray) -> (ArrayRef, usize) {
    let suspect = |text: &str| text.contains("NaN") || text.contains("Infinity");
    if !texts.iter().flatten().any(suspect) {
        return (Arc::new(texts.clone()), 0);
    }
    let mut replaced = 0;
    let mut valid = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    for text in texts {
        valid.append_option(text.map(|text| {
            let json = nan_as_null(text);
            replaced += usize::from(json != text);
            json
        }));
    }
    (Arc::new(valid.finish()), replaced)
}

fn nan_as_null(json: &str) -> String {
    let mut valid = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    let mut rest = json;
    while let Some(letter) = rest.chars().next() {
        if !in_string {
            let word = ["NaN", "-NaN", "Infinity", "-Infinity"]
                .into_iter()
                .find(|word| rest.starts_with(word));
            if let Some(word) = word {
                valid.push_str("null");
                rest = &rest[word.len()..];
                continue;
            }
        }
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        valid.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_outside_of_strings_become_null() {
        assert_eq!(
            nan_as_null(r#"{"NaN":[NaN,-Infinity,1.5],"a\"NaN":"Infinity é"}"#),
            r#"{"NaN":[null,null,1.5],"a\"NaN":"Infinity é"}"#
        );
    }

    #[test]
    fn nanoseconds_are_rounded_down_and_counted() {
        let nanos = arrow_array::TimestampNanosecondArray::from(vec![
            Some(1_001),
            Some(-1),
            Some(2_000),
            None,
            Some(i64::MAX),
            Some(-i64::MAX),
        ]);
        let (micros, cut) = from_nanos(&(Arc::new(nanos) as ArrayRef));
        let micros: Vec<_> = micros
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect();
        assert_eq!(cut, 2);
        assert_eq!(
            micros,
            [
                Some(1),
                Some(-1),
                Some(2),
                None,
                Some(i64::MAX),
                Some(i64::MIN)
            ]
        );
    }
}
