//! When a schedule fires next. All times are UTC.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use tideway_core::{Error, Result};
use tideway_store::{Frequency, Timing};

/// Continuous syncs start this long after they have been planned, at the earliest.
pub const CONTINUOUS: Duration = Duration::from_secs(300);

/// The first firing after `now`; `None` for schedules that time alone does not fire.
/// `jitter` spreads continuous syncs that were planned together.
pub fn next_fire(
    timing: &Timing,
    now: DateTime<Utc>,
    jitter: Duration,
) -> Result<Option<DateTime<Utc>>> {
    if timing.frequency == Frequency::Continuous {
        let pause = TimeDelta::from_std(CONTINUOUS + jitter).unwrap_or(TimeDelta::minutes(5));
        return Ok(Some(now + pause));
    }
    let Some(pattern) = pattern(timing)? else {
        return Ok(None);
    };
    let next = parse(&pattern)?
        .find_next_occurrence(&now, false)
        .map_err(|_| {
            Error::config(format!("the schedule {pattern} never fires")).field("schedule")
        })?;
    Ok(Some(next))
}

/// Refuses a schedule that could not fire as it says.
pub fn check(timing: &Timing) -> Result<()> {
    next_fire(timing, Utc::now(), Duration::ZERO).map(drop)
}

fn pattern(timing: &Timing) -> Result<Option<String>> {
    let atom = |value: &Option<String>, default: &str| -> String {
        value
            .as_deref()
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .unwrap_or(default)
            .to_owned()
    };
    let minute = || atom(&timing.minute, "0");
    let hour = || atom(&timing.hour, "0");
    Ok(Some(match timing.frequency {
        Frequency::Manual
        | Frequency::Continuous
        | Frequency::RunAfter
        | Frequency::Multi
        | Frequency::DbtCloud => return Ok(None),
        Frequency::Hourly => format!("{} * * * *", minute()),
        Frequency::Daily => format!("{} {} * * *", minute(), hour()),
        Frequency::Weekly => {
            format!(
                "{} {} * * {}",
                minute(),
                hour(),
                atom(&timing.day_of_week, "0")
            )
        }
        Frequency::Custom | Frequency::Builder => match &timing.cron {
            Some(cron) if !cron.trim().is_empty() => cron.trim().to_owned(),
            _ => format!(
                "{} {} {} {} {}",
                minute(),
                atom(&timing.hour, "*"),
                atom(&timing.day_of_month, "*"),
                atom(&timing.month, "*"),
                atom(&timing.day_of_week, "*"),
            ),
        },
    }))
}

fn parse(pattern: &str) -> Result<Cron> {
    Cron::from_str(pattern).map_err(|error| {
        Error::config(format!("{pattern:?} is not a cron expression: {error}"))
            .field("schedule")
            .hint("five parts: minute hour day-of-month month day-of-week, in UTC")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn timing(frequency: Frequency) -> Timing {
        Timing::new(frequency)
    }

    #[test]
    fn each_frequency_fires_when_it_says() {
        let now = at("2026-03-04T10:20:30Z"); // a Wednesday
        let text = |s: &str| Some(s.to_owned());
        let cases = [
            (
                Timing {
                    minute: text("15"),
                    ..timing(Frequency::Hourly)
                },
                "2026-03-04T11:15:00Z",
            ),
            (
                Timing {
                    hour: text("9"),
                    ..timing(Frequency::Daily)
                },
                "2026-03-05T09:00:00Z",
            ),
            (
                Timing {
                    day_of_week: text("1"),
                    hour: text("6"),
                    ..timing(Frequency::Weekly)
                },
                "2026-03-09T06:00:00Z",
            ),
            (
                Timing {
                    day_of_month: text("31"),
                    hour: text("0"),
                    ..timing(Frequency::Custom)
                },
                "2026-03-31T00:00:00Z",
            ),
            (
                Timing {
                    cron: text("*/10 * * * *"),
                    ..timing(Frequency::Custom)
                },
                "2026-03-04T10:30:00Z",
            ),
        ];
        for (timing, expected) in cases {
            let next = next_fire(&timing, now, Duration::ZERO).unwrap();
            assert_eq!(next, Some(at(expected)), "{timing:?}");
        }
        let continuous = next_fire(&timing(Frequency::Continuous), now, Duration::from_secs(7));
        assert_eq!(continuous.unwrap(), Some(at("2026-03-04T10:25:37Z")));
        assert_eq!(
            next_fire(&timing(Frequency::Manual), now, Duration::ZERO).unwrap(),
            None
        );
    }

    #[test]
    fn a_wrong_expression_is_refused_with_its_field() {
        let wrong = Timing {
            cron: Some("99 * * * *".into()),
            ..timing(Frequency::Custom)
        };
        assert_eq!(check(&wrong).unwrap_err().blamed_field(), Some("schedule"));
    }
}
