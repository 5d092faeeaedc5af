//! Exact numbers as text: `-12.50`, `1e-3`.

use arrow_buffer::i256;

/// The digits of a number without its point: ± `digits` × 10^-`scale`.
struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    scale: i64,
}

impl<'a> Number<'a> {
    fn parse(text: &'a [u8]) -> Option<Number<'a>> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let (whole, rest) = digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            _ => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => std::str::from_utf8(rest).ok()?.parse::<i32>().ok()?,
            _ => return None,
        };
        Some(Number {
            negative,
            whole,
            fraction,
            scale: fraction.len() as i64 - i64::from(exponent),
        })
    }

    /// All digits, from the first that is not a zero.
    fn significant(&self) -> impl Iterator<Item = u8> + Clone {
        let all = self.whole.iter().chain(self.fraction).copied();
        all.skip_while(|digit| *digit == b'0')
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|c| c.is_ascii_digit()).count())
}

/// How a decimal that is none is stored.
pub const NAN: &str = "NaN";

/// Whether the text is a number, `NaN` or an infinity.
pub fn is_number(text: &[u8]) -> bool {
    Number::parse(text).is_some()
        || text == NAN.as_bytes()
        || matches!(text, b"Infinity" | b"-Infinity")
}

/// The number times 10^`scale`, if that is whole and has at most `precision` digits.
pub fn unscaled(text: &[u8], precision: u8, scale: i8) -> Option<i256> {
    let number = Number::parse(text)?;
    let have = number.significant().count() as i64;
    if have == 0 {
        return Some(i256::ZERO);
    }
    let shift = i64::from(scale) - number.scale;
    let kept = have + shift;
    if kept < 1 || kept > i64::from(precision) {
        return None;
    }
    let mut dropped = number.significant().skip(kept as usize);
    if dropped.any(|digit| digit != b'0') {
        return None;
    }
    let padded = number.significant().chain(std::iter::repeat(b'0'));
    let value = gathered(padded.take(kept as usize))?;
    Some(if number.negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// At most 76 digits as one number, eighteen at a time.
fn gathered(digits: impl Iterator<Item = u8>) -> Option<i256> {
    let (mut value, mut chunk, mut width) = (i256::ZERO, 0_i64, 0_u32);
    let step = i256::from_i128(10_i128.pow(18));
    for digit in digits {
        chunk = chunk * 10 + i64::from(digit - b'0');
        width += 1;
        if width == 18 {
            value = value
                .checked_mul(step)?
                .checked_add(i256::from_i128(i128::from(chunk)))?;
            (chunk, width) = (0, 0);
        }
    }
    value
        .checked_mul(i256::from_i128(10_i128.pow(width)))?
        .checked_add(i256::from_i128(i128::from(chunk)))
}

/// Writes `unscaled` × 10^-`scale` with exactly `scale` digits behind the point.
pub fn write(unscaled: &str, scale: i8, out: &mut String) {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    out.push_str(sign);
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.push_str(digits);
        let zeros = if digits == "0" { 0 } else { places };
        out.extend(std::iter::repeat_n('0', zeros));
        return;
    }
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    out.push_str(whole);
    out.push('.');
    out.push_str(fraction);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small(text: &str, precision: u8, scale: i8) -> Option<i128> {
        unscaled(text.as_bytes(), precision, scale).and_then(|value| value.to_i128())
    }

    #[test]
    fn numbers_that_fit_are_taken_exactly() {
        assert_eq!(small("12.5", 4, 2), Some(1250));
        assert_eq!(small("-0.05", 4, 2), Some(-5));
        assert_eq!(small(".5", 4, 2), Some(50));
        assert_eq!(small("1e2", 5, 2), Some(10_000));
        assert_eq!(small("1250e-2", 4, 2), Some(1250));
        assert_eq!(small("12.5000", 4, 2), Some(1250));
        assert_eq!(small("1200", 2, -2), Some(12));
        assert_eq!(small("-0", 1, 0), Some(0));
        assert_eq!(small("0e999999", 1, 0), Some(0));
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for text in [
            "12.505", "123.45", "1e30", "1e-30", "", "-", ".", "1e", "1.2.3", " 1", "0x1", "NaN",
        ] {
            assert_eq!(small(text, 4, 2), None, "{text}");
        }
        assert_eq!(small("1250", 3, -2), None);
        assert_eq!(unscaled("9".repeat(77).as_bytes(), 76, 0), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: i128, scale in -76_i8..=76) {
            let value = value % 10_i128.pow(38);
            let mut text = String::new();
            write(&value.to_string(), scale, &mut text);
            let back = unscaled(text.as_bytes(), 38, scale);
            prop_assert_eq!(back, Some(i256::from_i128(value)), "{}", text);
        }

        #[test]
        fn long_numbers_are_read_back(digits in "-?[1-9][0-9]{0,75}", scale in 0_i8..=76) {
            let mut text = String::new();
            write(&digits, scale, &mut text);
            let back = unscaled(text.as_bytes(), 76, scale).map(|value| value.to_string());
            prop_assert_eq!(back, Some(digits));
        }
    }
}
