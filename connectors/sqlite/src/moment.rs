//! Dates and times as SQLite keeps them: ISO 8601 text, in the proleptic Gregorian
//! calendar, with years outside 0 to 9999 signed (`-0044-03-15`, `+12345-01-01`).
//!
//! What we write always has six digits behind the second, so that text order is time
//! order. What we read may be any of the forms that SQLite's own functions understand,
//! as long as no digit would be lost.

use std::fmt::Write;

use tideway_core::types::{
    DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY,
};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

const INFINITY: &str = "infinity";
const MINUS_INFINITY: &str = "-infinity";

/// A point in time and whether its text named a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970, in UTC if zoned, else on the clock that was meant.
    pub micros: i64,
    pub zoned: bool,
}

/// Days since 1970-01-01.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    if text == INFINITY.as_bytes() {
        return Some(DATE_INFINITY);
    }
    if text == MINUS_INFINITY.as_bytes() {
        return Some(DATE_MINUS_INFINITY);
    }
    let (days, rest) = date(text)?;
    let days = i32::try_from(days).ok()?;
    let finite = days != DATE_INFINITY && days != DATE_MINUS_INFINITY;
    (rest.is_empty() && finite).then_some(days)
}

/// Microseconds since midnight; `24:00:00` is the end of the day.
pub fn parse_time(text: &[u8]) -> Option<i64> {
    let (micros, rest) = time(text)?;
    rest.is_empty().then_some(micros)
}

/// A date, alone or with a time, that with or without a zone. The infinities have no
/// zone and pass for either kind.
pub fn parse_moment(text: &[u8]) -> Option<Moment> {
    let (days, rest) = date(text)?;
    let (in_day, zone) = match rest {
        [] => (0, rest),
        [b' ' | b'T' | b't', rest @ ..] => time(rest)?,
        _ => return None,
    };
    if in_day == DAY {
        return None;
    }
    let offset = match zone {
        [] => None,
        zone => Some(offset(zone)?),
    };
    let micros = days
        .checked_mul(DAY)?
        .checked_add(in_day)?
        .checked_sub(offset.unwrap_or(0))?;
    let finite = micros != TIMESTAMP_INFINITY && micros != TIMESTAMP_MINUS_INFINITY;
    finite.then_some(Moment {
        micros,
        zoned: offset.is_some(),
    })
}

/// The value that stands for an infinite timestamp.
pub fn parse_infinity(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => Some(TIMESTAMP_INFINITY),
        b"-infinity" => Some(TIMESTAMP_MINUS_INFINITY),
        _ => None,
    }
}

pub fn write_date(days: i32, out: &mut String) {
    match days {
        DATE_INFINITY => out.push_str(INFINITY),
        DATE_MINUS_INFINITY => out.push_str(MINUS_INFINITY),
        days => write_days(i64::from(days), out),
    }
}

pub fn write_time(micros: i64, out: &mut String) {
    let (hours, minutes) = (micros / HOUR, micros % HOUR / MINUTE);
    let (seconds, fraction) = (micros % MINUTE / SECOND, micros % SECOND);
    // Writing to a string does not fail.
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}");
}

pub fn write_moment(moment: Moment, out: &mut String) {
    match moment.micros {
        TIMESTAMP_INFINITY => out.push_str(INFINITY),
        TIMESTAMP_MINUS_INFINITY => out.push_str(MINUS_INFINITY),
        micros => {
            write_days(micros.div_euclid(DAY), out);
            out.push(' ');
            write_time(micros.rem_euclid(DAY), out);
            if moment.zoned {
                out.push_str("+00:00");
            }
        }
    }
}

fn write_days(days: i64, out: &mut String) {
    let (year, month, day) = civil(days);
    let _ = match year {
        0..=9999 => write!(out, "{year:04}"),
        _ => write!(out, "{year:+05}"),
    };
    let _ = write!(out, "-{month:02}-{day:02}");
}

/// A leading date as days since 1970, and what follows it.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, unsigned) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => (0, text),
    };
    let width = unsigned.iter().take_while(|c| c.is_ascii_digit()).count();
    if !(width == 4 || (sign != 0 && (4..=7).contains(&width))) {
        return None;
    }
    let (year, rest) = number(unsigned, width)?;
    let [b'-', rest @ ..] = rest else { return None };
    let (month, rest) = number(rest, 2)?;
    let [b'-', rest @ ..] = rest else { return None };
    let (day, rest) = number(rest, 2)?;
    let year = if sign < 0 { -year } else { year };
    if !(1..=12).contains(&month) || day < 1 || day > month_length(year, month) {
        return None;
    }
    Some((days_since_1970(year, month, day), rest))
}

/// A leading `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fraction`, and what follows it.
fn time(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, rest) = number(text, 2)?;
    let [b':', rest @ ..] = rest else { return None };
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = match rest {
        [b':', rest @ ..] => number(rest, 2)?,
        _ => (0, rest),
    };
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    let micros = hour * HOUR + minute * MINUTE + second * SECOND + fraction;
    (minute < 60 && second < 60 && micros <= DAY).then_some((micros, rest))
}

/// Digits behind the second as microseconds. Finer digits must be zeros.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let width = text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(width)?;
    let (coarse, fine) = digits.split_at_checked(width.min(6))?;
    if coarse.is_empty() || fine.iter().any(|digit| *digit != b'0') {
        return None;
    }
    let (value, _) = number(coarse, coarse.len())?;
    Some((value * 10_i64.pow(6 - coarse.len() as u32), rest))
}

/// `Z`, `+HH`, `+HHMM`, `+HH:MM` or `+HH:MM:SS`, after a space or not.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, rest) = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = number(rest, 2)?;
    let colon = |text: &'_ [u8]| text.first() == Some(&b':');
    let (minutes, rest) = match rest {
        [] => (0, rest),
        rest if colon(rest) => number(rest.get(1..)?, 2)?,
        rest => number(rest, 2)?,
    };
    let (seconds, rest) = match rest {
        [] => (0, rest),
        rest if colon(rest) => number(rest.get(1..)?, 2)?,
        _ => return None,
    };
    let inside = hours < 24 && minutes < 60 && seconds < 60 && rest.is_empty();
    inside.then_some(sign * (hours * HOUR + minutes * MINUTE + seconds * SECOND))
}

/// The first `width` bytes as a number, all of them digits, and what follows.
fn number(text: &[u8], width: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(width)?;
    let mut value = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some((value, rest))
}

fn month_length(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts in eras of 400 years that begin on 1 March, so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day; the way back from [`days_since_1970`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moment(text: &str) -> Option<(i64, bool)> {
        parse_moment(text.as_bytes()).map(|moment| (moment.micros, moment.zoned))
    }

    #[test]
    fn common_forms_are_read() {
        let noon = 19_723 * DAY + 12 * HOUR;
        assert_eq!(parse_date(b"2024-01-01"), Some(19_723));
        assert_eq!(parse_date(b"1970-01-01"), Some(0));
        assert_eq!(parse_date(b"0000-03-01"), Some(-719_468));
        assert_eq!(parse_date(b"2024-02-29").map(|d| d - 19_723), Some(59));
        assert_eq!(moment("2024-01-01"), Some((19_723 * DAY, false)));
        assert_eq!(moment("2024-01-01 12:00"), Some((noon, false)));
        assert_eq!(
            moment("2024-01-01T12:00:00.5"),
            Some((noon + 500_000, false))
        );
        assert_eq!(
            moment("2024-01-01 12:00:00.123456000Z"),
            Some((noon + 123_456, true))
        );
        assert_eq!(moment("2024-01-01 14:00:00+02:00"), Some((noon, true)));
        assert_eq!(moment("2024-01-01 06:30:00-0530"), Some((noon, true)));
        assert_eq!(moment("2024-01-01 12:00:00 +00"), Some((noon, true)));
        assert_eq!(parse_time(b"24:00:00"), Some(DAY));
    }

    #[test]
    fn what_would_lose_a_digit_or_is_no_date_is_refused() {
        for text in [
            "",
            "2024",
            "2024-1-1",
            "2024-13-01",
            "2023-02-29",
            "02024-01-01",
            "2024-01-01 ",
            "2024-01-01 24:00:00",
            "2024-01-01 12",
            "2024-01-01 12:60",
            "2024-01-01 12:00:00.",
            "2024-01-01 12:00:00.1234567",
            "2024-01-01 12:00:00 Europe/Paris",
            "12:00:00",
            "2024-01-01 12:00:00+25:00",
            "2024-01-01X12:00",
            "now",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
        assert_eq!(parse_date(b"2024-01-01 00:00:00"), None);
        assert_eq!(parse_time(b"24:00:00.000001"), None);
    }

    proptest! {
        #[test]
        fn all_dates_are_read_back(days: i32) {
            let mut text = String::new();
            write_date(days, &mut text);
            prop_assert_eq!(parse_date(text.as_bytes()), Some(days));
        }

        #[test]
        fn all_moments_are_read_back(micros: i64, zoned: bool) {
            let mut text = String::new();
            write_moment(Moment { micros, zoned }, &mut text);
            prop_assert_eq!(parse_moment(text.as_bytes()), Some(Moment { micros, zoned }));
        }

        #[test]
        fn all_times_are_read_back(micros in 0..=DAY) {
            let mut text = String::new();
            write_time(micros, &mut text);
            prop_assert_eq!(parse_time(text.as_bytes()), Some(micros));
        }

        #[test]
        fn nothing_makes_the_parser_stumble(text in "[-+0-9:. TZ]{0,32}") {
            let _ = (parse_moment(text.as_bytes()), parse_date(text.as_bytes()), parse_time(text.as_bytes()));
        }
    }
}
