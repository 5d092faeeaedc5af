//! The worker's side of the queue. A worker owns an execution for as long as its lease
//! lasts and extends it by heartbeats; when it dies, the lease ends and another worker
//! claims the execution. Every claim raises the fence, and every write carries it: a
//! worker that was cut off and comes back can change nothing any more (invariant 5).
//!
//! Leases go by the database's clock, so the workers' clocks do not matter. Whoever has
//! waited longest is claimed first; an execution whose worker died queues up again from
//! the end of its lease, so one that kills its workers does not starve the others.

use std::time::Duration;

use tideway_core::{Error, Result, sums::Verification};
use uuid::Uuid;

use crate::{
    BulkSync, Cancel, Execution, ExecutionStatus, Store, clock,
    db::{Tx, printable, values},
    events,
    executions::{cancel_of, execution_of},
    wake,
};

/// The right to run an execution and to write about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub execution_id: Uuid,
    pub sync_id: Uuid,
    pub organization_id: Uuid,
    /// Grows with every claim of the execution.
    pub fence: i64,
}

/// What a worker is to run. `execution.attempts` is 1 for the first worker; `execution`
/// tells as well whether its end was asked for before.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub lease: Lease,
    pub execution: Execution,
    pub sync: BulkSync,
}

/// Where one schema of a running execution stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaProgress {
    pub schema_id: String,
    pub output_name: String,
    pub status: ExecutionStatus,
    pub status_message: Option<String>,
    pub record_count: u64,
    pub error_count: u64,
    pub warning_count: u64,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    pub bytes: u64,
    /// Whether the destination was found to have what was read.
    pub verification: Option<Verification>,
}

impl SchemaProgress {
    /// Nothing moved yet.
    pub fn new(schema_id: &str, output_name: &str, status: ExecutionStatus) -> Self {
        SchemaProgress {
            schema_id: schema_id.to_owned(),
            output_name: output_name.to_owned(),
            status,
            status_message: None,
            record_count: 0,
            error_count: 0,
            warning_count: 0,
            inserted: 0,
            updated: 0,
            deleted: 0,
            bytes: 0,
            verification: None,
        }
    }
}

/// No lease lasts for ten leases, and no pause for longer than this. What seems to was written
/// before the clock was set back; whoever lives renews its lease by the new time at once, and
/// fences see to the others.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

pub struct Queue<'a>(pub(crate) &'a Store);

impl Queue<'_> {
    /// Takes the execution that has waited longest, for the time of `hold`. `worker` is a
    /// name for people who look into the database. The event that it runs is written with
    /// the first claim.
    pub async fn claim(&self, worker: &str, hold: Duration) -> Result<Option<Claim>> {
        let mut tx = self.0.db().begin().await?;
        let row = tx
            .maybe(
                "UPDATE executions SET worker = $1, fence = fence + 1, attempts = attempts + 1,
                   claimable_at = {now} + $2, started_at = COALESCE(started_at, $3),
                   status = CASE WHEN cancel_requested THEN 'canceling' ELSE 'running' END,
                   version = $4, updated_at = $3
                 WHERE id = (
                   SELECT id FROM executions
                   WHERE completed_at IS NULL
                     AND (claimable_at <= {now}
                          OR (worker IS NULL AND claimable_at > {now} + $5)
                          OR (worker IS NOT NULL AND claimable_at > {now} + $6))
                   ORDER BY claimable_at LIMIT 1 {skip_locked})
                 RETURNING *",
                values![
                    worker,
                    hold,
                    clock::now(),
                    env!("CARGO_PKG_VERSION"),
                    LONGEST_PAUSE,
                    hold.saturating_mul(10)
                ],
            )
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let execution = execution_of(&row)?;
        let lease = Lease {
            execution_id: execution.id,
            sync_id: execution.sync_id,
            organization_id: execution.organization_id,
            fence: row.int("fence")?,
        };
        if execution.attempts == 1 {
            events::of_execution(&mut tx, &execution, ExecutionStatus::Running, None).await?;
        }
        tx.commit().await?;
        match self.claimed(lease).await {
            // The sync was deleted in this very moment.
            Err(error) if error.kind == tideway_core::Kind::Missing => Ok(None),
            claimed => claimed.map(Some),
        }
    }

    async fn claimed(&self, lease: Lease) -> Result<Claim> {
        let Lease {
            organization_id,
            sync_id,
            execution_id,
            ..
        } = lease;
        let sync = self.0.bulk_syncs().get(organization_id, sync_id).await?;
        let execution = self
            .0
            .executions()
            .get(organization_id, sync_id, execution_id)
            .await?;
        Ok(Claim {
            lease,
            execution,
            sync,
        })
    }

    /// Extends the lease to `hold` from now and tells what is to be stopped. Fails with
    /// Fenced if the execution is another worker's, has ended or was deleted.
    pub async fn heartbeat(&self, lease: &Lease, hold: Duration) -> Result<Cancel> {
        let row = self
            .0
            .db()
            .maybe(
                "UPDATE executions SET claimable_at = {now} + $3
                 WHERE id = $1 AND fence = $2 AND worker IS NOT NULL
                 RETURNING cancel_requested, cancel_schemas",
                values![lease.execution_id, lease.fence, hold],
            )
            .await?;
        cancel_of(&row.ok_or_else(fenced)?)
    }

    /// Gives the execution back unfinished: any worker may claim it after the pause.
    pub async fn release(&self, lease: &Lease, pause: Duration) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        guard(&mut tx, lease).await?;
        let sql = "UPDATE executions SET worker = NULL, claimable_at = {now} + $2, updated_at = $3
                   WHERE id = $1";
        tx.execute(sql, values![lease.execution_id, pause, clock::now()])
            .await?;
        wake::announce(&mut tx).await?;
        tx.commit().await?;
        self.0.ring();
        Ok(())
    }

    /// A state on the way. One that was asked to end shows as canceling until it ends.
    pub async fn set_status(
        &self,
        lease: &Lease,
        status: ExecutionStatus,
        message: Option<&str>,
    ) -> Result<()> {
        if status.terminal() {
            return Err(Error::bug(format!(
                "{} is for finish to set",
                status.word()
            )));
        }
        let mut tx = self.0.db().begin().await?;
        guard(&mut tx, lease).await?;
        let sql = "UPDATE executions SET status_message = $3, updated_at = $4,
                     status = CASE WHEN cancel_requested THEN 'canceling' ELSE $2 END
                   WHERE id = $1";
        tx.execute(
            sql,
            values![
                lease.execution_id,
                status,
                message.map(printable),
                clock::now()
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Keeps where a schema stands; the times of its states are noted by themselves.
    pub async fn save_schema(&self, lease: &Lease, progress: &SchemaProgress) -> Result<()> {
        let now = clock::now();
        let waiting = matches!(
            progress.status,
            ExecutionStatus::Created | ExecutionStatus::Scheduled
        );
        let started = (!waiting).then_some(now);
        let completed = progress.status.terminal().then_some(now);
        let mut tx = self.0.db().begin().await?;
        guard(&mut tx, lease).await?;
        tx.execute(
            "INSERT INTO schema_executions (execution_id, schema_id, status, status_message,
               output_name, record_count, error_count, warning_count, inserted, updated,
               deleted, bytes, created_at, started_at, completed_at, verification, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $13)
             ON CONFLICT (execution_id, schema_id) DO UPDATE SET status = excluded.status,
               status_message = excluded.status_message, output_name = excluded.output_name,
               record_count = excluded.record_count, error_count = excluded.error_count,
               warning_count = excluded.warning_count, inserted = excluded.inserted,
               updated = excluded.updated, deleted = excluded.deleted, bytes = excluded.bytes,
               started_at = COALESCE(schema_executions.started_at, excluded.started_at),
               completed_at = excluded.completed_at, verification = excluded.verification,
               updated_at = excluded.updated_at",
            values![
                lease.execution_id,
                &progress.schema_id,
                progress.status,
                progress.status_message.as_deref().map(printable),
                &progress.output_name,
                progress.record_count,
                progress.error_count,
                progress.warning_count,
                progress.inserted,
                progress.updated,
                progress.deleted,
                progress.bytes,
                now,
                started,
                completed,
                progress
                    .verification
                    .as_ref()
                    .map(crate::json)
                    .transpose()?
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Ends the execution and the lease, with the event that tells of it. Schemas that
    /// have not ended become canceled, or interrupted if nobody asked for the end.
    pub async fn finish(
        &self,
        lease: &Lease,
        status: ExecutionStatus,
        message: Option<&str>,
    ) -> Result<Execution> {
        if !status.terminal() {
            return Err(Error::bug(format!(
                "an execution cannot end as {}",
                status.word()
            )));
        }
        let left = match status {
            ExecutionStatus::Canceled => ExecutionStatus::Canceled,
            _ => ExecutionStatus::Interrupted,
        };
        let now = clock::now();
        let mut tx = self.0.db().begin().await?;
        guard(&mut tx, lease).await?;
        let sql = "UPDATE schema_executions SET status = $2, completed_at = $3, updated_at = $3
                   WHERE execution_id = $1 AND completed_at IS NULL";
        tx.execute(sql, values![lease.execution_id, left, now])
            .await?;
        let row = tx
            .one(
                "execution",
                "UPDATE executions SET status = $2, status_message = $3, worker = NULL,
                   completed_at = $4, updated_at = $4
                 WHERE id = $1 RETURNING *",
                values![lease.execution_id, status, message.map(printable), now],
            )
            .await?;
        events::of_execution(&mut tx, &execution_of(&row)?, status, message).await?;
        wake::announce(&mut tx).await?;
        tx.commit().await?;
        self.0.ring();
        self.0
            .executions()
            .get(lease.organization_id, lease.sync_id, lease.execution_id)
            .await
    }
}

/// Fails with Fenced unless the lease is the current one, and keeps every other worker
/// from claiming the execution until the transaction ends.
pub(crate) async fn guard(tx: &mut Tx, lease: &Lease) -> Result<()> {
    let sql = "SELECT id FROM executions
               WHERE id = $1 AND fence = $2 AND worker IS NOT NULL {for_update}";
    tx.maybe(sql, values![lease.execution_id, lease.fence])
        .await?
        .map(drop)
        .ok_or_else(fenced)
}

fn fenced() -> Error {
    Error::fenced("the execution is another worker's now, has ended or was deleted")
}
