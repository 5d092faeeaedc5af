//! Which logical type a Parquet column is read as, and how its values get there.
//! (CSV and JSON have no types of their own: see `format/infer.rs`.)

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Int64Array,
    builder::StringBuilder,
    cast::AsArray,
    types::{Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType},
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_json::writer::{EncoderOptions, make_encoder};
use arrow_schema::{
    DataType, Field, FieldRef, IntervalUnit, TimeUnit,
    extension::{EXTENSION_TYPE_NAME_KEY, ExtensionType, Json, Uuid},
};
use tideway_core::{Column, Error, LogicalType, Note, Result};

use crate::format::print::column_text;

/// The type that holds every value of a field, whatever wrote it.
pub fn logical_of(field: &Field) -> LogicalType {
    if let Some(logical) = LogicalType::of(field) {
        let extension = field.metadata().get(EXTENSION_TYPE_NAME_KEY);
        return match logical {
            LogicalType::Text if extension.is_some_and(|name| name == Json::NAME) => {
                LogicalType::Json
            }
            other => other,
        };
    }
    let extension = field.metadata().get(EXTENSION_TYPE_NAME_KEY);
    match field.data_type() {
        DataType::FixedSizeBinary(16) if extension.is_some_and(|name| name == Uuid::NAME) => {
            LogicalType::Uuid
        }
        DataType::Int8 | DataType::UInt8 => LogicalType::Int16,
        DataType::UInt16 => LogicalType::Int32,
        DataType::UInt32 => LogicalType::Int64,
        DataType::Float16 => LogicalType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            LogicalType::Decimal {
                precision: *precision,
                scale: *scale,
            }
        }
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Utf8 | DataType::Null => {
            match extension.is_some_and(|name| name == Json::NAME) {
                true => LogicalType::Json,
                false => LogicalType::Text,
            }
        }
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            LogicalType::Binary
        }
        DataType::Date64 => LogicalType::Date,
        DataType::Time32(_) | DataType::Time64(_) => LogicalType::Time,
        DataType::Timestamp(_, None) => LogicalType::Timestamp,
        DataType::Timestamp(_, Some(_)) => LogicalType::TimestampTz,
        DataType::Interval(_) | DataType::Duration(_) => LogicalType::Interval,
        DataType::Dictionary(_, value) => logical_of(&Field::new("", value.as_ref().clone(), true)),
        DataType::RunEndEncoded(_, values) => logical_of(values),
        _ => LogicalType::Json,
    }
}

/// A field of a Parquet file as a column.
pub fn column_of(field: &Field) -> Column {
    Column {
        name: field.name().clone(),
        logical: logical_of(field),
        // Another file of the table may lack the column.
        nullable: true,
        remote_type: field.data_type().to_string().to_lowercase(),
    }
}

/// The field that a column is written as. Extension names tell other readers of Parquet
/// what a UUID and a JSON document are.
pub fn parquet_field(column: &Column) -> Field {
    let field = column.logical.field(&column.name, column.nullable);
    match column.logical {
        LogicalType::Uuid => field.with_extension_type(Uuid),
        LogicalType::Json => field.with_extension_type(Json::default()),
        _ => field,
    }
}

/// An array as its logical type is carried ([`LogicalType::arrow`]). What the type
/// cannot hold is told in `notes`.
pub fn adopt(array: &ArrayRef, field: &FieldRef, notes: &mut Vec<Note>) -> Result<ArrayRef> {
    let logical = logical_of(field);
    let wanted = logical.arrow();
    if *array.data_type() == wanted {
        return Ok(array.clone());
    }
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            let plain = cast(array, values, field.name())?;
            adopt(&plain, &renamed(field, plain.data_type()), notes)
        }
        DataType::RunEndEncoded(_, values) => {
            let plain = cast(array, values.data_type(), field.name())?;
            adopt(&plain, &renamed(field, plain.data_type()), notes)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let instants = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
            note_cut(array, &instants, field, notes)?;
            cast(array, &wanted, field.name())
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            note_cut(array, &DataType::Time64(TimeUnit::Nanosecond), field, notes)?;
            cast(array, &wanted, field.name())
        }
        DataType::Interval(_) => Ok(interval_text(array)),
        DataType::Duration(unit) => duration_text(array, *unit),
        _ if logical == LogicalType::Json && !is_text(array.data_type()) => json_text(array, field),
        _ => cast(array, &wanted, field.name()),
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn renamed(field: &FieldRef, kind: &DataType) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(kind.clone()))
}

fn cast(array: &ArrayRef, to: &DataType, column: &str) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options).map_err(|error| {
        Error::data(format!(
            "column {column}: a value of type {} is out of range for {to}",
            array.data_type()
        ))
        .because(error)
    })
}

/// Counts the values whose nanoseconds are not whole microseconds.
fn note_cut(
    array: &ArrayRef,
    kind: &DataType,
    field: &FieldRef,
    notes: &mut Vec<Note>,
) -> Result<()> {
    debug_assert_eq!(array.data_type(), kind);
    let nanos: ArrayRef = cast(array, &DataType::Int64, field.name())?;
    let nanos: &Int64Array = nanos.as_primitive::<Int64Type>();
    let cut = nanos
        .iter()
        .flatten()
        .filter(|value| value % 1000 != 0)
        .count();
    if cut > 0 {
        notes.push(Note {
            column: field.name().clone(),
            what: "nanoseconds cut to microseconds".to_owned(),
            rows: cut as u64,
        });
    }
    Ok(())
}

/// Lists, structs, maps and unions as JSON text.
fn json_text(array: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    let trouble = |error: arrow_schema::ArrowError| {
        Error::unsupported(format!(
            "column {}: {} cannot be read",
            field.name(),
            array.data_type()
        ))
        .hint("leave the field out of the sync")
        .because(error)
    };
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, array.as_ref(), &options).map_err(trouble)?;
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 32);
    let mut buffer = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        buffer.clear();
        encoder.encode(row, &mut buffer);
        texts.append_value(String::from_utf8_lossy(&buffer));
    }
    Ok(Arc::new(texts.finish()))
}

/// ISO 8601 durations.
fn interval_text(array: &ArrayRef) -> ArrayRef {
    let parts = |row: usize| -> (i64, i64, i64) {
        match array.data_type() {
            DataType::Interval(IntervalUnit::YearMonth) => {
                let months = array.as_primitive::<IntervalYearMonthType>().value(row);
                (i64::from(months), 0, 0)
            }
            DataType::Interval(IntervalUnit::DayTime) => {
                let value = array.as_primitive::<IntervalDayTimeType>().value(row);
                (
                    0,
                    i64::from(value.days),
                    i64::from(value.milliseconds) * 1_000_000,
                )
            }
            _ => {
                let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
                (
                    i64::from(value.months),
                    i64::from(value.days),
                    value.nanoseconds,
                )
            }
        }
    };
    let mut texts = StringBuilder::new();
    for row in 0..array.len() {
        let text = array.is_valid(row).then(|| {
            let (months, days, nanos) = parts(row);
            iso_duration(months, days, i128::from(nanos))
        });
        texts.append_option(text);
    }
    Arc::new(texts.finish())
}

fn duration_text(array: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef> {
    let counts = cast(array, &DataType::Int64, "duration")?;
    let counts: &Int64Array = counts.as_primitive::<Int64Type>();
    let nanos_each: i128 = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1000,
        TimeUnit::Nanosecond => 1,
    };
    let mut texts = StringBuilder::new();
    for count in counts {
        texts.append_option(count.map(|count| iso_duration(0, 0, i128::from(count) * nanos_each)));
    }
    Ok(Arc::new(texts.finish()))
}

fn iso_duration(months: i64, days: i64, nanos: i128) -> String {
    let mut text = String::from("P");
    if months / 12 != 0 {
        text += &format!("{}Y", months / 12);
    }
    if months % 12 != 0 {
        text += &format!("{}M", months % 12);
    }
    if days != 0 {
        text += &format!("{days}D");
    }
    if nanos != 0 {
        let sign = if nanos < 0 { "-" } else { "" };
        let fraction = format!("{:09}", nanos.unsigned_abs() % 1_000_000_000);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        let seconds = nanos.unsigned_abs() / 1_000_000_000;
        text += &format!("T{sign}{seconds}{point}{fraction}S");
    }
    if text == "P" { "PT0S".to_owned() } else { text }
}

/// A column in a wider type ([`LogicalType::widest`]).
pub fn widen(
    array: &ArrayRef,
    from: LogicalType,
    to: LogicalType,
    column: &str,
) -> Result<ArrayRef> {
    if *array.data_type() == to.arrow() {
        return Ok(array.clone());
    }
    match to {
        // All of these are text in Arrow, and text holds everything.
        LogicalType::Text | LogicalType::Numeric | LogicalType::Json | LogicalType::Interval => {
            column_text(array, from)
        }
        _ => cast(array, &to.arrow(), column),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int8Array, ListArray, TimestampNanosecondArray, types::Int32Type};

    use super::*;

    fn adopted(array: ArrayRef) -> (ArrayRef, Vec<Note>) {
        let field = Arc::new(Field::new("c", array.data_type().clone(), true));
        let mut notes = Vec::new();
        let array = adopt(&array, &field, &mut notes).unwrap();
        assert_eq!(*array.data_type(), logical_of(&field).arrow());
        (array, notes)
    }

    #[test]
    fn foreign_types_are_widened_and_losses_are_told() {
        adopted(Arc::new(Int8Array::from(vec![1])));
        let (_, notes) = adopted(Arc::new(TimestampNanosecondArray::from(vec![1, 1000])));
        assert_eq!(notes[0].rows, 1);
        let rows = vec![Some(vec![Some(1), None]), None];
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(rows);
        let (texts, _) = adopted(Arc::new(lists));
        assert_eq!(texts.as_string::<i32>().value(0), "[1,null]");
        assert!(texts.is_null(1));
    }

    #[test]
    fn durations_have_iso_forms() {
        assert_eq!(iso_duration(14, -3, 1_500_000_000), "P1Y2M-3DT1.5S");
        assert_eq!(iso_duration(0, 0, -1), "PT-0.000000001S");
        assert_eq!(iso_duration(0, 0, 0), "PT0S");
    }
}
