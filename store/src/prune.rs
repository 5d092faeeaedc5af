//! Forgetting what is old. Meant to be called now and then by every process; two at
//! once do no harm.

use chrono::TimeDelta;
use tideway_core::Result;

use crate::{Store, clock, db::values, secrets::RESPONSE};

/// Rows that one statement deletes.
const BATCH: i64 = 5_000;

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
        let pruned = Pruned {
            events: self
                .forget("events", "id", "created_at", retention.events)
                .await?,
            logs: self
                .forget("log_entries", "id", "created_at", retention.logs)
                .await?,
            jobs: self
                .forget("jobs", "id", "updated_at", retention.jobs)
                .await?,
            idempotency: self
                .forget(
                    "idempotency_keys",
                    "ticket",
                    "started_at",
                    retention.idempotency,
                )
                .await?,
            calls: self
                .forget("connection_calls", "hour", "hour", retention.calls)
                .await?,
        };
        let orphans = format!(
            "DELETE FROM secrets WHERE purpose = '{RESPONSE}' AND NOT EXISTS (
               SELECT 1 FROM idempotency_keys WHERE ticket = record_id)"
        );
        self.db().execute(&orphans, values![]).await?;
        Ok(pruned)
    }

    /// Deletes what is older, a batch at a time, so that others can write in between.
    /// A job goes once it has ended.
    async fn forget(&self, table: &str, key: &str, age: &str, kept: TimeDelta) -> Result<u64> {
        let ended = if table == "jobs" {
            "AND status IN ('done', 'failed')"
        } else {
            ""
        };
        let sql = format!(
            "DELETE FROM {table} WHERE {key} IN (
               SELECT {key} FROM {table} WHERE {age} < $1 {ended} LIMIT $2)"
        );
        let before = clock::now() - kept;
        let mut total = 0;
        loop {
            let gone = self.db().execute(&sql, values![before, BATCH]).await?;
            total += gone;
            if gone == 0 {
                return Ok(total);
            }
        }
    }
}
