//! Events: what happened, for whoever watches from outside. Those of executions are
//! written in the transaction that changes the state, so none is missed or invented.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Execution, ExecutionStatus, Store, clock,
    db::{Tx, values},
    row::Row,
};

/// All types that are ever written.
pub const EVENT_KINDS: &[&str] = &[
    "bulk_sync.running",
    "bulk_sync.completed",
    "bulk_sync.completed_with_error",
    "bulk_sync.failed",
    "bulk_sync.canceled",
];

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    pub id: Uuid,
    /// One of [`EVENT_KINDS`]; the HTTP API says `type`.
    #[serde(rename = "type")]
    pub kind: String,
    pub organization_id: Uuid,
    pub created_at: DateTime<Utc>,
    /// The HTTP API says `event`.
    #[serde(rename = "event")]
    pub payload: Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter {
    pub kind: Option<String>,
    /// Exclusive.
    pub starting_after: Option<DateTime<Utc>>,
    /// Exclusive.
    pub ending_before: Option<DateTime<Utc>>,
    pub limit: u32,
}

pub struct Events<'a>(pub(crate) &'a Store);

impl Events<'_> {
    pub async fn append(&self, organization: Uuid, kind: &str, payload: &Json) -> Result<Event> {
        let mut tx = self.0.db().begin().await?;
        let event = insert(&mut tx, organization, kind, payload).await?;
        tx.commit().await?;
        Ok(event)
    }

    /// Newest first.
    pub async fn list(&self, organization: Uuid, filter: &EventFilter) -> Result<Vec<Event>> {
        let mut values = values![organization, filter.limit];
        let mut conditions = String::new();
        if let Some(kind) = &filter.kind {
            values.push(kind.into());
            conditions += &format!(" AND type = ${}", values.len());
        }
        if let Some(after) = filter.starting_after {
            values.push(after.into());
            conditions += &format!(" AND created_at > ${}", values.len());
        }
        if let Some(before) = filter.ending_before {
            values.push(before.into());
            conditions += &format!(" AND created_at < ${}", values.len());
        }
        let sql = format!(
            "SELECT * FROM events WHERE organization_id = $1{conditions}
             ORDER BY created_at DESC, id DESC LIMIT $2"
        );
        self.0
            .db()
            .all(&sql, values)
            .await?
            .iter()
            .map(event_of)
            .collect()
    }
}

/// Tells that an execution came into this state.
pub(crate) async fn of_execution(
    tx: &mut Tx,
    execution: &Execution,
    status: ExecutionStatus,
    error: Option<&str>,
) -> Result<()> {
    let kind = match status {
        ExecutionStatus::Completed => "bulk_sync.completed",
        ExecutionStatus::Errors => "bulk_sync.completed_with_error",
        ExecutionStatus::Failed | ExecutionStatus::Interrupted => "bulk_sync.failed",
        ExecutionStatus::Canceled => "bulk_sync.canceled",
        _ => "bulk_sync.running",
    };
    let row = tx
        .one(
            "bulk sync",
            "SELECT name, source_connection_id, destination_connection_id, frequency
             FROM bulk_syncs LEFT JOIN schedules ON schedules.id = $2
             WHERE bulk_syncs.id = $1",
            values![execution.sync_id, execution.schedule_id],
        )
        .await?;
    let mut payload = json!({
        "sync_id": execution.sync_id,
        "sync_name": row.text("name")?,
        "execution_id": execution.id,
        "organization_id": execution.organization_id,
        "source_connection_id": row.id("source_connection_id")?,
        "destination_connection_id": row.id("destination_connection_id")?,
    });
    if !matches!(kind, "bulk_sync.running" | "bulk_sync.canceled") {
        payload["trigger_source"] = json!(execution.trigger);
        if let (Some(id), Some(frequency)) = (execution.schedule_id, row.maybe_text("frequency")?) {
            payload["schedule"] = json!({ "id": id, "frequency": frequency });
        }
    }
    if matches!(kind, "bulk_sync.failed" | "bulk_sync.completed_with_error") {
        payload["error"] = json!(error.unwrap_or_default());
    }
    insert(tx, execution.organization_id, kind, &payload)
        .await
        .map(drop)
}

async fn insert(tx: &mut Tx, organization: Uuid, kind: &str, payload: &Json) -> Result<Event> {
    let row = tx
        .one(
            "event",
            "INSERT INTO events (id, organization_id, type, payload, created_at)
             VALUES ($1, $2, $3, $4, $5) RETURNING *",
            values![
                Uuid::now_v7(),
                organization,
                kind,
                payload.to_string(),
                clock::now()
            ],
        )
        .await?;
    event_of(&row)
}

fn event_of(row: &Row) -> Result<Event> {
    Ok(Event {
        id: row.id("id")?,
        kind: row.text("type")?,
        organization_id: row.id("organization_id")?,
        created_at: row.time("created_at")?,
        payload: row.json("payload")?,
    })
}
