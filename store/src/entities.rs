//! What a bare id stands for.

use tideway_core::Result;
use uuid::Uuid;

use crate::{Store, db::values, words::words};

words! {
    pub enum EntityKind {
        Organization = "organization",
        User = "user",
        Connection = "connection",
        BulkSync = "bulk_sync",
        BulkSyncSchedule = "bulk_sync_schedule",
        BulkSyncExecution = "bulk_sync_execution",
        Event = "event",
        Job = "job",
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    pub kind: EntityKind,
    pub id: Uuid,
    pub organization_id: Uuid,
    /// What it belongs to, next of kin first, the organization left out.
    pub parents: Vec<(EntityKind, Uuid)>,
    /// Its subtype, for a job its `type`.
    pub detail: Option<String>,
}

/// Each finds at most one row: its kind, the sync it belongs to, and a detail.
const LOOKUPS: &[&str] = &[
    "SELECT 'organization' AS kind, NULL AS sync_id, NULL AS detail
     FROM organizations WHERE id = $1 AND id = $2",
    "SELECT 'connection' AS kind, NULL AS sync_id, type AS detail
     FROM connections WHERE organization_id = $1 AND id = $2",
    "SELECT 'bulk_sync' AS kind, NULL AS sync_id, NULL AS detail
     FROM bulk_syncs WHERE organization_id = $1 AND id = $2",
    "SELECT 'bulk_sync_execution' AS kind, sync_id, NULL AS detail
     FROM executions WHERE organization_id = $1 AND id = $2",
    "SELECT 'bulk_sync_schedule' AS kind, sync_id, NULL AS detail
     FROM schedules WHERE organization_id = $1 AND id = $2",
    "SELECT 'user' AS kind, NULL AS sync_id, NULL AS detail
     FROM users WHERE organization_id = $1 AND id = $2",
    "SELECT 'event' AS kind, NULL AS sync_id, type AS detail
     FROM events WHERE organization_id = $1 AND id = $2",
    "SELECT 'job' AS kind, NULL AS sync_id, type AS detail
     FROM jobs WHERE organization_id = $1 AND id = $2",
];

pub struct Entities<'a>(pub(crate) &'a Store);

impl Entities<'_> {
    /// None for an id that this organization does not have.
    pub async fn resolve(&self, organization: Uuid, id: Uuid) -> Result<Option<Entity>> {
        for sql in LOOKUPS {
            let Some(row) = self.0.db().maybe(sql, values![organization, id]).await? else {
                continue;
            };
            let sync = row.maybe_id("sync_id")?;
            return Ok(Some(Entity {
                kind: row.word("kind")?,
                id,
                organization_id: organization,
                parents: sync
                    .map(|sync| (EntityKind::BulkSync, sync))
                    .into_iter()
                    .collect(),
                detail: row.maybe_text("detail")?,
            }));
        }
        Ok(None)
    }
}
