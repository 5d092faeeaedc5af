//! Intervals as ISO 8601 text, as the server writes them with `intervalstyle = iso_8601`.

use std::io::Write;

/// Appends the text; gives the bytes added.
pub fn write_text(months: i32, days: i32, micros: i64, text: &mut Vec<u8>) -> usize {
    let before = text.len();
    match (months, days, micros) {
        (i32::MAX, i32::MAX, i64::MAX) => text.extend_from_slice(b"infinity"),
        (i32::MIN, i32::MIN, i64::MIN) => text.extend_from_slice(b"-infinity"),
        (0, 0, 0) => text.extend_from_slice(b"PT0S"),
        _ => {
            text.push(b'P');
            part(text, i64::from(months / 12), 'Y');
            part(text, i64::from(months % 12), 'M');
            part(text, i64::from(days), 'D');
            time(text, micros);
        }
    }
    text.len() - before
}

fn part(text: &mut Vec<u8>, value: i64, unit: char) {
    if value != 0 {
        // Writing to a Vec cannot fail.
        let _ = write!(text, "{value}{unit}");
    }
}

fn time(text: &mut Vec<u8>, micros: i64) {
    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    if micros == 0 {
        return;
    }
    text.push(b'T');
    part(text, micros / HOUR, 'H');
    part(text, micros % HOUR / MINUTE, 'M');
    let seconds = micros % MINUTE;
    if seconds == 0 {
        return;
    }
    let sign = if seconds < 0 { "-" } else { "" };
    let (whole, fraction) = (
        seconds.unsigned_abs() / 1_000_000,
        seconds.unsigned_abs() % 1_000_000,
    );
    let _ = write!(text, "{sign}{whole}");
    if fraction != 0 {
        let _ = write!(text, ".{fraction:06}");
        while text.last() == Some(&b'0') {
            text.pop();
        }
    }
    text.push(b'S');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(months: i32, days: i32, micros: i64) -> String {
        let mut text = Vec::new();
        write_text(months, days, micros, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn months_days_and_time_stay_apart() {
        assert_eq!(text(0, 0, 0), "PT0S");
        assert_eq!(text(14, 3, 14_706_789_000), "P1Y2M3DT4H5M6.789S");
        assert_eq!(text(-14, 3, -500_000), "P-1Y-2M3DT-0.5S");
        assert_eq!(text(0, 0, i64::MIN + 1), "PT-2562047788H-54.775807S");
        assert_eq!(text(i32::MIN, i32::MIN, i64::MIN), "-infinity");
    }
}
