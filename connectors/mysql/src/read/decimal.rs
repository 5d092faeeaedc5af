//! Decimals from the text that they are sent as.

use arrow_buffer::i256;

/// The sign and all digits, in units of the scale; `None` where it is no such decimal.
fn digits(text: &[u8], scale: i8) -> Option<(bool, impl Iterator<Item = u8>)> {
    let (negative, unsigned) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let mut halves = unsigned.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (
        halves.next().unwrap_or_default(),
        halves.next().unwrap_or_default(),
    );
    let scale = usize::from(scale.unsigned_abs());
    let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if fraction.len() > scale || !all_digits(whole) || !all_digits(fraction) || unsigned.is_empty()
    {
        return None;
    }
    let padding = std::iter::repeat_n(b'0', scale - fraction.len());
    let digits = whole.iter().chain(fraction).copied().chain(padding);
    Some((negative, digits.map(|digit| digit - b'0')))
}

pub fn units_128(text: &[u8], scale: i8) -> Option<i128> {
    let (negative, digits) = digits(text, scale)?;
    let mut units: i128 = 0;
    for digit in digits {
        units = units.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(if negative { -units } else { units })
}

pub fn units_256(text: &[u8], scale: i8) -> Option<i256> {
    let (negative, digits) = digits(text, scale)?;
    let ten = i256::from_i128(10);
    let mut units = i256::ZERO;
    for digit in digits {
        units = units
            .checked_mul(ten)?
            .checked_add(i256::from_i128(digit.into()))?;
    }
    Some(if negative {
        units.wrapping_neg()
    } else {
        units
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted_from_the_point() {
        for (text, scale, expected) in [
            ("-0.01", 2, Some(-1)),
            ("5", 2, Some(500)),
            ("5.1", 2, Some(510)),
            (".5", 1, Some(5)),
            ("1.234", 2, None),
            ("1e5", 2, None),
            ("", 2, None),
            ("-", 2, None),
        ] {
            assert_eq!(units_128(text.as_bytes(), scale), expected, "{text}");
            let wide = units_256(text.as_bytes(), scale);
            assert_eq!(wide, expected.map(i256::from_i128), "{text}");
        }
    }
}
