//! MySQL's binary JSON as the text that the server shows of it.

use tideway_core::{Error, Result};

use super::cell;
use crate::connect::{Fields, damaged};

/// The server allows a hundred.
const DEEPEST: usize = 128;

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// # Errors
/// `Data` where the bytes are no document.
pub fn text(document: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(document.len() * 2);
    // The server writes a null into a column that may not be null as nothing at all.
    match document.split_first() {
        None => out.extend_from_slice(b"null"),
        Some((kind, value)) => {
            // A document may name the same bytes many times; an honest one does not.
            let most = document.len().saturating_mul(64).saturating_add(4096);
            Writer {
                out: &mut out,
                most,
            }
            .value(*kind, value, 0)?;
        }
    }
    Ok(out)
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    most: usize,
}

impl Writer<'_> {
    fn put(&mut self, text: &[u8]) -> Result<()> {
        if self.out.len() + text.len() > self.most {
            return Err(damaged());
        }
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn number(&mut self, number: impl ToString) -> Result<()> {
        self.put(number.to_string().as_bytes())
    }

    fn value(&mut self, kind: u8, bytes: &[u8], depth: usize) -> Result<()> {
        let mut fields = Fields(bytes);
        match kind {
            SMALL_OBJECT => self.container(bytes, true, false, depth),
            LARGE_OBJECT => self.container(bytes, true, true, depth),
            SMALL_ARRAY => self.container(bytes, false, false, depth),
            LARGE_ARRAY => self.container(bytes, false, true, depth),
            LITERAL => self.put(match fields.byte()? {
                0 => b"null",
                1 => b"true",
                2 => b"false",
                _ => return Err(damaged()),
            }),
            INT16 => self.number(i16::from_le_bytes(fields.array()?)),
            UINT16 => self.number(fields.u16()?),
            INT32 => self.number(i32::from_le_bytes(fields.array()?)),
            UINT32 => self.number(fields.u32()?),
            INT64 => self.number(i64::from_le_bytes(fields.array()?)),
            UINT64 => self.number(u64::from_le_bytes(fields.array()?)),
            DOUBLE => self.put(double(f64::from_le_bytes(fields.array()?)).as_bytes()),
            STRING => {
                let text = sized(&mut fields)?;
                self.string(text)
            }
            OPAQUE => {
                let code = fields.byte()?;
                let value = sized(&mut fields)?;
                self.opaque(code, value)
            }
            _ => Err(damaged()),
        }
    }

    /// Offsets count from the container's own front.
    fn container(&mut self, bytes: &[u8], object: bool, large: bool, depth: usize) -> Result<()> {
        if depth >= DEEPEST {
            return Err(damaged());
        }
        let number = |fields: &mut Fields<'_>| -> Result<usize> {
            Ok(match large {
                true => fields.u32()? as usize,
                false => fields.u16()?.into(),
            })
        };
        let mut fields = Fields(bytes);
        let (count, size) = (number(&mut fields)?, number(&mut fields)?);
        let bytes = bytes.get(..size).ok_or_else(damaged)?;
        let entry = if large { 4 } else { 2 };
        let mut keys = match object {
            true => Fields(fields.bytes(count.checked_mul(entry + 2).ok_or_else(damaged)?)?),
            false => Fields(&[]),
        };
        self.put(if object { b"{" } else { b"[" })?;
        for at in 0..count {
            if at > 0 {
                self.put(b", ")?;
            }
            if object {
                let (from, length) = (number(&mut keys)?, usize::from(keys.u16()?));
                let key = bytes.get(from..).and_then(|rest| rest.get(..length));
                self.string(key.ok_or_else(damaged)?)?;
                self.put(b": ")?;
            }
            let kind = fields.byte()?;
            let inline = fields.bytes(entry)?;
            let here =
                matches!(kind, LITERAL | INT16 | UINT16) || large && matches!(kind, INT32 | UINT32);
            let value = match here {
                true => inline,
                false => {
                    let from = number(&mut Fields(inline))?;
                    bytes.get(from..).ok_or_else(damaged)?
                }
            };
            self.value(kind, value, depth + 1)?;
        }
        self.put(if object { b"}" } else { b"]" })
    }

    fn string(&mut self, text: &[u8]) -> Result<()> {
        self.put(b"\"")?;
        for byte in text {
            match byte {
                b'"' => self.put(b"\\\"")?,
                b'\\' => self.put(b"\\\\")?,
                8 => self.put(b"\\b")?,
                9 => self.put(b"\\t")?,
                10 => self.put(b"\\n")?,
                12 => self.put(b"\\f")?,
                13 => self.put(b"\\r")?,
                0..0x20 => self.put(format!("\\u{byte:04x}").as_bytes())?,
                byte => self.put(&[*byte])?,
            }
        }
        self.put(b"\"")
    }

    /// Values of types that JSON does not have.
    fn opaque(&mut self, code: u8, value: &[u8]) -> Result<()> {
        let mut fields = Fields(value);
        match code {
            // Decimals.
            246 => {
                let meta = (fields.byte()?, fields.byte()?);
                let text = cell::decimal(meta, fields.0)?;
                self.put(&text)
            }
            // Dates, times of day, moments.
            7 | 10 | 11 | 12 => {
                let text = temporal(code, i64::from_le_bytes(fields.array()?));
                self.string(text.as_bytes())
            }
            _ => {
                self.put(format!("\"base64:type{code}:").as_bytes())?;
                let text = base64(value);
                self.put(&text)?;
                self.put(b"\"")
            }
        }
    }
}

/// Bytes with their length before them, seven bits in each byte.
fn sized<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8]> {
    let mut length = 0_usize;
    for at in 0..5 {
        let byte = fields.byte()?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return fields.bytes(length);
        }
    }
    Err(damaged())
}

/// The shortest digits that are the number, with an exponent where there would be many zeros.
fn double(number: f64) -> String {
    let shortest = format!("{number:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else {
        return shortest;
    };
    let point = exponent.parse().unwrap_or(0) + 1;
    if (-14..=15).contains(&point) {
        let plain = format!("{number}");
        return match plain.contains('.') {
            true => plain,
            false => plain + ".0",
        };
    }
    format!("{digits}e{exponent}")
}

fn temporal(code: u8, packed: i64) -> String {
    let sign = if packed < 0 { "-" } else { "" };
    let size = packed.unsigned_abs();
    let (whole, micros) = (size >> 24, size & 0xff_ffff);
    if code == 11 {
        let (hour, minute, second) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
        return format!("{sign}{hour:02}:{minute:02}:{second:02}.{micros:06}");
    }
    let (day, time) = (whole >> 17, whole & 0x1_ffff);
    let (month, day) = (day >> 5, day & 31);
    let date = format!("{:04}-{:02}-{day:02}", month / 13, month % 13);
    if code == 10 {
        return date;
    }
    let (hour, minute, second) = (time >> 12, time >> 6 & 63, time & 63);
    format!("{date} {hour:02}:{minute:02}:{second:02}.{micros:06}")
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| {
            bits << 8 | u32::from(group.get(at).copied().unwrap_or_default())
        });
        for at in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * at) & 63) as usize);
            let digit = digit.copied().filter(|_| at <= group.len());
            out.push(digit.unwrap_or(b'='));
        }
    }
    out
}

/// What the log tells of a document instead of the whole of it.
pub fn partial() -> Error {
    Error::config("the server logs only what changed of JSON documents")
        .field("change_detection")
        .hint("SET PERSIST binlog_row_value_options = ''")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_shortest_digits() {
        for (number, shown) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1e15"),
            (123456789012345.0, "123456789012345.0"),
            (1.5e300, "1.5e300"),
            (-1e-20, "-1e-20"),
        ] {
            assert_eq!(double(number), shown);
        }
        assert_eq!(base64(b"a"), b"YQ==");
        assert_eq!(base64(b"abcd"), b"YWJjZA==");
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_documents_or_errors(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            kind in 0_u8..16,
        ) {
            let _ = text(&bytes);
            let mut likely = vec![kind];
            likely.extend_from_slice(&bytes);
            let _ = text(&likely);
        }
    }
}
