//! Executions: the runs of a sync, and at the same time the queue that workers claim
//! from ([`crate::Queue`]). A sync has at most one that has not ended, by an index of
//! the database, so it holds over all processes (invariant 11).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tideway_core::{Error, Result, destination::Disposition, sums::Verification};
use uuid::Uuid;

use crate::{
    Author, Page, PageRequest, SelectiveMode, Store, clock,
    db::{Tx, placeholders, values},
    page::{self, Place},
    row::Row,
    syncs, wake,
    words::words,
};

words! {
    /// The states of an execution and of each schema in it.
    pub enum ExecutionStatus {
        Created = "created",
        Scheduled = "scheduled",
        Running = "running",
        Exporting = "exporting",
        Canceling = "canceling",
        Canceled = "canceled",
        Completed = "completed",
        Failed = "failed",
        Processing = "processing",
        /// Ended, with some schemas or rows failed.
        Errors = "errors",
        Interrupted = "interrupted",
    }
}

impl ExecutionStatus {
    /// Nothing follows it.
    pub fn terminal(self) -> bool {
        use ExecutionStatus::*;
        matches!(self, Canceled | Completed | Failed | Errors | Interrupted)
    }
}

words! {
    /// What started an execution.
    pub enum Trigger {
        Manual = "manual",
        Scheduled = "scheduled",
        /// The end of another sync.
        RunAfter = "runafter",
    }
}

words! {
    /// Reading from the start again, and what becomes of the rows that are there.
    pub enum ResyncMode {
        /// They stay, and are merged with.
        Refetch = "refetch",
        /// They are emptied out.
        Resync = "resync",
        /// The table is dropped and made anew.
        Rebuild = "rebuild",
    }
}

words! {
    pub enum FetchMode {
        None = "none",
        Incremental = "incremental",
        Full = "full",
    }
}

/// What somebody wants stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cancel {
    /// The whole execution.
    pub execution: bool,
    /// These schemas of it.
    pub schemas: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Execution {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub sync_id: Uuid,
    pub status: ExecutionStatus,
    pub status_message: Option<String>,
    /// The HTTP API says `type`.
    pub trigger: Trigger,
    pub schedule_id: Option<Uuid>,
    pub resync_mode: Option<ResyncMode>,
    pub fetch_mode: FetchMode,
    pub selective_mode: SelectiveMode,
    /// Only a few records are moved, to see whether it works.
    pub test: bool,
    /// Empty carries all enabled schemas.
    pub only_schemas: Vec<String>,
    pub schemas: Vec<SchemaExecution>,
    /// The release that ran it last.
    pub version: Option<String>,
    /// How often a worker has claimed it.
    pub attempts: i64,
    pub cancel: Cancel,
    pub created_at: DateTime<Utc>,
    pub created_by: Author,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
}

impl Execution {
    /// It leaves schemas or fields out.
    pub fn partial(&self) -> bool {
        !self.only_schemas.is_empty() || self.selective_mode != SelectiveMode::None
    }

    /// It reads from the start again.
    pub fn resync(&self) -> bool {
        self.resync_mode.is_some()
    }

    pub fn output_disposition(&self) -> Disposition {
        match self.resync_mode {
            None | Some(ResyncMode::Refetch) => Disposition::Retain,
            Some(ResyncMode::Resync) => Disposition::Truncate,
            Some(ResyncMode::Rebuild) => Disposition::Rebuild,
        }
    }

    pub fn record_count(&self) -> i64 {
        self.schemas.iter().map(|schema| schema.record_count).sum()
    }

    pub fn error_count(&self) -> i64 {
        self.schemas.iter().map(|schema| schema.error_count).sum()
    }

    pub fn warning_count(&self) -> i64 {
        self.schemas.iter().map(|schema| schema.warning_count).sum()
    }
}

/// One schema within an execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaExecution {
    pub schema_id: String,
    pub status: ExecutionStatus,
    pub status_message: Option<String>,
    pub output_name: String,
    pub record_count: i64,
    pub error_count: i64,
    pub warning_count: i64,
    pub inserted: i64,
    pub updated: i64,
    pub deleted: i64,
    pub bytes: i64,
    pub verification: Option<Verification>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    pub updated_at: DateTime<Utc>,
}

/// What an execution is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionDraft {
    pub trigger: Trigger,
    pub schedule_id: Option<Uuid>,
    pub resync_mode: Option<ResyncMode>,
    pub fetch_mode: FetchMode,
    pub selective_mode: SelectiveMode,
    pub test: bool,
    /// Empty carries all enabled schemas.
    pub only_schemas: Vec<String>,
    pub created_by: Author,
}

impl ExecutionDraft {
    /// A plain run of everything.
    pub fn manual(created_by: Author) -> Self {
        ExecutionDraft {
            trigger: Trigger::Manual,
            schedule_id: None,
            resync_mode: None,
            fetch_mode: FetchMode::None,
            selective_mode: SelectiveMode::None,
            test: false,
            only_schemas: Vec::new(),
            created_by,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecutionFilter {
    pub only_terminal: bool,
    /// Oldest first.
    pub ascending: bool,
}

/// The execution of a sync that has not ended, and the one that ended last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latest {
    pub current: Option<Execution>,
    pub last: Option<Execution>,
}

pub struct Executions<'a>(pub(crate) &'a Store);

impl Executions<'_> {
    /// Queues an execution. Fails with Conflict while another of this sync has not ended.
    pub async fn create(
        &self,
        organization: Uuid,
        sync: Uuid,
        draft: &ExecutionDraft,
    ) -> Result<Execution> {
        let mut tx = self.0.db().begin().await?;
        syncs::require(&mut tx, organization, sync).await?;
        let Some(id) = insert(&mut tx, organization, sync, draft).await? else {
            return Err(Error::conflict("the sync is running already")
                .hint("wait until it has ended, or cancel it"));
        };
        wake::announce(&mut tx).await?;
        tx.commit().await?;
        self.0.ring();
        self.get(organization, sync, id).await
    }

    pub async fn get(&self, organization: Uuid, sync: Uuid, id: Uuid) -> Result<Execution> {
        let sql = "SELECT * FROM executions
                   WHERE organization_id = $1 AND sync_id = $2 AND id = $3";
        let rows = self
            .0
            .db()
            .all(sql, values![organization, sync, id])
            .await?;
        self.with_schemas(&rows).await?.pop().ok_or_else(missing)
    }

    /// Newest first, unless the filter says otherwise.
    pub async fn list(
        &self,
        organization: Uuid,
        sync: Uuid,
        filter: ExecutionFilter,
        page: &PageRequest,
    ) -> Result<Page<Execution>> {
        self.0.bulk_syncs().get(organization, sync).await?;
        let (list, beyond, order) = match filter.ascending {
            true => ("executions up", ">", "ASC"),
            false => ("executions", "<", "DESC"),
        };
        let terminal = if filter.only_terminal {
            "AND completed_at IS NOT NULL"
        } else {
            ""
        };
        let place = page::begin(page, list, filter.ascending)?;
        let sql = format!(
            "SELECT * FROM executions
             WHERE sync_id = $1 AND (created_at, id) {beyond} ($2, $3) {terminal}
             ORDER BY created_at {order}, id {order} LIMIT $4"
        );
        let values = values![sync, place.at(), place.id(), i64::from(page.limit) + 1];
        let rows = self.0.db().all(&sql, values).await?;
        let items = self.with_schemas(&rows).await?;
        Ok(page::end(items, page, list, |item| {
            Place::new(item.created_at, item.id)
        }))
    }

    /// Syncs that never ran are left out.
    pub async fn latest(
        &self,
        organization: Uuid,
        syncs: &[Uuid],
    ) -> Result<HashMap<Uuid, Latest>> {
        let mut latest: HashMap<Uuid, Latest> = HashMap::new();
        for syncs in syncs.chunks(500) {
            let list = placeholders(2, syncs.len());
            let sql = format!(
                "SELECT executions.* FROM bulk_syncs JOIN executions ON executions.id = (
                   SELECT id FROM executions ended
                   WHERE ended.sync_id = bulk_syncs.id AND ended.completed_at IS NOT NULL
                   ORDER BY created_at DESC, id DESC LIMIT 1)
                 WHERE bulk_syncs.organization_id = $1 AND bulk_syncs.id IN ({list})
                 UNION ALL
                 SELECT executions.* FROM executions
                 WHERE organization_id = $1 AND sync_id IN ({list}) AND completed_at IS NULL"
            );
            let mut values = values![organization];
            values.extend(syncs.iter().map(|id| (*id).into()));
            let rows = self.0.db().all(&sql, values).await?;
            for execution in self.with_schemas(&rows).await? {
                let latest = latest.entry(execution.sync_id).or_default();
                match execution.completed_at {
                    Some(_) => latest.last = Some(execution),
                    None => latest.current = Some(execution),
                }
            }
        }
        Ok(latest)
    }

    /// The executions of these rows, in their order.
    pub(crate) async fn with_schemas(&self, rows: &[Row]) -> Result<Vec<Execution>> {
        let mut executions = rows.iter().map(execution_of).collect::<Result<Vec<_>>>()?;
        let ids: Vec<Uuid> = executions.iter().map(|execution| execution.id).collect();
        let mut schemas: HashMap<Uuid, Vec<SchemaExecution>> = HashMap::new();
        for ids in ids.chunks(500) {
            let sql = format!(
                "SELECT * FROM schema_executions WHERE execution_id IN ({})
                 ORDER BY execution_id, schema_id",
                placeholders(1, ids.len())
            );
            let values = ids.iter().map(|id| (*id).into()).collect();
            for row in self.0.db().all(&sql, values).await? {
                schemas
                    .entry(row.id("execution_id")?)
                    .or_default()
                    .push(schema_of(&row)?);
            }
        }
        for execution in &mut executions {
            execution.schemas = schemas.remove(&execution.id).unwrap_or_default();
        }
        Ok(executions)
    }
}

/// None where another execution of the sync has not ended.
pub(crate) async fn insert(
    tx: &mut Tx,
    organization: Uuid,
    sync: Uuid,
    draft: &ExecutionDraft,
) -> Result<Option<Uuid>> {
    let row = tx
        .maybe(
            "INSERT INTO executions (id, organization_id, sync_id, status, trigger_kind,
               schedule_id, resync_mode, fetch_mode, selective_mode, is_test, only_schemas,
               cancel_requested, cancel_schemas, claimable_at, fence, attempts, followed,
               created_at, created_by, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, FALSE, '[]', {now}, 0, 0,
               FALSE, $12, $13, $12)
             ON CONFLICT DO NOTHING RETURNING id",
            values![
                Uuid::now_v7(),
                organization,
                sync,
                ExecutionStatus::Created,
                draft.trigger,
                draft.schedule_id,
                draft.resync_mode,
                draft.fetch_mode,
                draft.selective_mode,
                draft.test,
                crate::json(&draft.only_schemas)?,
                clock::now(),
                draft.created_by.json()?
            ],
        )
        .await?;
    row.map(|row| row.id("id")).transpose()
}

/// Without its schemas.
pub(crate) fn execution_of(row: &Row) -> Result<Execution> {
    Ok(Execution {
        id: row.id("id")?,
        organization_id: row.id("organization_id")?,
        sync_id: row.id("sync_id")?,
        status: row.word("status")?,
        status_message: row.maybe_text("status_message")?,
        trigger: row.word("trigger_kind")?,
        schedule_id: row.maybe_id("schedule_id")?,
        resync_mode: row.maybe_word("resync_mode")?,
        fetch_mode: row.word("fetch_mode")?,
        selective_mode: row.word("selective_mode")?,
        test: row.flag("is_test")?,
        only_schemas: row.json("only_schemas")?,
        schemas: Vec::new(),
        version: row.maybe_text("version")?,
        attempts: row.int("attempts")?,
        cancel: cancel_of(row)?,
        created_at: row.time("created_at")?,
        created_by: row.json("created_by")?,
        started_at: row.maybe_time("started_at")?,
        completed_at: row.maybe_time("completed_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(crate) fn cancel_of(row: &Row) -> Result<Cancel> {
    Ok(Cancel {
        execution: row.flag("cancel_requested")?,
        schemas: row.json("cancel_schemas")?,
    })
}

fn schema_of(row: &Row) -> Result<SchemaExecution> {
    Ok(SchemaExecution {
        schema_id: row.text("schema_id")?,
        status: row.word("status")?,
        status_message: row.maybe_text("status_message")?,
        output_name: row.text("output_name")?,
        record_count: row.int("record_count")?,
        error_count: row.int("error_count")?,
        warning_count: row.int("warning_count")?,
        inserted: row.int("inserted")?,
        updated: row.int("updated")?,
        deleted: row.int("deleted")?,
        bytes: row.int("bytes")?,
        verification: row.maybe_json("verification")?,
        created_at: row.time("created_at")?,
        started_at: row.maybe_time("started_at")?,
        completed_at: row.maybe_time("completed_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(crate) fn missing() -> Error {
    crate::db::missing("execution")
}
