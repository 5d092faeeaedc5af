//! Numbers as text: what form they have, and exact reading and printing of decimals.

use arrow_buffer::i256;

/// The shape of a number's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Digits before the point, at least one.
    pub whole: usize,
    /// Digits behind the point.
    pub scale: usize,
    /// Written with an exponent, as minus zero or as a word: only a float keeps that.
    pub float: bool,
}

/// Words that stand for floats without digits.
pub fn special(text: &str) -> Option<f64> {
    match text {
        "NaN" | "nan" => Some(f64::NAN),
        "Infinity" | "inf" | "Inf" => Some(f64::INFINITY),
        "-Infinity" | "-inf" | "-Inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The form of `text` if it is a number whose value tells its text. `007` and `+5` are
/// none: they are codes and phone numbers as often as not, and would come back changed.
pub fn form(text: &str) -> Option<Form> {
    let unsigned = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let count = |from: usize| {
        let rest = unsigned.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let whole = count(0);
    let mut at = whole;
    let mut scale = 0;
    if unsigned.get(at) == Some(&b'.') {
        scale = count(at + 1);
        if scale == 0 {
            return None;
        }
        at += 1 + scale;
    }
    if whole + scale == 0 || (whole > 1 && unsigned[0] == b'0') {
        return None;
    }
    let mut float = false;
    if matches!(unsigned.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(unsigned.get(at + 1), Some(b'+' | b'-')));
        let digits = count(at + 1 + sign);
        if digits == 0 {
            return None;
        }
        at += 1 + sign + digits;
        float = true;
    }
    let minus_zero =
        || unsigned.len() < text.len() && unsigned.iter().all(|byte| matches!(byte, b'0' | b'.'));
    (at == unsigned.len()).then(|| Form {
        whole: whole.max(1),
        scale,
        float: float || minus_zero(),
    })
}

/// An integer whose text is exactly what the value prints as.
pub fn integer<T: TryFrom<i128>>(text: &str) -> Option<T> {
    match form(text)? {
        Form {
            scale: 0,
            float: false,
            whole,
        } if whole <= 38 => T::try_from(text.parse::<i128>().ok()?).ok(),
        _ => None,
    }
}

/// The float nearest to `text`, if it prints as the same number again.
pub fn float64(text: &str) -> Option<f64> {
    let Some(form) = form(text) else {
        return special(text);
    };
    let value: f64 = text.parse().ok()?;
    // Fifteen digits always survive; more are looked at.
    let safe = form.whole + form.scale <= 15 && !form.float;
    (safe || (value.is_finite() && significant(text) == significant(&format!("{value:e}"))))
        .then_some(value)
}

pub fn float32(text: &str) -> Option<f32> {
    match form(text) {
        Some(_) => text.parse().ok().filter(|value: &f32| value.is_finite()),
        None => special(text).map(|value| value as f32),
    }
}

/// The digits without zeros around them, and the power of ten of the last one.
fn significant(text: &str) -> (String, i64) {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().unwrap_or(i64::MAX / 2)),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let power = exponent - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
    let trimmed = trimmed.trim_start_matches('0');
    match trimmed {
        "" => (String::new(), 0),
        _ => (trimmed.to_owned(), power),
    }
}

/// The unscaled value of a decimal, if precision and scale hold it exactly.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Option<i256> {
    let form = form(text).filter(|form| !form.float)?;
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let kept = usize::try_from(scale).unwrap_or(0);
    let (fraction, dropped) = fraction.split_at(kept.min(fraction.len()));
    // A negative scale says that so many digits before the point are zeros.
    let cut = usize::from(scale.min(0).unsigned_abs()).min(whole.len());
    let (whole, zeros) = whole.split_at(whole.len() - cut);
    if dropped
        .bytes()
        .chain(zeros.bytes())
        .any(|digit| digit != b'0')
    {
        return None;
    }
    let significant = if whole == "0" {
        0
    } else {
        form.whole.min(whole.len())
    };
    if significant + kept > usize::from(precision) {
        return None;
    }
    let missing = kept - fraction.len();
    let negative = unsigned.len() < text.len();
    if precision <= 38 {
        let mut value = 0_i128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            value = value * 10 + i128::from(digit - b'0');
        }
        value *= 10_i128.pow(missing as u32);
        return Some(i256::from_i128(if negative { -value } else { value }));
    }
    let sign = if negative { "-" } else { "" };
    i256::from_string(&format!("{sign}{whole}{fraction}{}", "0".repeat(missing)))
}

/// A decimal from its unscaled digits (with a minus where it has one).
pub fn print_decimal(unscaled: &str, scale: i8, out: &mut Vec<u8>) {
    let digits = unscaled.strip_prefix('-').unwrap_or(unscaled);
    if digits.len() < unscaled.len() {
        out.push(b'-');
    }
    if scale <= 0 {
        out.extend(digits.as_bytes());
        if digits != "0" {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
        return;
    }
    let scale = usize::from(scale.unsigned_abs());
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    out.extend(whole.as_bytes());
    out.push(b'.');
    out.extend(fraction.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_not_numbers() {
        for text in [
            "007", "+5", "1,5", "5.", "", "-", "1e", "0x1", "1_000", " 1", ".",
        ] {
            assert_eq!(form(text), None, "{text}");
        }
        assert_eq!(
            form("-12.30"),
            Some(Form {
                whole: 2,
                scale: 2,
                float: false
            })
        );
        assert_eq!(
            form(".5"),
            Some(Form {
                whole: 1,
                scale: 1,
                float: false
            })
        );
        assert!(form("-0").unwrap().float);
        assert!(form("1e5").unwrap().float);
    }

    #[test]
    fn a_float_is_only_taken_where_it_keeps_the_number() {
        assert_eq!(
            float64("0.30000000000000004"),
            Some(0.300_000_000_000_000_04)
        );
        assert_eq!(float64("0.3000000000000000401"), None);
        assert_eq!(float64("9007199254740993"), None);
        assert_eq!(float64("1e400"), None);
        assert_eq!(float64("2.50e3"), Some(2500.0));
        assert_eq!(float64("-0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
    }

    #[test]
    fn decimals_keep_every_digit_or_refuse() {
        assert_eq!(decimal("12.3", 5, 2), Some(i256::from_i128(1230)));
        assert_eq!(decimal("-0.05", 2, 2), Some(i256::from_i128(-5)));
        assert_eq!(decimal("12.345", 5, 2), None);
        assert_eq!(decimal("12.340", 5, 2), Some(i256::from_i128(1234)));
        assert_eq!(decimal("1234.5", 5, 2), None);
        assert_eq!(decimal("1200", 3, -2), Some(i256::from_i128(12)));
        assert_eq!(decimal("1234", 3, -2), None);
        let nines = "9".repeat(70);
        assert_eq!(decimal(&nines, 70, 0), i256::from_string(&nines));
    }

    proptest! {
        #[test]
        fn decimals_survive_their_text(unscaled in any::<i128>(), scale in 0_i8..=38) {
            let unscaled = unscaled / 10;
            let mut out = Vec::new();
            print_decimal(&unscaled.to_string(), scale, &mut out);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(decimal(&text, 76, scale), Some(i256::from_i128(unscaled)), "{}", text);
        }

        #[test]
        fn floats_survive_their_shortest_text(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                prop_assert_eq!(float64(&format!("{value:?}")).map(f64::to_bits), Some(bits));
            }
        }
    }
}
