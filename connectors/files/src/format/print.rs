//! The text form of each logical type, the same in CSV and JSON and wherever else a
//! value has to be written down. [`super::cells::Cells`] reads every form back exactly.
//!
//! | type | form |
//! |---|---|
//! | boolean | `true`, `false` |
//! | integers, decimals | plain digits: `-12.30` |
//! | floats | the shortest digits that give the same float: `0.1`, `1e300`; `NaN`, `Infinity`, `-Infinity` |
//! | numeric, interval, JSON, text | as they are |
//! | UUID | lower case with hyphens |
//! | binary | base64 with padding |
//! | date, time, timestamp | ISO 8601: `2024-02-29`, `12:30:00.5`, `2024-02-29T12:30:00`, with zone in UTC: `…Z` |

use std::io::Write;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
    builder::StringBuilder,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tideway_core::{Error, LogicalType, Result};

use super::{
    moment::{Stamp, print_date, print_stamp, print_time},
    number::print_decimal,
};

/// A column whose values can be written down one by one.
pub enum Printer<'a> {
    Boolean(&'a BooleanArray),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt64(&'a UInt64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal128(&'a Decimal128Array),
    Decimal256(&'a Decimal256Array),
    Text(&'a StringArray),
    Uuid(&'a FixedSizeBinaryArray),
    Binary(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
    TimestampTz(&'a TimestampMicrosecondArray),
}

impl<'a> Printer<'a> {
    pub fn new(array: &'a ArrayRef, logical: LogicalType) -> Result<Self> {
        fn of<A: 'static>(array: &ArrayRef, logical: LogicalType) -> Result<&A> {
            array.as_any().downcast_ref().ok_or_else(|| {
                Error::bug(format!(
                    "{logical:?} came in an array of {}",
                    array.data_type()
                ))
            })
        }
        use LogicalType as L;
        Ok(match logical {
            L::Boolean => Printer::Boolean(of(array, logical)?),
            L::Int16 => Printer::Int16(of(array, logical)?),
            L::Int32 => Printer::Int32(of(array, logical)?),
            L::Int64 => Printer::Int64(of(array, logical)?),
            L::UInt64 => Printer::UInt64(of(array, logical)?),
            L::Float32 => Printer::Float32(of(array, logical)?),
            L::Float64 => Printer::Float64(of(array, logical)?),
            L::Decimal { precision, .. } if precision <= 38 => {
                Printer::Decimal128(of(array, logical)?)
            }
            L::Decimal { .. } => Printer::Decimal256(of(array, logical)?),
            L::Numeric | L::Text | L::Json | L::Interval => Printer::Text(of(array, logical)?),
            L::Uuid => Printer::Uuid(of(array, logical)?),
            L::Binary => Printer::Binary(of(array, logical)?),
            L::Date => Printer::Date(of(array, logical)?),
            L::Time => Printer::Time(of(array, logical)?),
            L::Timestamp => Printer::Timestamp(of(array, logical)?),
            L::TimestampTz => Printer::TimestampTz(of(array, logical)?),
        })
    }

    /// Writes the value of a row that is not null.
    pub fn print(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Printer::Boolean(array) => {
                out.extend(if array.value(row) {
                    &b"true"[..]
                } else {
                    b"false"
                });
            }
            Printer::Int16(array) => display(array.value(row), out),
            Printer::Int32(array) => display(array.value(row), out),
            Printer::Int64(array) => display(array.value(row), out),
            Printer::UInt64(array) => display(array.value(row), out),
            Printer::Float32(array) => {
                let value = array.value(row);
                match special_word(f64::from(value)) {
                    Some(word) => out.extend(word.as_bytes()),
                    None => debug(value, out),
                }
            }
            Printer::Float64(array) => {
                let value = array.value(row);
                match special_word(value) {
                    Some(word) => out.extend(word.as_bytes()),
                    None => debug(value, out),
                }
            }
            Printer::Decimal128(array) => {
                print_decimal(&array.value(row).to_string(), array.scale(), out);
            }
            Printer::Decimal256(array) => {
                print_decimal(&array.value(row).to_string(), array.scale(), out);
            }
            Printer::Text(array) => out.extend(array.value(row).as_bytes()),
            Printer::Uuid(array) => print_uuid(array.value(row), out),
            Printer::Binary(array) => out.extend(STANDARD.encode(array.value(row)).as_bytes()),
            Printer::Date(array) => print_date(i64::from(array.value(row)), out),
            Printer::Time(array) => print_time(array.value(row), out),
            Printer::Timestamp(array) => print_stamp(Stamp::Local(array.value(row)), out),
            Printer::TimestampTz(array) => print_stamp(Stamp::Zoned(array.value(row)), out),
        }
    }

    /// Whether printed values may hold any characters at all, or only harmless ones.
    pub fn is_free_text(&self) -> bool {
        matches!(self, Printer::Text(_))
    }
}

/// Writing to memory does not fail.
fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    let _ = write!(out, "{value}");
}

fn debug(value: impl std::fmt::Debug, out: &mut Vec<u8>) {
    let _ = write!(out, "{value:?}");
}

pub fn special_word(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        None
    }
}

fn print_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// The 16 bytes of a UUID in its usual form.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|at| bytes[*at] != b'-') {
        return None;
    }
    let mut uuid = [0; 16];
    let mut digits = bytes.iter().filter(|byte| **byte != b'-');
    for slot in &mut uuid {
        let mut nibble = || char::from(*digits.next()?).to_digit(16);
        *slot = (nibble()? << 4 | nibble()?) as u8;
    }
    digits.next().is_none().then_some(uuid)
}

/// The whole column in its text form.
pub fn column_text(array: &ArrayRef, logical: LogicalType) -> Result<ArrayRef> {
    let printer = Printer::new(array, logical)?;
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 8);
    let mut buffer = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        buffer.clear();
        printer.print(row, &mut buffer);
        texts.append_value(String::from_utf8_lossy(&buffer));
    }
    Ok(std::sync::Arc::new(texts.finish()))
}
