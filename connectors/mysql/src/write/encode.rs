//! Arrow to what `LOAD DATA` reads, or to the values of an `INSERT`: each column's encoder is
//! chosen once per batch, then rows are written one after the other into one growing buffer.

use std::io::Write as _;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use tideway_core::{
    Column, Error, LogicalType, Note, Result,
    types::{DECIMAL_NAN, WIDE_DECIMAL_NAN},
};

mod change;

use super::json::{self, Fit};
use crate::calendar;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Lines of fields for `LOAD DATA`, escaped; bytes in hexadecimal digits.
    File,
    /// `(1, 'a')`, as SQL spells it without backslash escapes.
    Values,
}

impl Style {
    /// What stands before a row, between its values and behind it.
    fn marks(self) -> [&'static [u8]; 3] {
        match self {
            Style::File => [b"", b"\t", b"\n"],
            Style::Values => [b"(", b",", b")"],
        }
    }
}

const NOT_FINITE: &str = "NaN or infinity stored as null";
const OUT_OF_RANGE: &str = "time outside of the years 1 to 9999 stored as null";
const HALVES: &str = "half surrogate pairs replaced by �";
const ROUNDED: &str = "number in JSON rounded to a double";
const TOO_LARGE: &str = "JSON with a number beyond a double stored as null";

const DAY_MICROS: i64 = 86_400_000_000;

#[derive(Debug, Clone)]
pub struct Encoder {
    columns: Vec<Column>,
    style: Style,
    /// JSON is a type of its own rather than text.
    binary_json: bool,
    /// No binary value may be larger.
    most_bytes: usize,
}

impl Encoder {
    pub fn new(columns: &[Column], style: Style, binary_json: bool, most_bytes: usize) -> Encoder {
        Encoder {
            columns: columns.to_vec(),
            style,
            binary_json,
            most_bytes,
        }
    }

    /// The rows of a batch, ready to be encoded.
    pub fn rows<'a>(&'a self, batch: &'a RecordBatch) -> Result<Rows<'a>> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::bug(format!(
                "a batch of {} columns for a table of {}",
                batch.num_columns(),
                self.columns.len()
            )));
        }
        let columns = self
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| Cells::new(self, column, array))
            .collect::<Result<_>>()?;
        Ok(Rows {
            columns,
            style: self.style,
        })
    }
}

pub struct Rows<'a> {
    columns: Vec<Cells<'a>>,
    style: Style,
}

impl Rows<'_> {
    /// Puts one row.
    pub fn put(&mut self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let [open, between, close] = self.style.marks();
        out.extend_from_slice(open);
        for (at, cells) in self.columns.iter_mut().enumerate() {
            if at > 0 {
                out.extend_from_slice(between);
            }
            cells.put(row, self.style, out)?;
        }
        out.extend_from_slice(close);
        Ok(())
    }

    /// What had to be done to values so far.
    pub fn notes(&self) -> Vec<Note> {
        self.columns.iter().flat_map(Cells::notes).collect()
    }
}

/// The cells of one column in one batch.
struct Cells<'a> {
    column: &'a Column,
    array: &'a ArrayRef,
    values: Values<'a>,
    binary_json: bool,
    most_bytes: usize,
    not_finite: u64,
    out_of_range: u64,
    halves: u64,
    rounded: u64,
    too_large: u64,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt64(&'a UInt64Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Decimal128(&'a Decimal128Array, usize),
    /// Too long for 128 bits, or scaled to the left of the point.
    WideDecimal(&'a ArrayRef),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Uuid(&'a FixedSizeBinaryArray),
    Binary(&'a BinaryArray),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Timestamp(&'a TimestampMicrosecondArray),
}

impl<'a> Cells<'a> {
    fn new(encoder: &Encoder, column: &'a Column, array: &'a ArrayRef) -> Result<Cells<'a>> {
        let values = values(column.logical, array).ok_or_else(|| {
            Error::bug(format!(
                "column {} came as {:?}, not as {:?}",
                column.name,
                array.data_type(),
                column.logical
            ))
        })?;
        Ok(Cells {
            column,
            array,
            values,
            binary_json: encoder.binary_json,
            most_bytes: encoder.most_bytes,
            not_finite: 0,
            out_of_range: 0,
            halves: 0,
            rounded: 0,
            too_large: 0,
        })
    }

    fn put(&mut self, row: usize, style: Style, out: &mut Vec<u8>) -> Result<()> {
        if self.array.is_null(row) {
            null(style, out);
            return Ok(());
        }
        match &self.values {
            Values::Boolean(values) => out.push(if values.value(row) { b'1' } else { b'0' }),
            Values::Int16(values) => print(out, values.value(row)),
            Values::Int32(values) => print(out, values.value(row)),
            Values::Int64(values) => print(out, values.value(row)),
            Values::UInt64(values) => print(out, values.value(row)),
            // As a double, whose digits the server rounds to the very float again.
            Values::Float32(values) => {
                let value = f64::from(values.value(row));
                if !float(value, out) {
                    self.not_finite(style, out);
                }
            }
            Values::Float64(values) => {
                if !float(values.value(row), out) {
                    self.not_finite(style, out);
                }
            }
            Values::Decimal128(values, scale) => match values.value(row) {
                DECIMAL_NAN => self.not_finite(style, out),
                value => decimal(value, *scale, out),
            },
            Values::WideDecimal(array) => {
                let text =
                    match array.as_any().downcast_ref::<Decimal256Array>() {
                        Some(values) => (values.value(row) != WIDE_DECIMAL_NAN)
                            .then(|| values.value_as_string(row)),
                        None => match array.as_any().downcast_ref::<Decimal128Array>() {
                            Some(values) => (values.value(row) != DECIMAL_NAN)
                                .then(|| values.value_as_string(row)),
                            None => return Err(Error::bug("a decimal of another kind")),
                        },
                    };
                match text {
                    Some(text) => quoted(text.as_bytes(), style, out),
                    None => self.not_finite(style, out),
                }
            }
            Values::Text(values) => quoted(values.value(row).as_bytes(), style, out),
            Values::Json(values) => {
                let text = values.value(row);
                if !self.binary_json {
                    quoted(text.as_bytes(), style, out);
                    return Ok(());
                }
                match json::fit(text) {
                    Fit::Exact => {}
                    Fit::Rounded => self.rounded += 1,
                    Fit::TooLarge => {
                        self.too_large += 1;
                        null(style, out);
                        return Ok(());
                    }
                }
                match json::without_halves(text) {
                    Some(mended) => {
                        self.halves += 1;
                        quoted(mended.as_bytes(), style, out);
                    }
                    None => quoted(text.as_bytes(), style, out),
                }
            }
            Values::Uuid(values) => {
                let uuid = uuid::Uuid::from_slice(values.value(row))
                    .map_err(|_| Error::bug("a UUID of another length"))?;
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                quoted(
                    uuid.hyphenated().encode_lower(&mut text).as_bytes(),
                    style,
                    out,
                );
            }
            Values::Binary(values) => {
                let bytes = values.value(row);
                // Beyond that the server's own functions give null.
                if bytes.len() > self.most_bytes {
                    return Err(Error::data(format!(
                        "column {} holds a value of {} bytes, and the server takes {}",
                        self.column.name,
                        bytes.len(),
                        self.most_bytes
                    ))
                    .hint("raise max_allowed_packet at the server, or leave the field out"));
                }
                hex(bytes, style, out);
            }
            Values::Date(values) => {
                if !date(values.value(row), style, out) {
                    self.out_of_range += 1;
                    null(style, out);
                }
            }
            Values::Time(values) => {
                quote(style, out);
                time(values.value(row), out);
                quote(style, out);
            }
            Values::Timestamp(values) => {
                if !timestamp(values.value(row), style, out) {
                    self.out_of_range += 1;
                    null(style, out);
                }
            }
        }
        Ok(())
    }

    fn not_finite(&mut self, style: Style, out: &mut Vec<u8>) {
        self.not_finite += 1;
        null(style, out);
    }

    fn notes(&self) -> impl Iterator<Item = Note> {
        let counts = [
            (NOT_FINITE, self.not_finite),
            (OUT_OF_RANGE, self.out_of_range),
            (HALVES, self.halves),
            (ROUNDED, self.rounded),
            (TOO_LARGE, self.too_large),
        ];
        let column = &self.column.name;
        counts
            .into_iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|(what, rows)| Note {
                column: column.clone(),
                what: what.to_owned(),
                rows,
            })
    }
}

fn values(logical: LogicalType, array: &ArrayRef) -> Option<Values<'_>> {
    let any = array.as_any();
    Some(match logical {
        LogicalType::Boolean => Values::Boolean(any.downcast_ref()?),
        LogicalType::Int16 => Values::Int16(any.downcast_ref()?),
        LogicalType::Int32 => Values::Int32(any.downcast_ref()?),
        LogicalType::Int64 => Values::Int64(any.downcast_ref()?),
        LogicalType::UInt64 => Values::UInt64(any.downcast_ref()?),
        LogicalType::Float32 => Values::Float32(any.downcast_ref()?),
        LogicalType::Float64 => Values::Float64(any.downcast_ref()?),
        LogicalType::Decimal { precision, scale } if precision <= 38 && scale >= 0 => {
            Values::Decimal128(any.downcast_ref()?, scale.unsigned_abs().into())
        }
        LogicalType::Decimal { .. } => Values::WideDecimal(array),
        LogicalType::Numeric | LogicalType::Text | LogicalType::Interval => {
            Values::Text(any.downcast_ref()?)
        }
        LogicalType::Json => Values::Json(any.downcast_ref()?),
        LogicalType::Uuid => Values::Uuid(any.downcast_ref()?),
        LogicalType::Binary => Values::Binary(any.downcast_ref()?),
        LogicalType::Date => Values::Date(any.downcast_ref()?),
        LogicalType::Time => Values::Time(any.downcast_ref()?),
        LogicalType::Timestamp | LogicalType::TimestampTz => Values::Timestamp(any.downcast_ref()?),
    })
}

fn null(style: Style, out: &mut Vec<u8>) {
    out.extend_from_slice(match style {
        Style::File => b"\\N",
        Style::Values => b"NULL",
    });
}

fn print(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

/// The shortest digits that mean the same double; false where there are none.
fn float(value: f64, out: &mut Vec<u8>) -> bool {
    if value.is_finite() {
        let _ = write!(out, "{value:e}");
    }
    value.is_finite()
}

fn quote(style: Style, out: &mut Vec<u8>) {
    if style == Style::Values {
        out.push(b'\'');
    }
}

fn quoted(text: &[u8], style: Style, out: &mut Vec<u8>) {
    quote(style, out);
    let special = |byte: &u8| match style {
        Style::File => matches!(byte, b'\\' | b'\t' | b'\n' | b'\r' | 0),
        Style::Values => *byte == b'\'',
    };
    let mut rest = text;
    while let Some(at) = rest.iter().position(special) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        let Some((byte, behind)) = from.split_first() else {
            break;
        };
        let escape: &[u8] = match byte {
            b'\\' => b"\\\\",
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            0 => b"\\0",
            _ => b"''",
        };
        out.extend_from_slice(escape);
        rest = behind;
    }
    out.extend_from_slice(rest);
    quote(style, out);
}

fn hex(bytes: &[u8], style: Style, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
    if style == Style::Values {
        out.push(b'X');
    }
    quote(style, out);
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
    quote(style, out);
}

fn decimal(units: i128, scale: usize, out: &mut Vec<u8>) {
    if units < 0 {
        out.push(b'-');
    }
    let start = out.len();
    match u64::try_from(units.unsigned_abs()) {
        // Printing 128 bits is slow, and few need them.
        Ok(small) => print(out, small),
        Err(_) => print(out, units.unsigned_abs()),
    }
    if scale == 0 {
        return;
    }
    let digits = out.len() - start;
    if digits <= scale {
        let zeros = scale + 1 - digits;
        out.splice(start..start, std::iter::repeat_n(b'0', zeros));
    }
    out.insert(out.len() - scale, b'.');
}

/// False where the server's calendar does not reach.
fn date(days: i32, style: Style, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = calendar::date(days);
    if !(1..=9999).contains(&year) {
        return false;
    }
    quote(style, out);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    quote(style, out);
    true
}

fn timestamp(micros: i64, style: Style, out: &mut Vec<u8>) -> bool {
    let days = i32::try_from(micros.div_euclid(DAY_MICROS)).ok();
    let date = days.map(calendar::date);
    let Some((year @ 1..=9999, month, day)) = date else {
        return false;
    };
    quote(style, out);
    let _ = write!(out, "{year:04}-{month:02}-{day:02} ");
    time(micros.rem_euclid(DAY_MICROS), out);
    quote(style, out);
    true
}

fn time(micros: i64, out: &mut Vec<u8>) {
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let _ = write!(out, "{hours:02}:{minutes:02}:{:02}", seconds % 60);
    if micros > 0 {
        let _ = write!(out, ".{micros:06}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_have_their_point_where_it_belongs() {
        for (units, scale, expected) in [
            (0, 2, "0.00"),
            (-5, 2, "-0.05"),
            (12345, 2, "123.45"),
            (7, 0, "7"),
            (i128::MAX, 10, "17014118346046923173168730371.5884105727"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(written(|out| decimal(units, scale, out)), expected);
        }
    }

    #[test]
    fn text_is_escaped_for_a_file_and_quoted_for_a_statement() {
        let text = b"a\\b\tc\nd'e\0";
        assert_eq!(
            written(|out| quoted(text, Style::File, out)),
            "a\\\\b\\tc\\nd'e\\0"
        );
        assert_eq!(
            written(|out| quoted(text, Style::Values, out)),
            "'a\\b\tc\nd''e\0'"
        );
        assert_eq!(written(|out| hex(b"\0\xff", Style::File, out)), "00FF");
        assert_eq!(written(|out| hex(b"", Style::Values, out)), "X''");
    }

    #[test]
    fn times_are_written_as_the_server_reads_them() {
        let stamp = |micros| written(|out| assert!(timestamp(micros, Style::File, out)));
        assert_eq!(stamp(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(stamp(253_402_300_799_999_999), "9999-12-31 23:59:59.999999");
        assert!(!timestamp(
            253_402_300_800_000_000,
            Style::File,
            &mut Vec::new()
        ));
        assert!(!timestamp(i64::MAX, Style::File, &mut Vec::new()));
        assert!(!timestamp(i64::MIN, Style::File, &mut Vec::new()));
        assert!(!date(i32::MAX, Style::File, &mut Vec::new()));
        assert_eq!(written(|out| time(DAY_MICROS, out)), "24:00:00");
    }
}
