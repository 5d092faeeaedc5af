//! Brings what the engine tells to the store: console log and the state of each table.
//! Lines are gathered and written a few times a second, under the lease.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use chrono::DateTime;
use serde_json::{Value, json};
use tideway_core::{Position, Result, destination::Outcome};
use tideway_engine::{Level, Observer, RunMeter, TableState};
use tideway_store::{ExecutionStatus, Lease, NewLogEntry, SchemaProgress, Store, StreamState};
use uuid::Uuid;

pub const FLUSH_EVERY: Duration = Duration::from_millis(500);

pub struct StoreObserver {
    store: Store,
    lease: Lease,
    /// The source's connection, whose ingestion log tells of the change stream.
    connection: Uuid,
    meter: Arc<RunMeter>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    lines: Vec<NewLogEntry>,
    /// Lines about the change stream.
    ingest: Vec<NewLogEntry>,
    stream: Option<StreamState>,
    tables: BTreeMap<String, Seen>,
}

/// What is known of a table.
#[derive(Clone)]
struct Seen {
    output_name: String,
    status: ExecutionStatus,
    message: Option<String>,
    outcome: Option<Outcome>,
    /// Changed since it was written last.
    fresh: bool,
}

impl StoreObserver {
    pub fn new(store: Store, lease: Lease, connection: Uuid, meter: Arc<RunMeter>) -> Self {
        StoreObserver {
            store,
            lease,
            connection,
            meter,
            pending: Mutex::default(),
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// Writes what has gathered. Fails with `Fenced` once the lease is lost.
    pub async fn flush(&self) -> Result<()> {
        let (lines, ingest, stream, tables) = {
            let mut pending = self.pending();
            let lines = std::mem::take(&mut pending.lines);
            let ingest = std::mem::take(&mut pending.ingest);
            let stream = pending.stream.take();
            let mut tables = Vec::new();
            for (id, seen) in &mut pending.tables {
                // Counters move while a table runs; afterwards once more and no longer.
                if seen.fresh || !seen.status.terminal() {
                    tables.push((id.clone(), seen.clone()));
                    seen.fresh = false;
                }
            }
            (lines, ingest, stream, tables)
        };
        if !lines.is_empty() {
            self.store.logs().append(&self.lease, &lines).await?;
        }
        let lease = &self.lease;
        if !ingest.is_empty() {
            let (organization, sync) = (lease.organization_id, Some(lease.sync_id));
            self.store
                .logs()
                .append_ingest(organization, self.connection, sync, &ingest)
                .await?;
        }
        if let Some(state) = stream {
            self.store
                .streams()
                .observe(lease, self.connection, &state)
                .await?;
        }
        for (id, seen) in tables {
            self.store
                .queue()
                .save_schema(&self.lease, &self.progress(id, &seen))
                .await?;
        }
        Ok(())
    }

    fn progress(&self, schema_id: String, seen: &Seen) -> SchemaProgress {
        let meter = self.meter.table(&schema_id);
        let outcome = seen.outcome.clone().unwrap_or_default();
        SchemaProgress {
            schema_id,
            output_name: seen.output_name.clone(),
            status: seen.status,
            status_message: seen.message.clone(),
            record_count: meter.rows_read.load(Relaxed),
            error_count: u64::from(seen.status == ExecutionStatus::Failed),
            warning_count: meter.warnings.load(Relaxed),
            inserted: outcome.inserted,
            updated: outcome.updated,
            deleted: outcome.deleted,
            bytes: meter.bytes_read.load(Relaxed),
            verification: outcome.verified,
        }
    }
}

impl Observer for StoreObserver {
    fn table(&self, schema_id: &str, output_name: &str, state: TableState) {
        let (status, message, outcome) = match state {
            TableState::Running => (ExecutionStatus::Running, None, None),
            TableState::Processing => (ExecutionStatus::Processing, None, None),
            TableState::Completed(outcome) => {
                self.log(
                    Level::Info,
                    schema_id,
                    format!(
                        "{}: {} inserted, {} updated, {} deleted, {} unchanged",
                        outcome.place,
                        outcome.inserted,
                        outcome.updated,
                        outcome.deleted,
                        outcome.unchanged
                    ),
                    json!({
                        "place": outcome.place,
                        "inserted": outcome.inserted,
                        "updated": outcome.updated,
                        "deleted": outcome.deleted,
                        "unchanged": outcome.unchanged,
                    }),
                );
                (ExecutionStatus::Completed, None, Some(outcome))
            }
            TableState::Failed { message, hint } => (
                ExecutionStatus::Failed,
                Some(format!("{message} ({hint})")),
                None,
            ),
            TableState::Canceled => (ExecutionStatus::Canceled, Some("canceled".into()), None),
        };
        let seen = Seen {
            output_name: output_name.to_owned(),
            status,
            message,
            outcome,
            fresh: true,
        };
        self.pending().tables.insert(schema_id.to_owned(), seen);
    }

    fn stream(&self, state: &tideway_engine::StreamState) {
        let sync = self.lease.sync_id.to_string();
        for (name, value) in [
            ("tideway_stream_lag_bytes", state.lag.bytes),
            ("tideway_stream_lag_seconds", state.lag_seconds),
            ("tideway_stream_retained_bytes", state.lag.retained_bytes),
            ("tideway_stream_headroom_bytes", state.lag.headroom_bytes),
        ] {
            if let Some(value) = value {
                metrics::gauge!(name, "sync" => sync.clone()).set(value as f64);
            }
        }
        self.pending().stream = Some(shown(state));
    }

    fn ingest(&self, level: Level, schema_id: &str, message: String, payload: Value) {
        let line = NewLogEntry {
            schema_id: (!schema_id.is_empty()).then(|| schema_id.to_owned()),
            level: level.word().to_owned(),
            message: message.clone(),
            payload: payload.clone(),
        };
        self.pending().ingest.push(line);
        self.log(level, schema_id, message, payload);
    }

    fn log(&self, level: Level, schema_id: &str, message: String, payload: Value) {
        let schema_id = (!schema_id.is_empty()).then(|| schema_id.to_owned());
        let level = level.word().to_owned();
        self.pending().lines.push(NewLogEntry {
            schema_id,
            level,
            message,
            payload,
        });
    }
}

fn shown(state: &tideway_engine::StreamState) -> StreamState {
    StreamState {
        position: state.position.as_ref().map(Position::to_string),
        position_time: state.committed_at.and_then(DateTime::from_timestamp_micros),
        end: state.lag.end.as_ref().map(Position::to_string),
        lag_bytes: state.lag.bytes,
        lag_seconds: state.lag_seconds,
        retained_bytes: state.lag.retained_bytes,
        headroom_bytes: state.lag.headroom_bytes,
        warning: state.lag.warning.clone(),
        error: state.error.clone(),
    }
}
