//! What rows hold, in a few bytes: two systems that hold the same values give the same digest,
//! whatever types they keep them in and in whichever order they show the rows.
//!
//! A cell is written in a form of its own: numbers as their exact value, so that 5, 5.0 and
//! 5.00 agree, dates as the moment they begin, UUIDs and texts as their characters, JSON
//! without regard to spaces and the order of its keys. The rows' hashes are added up.

use std::{
    io::Write,
    ops::{AddAssign, Sub},
};

use arrow_array::{Array, RecordBatch, cast::AsArray, types::*};
use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::{
    Error, LogicalType, Result,
    types::{DECIMAL_NAN, WIDE_DECIMAL_NAN},
};

/// Rows, counted, and their hashes added up modulo 2¹²⁸.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    pub sum: u128,
}

impl Digest {
    pub fn of_row(bytes: &[u8]) -> Digest {
        Digest {
            rows: 1,
            sum: xxh3_128(bytes),
        }
    }
}

impl AddAssign for Digest {
    fn add_assign(&mut self, other: Digest) {
        self.rows = self.rows.wrapping_add(other.rows);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// What is left of the rows when some are taken away.
impl Sub for Digest {
    type Output = Digest;

    fn sub(self, other: Digest) -> Digest {
        Digest {
            rows: self.rows.wrapping_sub(other.rows),
            sum: self.sum.wrapping_sub(other.sum),
        }
    }
}

/// The sum in hex, as people see it.
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}:{:032x}", self.rows, self.sum))
    }
}

/// Columns of a batch, ready to have their cells written.
pub struct Cells<'a> {
    columns: Vec<(LogicalType, &'a dyn Array)>,
}

impl<'a> Cells<'a> {
    /// The columns of `rows` at these places, which carry these types.
    ///
    /// # Errors
    /// `Bug` where a column is not there or is carried by another Arrow type.
    pub fn new(
        rows: &'a RecordBatch,
        columns: impl IntoIterator<Item = (usize, LogicalType)>,
    ) -> Result<Self> {
        let column = |(at, logical): (usize, LogicalType)| {
            let array = rows.columns().get(at).map(|array| array.as_ref());
            let array = array.filter(|array| *array.data_type() == logical.arrow());
            let wrong = || Error::bug(format!("column {at} does not carry {logical:?}"));
            Ok((logical, array.ok_or_else(wrong)?))
        };
        Ok(Cells {
            columns: columns.into_iter().map(column).collect::<Result<_>>()?,
        })
    }

    /// Appends one cell to `out`; false where it is null.
    pub fn value(&self, column: usize, row: usize, out: &mut Vec<u8>) -> bool {
        match self.columns.get(column) {
            Some((logical, array)) if array.is_valid(row) => {
                write(*logical, *array, row, out);
                true
            }
            _ => false,
        }
    }

    /// Appends some cells of a row, each marked off from the next.
    pub fn row(&self, row: usize, columns: impl IntoIterator<Item = usize>, out: &mut Vec<u8>) {
        for column in columns {
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            // Null has a length that no value has.
            let length = match self.value(column, row, out) {
                true => u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX - 1),
                false => u32::MAX,
            };
            if let Some(place) = out.get_mut(at..at + 4) {
                place.copy_from_slice(&length.to_le_bytes());
            }
        }
    }

    /// The hash of one cell, by which it is known whether it differs.
    pub fn hash(&self, column: usize, row: usize, buffer: &mut Vec<u8>) -> u64 {
        buffer.clear();
        self.row(row, [column], buffer);
        xxh3_64(buffer)
    }
}

/// Forms that a value may have; those of different kinds are never equal.
mod form {
    pub const WHOLE: u8 = 1;
    pub const NUMBER: u8 = 2;
    pub const CHARACTERS: u8 = 3;
    pub const BYTES: u8 = 4;
    pub const MOMENT: u8 = 5;
    pub const TIME: u8 = 6;
}

const DAY: i64 = 86_400_000_000;

fn write(logical: LogicalType, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    use LogicalType as L;
    match logical {
        L::Boolean => whole(array.as_boolean().value(row).into(), out),
        L::Int16 => whole(array.as_primitive::<Int16Type>().value(row).into(), out),
        L::Int32 => whole(array.as_primitive::<Int32Type>().value(row).into(), out),
        L::Int64 => whole(array.as_primitive::<Int64Type>().value(row), out),
        L::UInt64 => {
            let value = array.as_primitive::<UInt64Type>().value(row);
            match i64::try_from(value) {
                Ok(value) => whole(value, out),
                Err(_) => number(&value.to_string(), out),
            }
        }
        L::Float32 => float(array.as_primitive::<Float32Type>().value(row).into(), out),
        L::Float64 => float(array.as_primitive::<Float64Type>().value(row), out),
        L::Decimal { precision, scale } if precision <= 38 => {
            match array.as_primitive::<Decimal128Type>().value(row) {
                DECIMAL_NAN => number("NaN", out),
                value => decimal(value, -i32::from(scale), out),
            }
        }
        L::Decimal { scale, .. } => match array.as_primitive::<Decimal256Type>().value(row) {
            WIDE_DECIMAL_NAN => number("NaN", out),
            value => number(&format!("{value}e{}", -i32::from(scale)), out),
        },
        L::Numeric => number(array.as_string::<i32>().value(row), out),
        L::Text | L::Interval => characters(array.as_string::<i32>().value(row).as_bytes(), out),
        L::Json => json(array.as_string::<i32>().value(row), out),
        L::Uuid => {
            out.push(form::CHARACTERS);
            uuid(array.as_fixed_size_binary().value(row), out);
        }
        L::Binary => {
            out.push(form::BYTES);
            out.extend_from_slice(array.as_binary::<i32>().value(row));
        }
        L::Date => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            moment(days.saturating_mul(DAY), out);
        }
        L::Timestamp | L::TimestampTz => {
            moment(
                array.as_primitive::<TimestampMicrosecondType>().value(row),
                out,
            );
        }
        L::Time => {
            out.push(form::TIME);
            let time = array.as_primitive::<Time64MicrosecondType>().value(row);
            out.extend_from_slice(&time.to_le_bytes());
        }
    }
}

fn whole(value: i64, out: &mut Vec<u8>) {
    out.push(form::WHOLE);
    out.extend_from_slice(&value.to_le_bytes());
}

fn moment(micros: i64, out: &mut Vec<u8>) {
    out.push(form::MOMENT);
    out.extend_from_slice(&micros.to_le_bytes());
}

fn characters(text: &[u8], out: &mut Vec<u8>) {
    out.push(form::CHARACTERS);
    out.extend_from_slice(text);
}

fn float(value: f64, out: &mut Vec<u8>) {
    // From here on a whole number stands for its neighbours, and its shortest digits are
    // those of one of them.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return whole(value as i64, out);
    }
    // The longest are such as -2.2250738585072014e-308.
    let mut text = [0; 32];
    let mut left = text.as_mut_slice();
    let written = write!(left, "{value:e}").map(|()| left.len());
    let text = match written {
        Ok(left) => text.get(..text.len() - left),
        Err(_) => None,
    };
    number(
        text.and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default(),
        out,
    );
}

/// A whole number times a power of ten, as [`number`] writes it.
fn decimal(value: i128, exponent: i32, out: &mut Vec<u8>) {
    // Dividing 128 bits is slow, and few need them.
    let (digits, zeros) = match i64::try_from(value) {
        Ok(0) => return whole(0, out),
        Ok(mut short) => {
            let mut zeros = 0;
            while short % 10 == 0 {
                (short, zeros) = (short / 10, zeros + 1);
            }
            (i128::from(short), zeros)
        }
        Err(_) => {
            let (mut long, mut zeros) = (value, 0);
            while long % 10 == 0 {
                (long, zeros) = (long / 10, zeros + 1);
            }
            (long, zeros)
        }
    };
    let exponent = exponent + zeros;
    let power = u32::try_from(exponent).ok().filter(|power| *power < 19);
    let scaled = power.and_then(|power| digits.checked_mul(10i128.pow(power)));
    match scaled.and_then(|value| i64::try_from(value).ok()) {
        Some(value) => whole(value, out),
        None => {
            out.push(form::NUMBER);
            // Writing to memory does not fail.
            let _ = write!(out, "{digits}e{exponent}");
        }
    }
}

/// Decimal digits without zeros at either end and an exponent; what is no number, such as
/// `NaN`, stays as it is, in small letters.
fn number(text: &str, out: &mut Vec<u8>) {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = || before.bytes().chain(behind.bytes());
    let known = exponent.parse::<i64>().ok();
    let Some(exponent) =
        known.filter(|_| !mantissa.is_empty() && all().all(|b| b.is_ascii_digit()))
    else {
        out.push(form::NUMBER);
        let word = match digits.to_ascii_lowercase().as_str() {
            "inf" => "infinity".to_owned(),
            word => word.to_owned(),
        };
        let sign = if negative { "-" } else { "" };
        out.extend_from_slice(format!("{sign}{word}").as_bytes());
        return;
    };
    let digits: Vec<u8> = all().skip_while(|digit| *digit == b'0').collect();
    let end = digits.iter().rposition(|digit| *digit != b'0');
    let Some(end) = end else {
        return whole(0, out);
    };
    let exponent = exponent
        .saturating_sub(behind.len() as i64)
        .saturating_add((digits.len() - end - 1) as i64);
    let digits = std::str::from_utf8(digits.get(..=end).unwrap_or_default()).unwrap_or_default();
    if let Some(value) = as_whole(negative, digits, exponent) {
        return whole(value, out);
    }
    out.push(form::NUMBER);
    let sign = if negative { "-" } else { "" };
    out.extend_from_slice(format!("{sign}{digits}e{exponent}").as_bytes());
}

/// The value, where it is a whole one of 64 bits.
fn as_whole(negative: bool, digits: &str, exponent: i64) -> Option<i64> {
    let exponent = u32::try_from(exponent)
        .ok()
        .filter(|exponent| *exponent < 19)?;
    let value = digits.parse::<i128>().ok()?;
    let value = value.checked_mul(10i128.pow(exponent))?;
    i64::try_from(if negative { -value } else { value }).ok()
}

fn uuid(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0');
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Written anew by one hand, which leaves out spaces and sorts keys.
fn json(text: &str, out: &mut Vec<u8>) {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => characters(sorted(value).to_string().as_bytes(), out),
        Err(_) => characters(text.as_bytes(), out),
    }
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            members
                .into_iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        Value::Array(elements) => elements.into_iter().map(sorted).collect::<Vec<_>>().into(),
        // One and one point nothing are the same number.
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).into(),
            _ => Value::Number(number),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_number(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        number(text, &mut out);
        out
    }

    fn of_float(value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        float(value, &mut out);
        out
    }

    fn of_json(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        json(text, &mut out);
        out
    }

    #[test]
    fn a_number_is_its_value_however_it_is_written() {
        for same in [
            vec!["-9223372036854775808", "-9.223372036854775808e18"],
            vec!["9223372036854775808", "922337203685477580.8e1"],
            vec!["5", "5.0", "05.00", "+5", "5e0", "50e-1", "0.5e1"],
            vec!["0", "-0", "0.000", "0e10"],
            vec!["-1.50", "-1.5", "-15e-1"],
            vec!["1e30", "1000000000000000000000000000000", "10.0e29"],
            vec!["NaN", "nan"],
            vec!["Infinity", "inf"],
        ] {
            for text in &same {
                assert_eq!(of_number(text), of_number(same[0]), "{text}");
            }
        }
        for (one, other) in [
            ("1", "-1"),
            ("1", "10"),
            ("1.5", "15"),
            ("NaN", "0"),
            ("inf", "-inf"),
        ] {
            assert_ne!(of_number(one), of_number(other), "{one} {other}");
        }
        assert_eq!(of_float(0.1), of_number("0.1"));
        assert_eq!(of_float(-0.0), of_number("0"));
        assert_eq!(of_float(1e300), of_number("1e300"));
        assert_eq!(of_float(f64::NEG_INFINITY), of_number("-Infinity"));
    }

    #[test]
    fn documents_are_equal_whatever_their_spaces_and_order() {
        let one = of_json(r#"{"b": [1, {"z": null, "y": "x"}], "a": 1.0}"#);
        assert_eq!(one, of_json(r#"{"a":1,"b":[1,{"y":"x","z":null}]}"#));
        assert_ne!(one, of_json(r#"{"a":1,"b":[{"y":"x","z":null},1]}"#));
        assert_ne!(of_json("{"), of_json("[")); // no document, but a text all the same
    }

    proptest! {
        #[test]
        fn whole_numbers_agree_in_every_type(value: i64, zeros in 0usize..6) {
            let mut out = Vec::new();
            whole(value, &mut out);
            let behind = if zeros > 0 { format!(".{}", "0".repeat(zeros)) } else { String::new() };
            prop_assert_eq!(&out, &of_number(&format!("{value}{behind}")));
            if value.unsigned_abs() < 1 << 53 {
                prop_assert_eq!(&out, &of_float(value as f64));
            }
        }

        #[test]
        fn decimals_are_written_as_the_numbers_they_are(value: i128, short: i32, scale in -20i32..40, zeros in 0u32..9) {
            let ends_in_zeros = i128::from(short) * 10i128.pow(zeros);
            for value in [value, i128::from(short), ends_in_zeros, 0, i128::MIN, i64::MIN.into()] {
                let mut out = Vec::new();
                decimal(value, -scale, &mut out);
                prop_assert_eq!(out, of_number(&format!("{value}e{}", -scale)));
            }
        }

        #[test]
        fn floats_are_written_as_the_numbers_they_are(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assert_eq!(of_float(value), of_number(&format!("{value:e}")));
        }

        #[test]
        fn whole_floats_are_written_as_the_numbers_they_are(value: i64, shift in 0u32..63) {
            let value = (value >> shift) as f64;
            prop_assert_eq!(of_float(value), of_number(&format!("{value:e}")));
        }

        #[test]
        fn uuids_are_their_characters(id: [u8; 16]) {
            let mut out = Vec::new();
            uuid(&id, &mut out);
            let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..16]);
            let (d, e) = (&digits[16..20], &digits[20..]);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{a}-{b}-{c}-{d}-{e}"));
        }

        #[test]
        fn different_decimals_differ(a: i32, b: i32, scale in 0u32..9) {
            let text = |value: i32| format!("{value}e-{scale}");
            prop_assert_eq!(a == b, of_number(&text(a)) == of_number(&text(b)));
        }

        #[test]
        fn the_order_of_rows_does_not_matter(rows: Vec<Vec<u8>>, cut: usize) {
            let sum = |rows: &[Vec<u8>]| {
                let mut sum = Digest::default();
                for row in rows { sum += Digest::of_row(row); }
                sum
            };
            let mut turned = rows.clone();
            turned.rotate_left(if rows.is_empty() { 0 } else { cut % rows.len() });
            prop_assert_eq!(sum(&rows), sum(&turned));
            let (one, other) = rows.split_at(if rows.is_empty() { 0 } else { cut % rows.len() });
            prop_assert_eq!(sum(&rows) - sum(one), sum(other));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            of_number(&text);
            of_json(&text);
        }
    }
}
