//! Stopping executions, and starting those that wait for the end of another.

use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Execution, ExecutionDraft, ExecutionStatus, Executions, clock,
    db::{Tx, values},
    events,
    executions::{self, cancel_of, execution_of},
    syncs, wake,
};

impl Executions<'_> {
    /// Asks for an end. One that no worker has seen ends at once; otherwise the worker is
    /// told by its next heartbeat. One that has ended stays as it is.
    pub async fn cancel(&self, organization: Uuid, sync: Uuid, id: Uuid) -> Result<Execution> {
        let mut tx = self.0.db().begin().await?;
        let sql = "SELECT * FROM executions
                   WHERE organization_id = $1 AND sync_id = $2 AND id = $3 {for_update}";
        let row = tx.maybe(sql, values![organization, sync, id]).await?;
        let execution = execution_of(&row.ok_or_else(executions::missing)?)?;
        if !execution.status.terminal() {
            ask_to_end(&mut tx, &execution).await?;
        }
        tx.commit().await?;
        self.get(organization, sync, id).await
    }

    /// Cancels the execution of the sync that has not ended; None if there is none.
    pub async fn cancel_sync(&self, organization: Uuid, sync: Uuid) -> Result<Option<Execution>> {
        match self.current(organization, sync).await? {
            Some(id) => self.cancel(organization, sync, id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks for one schema of the running execution to be left out; None if there is none.
    pub async fn cancel_schema(
        &self,
        organization: Uuid,
        sync: Uuid,
        schema_id: &str,
    ) -> Result<Option<Execution>> {
        let Some(id) = self.current(organization, sync).await? else {
            return Ok(None);
        };
        let mut tx = self.0.db().begin().await?;
        let sql = "SELECT * FROM executions WHERE id = $1 AND completed_at IS NULL {for_update}";
        if let Some(row) = tx.maybe(sql, values![id]).await? {
            let mut schemas = cancel_of(&row)?.schemas;
            if !schemas.iter().any(|known| known == schema_id) {
                schemas.push(schema_id.to_owned());
            }
            let sql = "UPDATE executions SET cancel_schemas = $2, updated_at = $3 WHERE id = $1";
            tx.execute(sql, values![id, crate::json(&schemas)?, clock::now()])
                .await?;
        }
        tx.commit().await?;
        self.get(organization, sync, id).await.map(Some)
    }

    async fn current(&self, organization: Uuid, sync: Uuid) -> Result<Option<Uuid>> {
        self.0.bulk_syncs().get(organization, sync).await?;
        let sql = "SELECT id FROM executions WHERE sync_id = $1 AND completed_at IS NULL";
        let row = self.0.db().maybe(sql, values![sync]).await?;
        row.map(|row| row.id("id")).transpose()
    }

    /// Ended executions whose run-after schedules nobody has looked at, oldest end first.
    pub async fn unfollowed(&self, limit: u32) -> Result<Vec<Execution>> {
        let sql = "SELECT * FROM executions
                   WHERE followed = FALSE AND completed_at IS NOT NULL
                   ORDER BY completed_at LIMIT $1";
        let rows = self.0.db().all(sql, values![limit]).await?;
        self.with_schemas(&rows).await
    }

    /// Queues what is to run after an execution, once only however many processes try.
    /// Each item is (organization, sync, what to do); syncs that run already are left out.
    pub async fn follow(
        &self,
        execution: Uuid,
        next: &[(Uuid, Uuid, ExecutionDraft)],
    ) -> Result<Vec<Uuid>> {
        let mut tx = self.0.db().begin().await?;
        let sql = "UPDATE executions SET followed = TRUE WHERE id = $1 AND followed = FALSE";
        if tx.execute(sql, values![execution]).await? == 0 {
            return Ok(Vec::new());
        }
        let mut started = Vec::new();
        for (organization, sync, draft) in next {
            syncs::require(&mut tx, *organization, *sync).await?;
            started.extend(executions::insert(&mut tx, *organization, *sync, draft).await?);
        }
        if !started.is_empty() {
            wake::announce(&mut tx).await?;
        }
        tx.commit().await?;
        self.0.ring();
        Ok(started)
    }
}

/// A worker that has begun may have staged rows, so it must clean up itself.
async fn ask_to_end(tx: &mut Tx, execution: &Execution) -> Result<()> {
    if execution.attempts > 0 {
        let sql = "UPDATE executions SET cancel_requested = TRUE, status = 'canceling',
                     updated_at = $2 WHERE id = $1";
        tx.execute(sql, values![execution.id, clock::now()]).await?;
        return Ok(());
    }
    let sql = "UPDATE executions SET cancel_requested = TRUE, status = 'canceled',
                 fence = fence + 1, completed_at = $2, updated_at = $2 WHERE id = $1";
    tx.execute(sql, values![execution.id, clock::now()]).await?;
    events::of_execution(tx, execution, ExecutionStatus::Canceled, None).await
}
