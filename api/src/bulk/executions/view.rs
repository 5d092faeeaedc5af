//! Executions as they are shown.

use chrono::{DateTime, TimeDelta, Utc};
use tideway_core::{destination::Disposition, sums};
use tideway_store as store;

use super::wire::{
    CancelAccepted, Execution, ExecutionStatus, FetchMode, IngestionLevel, IngestionStatus,
    OutputDisposition, ResyncMode, SchemaExecution, SchemaExecutionStatus, SchemaOverview,
    Verification, VerificationStatus,
};

/// A worker that follows a stream tells where it stands every second or two.
const HEARD_OF: TimeDelta = TimeDelta::seconds(30);

mirrored!(store::ExecutionStatus, ExecutionStatus:
    Created, Scheduled, Running, Exporting, Canceling, Canceled, Completed, Failed, Processing,
    Errors, Interrupted);
mirrored!(store::ResyncMode, ResyncMode: Refetch, Resync, Rebuild);
mirrored!(store::FetchMode, FetchMode: None, Incremental, Full);
mirrored!(Disposition, OutputDisposition: Retain, Truncate, Rebuild);

/// A schema has two states less than an execution: it goes on until it is canceled, and
/// with errors it has failed.
impl From<store::ExecutionStatus> for SchemaExecutionStatus {
    fn from(stored: store::ExecutionStatus) -> Self {
        use store::ExecutionStatus as Stored;
        match stored {
            Stored::Created => Self::Created,
            Stored::Scheduled => Self::Scheduled,
            Stored::Running | Stored::Canceling => Self::Running,
            Stored::Exporting => Self::Exporting,
            Stored::Canceled => Self::Canceled,
            Stored::Completed => Self::Completed,
            Stored::Failed | Stored::Errors => Self::Failed,
            Stored::Processing => Self::Processing,
            Stored::Interrupted => Self::Interrupted,
        }
    }
}

/// The stream of a sync; `running` while an execution does.
pub fn ingestion(stream: store::SyncStream, running: bool, now: DateTime<Utc>) -> IngestionStatus {
    let state = stream.state;
    let heard_of = stream.state_at.is_some_and(|at| now - at < HEARD_OF);
    let (status, status_message) = match (state.error, state.warning) {
        (Some(error), _) => (IngestionLevel::Error, Some(error)),
        (None, Some(warning)) => (IngestionLevel::Warning, Some(warning)),
        (None, None) => (IngestionLevel::Ok, None),
    };
    IngestionStatus {
        enabled: true,
        highwater_mark: state.end,
        is_running: running && heard_of,
        position: state.position,
        position_time: state.position_time,
        status,
        status_message,
        updated_at: stream.state_at,
    }
}

pub fn execution(stored: store::Execution) -> Execution {
    let version = stored.version.as_deref();
    Execution {
        completed_at: stored.completed_at,
        created_at: stored.created_at,
        error_count: stored.error_count(),
        fetch_mode: stored.fetch_mode.into(),
        id: stored.id,
        is_partial: stored.partial(),
        is_resync: stored.resync(),
        is_test: stored.test,
        output_disposition: stored.output_disposition().into(),
        record_count: stored.record_count(),
        schemas: stored
            .schemas
            .iter()
            .map(|schema| schema_execution(schema, version))
            .collect(),
        started_at: stored.started_at,
        status: stored.status.into(),
        kind: stored.trigger.word().to_owned(),
        updated_at: stored.updated_at,
        warning_count: stored.warning_count(),
        version: stored.version,
        status_message: stored.status_message,
    }
}

fn schema_execution(stored: &store::SchemaExecution, version: Option<&str>) -> SchemaExecution {
    SchemaExecution {
        completed_at: stored.completed_at,
        created_at: stored.created_at,
        error_count: stored.error_count,
        output_name: stored.output_name.clone(),
        record_count: stored.record_count,
        schema: stored.schema_id.clone(),
        started_at: stored.started_at,
        status: stored.status.into(),
        status_message: stored.status_message.clone(),
        updated_at: stored.updated_at,
        verification: stored.verification.clone().map(Verification::from),
        version: version.map(str::to_owned),
        warning_count: stored.warning_count,
    }
}

impl From<sums::Verification> for Verification {
    fn from(found: sums::Verification) -> Self {
        match found {
            sums::Verification::Verified {
                row_count,
                checksum,
                columns_left_out,
                milliseconds,
            } => Verification {
                checksum: Some(checksum),
                columns_left_out,
                milliseconds: Some(milliseconds),
                reason: None,
                row_count: Some(row_count),
                status: VerificationStatus::Verified,
            },
            sums::Verification::NotVerified { reason } => Verification {
                checksum: None,
                columns_left_out: Vec::new(),
                milliseconds: None,
                reason: Some(reason),
                row_count: None,
                status: VerificationStatus::NotVerified,
            },
        }
    }
}

pub fn schema_overview(
    execution: &store::Execution,
    stored: &store::SchemaExecution,
) -> SchemaOverview {
    SchemaOverview {
        completed_at: stored.completed_at,
        error_count: stored.error_count,
        execution_id: execution.id,
        record_count: stored.record_count,
        schema: stored.schema_id.clone(),
        started_at: stored.started_at,
        status: stored.status.into(),
        status_message: stored.status_message.clone(),
        warning_count: stored.warning_count,
    }
}

impl CancelAccepted {
    /// What became of the wish to cancel; `None` where nothing runs.
    pub fn of(execution: Option<&store::Execution>) -> Self {
        let message = match execution.map(|execution| execution.status) {
            None => "nothing is running",
            Some(store::ExecutionStatus::Canceled) => "the execution is canceled",
            Some(status) if status.terminal() => "the execution had ended already",
            Some(_) => "the execution will be canceled",
        };
        CancelAccepted {
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(state: store::StreamState, age: i64) -> IngestionStatus {
        let now = Utc::now();
        let stream = store::SyncStream {
            state,
            state_at: Some(now - TimeDelta::seconds(age)),
            attached_at: now,
        };
        ingestion(stream, true, now)
    }

    #[test]
    fn an_ingestion_runs_while_it_is_heard_of() {
        assert!(shown(store::StreamState::default(), 5).is_running);
        assert!(!shown(store::StreamState::default(), 50).is_running);
    }

    #[test]
    fn an_error_counts_more_than_a_warning() {
        let warned = store::StreamState {
            warning: Some("the log grows".into()),
            ..store::StreamState::default()
        };
        assert_eq!(shown(warned.clone(), 1).status, IngestionLevel::Warning);
        let broken = store::StreamState {
            error: Some("no server".into()),
            ..warned
        };
        let broken = shown(broken, 1);
        assert_eq!(broken.status, IngestionLevel::Error);
        assert_eq!(broken.status_message.as_deref(), Some("no server"));
    }
}
