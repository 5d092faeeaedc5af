//! Values in the server's text form, brought into its binary form, so that the same cell
//! decoders take them. Servers before 14 send nothing else, and none sends types without a
//! binary form otherwise. The session's settings make the text form the same everywhere.

use bytes::{BufMut, BytesMut};

use crate::{
    types::Wire,
    write::{
        interval::{self, Parsed},
        numeric,
    },
};

/// From 1970-01-01 to 2000-01-01, where the server counts from.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;

/// Writes the binary form behind what `binary` holds; `None` where the text is not what
/// the server writes for that type.
pub fn to_binary(wire: Wire, text: &[u8], binary: &mut BytesMut) -> Option<()> {
    match wire {
        Wire::Text | Wire::Json => binary.put_slice(text),
        Wire::Jsonb => {
            binary.put_u8(1);
            binary.put_slice(text);
        }
        Wire::Bytea => put_hex(text.strip_prefix(b"\\x")?, binary)?,
        _ => {
            let text = std::str::from_utf8(text).ok()?;
            put_plain(wire, text, binary)?;
        }
    }
    Some(())
}

fn put_plain(wire: Wire, text: &str, binary: &mut BytesMut) -> Option<()> {
    match wire {
        Wire::Bool => binary.put_u8(match text {
            "t" => 1,
            "f" => 0,
            _ => return None,
        }),
        Wire::Int2 => binary.put_i16(text.parse().ok()?),
        Wire::Int4 => binary.put_i32(text.parse().ok()?),
        Wire::Int8 => binary.put_i64(text.parse().ok()?),
        Wire::Oid => binary.put_u32(text.parse().ok()?),
        Wire::Float4 => binary.put_f32(text.parse().ok()?),
        Wire::Float8 => binary.put_f64(text.parse().ok()?),
        Wire::Decimal { .. } | Wire::Numeric => {
            let mut cell = BytesMut::new();
            numeric::put_text(&mut cell, text).ok()?;
            // A cell begins with its length.
            binary.put_slice(cell.get(4..)?);
        }
        Wire::Uuid => binary.put_slice(uuid::Uuid::try_parse(text).ok()?.as_bytes()),
        Wire::Date => binary.put_i32(match text {
            "infinity" => i32::MAX,
            "-infinity" => i32::MIN,
            _ => i32::try_from(days(text, christian(text).1)?).ok()?,
        }),
        Wire::Time => binary.put_i64(micros(text)?),
        Wire::Timestamp | Wire::TimestampTz => binary.put_i64(match text {
            "infinity" => i64::MAX,
            "-infinity" => i64::MIN,
            _ => timestamp(text)?,
        }),
        Wire::Interval => put_interval(text, binary)?,
        Wire::Text | Wire::Json | Wire::Jsonb | Wire::Bytea => return None,
    }
    Some(())
}

fn put_hex(digits: &[u8], binary: &mut BytesMut) -> Option<()> {
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    binary.reserve(pairs.len());
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for [high, low] in pairs {
        binary.put_u8((digit(*high)? << 4 | digit(*low)?) as u8);
    }
    Some(())
}

fn put_interval(text: &str, binary: &mut BytesMut) -> Option<()> {
    let (micros, days, months) = match (text, interval::parse(text).ok()?) {
        ("infinity", _) => (i64::MAX, i32::MAX, i32::MAX),
        ("-infinity", _) => (i64::MIN, i32::MIN, i32::MIN),
        (_, Parsed::Exact(interval)) => (interval.micros, interval.days, interval.months),
        _ => return None,
    };
    binary.put_i64(micros);
    binary.put_i32(days);
    binary.put_i32(months);
    Some(())
}

/// The text without its era, and whether that is the one before Christ.
fn christian(text: &str) -> (&str, bool) {
    match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    }
}

/// Days since 2000 of `2024-02-29`, whatever follows a blank being left aside.
fn days(text: &str, before_christ: bool) -> Option<i64> {
    let date = text.split(' ').next()?;
    let mut parts = date.splitn(3, '-');
    let mut number = || -> Option<i64> {
        let digits = parts.next()?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 7;
        plain.then(|| digits.parse().ok()).flatten()
    };
    let (year, month, day) = (number()?, number()?, number()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    // Years that begin in March end with their leap day.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 719,468 days from the era's begin to 1970.
    Some(era * 146_097 + day_of_era - 719_468 - EPOCH_DAYS)
}

/// Microseconds of `12:34:56.789`.
fn micros(time: &str) -> Option<i64> {
    let two = |at: usize| -> Option<i64> {
        let digits = time.get(at..at + 2)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let colon = |at: usize| time.as_bytes().get(at) == Some(&b':');
    if !colon(2) || !colon(5) {
        return None;
    }
    let seconds = two(0)? * 3600 + two(3)? * 60 + two(6)?;
    let fraction = match time.get(8..)? {
        "" => 0,
        fraction => {
            let digits = fraction.strip_prefix('.')?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            if !plain || digits.is_empty() || digits.len() > 6 {
                return None;
            }
            let value: i64 = digits.parse().ok()?;
            value * 10_i64.pow(6 - digits.len() as u32)
        }
    };
    Some(seconds * 1_000_000 + fraction)
}

/// Microseconds since 2000 of `2024-02-29 12:34:56.789`, with or without the zone `+00`.
fn timestamp(text: &str) -> Option<i64> {
    let (text, before_christ) = christian(text);
    let text = text.strip_suffix("+00").unwrap_or(text);
    let (_, time) = text.split_once(' ')?;
    let days = days(text, before_christ)?;
    // In wide numbers: the first day that fits begins before the first microsecond.
    let micros = i128::from(days) * i128::from(DAY_MICROS) + i128::from(micros(time)?);
    i64::try_from(micros).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn binary(wire: Wire, text: &str) -> Option<Vec<u8>> {
        let mut binary = BytesMut::new();
        to_binary(wire, text.as_bytes(), &mut binary)?;
        Some(binary.to_vec())
    }

    fn number(wire: Wire, text: &str) -> i64 {
        let binary = binary(wire, text).unwrap();
        match binary.as_slice().try_into() {
            Ok(bytes) => i64::from_be_bytes(bytes),
            Err(_) => i32::from_be_bytes(binary.try_into().unwrap()).into(),
        }
    }

    #[test]
    fn dates_and_times_count_from_2000() {
        assert_eq!(number(Wire::Date, "2000-01-01"), 0);
        assert_eq!(number(Wire::Date, "2000-03-01"), 60);
        assert_eq!(number(Wire::Date, "1999-12-31"), -1);
        assert_eq!(number(Wire::Date, "4713-11-24 BC"), -2_451_179);
        assert_eq!(number(Wire::Date, "0001-12-31 BC"), -730_120);
        assert_eq!(number(Wire::Date, "5874897-12-31"), 2_145_031_948);
        assert_eq!(number(Wire::Time, "24:00:00"), DAY_MICROS);
        assert_eq!(number(Wire::Time, "00:00:00.5"), 500_000);
        assert_eq!(
            number(Wire::Timestamp, "2000-01-02 00:00:01"),
            DAY_MICROS + 1_000_000
        );
        assert_eq!(
            number(Wire::TimestampTz, "1999-12-31 23:59:59.999999+00"),
            -1
        );
        assert_eq!(
            number(Wire::TimestampTz, "4714-11-24 00:00:00+00 BC"),
            -211_813_488_000_000_000
        );
        assert_eq!(number(Wire::TimestampTz, "-infinity"), i64::MIN);
    }

    #[test]
    fn other_texts_are_no_values() {
        for (wire, text) in [
            (Wire::Bool, "true"),
            (Wire::Int2, "32768"),
            (Wire::Int4, ""),
            (Wire::Bytea, "\\x0"),
            (Wire::Bytea, "\\xzz"),
            (Wire::Date, "2000-13-01"),
            (Wire::Date, "2000-01"),
            (Wire::Date, "99999999-01-01"),
            (Wire::Time, "1:2:3"),
            (Wire::Time, "01:02:03."),
            (Wire::Time, "ä1:02:03"),
            (Wire::Timestamp, "2000-01-01"),
            (Wire::Timestamp, "2000-01-01 00:00:00+02"),
            (Wire::Interval, "1 day"),
            (Wire::Numeric, "1x"),
            (Wire::Uuid, "x"),
        ] {
            assert_eq!(binary(wire, text), None, "{wire:?} {text}");
        }
    }

    const PLAIN: [Wire; 16] = [
        Wire::Bool,
        Wire::Int2,
        Wire::Int4,
        Wire::Int8,
        Wire::Oid,
        Wire::Float4,
        Wire::Float8,
        Wire::Numeric,
        Wire::Uuid,
        Wire::Bytea,
        Wire::Date,
        Wire::Time,
        Wire::Timestamp,
        Wire::TimestampTz,
        Wire::Interval,
        Wire::Jsonb,
    ];

    proptest! {
        #[test]
        fn no_text_breaks_anything(text in "[-0-9:. +BCinfinityPTYMDHS\\\\xé]{0,40}", which in 0..PLAIN.len()) {
            let _ = binary(PLAIN[which], &text);
        }
    }
}
