//! Cells as the log holds them, which is how the server stores them, brought into the form in
//! which rows of a query are decoded.

use tideway_core::Result;

use super::{
    json,
    table_map::{MapColumn, ty},
};
use crate::{
    calendar,
    connect::{Fields, damaged},
    read::column::Raw,
};

/// A value that stands in the log, or had to be made from it.
pub enum Value<'a> {
    Raw(Raw<'a>),
    Made(Vec<u8>),
}

impl Value<'_> {
    pub fn raw(&self) -> Raw<'_> {
        match self {
            Value::Raw(raw) => *raw,
            Value::Made(bytes) => Raw::Bytes(bytes),
        }
    }
}

/// Takes the cell off the front, its length included where it has one.
pub fn take<'a>(column: &MapColumn, fields: &mut Fields<'a>) -> Result<&'a [u8]> {
    use ty::*;
    let (first, second) = column.meta;
    let size = match column.code {
        TINY | YEAR => 1,
        SHORT => 2,
        INT24 | DATE | NEWDATE | TIME => 3,
        LONG | FLOAT | TIMESTAMP => 4,
        LONGLONG | DOUBLE | DATETIME => 8,
        TIMESTAMP2 => 4 + fraction_size(first),
        DATETIME2 => 5 + fraction_size(first),
        TIME2 => 3 + fraction_size(first),
        BIT => usize::from(second) + usize::from(first > 0),
        DECIMAL => decimal_size(first, second)?,
        ENUM | SET => second.into(),
        VARCHAR | VAR_STRING => {
            let most = u16::from_le_bytes([first, second]);
            length(fields, if most > 255 { 2 } else { 1 })?
        }
        STRING => length(fields, if fixed_width(column) > 255 { 2 } else { 1 })?,
        BLOB | JSON | GEOMETRY | VECTOR => length(fields, first.into())?,
        _ => return Err(damaged()),
    };
    fields.bytes(size)
}

/// Bytes of a text of fixed length.
pub fn fixed_width(column: &MapColumn) -> usize {
    let (first, second) = column.meta;
    // The length's ninth and tenth bit are where the type has two of its own.
    usize::from(second) | usize::from((first & 0x30) ^ 0x30) << 4
}

fn length(fields: &mut Fields<'_>, size: usize) -> Result<usize> {
    if size > 4 {
        return Err(damaged());
    }
    let bytes = fields.bytes(size)?;
    Ok(little(bytes) as usize)
}

fn little(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev().take(8);
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn big(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().take(8);
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What the cell says. `width` is how long a value of fixed length is, whose end of zeros is
/// left out in the log.
pub fn value<'a>(column: &MapColumn, cell: &'a [u8], width: usize) -> Result<Value<'a>> {
    use ty::*;
    let mut fields = Fields(cell);
    let raw = match column.code {
        TINY if column.unsigned => Raw::UInt(fields.byte()?.into()),
        TINY => Raw::Int(i8::from_le_bytes(fields.array()?).into()),
        SHORT if column.unsigned => Raw::UInt(fields.u16()?.into()),
        SHORT => Raw::Int(i16::from_le_bytes(fields.array()?).into()),
        INT24 if column.unsigned => Raw::UInt(little(cell)),
        INT24 => {
            let [a, b, c] = fields.array()?;
            Raw::Int((i32::from_le_bytes([0, a, b, c]) >> 8).into())
        }
        LONG if column.unsigned => Raw::UInt(fields.u32()?.into()),
        LONG => Raw::Int(i32::from_le_bytes(fields.array()?).into()),
        LONGLONG if column.unsigned => Raw::UInt(u64::from_le_bytes(fields.array()?)),
        LONGLONG => Raw::Int(i64::from_le_bytes(fields.array()?)),
        FLOAT => Raw::Float(f32::from_le_bytes(fields.array()?)),
        DOUBLE => Raw::Double(f64::from_le_bytes(fields.array()?)),
        YEAR => Raw::Int(match fields.byte()? {
            0 => 0,
            year => 1900 + i64::from(year),
        }),
        DATE | NEWDATE => {
            let packed = little(cell);
            Raw::Moment {
                date: date(packed >> 9, packed >> 5 & 15, packed & 31),
                time: (0, 0, 0),
                micros: 0,
            }
        }
        TIMESTAMP => since_1970(fields.u32()?, 0),
        TIMESTAMP2 => {
            let seconds = u32::from_be_bytes(fields.array()?);
            since_1970(seconds, micros(fields.0, column.meta.0))
        }
        DATETIME => {
            let packed = u64::from_le_bytes(fields.array()?);
            let (day, time) = (packed / 1_000_000, packed % 1_000_000);
            Raw::Moment {
                date: date(day / 10_000, day / 100 % 100, day % 100),
                time: clock(time / 10_000, time / 100 % 100, time % 100),
                micros: 0,
            }
        }
        DATETIME2 => datetime(fields.bytes(5)?, micros(fields.0, column.meta.0)),
        TIME => {
            let [a, b, c] = fields.array()?;
            let packed = i32::from_le_bytes([0, a, b, c]) >> 8;
            let digits = u64::from(packed.unsigned_abs());
            Raw::Span {
                negative: packed < 0,
                seconds: (digits / 10_000 * 60 + digits / 100 % 100) * 60 + digits % 100,
                micros: 0,
            }
        }
        TIME2 => time(cell, column.meta.0),
        DECIMAL => return decimal(column.meta, cell).map(Value::Made),
        ENUM => match little(cell).checked_sub(1) {
            // What was no member of it.
            None => Raw::Bytes(b""),
            Some(at) => {
                let word = usize::try_from(at).ok().and_then(|at| column.words.get(at));
                return Ok(Value::Made(word.ok_or_else(damaged)?.clone()));
            }
        },
        SET => return Ok(Value::Made(set(column, little(cell)))),
        JSON => return json::text(cell).map(Value::Made),
        STRING if cell.len() < width => {
            let mut padded = cell.to_vec();
            padded.resize(width, 0);
            return Ok(Value::Made(padded));
        }
        _ => Raw::Bytes(cell),
    };
    Ok(Value::Raw(raw))
}

fn set(column: &MapColumn, bits: u64) -> Vec<u8> {
    let members = column.words.iter().take(64).enumerate();
    let members: Vec<&[u8]> = members
        .filter(|(at, _)| bits >> at & 1 == 1)
        .map(|(_, word)| word.as_slice())
        .collect();
    members.join(&b","[..])
}

/// Bytes of so many digits behind the point.
fn fraction_size(digits: u8) -> usize {
    usize::from(digits.min(6).div_ceil(2))
}

fn micros(bytes: &[u8], digits: u8) -> u32 {
    let scale = match digits {
        1 | 2 => 10_000,
        3 | 4 => 100,
        _ => 1,
    };
    (big(bytes) as u32).wrapping_mul(scale)
}

/// Numbers that are too large are cut: no calendar has them.
fn date(year: u64, month: u64, day: u64) -> (u16, u8, u8) {
    let part = |part: u64| u8::try_from(part).unwrap_or(u8::MAX);
    (
        u16::try_from(year).unwrap_or(u16::MAX),
        part(month),
        part(day),
    )
}

fn clock(hour: u64, minute: u64, second: u64) -> (u8, u8, u8) {
    let part = |part: u64| u8::try_from(part).unwrap_or(u8::MAX);
    (part(hour), part(minute), part(second))
}

fn since_1970(seconds: u32, micros: u32) -> Raw<'static> {
    if seconds == 0 && micros == 0 {
        // A date of zeros.
        return Raw::Moment {
            date: (0, 0, 0),
            time: (0, 0, 0),
            micros: 0,
        };
    }
    let (days, of_day) = (seconds / 86_400, u64::from(seconds % 86_400));
    let (year, month, day) = calendar::date(days as i32);
    Raw::Moment {
        date: (year as u16, month, day),
        time: clock(of_day / 3600, of_day / 60 % 60, of_day % 60),
        micros,
    }
}

fn datetime(packed: &[u8], micros: u32) -> Raw<'static> {
    let packed = big(packed) & 0x7f_ffff_ffff;
    let (day, time) = (packed >> 17, packed & 0x1_ffff);
    let month = day >> 5;
    Raw::Moment {
        date: date(month / 13, month % 13, day & 31),
        time: clock(time >> 12, time >> 6 & 63, time & 63),
        micros,
    }
}

fn time(cell: &[u8], digits: u8) -> Raw<'static> {
    let behind = fraction_size(digits) * 8;
    // Hours and fraction are one number, zero in the middle of its range.
    let value = big(cell) as i64 - (0x80_0000_i64 << behind);
    let size = value.unsigned_abs();
    let (whole, fraction) = (size >> behind, size & ((1 << behind) - 1));
    let bytes = fraction.to_be_bytes();
    let fraction = bytes.get(8 - behind / 8..).unwrap_or_default();
    Raw::Span {
        negative: value < 0,
        seconds: ((whole >> 12 & 0x3ff) * 60 + (whole >> 6 & 63)) * 60 + (whole & 63),
        micros: micros(fraction, digits),
    }
}

/// Bytes of a group of fewer than nine digits.
const GROUP: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

pub fn decimal_size(precision: u8, scale: u8) -> Result<usize> {
    let whole = precision.checked_sub(scale).ok_or_else(damaged)?;
    let size = |digits: u8| {
        let rest = GROUP.get(usize::from(digits % 9)).copied();
        usize::from(digits / 9) * 4 + rest.unwrap_or_default()
    };
    Ok(size(whole) + size(scale))
}

/// Groups of nine digits, the odd ones outermost; the first bit is the sign's, and all are
/// turned around where the number is negative.
pub fn decimal((precision, scale): (u8, u8), cell: &[u8]) -> Result<Vec<u8>> {
    if cell.len() != decimal_size(precision, scale)? {
        return Err(damaged());
    }
    let mut bytes = cell.to_vec();
    let first = bytes.first_mut().ok_or_else(damaged)?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut fields = Fields(&bytes);
    let mut text = Vec::with_capacity(usize::from(precision) + 3);
    if negative {
        text.push(b'-');
    }
    let whole = precision - scale;
    let mut group = |digits: u8, text: &mut Vec<u8>| -> Result<()> {
        let size = GROUP.get(usize::from(digits)).copied();
        let number = big(fields.bytes(size.ok_or_else(damaged)?)?);
        let width = usize::from(digits);
        text.extend_from_slice(format!("{number:0width$}").as_bytes());
        Ok(())
    };
    if !whole.is_multiple_of(9) {
        group(whole % 9, &mut text)?;
    }
    for _ in 0..whole / 9 {
        group(9, &mut text)?;
    }
    let zeros_from = usize::from(negative);
    let significant = text
        .iter()
        .skip(zeros_from)
        .position(|digit| *digit != b'0');
    let end = significant.map_or(text.len(), |at| zeros_from + at);
    text.drain(zeros_from..end);
    if text.len() == zeros_from {
        text.push(b'0');
    }
    if scale > 0 {
        text.push(b'.');
        for _ in 0..scale / 9 {
            group(9, &mut text)?;
        }
        if !scale.is_multiple_of(9) {
            group(scale % 9, &mut text)?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(precision: u8, scale: u8, bytes: &[u8]) -> String {
        String::from_utf8(decimal((precision, scale), bytes).unwrap()).unwrap()
    }

    #[test]
    fn decimals_are_in_groups_of_nine_digits() {
        let positive = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(shown(14, 4, &positive), "1234567890.1234");
        let negative: Vec<u8> = positive.iter().map(|byte| !byte).collect();
        assert_eq!(shown(14, 4, &negative), "-1234567890.1234");
        assert_eq!(shown(3, 2, &[0x80, 0x05]), "0.05");
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_values_or_errors(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            code in any::<u8>(), meta in any::<(u8, u8)>(), unsigned in any::<bool>(),
        ) {
            let column = MapColumn { code, meta, unsigned, ..MapColumn::default() };
            if let Ok(cell) = take(&column, &mut Fields(&bytes)) {
                let _ = value(&column, cell, 16);
            }
        }
    }
}
