//! Exact numbers in the binary form of PostgreSQL's `numeric`: groups of four decimal
//! digits, a weight that says where the first group stands, a sign, and the number of
//! digits shown behind the point.

use bytes::{BufMut, BytesMut};

use super::copy::{Fit, Malformed};

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// A group holds values below this.
const BASE: u64 = 10_000;
/// Four groups at once.
const CHUNK: u64 = 10_000_000_000_000_000;
/// `numeric` holds 131,072 digits before the point, in groups 0 to 32,767 …
const MAX_WEIGHT: i64 = 32_767;
/// … and 16,383 behind it.
const MAX_SCALE: i64 = 16_383;
/// Ten groups of a `u128` and the one that the point cuts.
const MOST_GROUPS: usize = 12;

/// How digits behind the point fall into groups.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    digits: u16,
    /// Groups behind the point, the last one maybe cut.
    groups: i16,
    /// Digits in the cut group, as a power of ten; 1 where no group is cut.
    cut: u64,
}

impl Scale {
    pub const NONE: Scale = Scale::new(0);

    pub const fn new(digits: u8) -> Scale {
        Scale {
            digits: digits as u16,
            groups: (digits as i16 + 3) / 4,
            cut: 10_u64.pow(digits as u32 % 4),
        }
    }
}

/// Puts `magnitude` × 10^-`scale` as a cell.
pub fn put_scaled(out: &mut BytesMut, negative: bool, magnitude: u128, scale: Scale) {
    let mut groups = [0_u16; MOST_GROUPS];
    let mut count = 0;
    let mut push = |group: u64| {
        // The array holds the groups of every `u128`; group < BASE.
        if let Some(slot) = groups.get_mut(count) {
            *slot = group as u16;
            count += 1;
        }
    };
    let mut wide = magnitude;
    if scale.cut > 1 {
        let low = if wide <= u128::from(u64::MAX) {
            let narrow = wide as u64;
            wide = u128::from(narrow / scale.cut);
            narrow % scale.cut
        } else {
            let low = (wide % u128::from(scale.cut)) as u64;
            wide /= u128::from(scale.cut);
            low
        };
        push(low * (BASE / scale.cut));
    }
    while wide > u128::from(u64::MAX) {
        let mut chunk = (wide % u128::from(CHUNK)) as u64;
        wide /= u128::from(CHUNK);
        for _ in 0..4 {
            push(chunk % BASE);
            chunk /= BASE;
        }
    }
    let mut narrow = wide as u64;
    while narrow > 0 {
        push(narrow % BASE);
        narrow /= BASE;
    }
    let weight = if magnitude == 0 {
        count = 0;
        0
    } else {
        count as i16 - scale.groups - 1
    };
    put_header(
        out,
        count as u16,
        weight,
        sign(negative && magnitude > 0),
        scale.digits,
    );
    for group in groups[..count].iter().rev() {
        out.put_u16(*group);
    }
}

pub fn put_nan(out: &mut BytesMut) {
    put_header(out, 0, 0, NAN, 0);
}

/// Puts a number given as text: `-12.50`, `1e-9`, `NaN`, `Infinity`. Every digit is
/// kept, trailing zeros behind the point included.
pub fn put_text(out: &mut BytesMut, text: &str) -> Result<Fit, Malformed> {
    let text = text.trim_ascii();
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if unsigned.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return put_word(out, negative, unsigned);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return Err(Malformed);
    }
    Ok(put_digits(out, negative, whole, fraction, exponent))
}

/// Puts `whole.fraction` × 10^`exponent`, both parts being ASCII digits.
pub fn put_digits(
    out: &mut BytesMut,
    negative: bool,
    whole: &str,
    fraction: &str,
    exponent: i64,
) -> Fit {
    let digits = || whole.bytes().chain(fraction.bytes());
    let point = exponent.saturating_add(whole.len() as i64);
    let scale = (fraction.len() as i64).saturating_sub(exponent).max(0);
    if scale > MAX_SCALE {
        return Fit::Beyond;
    }
    let Some(first) = digits().position(|digit| digit != b'0') else {
        put_header(out, 0, 0, POSITIVE, scale as u16);
        return Fit::Whole;
    };
    let count = whole.len() + fraction.len();
    let behind = digits()
        .rev()
        .position(|digit| digit != b'0')
        .unwrap_or_default();
    let group_of = |index: usize| (point - 1 - index as i64).div_euclid(4);
    let (weight, last) = (group_of(first), group_of(count - 1 - behind));
    if weight > MAX_WEIGHT {
        return Fit::Beyond;
    }
    let group_count = (weight - last + 1) as u16;
    put_header(
        out,
        group_count,
        weight as i16,
        sign(negative),
        scale as u16,
    );
    // A group is filled from its highest place; the places before the first digit and
    // behind the last one are zeros.
    let mut lead = (4 * weight + 3) - (point - 1 - first as i64);
    let mut places = digits().skip(first).take(count - behind - first);
    for _ in 0..group_count {
        let mut group = 0_u16;
        for _ in 0..4 {
            let digit = if lead > 0 {
                lead -= 1;
                0
            } else {
                places.next().map_or(0, |digit| u16::from(digit - b'0'))
            };
            group = group * 10 + digit;
        }
        out.put_u16(group);
    }
    Fit::Whole
}

fn put_word(out: &mut BytesMut, negative: bool, word: &str) -> Result<Fit, Malformed> {
    let is = |other: &str| word.eq_ignore_ascii_case(other);
    let sign = match negative {
        _ if is("nan") => NAN,
        false if is("infinity") || is("inf") => INFINITY,
        true if is("infinity") || is("inf") => MINUS_INFINITY,
        _ => return Err(Malformed),
    };
    put_header(out, 0, 0, sign, 0);
    Ok(Fit::Whole)
}

/// An exponent too long to be read is as good as one that is far out of range.
fn exponent_of(text: &str) -> Result<i64, Malformed> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Malformed);
    }
    const FAR: i64 = 1 << 40;
    let magnitude = digits.parse::<i64>().unwrap_or(FAR).min(FAR);
    Ok(if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    })
}

fn sign(negative: bool) -> u16 {
    if negative { NEGATIVE } else { POSITIVE }
}

fn put_header(out: &mut BytesMut, groups: u16, weight: i16, sign: u16, scale: u16) {
    let mut header = [0; 12];
    header[..4].copy_from_slice(&(8 + 2 * u32::from(groups)).to_be_bytes());
    header[4..6].copy_from_slice(&groups.to_be_bytes());
    header[6..8].copy_from_slice(&weight.to_be_bytes());
    header[8..10].copy_from_slice(&sign.to_be_bytes());
    header[10..].copy_from_slice(&scale.to_be_bytes());
    out.put_slice(&header);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a cell back into text with `scale` digits behind the point.
    fn decode(cell: &[u8]) -> String {
        let word = |at: usize| u16::from_be_bytes([cell[at], cell[at + 1]]);
        assert_eq!(
            u32::from_be_bytes(cell[..4].try_into().unwrap()) as usize,
            cell.len() - 4
        );
        let (count, weight) = (word(4) as usize, i64::from(word(6) as i16));
        let (sign, scale) = (word(8), word(10) as usize);
        assert_eq!(cell.len(), 12 + 2 * count);
        match sign {
            NAN => return "NaN".into(),
            INFINITY => return "Infinity".into(),
            MINUS_INFINITY => return "-Infinity".into(),
            _ => {}
        }
        let group = |at: i64| match usize::try_from(weight - at) {
            Ok(index) if index < count => word(12 + 2 * index),
            _ => 0,
        };
        let whole: String = (0..=weight.max(0))
            .rev()
            .map(|at| format!("{:04}", group(at)))
            .collect();
        let mut fraction: String = (1..=scale.div_ceil(4) as i64)
            .map(|at| format!("{:04}", group(-at)))
            .collect();
        fraction.truncate(scale);
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let minus = if sign == NEGATIVE { "-" } else { "" };
        if scale == 0 {
            format!("{minus}{whole}")
        } else {
            format!("{minus}{whole}.{fraction}")
        }
    }

    fn text(number: &str) -> String {
        let mut out = BytesMut::new();
        assert_eq!(put_text(&mut out, number), Ok(Fit::Whole), "{number}");
        decode(&out)
    }

    fn scaled(number: i128, scale: u8) -> String {
        let mut out = BytesMut::new();
        put_scaled(
            &mut out,
            number < 0,
            number.unsigned_abs(),
            Scale::new(scale),
        );
        decode(&out)
    }

    #[test]
    fn numbers_keep_every_digit() {
        assert_eq!(text("0"), "0");
        assert_eq!(text("0.000"), "0.000");
        assert_eq!(text("-0.05"), "-0.05");
        assert_eq!(text("+12.50"), "12.50");
        assert_eq!(text(".5"), "0.5");
        assert_eq!(text("5."), "5");
        assert_eq!(text("1e3"), "1000");
        assert_eq!(text("1.5E-3"), "0.0015");
        assert_eq!(
            text("12345678901234567890.000000001"),
            "12345678901234567890.000000001"
        );
        assert_eq!(scaled(0, 2), "0.00");
        assert_eq!(scaled(5, 8), "0.00000005");
        assert_eq!(scaled(-100, 2), "-1.00");
        assert_eq!(
            scaled(i128::MIN, 38),
            "-1.70141183460469231731687303715884105728"
        );
    }

    #[test]
    fn words_are_read_in_any_case() {
        assert_eq!(text("nan"), "NaN");
        assert_eq!(text("Infinity"), "Infinity");
        assert_eq!(text("-inf"), "-Infinity");
    }

    #[test]
    fn what_is_no_number_is_malformed() {
        for wrong in [
            "", "-", ".", "1..2", "1e", "e5", "1e5.5", "0x10", "12a", "1 2", "--1", "1e+-1",
        ] {
            assert_eq!(
                put_text(&mut BytesMut::new(), wrong),
                Err(Malformed),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_postgresql_has_no_room_for_is_beyond() {
        for far in [
            "1e131072",
            "1e-16384",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(
                put_text(&mut BytesMut::new(), far),
                Ok(Fit::Beyond),
                "{far}"
            );
        }
        assert_eq!(text("1e131071").len(), 131_072);
        assert_eq!(text("1e-16383").len(), 2 + 16_383);
    }

    proptest! {
        #[test]
        fn scaled_integers_and_their_text_agree(number: i128, narrow: i64, scale in 0_u8..=38) {
            for number in [number, i128::from(narrow)] {
                let plain = number.unsigned_abs().to_string();
                let padded = format!("{plain:0>width$}", width = usize::from(scale) + 1);
                let (whole, fraction) = padded.split_at(padded.len() - usize::from(scale));
                let sign = if number < 0 { "-" } else { "" };
                let point = if scale == 0 { "" } else { "." };
                let expected = format!("{sign}{whole}{point}{fraction}");
                prop_assert_eq!(scaled(number, scale), expected.clone());
                prop_assert_eq!(text(&expected), expected);
            }
        }

        #[test]
        fn an_exponent_moves_the_point(digits in "[1-9][0-9]{0,20}", exponent in -40_i64..40) {
            let zeros = |count: i64| "0".repeat(count.max(0) as usize);
            let expected = if exponent >= 0 {
                format!("{digits}{}", zeros(exponent))
            } else {
                let padded = format!("{}{digits}", zeros(1 - exponent - digits.len() as i64));
                let (whole, fraction) = padded.split_at(padded.len() - exponent.unsigned_abs() as usize);
                format!("{whole}.{fraction}")
            };
            prop_assert_eq!(text(&format!("{digits}e{exponent}")), expected);
        }
    }
}
