//! Dates and times as text, exact both ways over the whole range of their Arrow types,
//! which is wider than that of any date library.
//!
//! Dates are `2024-02-29`, years outside 0000 to 9999 carry a sign (`-0044-03-15`,
//! `+12345-01-01`). Timestamps join date and time of day with `T`; those with a zone
//! are written in UTC with `Z` and read with any offset.

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A timestamp as text says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Microseconds since 1970-01-01T00:00:00, no zone.
    Local(i64),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Zoned(i64),
}

/// Year, month and day of a day number (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

fn day_number(year: i64, month: u8, day: u8) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0
            && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) =>
        {
            29
        }
        2 => 28,
        _ => 31,
    }
}

fn push_two(out: &mut Vec<u8>, value: u8) {
    out.extend([b'0' + value / 10, b'0' + value % 10]);
}

pub fn print_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    let text = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+05}"),
    };
    out.extend(text.as_bytes());
    out.push(b'-');
    push_two(out, month);
    out.push(b'-');
    push_two(out, day);
}

/// `HH:MM:SS`, and the fraction where there is one. `micros` counts from midnight.
pub fn print_time(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let fraction = micros.rem_euclid(MICROS_PER_SECOND);
    push_two(out, (seconds / 3600) as u8);
    out.push(b':');
    push_two(out, (seconds / 60 % 60) as u8);
    out.push(b':');
    push_two(out, (seconds % 60) as u8);
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        out.push(b'.');
        out.extend(digits.trim_end_matches('0').as_bytes());
    }
}

pub fn print_stamp(stamp: Stamp, out: &mut Vec<u8>) {
    let (Stamp::Local(micros) | Stamp::Zoned(micros)) = stamp;
    print_date(micros.div_euclid(MICROS_PER_DAY), out);
    out.push(b'T');
    print_time(micros.rem_euclid(MICROS_PER_DAY), out);
    if matches!(stamp, Stamp::Zoned(_)) {
        out.push(b'Z');
    }
}

/// Exactly `count` digits at the front.
fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_at_checked(count)?;
    let mut value = 0_i64;
    for byte in head {
        value = value * 10 + i64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    Some((value, rest))
}

fn symbol(text: &[u8], symbol: u8) -> Option<&[u8]> {
    (text.first() == Some(&symbol)).then(|| &text[1..])
}

/// A date at the front of `text`, as a day number.
fn date_prefix(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = match text.first()? {
        sign @ (b'+' | b'-') => {
            let length = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if !(4..=7).contains(&length) {
                return None;
            }
            let (year, rest) = digits(&text[1..], length)?;
            (if *sign == b'-' { -year } else { year }, rest)
        }
        _ => digits(text, 4)?,
    };
    let (month, rest) = digits(symbol(rest, b'-')?, 2)?;
    let (day, rest) = digits(symbol(rest, b'-')?, 2)?;
    let (month, day) = (month as u8, day as u8);
    let valid = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| (day_number(year, month, day), rest))
}

/// A time of day at the front of `text`, 24:00 at the latest. Seconds may be missing; more
/// than six digits behind the point only pass if they are zeros, for they could not be kept.
fn time_prefix(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hours, rest) = digits(text, 2)?;
    let (minutes, rest) = digits(symbol(rest, b':')?, 2)?;
    let (seconds, mut rest) = match symbol(rest, b':') {
        Some(rest) => digits(rest, 2)?,
        None => (0, rest),
    };
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let mut micros = 0;
    if let Some(fraction) = symbol(rest, b'.') {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        let kept = length.min(6);
        if length == 0 || fraction[kept..length].iter().any(|digit| *digit != b'0') {
            return None;
        }
        micros = digits(fraction, kept)?.0 * 10_i64.pow(6 - kept as u32);
        rest = &fraction[length..];
    }
    let total = ((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + micros;
    (total <= MICROS_PER_DAY).then_some((total, rest))
}

/// Seconds east of Greenwich: `Z`, `+02`, `+0200`, `+02:00`.
fn zone(text: &[u8]) -> Option<i64> {
    if text == b"Z" || text == b"z" {
        return Some(0);
    }
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(&text[1..], 2)?;
    let minutes = match rest {
        [] => 0,
        [b':', rest @ ..] | rest => match digits(rest, 2)? {
            (minutes, []) => minutes,
            _ => return None,
        },
    };
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<i32> {
    let (days, rest) = date_prefix(text.as_bytes())?;
    rest.is_empty().then(|| i32::try_from(days).ok())?
}

/// Microseconds since midnight.
pub fn parse_time(text: &str) -> Option<i64> {
    let (micros, rest) = time_prefix(text.as_bytes())?;
    rest.is_empty().then_some(micros)
}

/// Date and time of day joined by `T` or a blank, with or without a zone.
pub fn parse_stamp(text: &str) -> Option<Stamp> {
    let (days, rest) = date_prefix(text.as_bytes())?;
    let rest = symbol(rest, b'T').or_else(|| symbol(rest, b' '))?;
    let (time, rest) = time_prefix(rest)?;
    if time == MICROS_PER_DAY {
        return None;
    }
    let local = days.checked_mul(MICROS_PER_DAY)?.checked_add(time)?;
    if rest.is_empty() {
        return Some(Stamp::Local(local));
    }
    let rest = symbol(rest, b' ').unwrap_or(rest);
    Some(Stamp::Zoned(
        local.checked_sub(zone(rest)? * MICROS_PER_SECOND)?,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(print: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        print(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments_read_and_print() {
        assert_eq!(parse_date("1970-01-01"), Some(0));
        assert_eq!(parse_date("2024-02-29"), Some(19_782));
        assert_eq!(parse_date("2023-02-29"), None);
        assert_eq!(shown(|out| print_date(-1, out)), "1969-12-31");
        assert_eq!(shown(|out| print_date(-735_525, out)), "-0044-03-15");
        assert_eq!(
            parse_stamp("1970-01-01 00:00:01"),
            Some(Stamp::Local(1_000_000))
        );
        assert_eq!(
            parse_stamp("1970-01-01T02:00:00.5+02:00"),
            Some(Stamp::Zoned(500_000))
        );
        assert_eq!(
            parse_stamp("1970-01-01 00:00:00-0130"),
            Some(Stamp::Zoned(5_400_000_000))
        );
        assert_eq!(parse_stamp("1970-01-01T00:00"), Some(Stamp::Local(0)));
        for wrong in [
            "1970-01-01",
            "1970-01-01T24:00:00",
            "1970-01-01T00:00:00.1234567",
            "x",
        ] {
            assert_eq!(parse_stamp(wrong), None, "{wrong}");
        }
        assert_eq!(parse_time("12:30:00.25"), Some(45_000_250_000));
        assert_eq!(parse_time("24:00:00"), Some(MICROS_PER_DAY));
        assert_eq!(parse_time("24:00:00.000001"), None);
    }

    proptest! {
        #[test]
        fn every_date_survives_its_text(days in any::<i32>()) {
            let days = days / 4; // beyond seven digits of year nobody counts
            prop_assert_eq!(parse_date(&shown(|out| print_date(i64::from(days), out))), Some(days));
        }

        #[test]
        fn every_timestamp_survives_its_text(micros in any::<i64>()) {
            for stamp in [Stamp::Local(micros), Stamp::Zoned(micros)] {
                let text = shown(|out| print_stamp(stamp, out));
                prop_assert_eq!(parse_stamp(&text), Some(stamp), "{}", text);
            }
        }

        #[test]
        fn every_time_survives_its_text(micros in 0..=MICROS_PER_DAY) {
            prop_assert_eq!(parse_time(&shown(|out| print_time(micros, out))), Some(micros));
        }
    }
}
