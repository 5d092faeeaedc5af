//! Keeps every connection's health status up to date.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tideway_core::Result;
use tideway_store::{Connection as StoredConnection, Health};

use crate::Work;

const TICK: Duration = Duration::from_secs(5);
const AT_ONCE: u32 = 10;
/// A check that takes longer is taken for dead and may be done by another process.
const LONGEST: Duration = Duration::from_secs(120);

pub const HEALTHY: &str = "healthy";
pub const UNHEALTHY: &str = "unhealthy";

pub async fn run(work: Work) {
    loop {
        if let Err(error) = check_due(&work).await {
            tracing::warn!(%error, "connections were not checked");
        }
        if !work.pause(TICK).await {
            return;
        }
    }
}

async fn check_due(work: &Work) -> Result<()> {
    for connection in work
        .store
        .connections()
        .claim_health_checks(AT_ONCE, LONGEST)
        .await?
    {
        work.check_health(&connection).await?;
    }
    Ok(())
}

impl Work {
    /// Checks a stored connection and notes how it is.
    pub async fn check_health(&self, stored: &StoredConnection) -> Result<Health> {
        let report = self
            .check(&stored.kind, stored.configuration.expose())
            .await;
        let failure = report.first_failure();
        let health = Health {
            status: if failure.is_none() {
                HEALTHY
            } else {
                UNHEALTHY
            }
            .to_owned(),
            error: failure.map(|probe| format!("{}: {}", probe.name, probe.detail)),
            next_check_at: Some(Utc::now() + self.healthcheck_interval(stored)),
        };
        self.store
            .connections()
            .set_health(stored.organization_id, stored.id, &health)
            .await?;
        self.count_call(stored.id, None, "healthcheck").await;
        Ok(health)
    }

    /// The connection's own interval (`30s`, `10m`, `1h`), or the process's.
    fn healthcheck_interval(&self, stored: &StoredConnection) -> TimeDelta {
        let own = stored
            .healthcheck_interval
            .as_deref()
            .and_then(parse_interval);
        TimeDelta::from_std(own.unwrap_or(self.settings.healthcheck_interval))
            .unwrap_or(TimeDelta::minutes(5))
    }
}

/// `90`, `90s`, `10m`, `1h`, `1d`, or parts of these in a row (`1h30m0s`).
pub fn parse_interval(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut number = String::new();
    for c in text.trim().chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    if !number.is_empty() {
        total = total.checked_add(number.parse().ok()?)?;
    }
    (total > 0).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read() {
        let seconds = |text| parse_interval(text).map(|time| time.as_secs());
        assert_eq!(seconds("90"), Some(90));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(seconds("10m0s"), Some(600));
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("0s"), None);
    }
}
