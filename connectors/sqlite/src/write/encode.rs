//! From Arrow columns to the values that SQLite stores.

use arrow_array::PrimitiveArray;
use arrow_array::{
    Array, BinaryArray, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray,
    cast::AsArray, types::*,
};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use tideway_core::{
    Error, LogicalType, Note, Result,
    types::{DECIMAL_NAN, WIDE_DECIMAL_NAN},
};

use crate::{
    moment::{self, DAY, Moment},
    number, value,
};

use super::layout::Landing;

/// One column of a batch that is being written.
pub struct Encoder<'a> {
    column: &'a Landing,
    cells: Cells<'a>,
    /// Texts are put together here.
    scratch: String,
}

enum Cells<'a> {
    Boolean(&'a BooleanArray),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal128(&'a PrimitiveArray<Decimal128Type>, i8),
    Decimal256(&'a PrimitiveArray<Decimal256Type>, i8),
    Text(&'a StringArray),
    Uuid(&'a FixedSizeBinaryArray),
    Binary(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>, bool),
}

/// Encoders for the columns of a batch, in the order of the load.
pub fn encoders<'a>(rows: &'a RecordBatch, columns: &'a [Landing]) -> Result<Vec<Encoder<'a>>> {
    if rows.num_columns() != columns.len() {
        return Err(Error::bug(format!(
            "a batch has {} columns where the load has {}",
            rows.num_columns(),
            columns.len()
        )));
    }
    let pairs = rows.columns().iter().zip(columns);
    pairs
        .map(|(array, column)| {
            let cells = Cells::of(array.as_ref(), column.from).ok_or_else(|| {
                let (name, kind) = (&column.name, array.data_type());
                Error::bug(format!(
                    "column {name} arrives as {kind}, not as {:?}",
                    column.from
                ))
            })?;
            Ok(Encoder {
                column,
                cells,
                scratch: String::new(),
            })
        })
        .collect()
}

impl<'a> Cells<'a> {
    fn of(array: &'a dyn Array, logical: LogicalType) -> Option<Cells<'a>> {
        Some(match logical {
            LogicalType::Boolean => Cells::Boolean(array.as_boolean_opt()?),
            LogicalType::Int16 => Cells::Int16(array.as_primitive_opt()?),
            LogicalType::Int32 => Cells::Int32(array.as_primitive_opt()?),
            LogicalType::Int64 => Cells::Int64(array.as_primitive_opt()?),
            LogicalType::UInt64 => Cells::UInt64(array.as_primitive_opt()?),
            LogicalType::Float32 => Cells::Float32(array.as_primitive_opt()?),
            LogicalType::Float64 => Cells::Float64(array.as_primitive_opt()?),
            LogicalType::Decimal { precision, scale } if precision <= 38 => {
                Cells::Decimal128(array.as_primitive_opt()?, scale)
            }
            LogicalType::Decimal { scale, .. } => {
                Cells::Decimal256(array.as_primitive_opt()?, scale)
            }
            LogicalType::Numeric
            | LogicalType::Text
            | LogicalType::Json
            | LogicalType::Interval => Cells::Text(array.as_string_opt()?),
            LogicalType::Uuid => Cells::Uuid(array.as_fixed_size_binary_opt()?),
            LogicalType::Binary => Cells::Binary(array.as_binary_opt()?),
            LogicalType::Date => Cells::Date(array.as_primitive_opt()?),
            LogicalType::Time => Cells::Time(array.as_primitive_opt()?),
            LogicalType::Timestamp => Cells::Timestamp(array.as_primitive_opt()?, false),
            LogicalType::TimestampTz => Cells::Timestamp(array.as_primitive_opt()?, true),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Cells::Boolean(cells) => cells.is_null(row),
            Cells::Int16(cells) => cells.is_null(row),
            Cells::Int32(cells) => cells.is_null(row),
            Cells::Int64(cells) => cells.is_null(row),
            Cells::UInt64(cells) => cells.is_null(row),
            Cells::Float32(cells) => cells.is_null(row),
            Cells::Float64(cells) => cells.is_null(row),
            Cells::Decimal128(cells, _) => cells.is_null(row),
            Cells::Decimal256(cells, _) => cells.is_null(row),
            Cells::Text(cells) => cells.is_null(row),
            Cells::Uuid(cells) => cells.is_null(row),
            Cells::Binary(cells) => cells.is_null(row),
            Cells::Date(cells) => cells.is_null(row),
            Cells::Time(cells) => cells.is_null(row),
            Cells::Timestamp(cells, _) => cells.is_null(row),
        }
    }
}

impl Encoder<'_> {
    pub fn name(&self) -> &str {
        &self.column.name
    }

    /// Whether null is stored. SQLite has no NaN, which may stay only as plain text.
    pub fn is_null(&self, row: usize) -> bool {
        let lost = || self.column.to != LogicalType::Text && self.is_nan(row);
        self.cells.is_null(row) || lost()
    }

    /// The value of a row in its stored form.
    pub fn stored(&mut self, row: usize) -> Result<ToSqlOutput<'_>> {
        if self.is_null(row) {
            return Ok(ToSqlOutput::Borrowed(ValueRef::Null));
        }
        let Landing { name, from, to, .. } = self.column;
        let stored = native(&self.cells, row, &mut self.scratch).ok_or_else(|| {
            Error::data(format!("column {name} holds a time outside the day"))
                .field(name.clone())
                .hint("correct the value at the source, or leave the field out")
        })?;
        if from == to {
            return Ok(ToSqlOutput::Borrowed(stored));
        }
        widened(stored, *from, *to).ok_or_else(|| {
            Error::bug(format!(
                "column {name}: a value of type {from:?} does not fit {to:?}"
            ))
        })
    }

    fn float(&self, row: usize) -> Option<f64> {
        match &self.cells {
            Cells::Float32(cells) => Some(cells.value(row).into()),
            Cells::Float64(cells) => Some(cells.value(row)),
            _ => None,
        }
    }

    fn is_nan(&self, row: usize) -> bool {
        self.float(row).is_some_and(f64::is_nan)
    }

    /// What has to be done to the values of these rows.
    pub fn notes(&self, rows: &[usize]) -> Vec<Note> {
        let kept_as_text = self.column.to == LogicalType::Text;
        if kept_as_text || !matches!(self.cells, Cells::Float32(_) | Cells::Float64(_)) {
            return Vec::new();
        }
        let floats = || {
            let present = rows.iter().filter(|row| !self.cells.is_null(**row));
            present.filter_map(|row| self.float(*row))
        };
        let negative_zero = |float: &f64| *float == 0.0 && float.is_sign_negative();
        let counts = [
            (
                "NaN stored as null",
                floats().filter(|float| float.is_nan()).count(),
            ),
            (
                "negative zero stored as zero",
                floats().filter(negative_zero).count(),
            ),
        ];
        counts
            .into_iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|(what, rows)| Note {
                column: self.column.name.clone(),
                what: what.to_owned(),
                rows: rows as u64,
            })
            .collect()
    }
}

/// The form in which a column of the value's own type keeps it; nothing for a time that
/// is outside the day.
fn native<'v>(cells: &Cells<'v>, row: usize, scratch: &'v mut String) -> Option<ValueRef<'v>> {
    scratch.clear();
    match cells {
        Cells::Boolean(cells) => return Some(ValueRef::Integer(cells.value(row).into())),
        Cells::Int16(cells) => return Some(ValueRef::Integer(cells.value(row).into())),
        Cells::Int32(cells) => return Some(ValueRef::Integer(cells.value(row).into())),
        Cells::Int64(cells) => return Some(ValueRef::Integer(cells.value(row))),
        Cells::Float32(cells) => return Some(ValueRef::Real(cells.value(row).into())),
        Cells::Float64(cells) => return Some(ValueRef::Real(cells.value(row))),
        Cells::Text(cells) => return Some(ValueRef::Text(cells.value(row).as_bytes())),
        Cells::Binary(cells) => return Some(ValueRef::Blob(cells.value(row))),
        Cells::UInt64(cells) => scratch.push_str(&cells.value(row).to_string()),
        Cells::Decimal128(cells, scale) => match cells.value(row) {
            DECIMAL_NAN => scratch.push_str(number::NAN),
            value => number::write(&value.to_string(), *scale, scratch),
        },
        Cells::Decimal256(cells, scale) => match cells.value(row) {
            WIDE_DECIMAL_NAN => scratch.push_str(number::NAN),
            value => number::write(&value.to_string(), *scale, scratch),
        },
        Cells::Uuid(cells) => write_uuid(cells.value(row), scratch),
        Cells::Date(cells) => moment::write_date(cells.value(row), scratch),
        Cells::Time(cells) => match cells.value(row) {
            micros @ 0..=DAY => moment::write_time(micros, scratch),
            _ => return None,
        },
        Cells::Timestamp(cells, zoned) => {
            let (micros, zoned) = (cells.value(row), *zoned);
            moment::write_moment(Moment { micros, zoned }, scratch);
        }
    }
    Some(ValueRef::Text(scratch.as_bytes()))
}

/// A stored value as a column of a wider type keeps it. `to` is a type that
/// [`LogicalType::widest`] gives for `from` and another.
pub fn widened(value: ValueRef<'_>, from: LogicalType, to: LogicalType) -> Option<ToSqlOutput<'_>> {
    let text = |text: String| Some(ToSqlOutput::Owned(Value::Text(text)));
    if matches!(value, ValueRef::Null) {
        return Some(ToSqlOutput::Borrowed(value));
    }
    match to {
        LogicalType::Float64 => Some(ToSqlOutput::Owned(Value::Real(value::float(value)?))),
        LogicalType::Decimal { precision, scale } => {
            let mut digits = String::new();
            match value::decimal(value, precision, scale)? {
                WIDE_DECIMAL_NAN => digits.push_str(number::NAN),
                unscaled => number::write(&unscaled.to_string(), scale, &mut digits),
            }
            text(digits)
        }
        LogicalType::Numeric => text(value::numeric(value)?.into_owned()),
        LogicalType::Timestamp if from == LogicalType::Date => {
            let micros = match value::date(value)? {
                moment @ (i32::MIN | i32::MAX) => {
                    if moment < 0 {
                        i64::MIN
                    } else {
                        i64::MAX
                    }
                }
                days => i64::from(days).checked_mul(DAY)?,
            };
            let mut written = String::new();
            moment::write_moment(
                Moment {
                    micros,
                    zoned: false,
                },
                &mut written,
            );
            text(written)
        }
        LogicalType::Text => text(plain_text(value, from)?),
        _ => Some(ToSqlOutput::Borrowed(value)),
    }
}

/// A value as plain text: bytes in hex, truth in words.
fn plain_text(value: ValueRef<'_>, from: LogicalType) -> Option<String> {
    let mut written = String::new();
    match from {
        LogicalType::Boolean => return Some(value::boolean(value)?.to_string()),
        LogicalType::Uuid => write_uuid(&value::uuid(value)?, &mut written),
        LogicalType::Binary => write_hex(&value::bytes(value)?, &mut written),
        _ => return Some(value::text(value)?.into_owned()),
    }
    Some(written)
}

fn write_uuid(bytes: &[u8], out: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        write_hex(&[*byte], out);
    }
}

fn write_hex(bytes: &[u8], out: &mut String) {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}
