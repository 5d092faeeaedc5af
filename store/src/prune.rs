//! Forgetting what is old. Meant to be called now and then by every process; two at
//! once do no harm.

use chrono::TimeDelta;
use tideway_core::Result;

use crate::{Store, clock, db::values, secrets::RESPONSE};

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub events: TimeDelta,
    pub logs: TimeDelta,
    pub jobs: TimeDelta,
    pub idempotency: TimeDelta,
    /// Call counters, of which the last 24 hours are shown.
    pub calls: TimeDelta,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            events: TimeDelta::hours(48),
            logs: TimeDelta::days(30),
            jobs: TimeDelta::days(7),
            idempotency: TimeDelta::hours(24),
            calls: TimeDelta::hours(26),
        }
    }
}

/// Rows that went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub events: u64,
    pub logs: u64,
    pub jobs: u64,
    pub idempotency: u64,
    pub calls: u64,
}

impl Store {
    pub async fn prune(&self, retention: &Retention) -> Result<Pruned> {
        let now = clock::now();
        let db = self.db();
        let events = "DELETE FROM events WHERE created_at < $1";
        let logs = "DELETE FROM log_entries WHERE created_at < $1";
        let jobs = "DELETE FROM jobs WHERE updated_at < $1 AND status IN ('done', 'failed')";
        let keys = "DELETE FROM idempotency_keys WHERE started_at < $1";
        let calls = "DELETE FROM connection_calls WHERE hour < $1";
        let pruned = Pruned {
            events: db.execute(events, values![now - retention.events]).await?,
            logs: db.execute(logs, values![now - retention.logs]).await?,
            jobs: db.execute(jobs, values![now - retention.jobs]).await?,
            idempotency: db
                .execute(keys, values![now - retention.idempotency])
                .await?,
            calls: db.execute(calls, values![now - retention.calls]).await?,
        };
        let orphans = format!(
            "DELETE FROM secrets WHERE purpose = '{RESPONSE}' AND NOT EXISTS (
               SELECT 1 FROM idempotency_keys WHERE ticket = record_id)"
        );
        db.execute(&orphans, values![]).await?;
        Ok(pruned)
    }
}
