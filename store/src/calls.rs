//! How often connections were called in the last 24 hours, by sync and category.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tideway_core::Result;
use uuid::Uuid;

use crate::{
    clock,
    connections::{Connections, yesterday},
    db::values,
};

/// The calls of one connection in the last 24 hours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub calls_last_24_hours: i64,
    /// Those that a sync made; most calls first.
    pub by_sync: Vec<SyncUsage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncUsage {
    pub sync_id: Uuid,
    pub sync_name: String,
    pub last_run_at: Option<DateTime<Utc>>,
    pub total_calls: i64,
    /// Calls by what they were for (`read`, `write`), in the order of their names.
    pub categories: Vec<(String, i64)>,
}

impl Connections<'_> {
    /// Adds to the counters of this hour.
    pub async fn count_calls(
        &self,
        connection: Uuid,
        sync: Option<Uuid>,
        category: &str,
        calls: i64,
    ) -> Result<()> {
        let now = clock::now();
        let hour = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
        let sync = sync.map(|id| id.to_string()).unwrap_or_default();
        self.0
            .db()
            .execute(
                "INSERT INTO connection_calls (connection_id, hour, sync_id, category, calls)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (connection_id, hour, sync_id, category)
                 DO UPDATE SET calls = connection_calls.calls + excluded.calls",
                values![connection, hour, sync, category, calls],
            )
            .await?;
        Ok(())
    }

    pub async fn usage(&self, organization: Uuid, id: Uuid) -> Result<Usage> {
        let connection = self.get(organization, id).await?;
        let rows = self
            .0
            .db()
            .all(
                "SELECT s.id, s.name, c.category, CAST(SUM(c.calls) AS BIGINT) AS calls,
                   (SELECT MAX(started_at) FROM executions e WHERE e.sync_id = s.id) AS last_run
                 FROM connection_calls c JOIN bulk_syncs s ON s.id = c.sync_id
                 WHERE c.connection_id = $1 AND c.hour > $2
                 GROUP BY s.id, s.name, c.category ORDER BY c.category",
                values![id, yesterday()],
            )
            .await?;
        let mut by_sync: BTreeMap<Uuid, SyncUsage> = BTreeMap::new();
        for row in rows {
            let sync_id = row.id("id")?;
            let entry = match by_sync.entry(sync_id) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(SyncUsage {
                    sync_id,
                    sync_name: row.text("name")?,
                    last_run_at: row.maybe_time("last_run")?,
                    total_calls: 0,
                    categories: Vec::new(),
                }),
            };
            let calls = row.int("calls")?;
            entry.total_calls += calls;
            entry.categories.push((row.text("category")?, calls));
        }
        let mut by_sync: Vec<_> = by_sync.into_values().collect();
        by_sync.sort_by_key(|usage| std::cmp::Reverse(usage.total_calls));
        Ok(Usage {
            calls_last_24_hours: connection.api_calls_last_24_hours,
            by_sync,
        })
    }
}
