//! The console log: what a run tells about itself, line by line.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value as Json;
use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Lease, Store, clock, connections,
    db::{Tx, Value, printable, rows_of_placeholders, values},
    queue,
    row::Row,
};

const ROWS_PER_INSERT: usize = 100;
const COLUMNS: usize = 8;

/// A line to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLogEntry {
    /// None for lines about the whole run.
    pub schema_id: Option<String>,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    pub message: String,
    pub payload: Json,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogEntry {
    /// Grows from line to line within an execution.
    pub id: i64,
    pub schema_id: Option<String>,
    pub level: String,
    pub message: String,
    pub payload: Json,
    pub created_at: DateTime<Utc>,
}

pub struct Logs<'a>(pub(crate) &'a Store);

impl Logs<'_> {
    /// Fails with Fenced once the lease is lost. The lease's lock makes readers see the
    /// ids of an execution in order, so a cursor skips nothing.
    pub async fn append(&self, lease: &Lease, entries: &[NewLogEntry]) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        queue::guard(&mut tx, lease).await?;
        insert(&mut tx, Some(lease.execution_id), None, None, entries).await?;
        tx.commit().await
    }

    /// Oldest first: those after the id `after`, or without it the last `limit`.
    pub async fn list(
        &self,
        organization: Uuid,
        sync: Uuid,
        execution: Uuid,
        schema_id: Option<&str>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<LogEntry>> {
        self.0
            .executions()
            .get(organization, sync, execution)
            .await?;
        let mut conditions = "execution_id = $1".to_owned();
        let mut values = values![execution];
        if let Some(schema_id) = schema_id {
            values.push(schema_id.into());
            conditions += " AND schema_id = $2";
        }
        self.page(conditions, values, after, limit).await
    }

    /// Lines about the ingestion of a connection's changes, which goes on between runs.
    pub async fn append_ingest(
        &self,
        organization: Uuid,
        connection: Uuid,
        sync: Option<Uuid>,
        entries: &[NewLogEntry],
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        connections::require(&mut tx, organization, connection).await?;
        insert(&mut tx, None, Some(connection), sync, entries).await?;
        tx.commit().await
    }

    /// Like [`Logs::list`], of a connection's ingestion, or that of one sync.
    pub async fn list_ingest(
        &self,
        organization: Uuid,
        connection: Uuid,
        sync: Option<Uuid>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<LogEntry>> {
        let sql = "SELECT id FROM connections WHERE organization_id = $1 AND id = $2";
        self.0
            .db()
            .one("connection", sql, values![organization, connection])
            .await?;
        let mut conditions = "connection_id = $1".to_owned();
        let mut values = values![connection];
        if let Some(sync) = sync {
            values.push(sync.into());
            conditions += " AND sync_id = $2";
        }
        self.page(conditions, values, after, limit).await
    }

    async fn page(
        &self,
        conditions: String,
        mut values: Vec<Value>,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<LogEntry>> {
        let (after_id, limit_at) = (values.len() + 1, values.len() + 2);
        values.push(after.unwrap_or(0).into());
        values.push(limit.into());
        let order = if after.is_some() { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT * FROM log_entries WHERE {conditions} AND id > ${after_id}
             ORDER BY id {order} LIMIT ${limit_at}"
        );
        let rows = self.0.db().all(&sql, values).await?;
        let mut entries = rows.iter().map(entry_of).collect::<Result<Vec<_>>>()?;
        if after.is_none() {
            entries.reverse();
        }
        Ok(entries)
    }
}

async fn insert(
    tx: &mut Tx,
    execution: Option<Uuid>,
    connection: Option<Uuid>,
    sync: Option<Uuid>,
    entries: &[NewLogEntry],
) -> Result<()> {
    for entries in entries.chunks(ROWS_PER_INSERT) {
        let mut values: Vec<Value> = Vec::with_capacity(entries.len() * COLUMNS);
        for entry in entries {
            values.extend(values![
                execution,
                connection,
                sync,
                &entry.schema_id,
                &entry.level,
                printable(&entry.message),
                entry.payload.to_string(),
                clock::now()
            ]);
        }
        let sql = format!(
            "INSERT INTO log_entries (execution_id, connection_id, sync_id, schema_id, level,
               message, payload, created_at)
             VALUES {}",
            rows_of_placeholders(entries.len(), COLUMNS)
        );
        tx.execute(&sql, values).await?;
    }
    Ok(())
}

fn entry_of(row: &Row) -> Result<LogEntry> {
    Ok(LogEntry {
        id: row.int("id")?,
        schema_id: row.maybe_text("schema_id")?,
        level: row.text("level")?,
        message: row.text("message")?,
        payload: row.json("payload")?,
        created_at: row.time("created_at")?,
    })
}
