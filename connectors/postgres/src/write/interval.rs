//! Durations: ISO 8601 text to the three numbers of PostgreSQL's `interval`, which keeps
//! months, days and time apart.

use super::copy::Malformed;

const SECOND: i128 = 1_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;
const DAY: i128 = 24 * HOUR;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// What a duration is at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    Exact(Interval),
    /// Digits behind the microsecond were rounded.
    Rounded(Interval),
    /// Larger than an interval, or infinite.
    Beyond,
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
    rounded: bool,
}

/// Reads `P1Y2M3DT4H5M6.789S`. Signs may stand before each number and before the `P`;
/// weeks are seven days; a part of a day or a week becomes time, a part of a year must
/// be whole months.
pub fn parse(text: &str) -> Result<Parsed, Malformed> {
    let text = text.trim_ascii();
    let (sign, unsigned) = signed(text);
    if unsigned.eq_ignore_ascii_case("infinity") {
        return Ok(Parsed::Beyond);
    }
    let body = unsigned.strip_prefix('P').ok_or(Malformed)?;
    let (date, time) = match body.split_once('T') {
        Some((_, "")) => return Err(Malformed),
        Some((date, time)) => (date, time),
        None if body.is_empty() => return Err(Malformed),
        None => (body, ""),
    };
    let mut sum = Sum::default();
    each_component(date, sign, |amount, unit| sum.add_date(amount, unit))?;
    each_component(time, sign, |amount, unit| sum.add_time(amount, unit))?;
    Ok(sum.fit())
}

fn signed(text: &str) -> (i128, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    }
}

/// A number with digits behind the point: `numerator / denominator`.
#[derive(Clone, Copy)]
struct Amount {
    numerator: i128,
    denominator: i128,
}

fn each_component(
    mut text: &str,
    sign: i128,
    mut add: impl FnMut(Amount, u8) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !text.is_empty() {
        let at = text
            .find(|c: char| c.is_ascii_uppercase())
            .ok_or(Malformed)?;
        let unit = text.as_bytes().get(at).copied().ok_or(Malformed)?;
        add(amount(&text[..at], sign)?, unit)?;
        text = &text[at + 1..];
    }
    Ok(())
}

fn amount(text: &str, sign: i128) -> Result<Amount, Malformed> {
    let (own_sign, unsigned) = signed(text);
    let (whole, fraction) = unsigned.split_once(['.', ',']).unwrap_or((unsigned, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    // Eighteen digits each keep all sums below far within an i128.
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if unsigned.is_empty() || !digits(unsigned.get(..1).unwrap_or("x")) {
        return Err(Malformed);
    }
    if whole.len() > 18 || fraction.len() > 18 || !digits(whole) || !digits(fraction) {
        return Err(Malformed);
    }
    let denominator = 10_i128.pow(fraction.len() as u32);
    let number = |part: &str| part.parse::<i128>().unwrap_or(0);
    let numerator = number(whole) * denominator + number(fraction);
    Ok(Amount {
        numerator: sign * own_sign * numerator,
        denominator,
    })
}

impl Amount {
    /// The whole number that `factor` times this is.
    fn exactly(self, factor: i128) -> Result<i128, Malformed> {
        let product = self.numerator * factor;
        if product % self.denominator == 0 {
            Ok(product / self.denominator)
        } else {
            Err(Malformed)
        }
    }
}

impl Sum {
    fn add_date(&mut self, amount: Amount, unit: u8) -> Result<(), Malformed> {
        match unit {
            b'Y' => self.months += amount.exactly(12)?,
            b'M' => self.months += amount.exactly(1)?,
            b'W' => self.add_days(amount, 7),
            b'D' => self.add_days(amount, 1),
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn add_days(&mut self, amount: Amount, factor: i128) {
        let product = amount.numerator * factor;
        self.days += product / amount.denominator;
        self.add_micros(product % amount.denominator * DAY, amount.denominator);
    }

    fn add_time(&mut self, amount: Amount, unit: u8) -> Result<(), Malformed> {
        let factor = match unit {
            b'H' => HOUR,
            b'M' => MINUTE,
            b'S' => SECOND,
            _ => return Err(Malformed),
        };
        // At most 10^36 · 3.6·10^9 would not fit, so the whole is taken out first.
        let whole = amount.numerator / amount.denominator;
        self.micros += whole * factor;
        self.add_micros(
            amount.numerator % amount.denominator * factor,
            amount.denominator,
        );
        Ok(())
    }

    fn add_micros(&mut self, numerator: i128, denominator: i128) {
        self.rounded |= numerator % denominator != 0;
        let half = denominator / 2 * numerator.signum();
        self.micros += (numerator + half) / denominator;
    }

    fn fit(self) -> Parsed {
        let (Ok(months), Ok(days), Ok(micros)) = (
            i32::try_from(self.months),
            i32::try_from(self.days),
            i64::try_from(self.micros),
        ) else {
            return Parsed::Beyond;
        };
        let interval = Interval {
            months,
            days,
            micros,
        };
        if self.rounded {
            Parsed::Rounded(interval)
        } else {
            Parsed::Exact(interval)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(text: &str) -> (i32, i32, i64) {
        match parse(text) {
            Ok(Parsed::Exact(i)) => (i.months, i.days, i.micros),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn durations_keep_months_days_and_time_apart() {
        assert_eq!(exact("PT0S"), (0, 0, 0));
        assert_eq!(exact("P1Y2M3DT4H5M6.789S"), (14, 3, 14_706_789_000));
        assert_eq!(exact("P-1Y-2M3DT-4H-5M-6.5S"), (-14, 3, -14_706_500_000));
        assert_eq!(exact("-P1M1DT1S"), (-1, -1, -1_000_000));
        assert_eq!(exact("P2W"), (0, 14, 0));
        assert_eq!(exact("P1.5D"), (0, 1, 43_200_000_000));
        assert_eq!(exact("P0.5Y"), (6, 0, 0));
        assert_eq!(exact("PT-0.5S"), (0, 0, -500_000));
        assert_eq!(exact("PT1,5H"), (0, 0, 5_400_000_000));
        assert_eq!(exact("PT36H"), (0, 0, 129_600_000_000));
    }

    #[test]
    fn finer_than_a_microsecond_is_rounded_and_told() {
        let micros = |micros| {
            Parsed::Rounded(Interval {
                micros,
                ..Interval::default()
            })
        };
        assert_eq!(parse("PT0.0000015S"), Ok(micros(2)));
        assert_eq!(parse("PT-0.0000014S"), Ok(micros(-1)));
    }

    #[test]
    fn what_does_not_fit_is_beyond() {
        for far in [
            "infinity",
            "-infinity",
            "P200000000Y",
            "P3000000000D",
            "PT9999999999999999S",
        ] {
            assert_eq!(parse(far), Ok(Parsed::Beyond), "{far}");
        }
    }

    #[test]
    fn what_is_no_duration_is_malformed() {
        for wrong in [
            "", "P", "PT", "P1", "1D", "P1H", "PT1D", "P1DT", "Pfoo", "P.5D", "P--1D", "P1.5M",
            "P1 D", "1 day",
        ] {
            assert_eq!(parse(wrong), Err(Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_interval_survives_its_text(months: i32, days: i32, micros: i64) {
            let (whole, fraction) = (micros / 1_000_000, (micros % 1_000_000).abs());
            let sign = if micros < 0 { "-" } else { "" };
            let text = format!("P{months}M{days}DT{sign}{}.{fraction:06}S", whole.unsigned_abs());
            prop_assert_eq!(exact(&text), (months, days, micros));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[P0-9YMWDTHS.,+-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
