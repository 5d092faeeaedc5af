//! Days and the dates that they are, in the proleptic Gregorian calendar.

/// Days from 1970-01-01; `None` where the calendar has no such day.
pub fn days(year: u16, month: u8, day: u8) -> Option<i32> {
    if !(1..=12).contains(&month) || day == 0 || day > month_length(year, month) {
        return None;
    }
    // Years begin in March, so that the day that comes and goes is the last one.
    let early = month <= 2;
    let year = i32::from(year) - i32::from(early);
    let month = i32::from(month) + if early { 9 } else { -3 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + i32::from(day) - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn month_length(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day.
pub fn date(days: i32) -> (i64, u8, u8) {
    let days = i64::from(days) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_days_are_right() {
        assert_eq!(days(1970, 1, 1), Some(0));
        assert_eq!(days(2000, 2, 29), Some(11_016));
        assert_eq!(days(1, 1, 1), Some(-719_162));
        assert_eq!(days(9999, 12, 31), Some(2_932_896));
        assert_eq!(days(1900, 2, 29), None);
        assert_eq!(days(2023, 2, 31), None);
        assert_eq!(days(2023, 0, 1), None);
        assert_eq!(date(-719_162), (1, 1, 1));
    }

    proptest! {
        #[test]
        fn days_and_dates_are_each_other_s_inverse(day in -719_528_i32..=2_932_896) {
            let (year, month, of_month) = date(day);
            prop_assert_eq!(days(year as u16, month, of_month), Some(day));
        }
    }
}
