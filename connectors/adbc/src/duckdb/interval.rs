//! Intervals: ours are ISO 8601 durations, DuckDB's are months, days and microseconds.

/// Months, days and microseconds, each with a sign of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

impl Interval {
    /// Reads `P1Y2M3DT-4H5M6.5S`. `None` where it is none, or more than DuckDB holds.
    pub fn from_iso(text: &str) -> Option<Interval> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let (date, time) = match rest.strip_prefix('P')?.split_once('T') {
            Some((_, "")) => return None,
            Some((date, time)) => (date, time),
            None => (rest.strip_prefix('P')?, ""),
        };
        if date.is_empty() && time.is_empty() {
            return None;
        }
        let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
        for (number, unit) in fields(date)? {
            let whole: i64 = number.parse().ok()?;
            match unit {
                'Y' => months = months.checked_add(whole.checked_mul(12)?)?,
                'M' => months = months.checked_add(whole)?,
                'W' => days = days.checked_add(whole.checked_mul(7)?)?,
                'D' => days = days.checked_add(whole)?,
                _ => return None,
            }
        }
        for (number, unit) in fields(time)? {
            let part = match unit {
                'H' => number.parse::<i64>().ok()?.checked_mul(HOUR)?,
                'M' => number.parse::<i64>().ok()?.checked_mul(MINUTE)?,
                'S' => seconds(number)?,
                _ => return None,
            };
            micros = micros.checked_add(part)?;
        }
        Some(Interval {
            months: i32::try_from(sign * months).ok()?,
            days: i32::try_from(sign * days).ok()?,
            // DuckDB does not read the lowest number back.
            micros: micros
                .checked_mul(sign)
                .filter(|micros| *micros > i64::MIN)?,
        })
    }

    /// The text that DuckDB casts to an interval of exactly these fields.
    pub fn to_duckdb(self) -> String {
        format!(
            "{} months {} days {} microseconds",
            self.months, self.days, self.micros
        )
    }

    /// Reads what DuckDB casts an interval to: `1 year -2 months 3 days -04:05:06.5`.
    pub fn from_duckdb(text: &str) -> Option<Interval> {
        let mut interval = Interval::default();
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if word.contains(':') {
                interval.micros = clock(word)?;
                continue;
            }
            let number: i32 = word.parse().ok()?;
            match words.next()? {
                "year" | "years" => {
                    interval.months = interval.months.checked_add(number.checked_mul(12)?)?;
                }
                "month" | "months" => interval.months = interval.months.checked_add(number)?,
                "day" | "days" => interval.days = number,
                _ => return None,
            }
        }
        Some(interval)
    }

    /// The same form as PostgreSQL's: zero fields are left out, `PT0S` if all are zero.
    pub fn to_iso(self) -> String {
        let mut text = String::from("P");
        let mut field = |number: i64, unit: char| {
            if number != 0 {
                text.push_str(&number.to_string());
                text.push(unit);
            }
        };
        field(i64::from(self.months / 12), 'Y');
        field(i64::from(self.months % 12), 'M');
        field(i64::from(self.days), 'D');
        if self.micros != 0 || text.len() == 1 {
            text.push('T');
            text.push_str(&self.time());
        }
        text
    }

    fn time(self) -> String {
        let (hours, minutes) = (self.micros / HOUR, self.micros % HOUR / MINUTE);
        let rest = self.micros % MINUTE;
        let mut text = String::new();
        if hours != 0 {
            text.push_str(&format!("{hours}H"));
        }
        if minutes != 0 {
            text.push_str(&format!("{minutes}M"));
        }
        if rest != 0 || text.is_empty() {
            let sign = if rest < 0 { "-" } else { "" };
            let (seconds, fraction) = ((rest / SECOND).abs(), (rest % SECOND).abs());
            text.push_str(&format!("{sign}{seconds}"));
            if fraction != 0 {
                let digits = format!("{fraction:06}");
                text.push('.');
                text.push_str(digits.trim_end_matches('0'));
            }
            text.push('S');
        }
        text
    }
}

/// `1Y-2M` as `(1, Y), (-2, M)`.
fn fields(text: &str) -> Option<Vec<(&str, char)>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(end);
        let unit = tail.chars().next()?;
        found.push((number, unit));
        rest = &tail[unit.len_utf8()..];
    }
    Some(found)
}

/// Microseconds of a decimal number of seconds. `None` if it is finer than that.
fn seconds(number: &str) -> Option<i64> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 6 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let micros = whole.checked_mul(SECOND)?.checked_add(fraction)?;
    Some(sign * micros)
}

/// `-04:05:06.5` in microseconds; the sign is that of the whole.
fn clock(word: &str) -> Option<i64> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word),
    };
    let mut parts = digits.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let rest = seconds(parts.next()?)?;
    let micros = hours
        .checked_mul(HOUR)?
        .checked_add(minutes.checked_mul(MINUTE)?)?
        .checked_add(rest)?;
    Some(sign * micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_are_read_as_people_and_postgres_write_them() {
        for (iso, months, days, micros) in [
            (
                "P1Y2M3DT4H5M6.789S",
                14,
                3,
                4 * HOUR + 5 * MINUTE + 6_789_000,
            ),
            (
                "P-1Y-2M3DT-4H-5M-6S",
                -14,
                3,
                -(4 * HOUR + 5 * MINUTE + 6 * SECOND),
            ),
            ("PT0S", 0, 0, 0),
            ("P2W", 0, 14, 0),
            ("-P1M", -1, 0, 0),
            ("PT-0.000001S", 0, 0, -1),
        ] {
            assert_eq!(
                Interval::from_iso(iso),
                Some(Interval {
                    months,
                    days,
                    micros
                }),
                "{iso}"
            );
        }
    }

    #[test]
    fn what_is_no_interval_or_too_long_is_refused() {
        for text in [
            "",
            "P",
            "PT",
            "1Y",
            "P1X",
            "PT1H1",
            "P1.5D",
            "PT0.0000001S",
            "infinity",
            "P99999999999Y",
            "PT99999999999999999999S",
            "P1Yé",
        ] {
            assert_eq!(Interval::from_iso(text), None, "{text}");
        }
    }

    #[test]
    fn duckdb_spells_them_in_words() {
        let text = "1 year 2 months -3 days -04:05:06.5";
        let interval = Interval::from_duckdb(text).unwrap();
        assert_eq!(interval.to_iso(), "P1Y2M-3DT-4H-5M-6.5S");
        assert_eq!(Interval::from_duckdb("00:00:00").unwrap().to_iso(), "PT0S");
    }

    proptest! {
        #[test]
        fn every_interval_survives_its_iso_text(months: i32, days: i32, micros in i64::MIN + 1..) {
            let interval = Interval { months, days, micros };
            prop_assert_eq!(Interval::from_iso(&interval.to_iso()), Some(interval));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = (Interval::from_iso(&text), Interval::from_duckdb(&text));
        }
    }
}
