//! What a stored value says when it is read as a logical type. Discovery asks whether it
//! can be read so ([`fits`]), the reader for the value itself; both go through the same
//! functions, so a column's type is what its values are.

use std::borrow::Cow;

use arrow_buffer::i256;
use rusqlite::types::ValueRef;
use serde::de::IgnoredAny;
use tideway_core::{LogicalType, types::WIDE_DECIMAL_NAN};

use crate::{
    moment::{self, Moment},
    number,
};

pub fn boolean(value: ValueRef<'_>) -> Option<bool> {
    match value {
        ValueRef::Integer(0) => Some(false),
        ValueRef::Integer(1) => Some(true),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"true") => Some(true),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

pub fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

pub fn unsigned(value: ValueRef<'_>) -> Option<u64> {
    match value {
        ValueRef::Integer(number) => u64::try_from(number).ok(),
        ValueRef::Text(text) if text.first().is_some_and(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// A float, or an integer that is the same number as a float.
pub fn float(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Real(number) => Some(number),
        ValueRef::Integer(number) => {
            let float = number as f64;
            (float as i128 == i128::from(number)).then_some(float)
        }
        _ => None,
    }
}

pub fn single(value: ValueRef<'_>) -> Option<f32> {
    let double = float(value)?;
    let single = double as f32;
    (f64::from(single) == double).then_some(single)
}

/// The value times 10^`scale`. A float passes if the shortest digits that name it fit:
/// those digits lead back to the very same float, so nothing is lost.
pub fn decimal(value: ValueRef<'_>, precision: u8, scale: i8) -> Option<i256> {
    match value {
        ValueRef::Null | ValueRef::Blob(_) => None,
        ValueRef::Text(text) if text == number::NAN.as_bytes() => Some(WIDE_DECIMAL_NAN),
        ValueRef::Text(text) => number::unscaled(text, precision, scale),
        number => number::unscaled(digits(number).as_bytes(), precision, scale),
    }
}

pub fn numeric(value: ValueRef<'_>) -> Option<Cow<'_, str>> {
    match value {
        ValueRef::Integer(_) => Some(digits(value).into()),
        ValueRef::Real(number) if number.is_finite() => Some(digits(value).into()),
        ValueRef::Text(text) if number::is_number(text) => utf8(text),
        _ => None,
    }
}

pub fn text(value: ValueRef<'_>) -> Option<Cow<'_, str>> {
    match value {
        ValueRef::Text(text) => utf8(text),
        ValueRef::Integer(_) | ValueRef::Real(_) => Some(digits(value).into()),
        ValueRef::Null | ValueRef::Blob(_) => None,
    }
}

pub fn json(value: ValueRef<'_>) -> Option<Cow<'_, str>> {
    let document = match value {
        ValueRef::Real(number) if !number.is_finite() => return None,
        value => text(value)?,
    };
    serde_json::from_str::<IgnoredAny>(&document).ok()?;
    Some(document)
}

/// 16 bytes, or 32 hex digits with hyphens in their places or none.
pub fn uuid(value: ValueRef<'_>) -> Option<[u8; 16]> {
    let text = match value {
        ValueRef::Blob(bytes) => return bytes.try_into().ok(),
        ValueRef::Text(text) => text,
        _ => return None,
    };
    let hyphenated = match text.len() {
        32 => false,
        36 => true,
        _ => return None,
    };
    let mut bytes = [0_u8; 16];
    let mut digits = 0_usize;
    for (at, c) in text.iter().enumerate() {
        if hyphenated && matches!(at, 8 | 13 | 18 | 23) {
            if *c != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(*c).to_digit(16)? as u8;
        let byte = bytes.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

pub fn bytes(value: ValueRef<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(bytes.into()),
        number => Some(digits(number).into_bytes().into()),
    }
}

pub fn date(value: ValueRef<'_>) -> Option<i32> {
    moment::parse_date(text_bytes(value)?)
}

pub fn time(value: ValueRef<'_>) -> Option<i64> {
    moment::parse_time(text_bytes(value)?)
}

pub fn timestamp(value: ValueRef<'_>, zoned: bool) -> Option<i64> {
    let text = text_bytes(value)?;
    moment::parse_infinity(text).or_else(|| match moment::parse_moment(text)? {
        Moment { micros, zoned: z } if z == zoned => Some(micros),
        _ => None,
    })
}

/// An ISO 8601 duration: `P1Y2M3DT4H5M6.5S`, each number with a sign or none.
pub fn interval(value: ValueRef<'_>) -> Option<Cow<'_, str>> {
    let text = text_bytes(value)?;
    let mut rest = text.strip_prefix(b"-").unwrap_or(text).strip_prefix(b"P")?;
    let mut units = b"YMWD".as_slice();
    let mut parts = 0_usize;
    while let Some(first) = rest.first() {
        if *first == b'T' && units != b"HMS" {
            (units, rest) = (b"HMS", rest.get(1..)?);
            continue;
        }
        let width = rest
            .iter()
            .take_while(|c| c.is_ascii_digit() || b"+-.".contains(c))
            .count();
        let (count, after) = rest.split_at_checked(width)?;
        if !number::is_number(count) || !units.contains(after.first()?) {
            return None;
        }
        rest = after.get(1..)?;
        parts += 1;
    }
    if parts == 0 { None } else { utf8(text) }
}

/// Whether a value that is not null can be read as this type without loss.
pub fn fits(logical: LogicalType, value: ValueRef<'_>) -> bool {
    let number = matches!(value, ValueRef::Integer(_) | ValueRef::Real(_));
    match logical {
        LogicalType::Boolean => boolean(value).is_some(),
        LogicalType::Int16 => integer(value).is_some_and(|n| i16::try_from(n).is_ok()),
        LogicalType::Int32 => integer(value).is_some_and(|n| i32::try_from(n).is_ok()),
        LogicalType::Int64 => integer(value).is_some(),
        LogicalType::UInt64 => unsigned(value).is_some(),
        LogicalType::Float32 => single(value).is_some(),
        LogicalType::Float64 => float(value).is_some(),
        LogicalType::Decimal { precision, scale } => decimal(value, precision, scale).is_some(),
        LogicalType::Numeric => numeric(value).is_some(),
        LogicalType::Text => number || text(value).is_some(),
        LogicalType::Json => json(value).is_some(),
        LogicalType::Uuid => uuid(value).is_some(),
        LogicalType::Binary => true,
        LogicalType::Date => date(value).is_some(),
        LogicalType::Time => time(value).is_some(),
        LogicalType::Timestamp => timestamp(value, false).is_some(),
        LogicalType::TimestampTz => timestamp(value, true).is_some(),
        LogicalType::Interval => interval(value).is_some(),
    }
}

/// The shortest digits that name the number; a float shows that it is one (`5.0`).
fn digits(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => real_digits(number),
        _ => String::new(),
    }
}

pub fn real_digits(number: f64) -> String {
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    format!("{number:?}")
}

fn text_bytes(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(text) => Some(text),
        _ => None,
    }
}

fn utf8(text: &[u8]) -> Option<Cow<'_, str>> {
    std::str::from_utf8(text).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use LogicalType::*;

    fn t(text: &str) -> ValueRef<'_> {
        ValueRef::Text(text.as_bytes())
    }

    #[test]
    fn a_float_is_a_decimal_only_if_its_digits_fit() {
        assert_eq!(
            decimal(ValueRef::Real(12.34), 10, 2),
            Some(i256::from_i128(1234))
        );
        assert_eq!(decimal(ValueRef::Real(0.1 + 0.2), 10, 2), None);
        assert_eq!(decimal(ValueRef::Real(1e300), 10, 2), None);
        assert_eq!(decimal(ValueRef::Real(f64::INFINITY), 10, 2), None);
        assert_eq!(
            decimal(ValueRef::Integer(-7), 3, 2),
            Some(i256::from_i128(-700))
        );
        assert_eq!(decimal(ValueRef::Integer(77), 3, 2), None);
    }

    #[test]
    fn an_integer_is_a_float_only_if_it_is_the_same_number() {
        assert_eq!(
            float(ValueRef::Integer(1 << 53)),
            Some(9_007_199_254_740_992.0)
        );
        assert_eq!(float(ValueRef::Integer((1 << 53) + 1)), None);
        assert_eq!(float(ValueRef::Integer(i64::MAX)), None);
        assert_eq!(
            float(ValueRef::Integer(i64::MIN)),
            Some(-9_223_372_036_854_775_808.0)
        );
        assert_eq!(single(ValueRef::Real(0.1)), None);
        assert_eq!(single(ValueRef::Real(0.5)), Some(0.5));
    }

    #[test]
    fn uuids_come_in_three_forms() {
        let id = [0xAB, 0xCD, 0xEF, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        for value in [
            t("abcdef01-0203-0405-0607-08090a0b0c0d"),
            t("ABCDEF0102030405060708090A0B0C0D"),
            ValueRef::Blob(&id),
        ] {
            assert_eq!(uuid(value), Some(id));
        }
        assert_eq!(uuid(t("abcdef01+0203-0405-0607-08090a0b0c0d")), None);
        assert_eq!(uuid(t("abcdef01-0203-0405-0607-08090a0b0c0g")), None);
        assert_eq!(uuid(ValueRef::Blob(&id[1..])), None);
    }

    #[test]
    fn durations_are_checked() {
        for text in [
            "P1Y",
            "-P1D",
            "P1Y2M3DT4H5M6.5S",
            "PT0S",
            "P-1Y+2M",
            "P3W",
            "PT-0.000001S",
        ] {
            assert!(fits(Interval, t(text)), "{text}");
        }
        for text in [
            "", "P", "PT", "1Y", "P1H", "PT1D", "P1", "PT1HT1H", "P1.2.3D",
        ] {
            assert!(!fits(Interval, t(text)), "{text}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_bytes() {
        let latin = ValueRef::Text(b"caf\xe9");
        assert!(!fits(Text, latin) && fits(Binary, latin));
        assert!(!fits(Text, ValueRef::Blob(b"x")));
        assert!(fits(Text, ValueRef::Integer(5)));
    }

    #[test]
    fn json_is_parsed_to_its_end() {
        assert!(fits(Json, t("{\"a\":[1,2]}")) && fits(Json, ValueRef::Integer(5)));
        assert!(!fits(Json, t("{\"a\":")) && !fits(Json, t("{} x")));
        assert!(!fits(Json, ValueRef::Real(f64::INFINITY)));
    }
}
