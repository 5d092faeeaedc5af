//! When syncs run by themselves. The store keeps the times and hands each firing to
//! one process; what a time means (`hourly` at minute 15) is worked out by the scheduler.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tideway_core::{Error, Result};
use uuid::Uuid;

use crate::{
    Author, ExecutionDraft, RunAfter, ScheduleMode, SelectiveMode, Store, Timing, clock,
    db::{Tx, placeholders, values},
    executions,
    row::Row,
    syncs, wake,
};

#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub sync_id: Uuid,
    /// The one that carries every schema; a sync has at most one.
    pub default: bool,
    pub timing: Timing,
    /// Empty carries all schemas.
    pub schemas: Vec<String>,
    pub selective_mode: SelectiveMode,
    pub resync_mode: ScheduleMode,
    pub run_after: RunAfter,
    pub run_after_success_only: bool,
    /// The dbt Cloud connection, for [`crate::Frequency::DbtCloud`].
    pub connection_id: Option<Uuid>,
    pub job_id: Option<String>,
    /// None where nothing but an event fires it, or where it is not planned yet.
    pub next_fire_at: Option<DateTime<Utc>>,
    pub last_fired_at: Option<DateTime<Utc>>,
    /// False from a change until [`Schedules::plan`].
    pub planned: bool,
    pub created_at: DateTime<Utc>,
    pub created_by: Author,
    pub updated_at: DateTime<Utc>,
    pub updated_by: Author,
}

/// All that is chosen when a schedule is made or replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleDraft {
    /// A schedule that the sync has already: it keeps its id and its creation.
    pub id: Option<Uuid>,
    pub default: bool,
    pub timing: Timing,
    pub schemas: Vec<String>,
    pub selective_mode: SelectiveMode,
    pub resync_mode: ScheduleMode,
    pub run_after: RunAfter,
    pub run_after_success_only: bool,
    pub connection_id: Option<Uuid>,
    pub job_id: Option<String>,
    /// Where the caller knows it; else the scheduler finds the schedule unplanned.
    pub next_fire_at: Option<DateTime<Utc>>,
}

impl ScheduleDraft {
    /// Carries everything, in the normal way.
    pub fn new(timing: Timing) -> Self {
        ScheduleDraft {
            id: None,
            default: false,
            timing,
            schemas: Vec::new(),
            selective_mode: SelectiveMode::None,
            resync_mode: ScheduleMode::Normal,
            run_after: RunAfter::default(),
            run_after_success_only: false,
            connection_id: None,
            job_id: None,
            next_fire_at: None,
        }
    }
}

/// What came of a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// This execution was queued.
    Started(Uuid),
    /// The sync still runs, so this firing is left out.
    Overlap,
    /// Another process has fired it, or it or its sync was changed meanwhile.
    Lost,
}

pub struct Schedules<'a>(pub(crate) &'a Store);

impl Schedules<'_> {
    /// The default one first, then the oldest.
    pub async fn list(&self, organization: Uuid, sync: Uuid) -> Result<Vec<Schedule>> {
        self.0.bulk_syncs().get(organization, sync).await?;
        let sql = "SELECT * FROM schedules WHERE sync_id = $1
                   ORDER BY CASE WHEN is_default THEN 0 ELSE 1 END, created_at, id";
        self.0
            .db()
            .all(sql, values![sync])
            .await?
            .iter()
            .map(schedule_of)
            .collect()
    }

    pub async fn get(&self, organization: Uuid, sync: Uuid, id: Uuid) -> Result<Schedule> {
        let sql = "SELECT * FROM schedules WHERE organization_id = $1 AND sync_id = $2 AND id = $3";
        let row = self
            .0
            .db()
            .maybe(sql, values![organization, sync, id])
            .await?;
        schedule_of(&row.ok_or_else(missing)?)
    }

    /// Fails with Conflict on a second default schedule.
    pub async fn create(
        &self,
        organization: Uuid,
        sync: Uuid,
        author: &Author,
        draft: &ScheduleDraft,
    ) -> Result<Schedule> {
        let mut tx = self.0.db().begin().await?;
        syncs::require(&mut tx, organization, sync).await?;
        let id = insert(&mut tx, organization, sync, author, draft).await?;
        syncs::touch(&mut tx, sync, author).await?;
        tx.commit().await?;
        self.get(organization, sync, id).await
    }

    pub async fn update(
        &self,
        organization: Uuid,
        sync: Uuid,
        id: Uuid,
        author: &Author,
        draft: &ScheduleDraft,
    ) -> Result<Schedule> {
        let mut tx = self.0.db().begin().await?;
        syncs::require(&mut tx, organization, sync).await?;
        change(&mut tx, sync, id, author, draft).await?;
        syncs::touch(&mut tx, sync, author).await?;
        tx.commit().await?;
        self.get(organization, sync, id).await
    }

    pub async fn delete(&self, organization: Uuid, sync: Uuid, id: Uuid) -> Result<()> {
        let sql = "DELETE FROM schedules WHERE organization_id = $1 AND sync_id = $2 AND id = $3";
        match self
            .0
            .db()
            .execute(sql, values![organization, sync, id])
            .await?
        {
            0 => Err(missing()),
            _ => Ok(()),
        }
    }

    /// When each of the syncs runs next by itself; those that are inactive or never do
    /// are left out.
    pub async fn next_fire(
        &self,
        organization: Uuid,
        syncs: &[Uuid],
    ) -> Result<HashMap<Uuid, DateTime<Utc>>> {
        let mut next = HashMap::new();
        for syncs in syncs.chunks(500) {
            let sql = format!(
                "SELECT sync_id, MIN(next_fire_at) AS next FROM schedules
                 JOIN bulk_syncs ON bulk_syncs.id = sync_id AND active = TRUE
                 WHERE schedules.organization_id = $1 AND next_fire_at IS NOT NULL
                   AND sync_id IN ({}) GROUP BY sync_id",
                placeholders(2, syncs.len())
            );
            let mut values = values![organization];
            values.extend(syncs.iter().map(|id| (*id).into()));
            for row in self.0.db().all(&sql, values).await? {
                next.insert(row.id("sync_id")?, row.time("next")?);
            }
        }
        Ok(next)
    }

    /// Schedules of active syncs that were made, changed or switched on since they were
    /// planned last.
    pub async fn unplanned(&self, limit: u32) -> Result<Vec<Schedule>> {
        let sql = "SELECT schedules.* FROM schedules
                   JOIN bulk_syncs ON bulk_syncs.id = sync_id AND active = TRUE
                   WHERE planned = FALSE ORDER BY schedules.updated_at LIMIT $1";
        self.0
            .db()
            .all(sql, values![limit])
            .await?
            .iter()
            .map(schedule_of)
            .collect()
    }

    /// Sets when it fires next. False if the schedule was changed after `seen` was read.
    pub async fn plan(&self, seen: &Schedule, next: Option<DateTime<Utc>>) -> Result<bool> {
        let sql = "UPDATE schedules SET planned = TRUE, next_fire_at = $3
                   WHERE id = $1 AND updated_at = $2 AND planned = FALSE";
        let planned = self
            .0
            .db()
            .execute(sql, values![seen.id, seen.updated_at, next])
            .await?;
        Ok(planned > 0)
    }

    /// Planned schedules of active syncs whose time has come, the longest overdue first.
    pub async fn due(&self, limit: u32) -> Result<Vec<Schedule>> {
        let sql = "SELECT schedules.* FROM schedules
                   JOIN bulk_syncs ON bulk_syncs.id = sync_id AND active = TRUE
                   WHERE next_fire_at <= $1 AND planned = TRUE
                   ORDER BY next_fire_at LIMIT $2";
        let values = values![clock::now(), limit];
        self.0
            .db()
            .all(sql, values)
            .await?
            .iter()
            .map(schedule_of)
            .collect()
    }

    /// Queues an execution and sets the next firing, both or neither. `seen` is what
    /// [`Schedules::due`] gave.
    pub async fn fire(
        &self,
        seen: &Schedule,
        next: Option<DateTime<Utc>>,
        draft: &ExecutionDraft,
    ) -> Result<Fired> {
        let mut tx = self.0.db().begin().await?;
        if !syncs::require(&mut tx, seen.organization_id, seen.sync_id).await? {
            return Ok(Fired::Lost);
        }
        let mine = tx
            .execute(
                "UPDATE schedules SET next_fire_at = $3, last_fired_at = $4
                 WHERE id = $1 AND next_fire_at = $2",
                values![seen.id, seen.next_fire_at, next, clock::now()],
            )
            .await?;
        if mine == 0 {
            return Ok(Fired::Lost);
        }
        let started =
            executions::insert(&mut tx, seen.organization_id, seen.sync_id, draft).await?;
        if started.is_some() {
            wake::announce(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(match started {
            Some(id) => {
                self.0.ring();
                Fired::Started(id)
            }
            None => Fired::Overlap,
        })
    }

    /// Lets the sync's continuous schedules fire as soon as they can: a stream that goes on
    /// for ever is cut into executions, and the next one follows at once.
    pub async fn go_on(&self, sync: Uuid) -> Result<()> {
        let sql = "UPDATE schedules SET next_fire_at = $2
                   WHERE sync_id = $1 AND frequency = 'continuous' AND planned = TRUE
                     AND next_fire_at > $2";
        let values = values![sync, clock::now()];
        self.0.db().execute(sql, values).await.map(drop)
    }

    /// The run-after schedules of active syncs that name this one.
    pub async fn after(&self, sync: Uuid) -> Result<Vec<Schedule>> {
        let sql = "SELECT schedules.* FROM schedule_triggers
                   JOIN schedules ON schedules.id = schedule_id
                   JOIN bulk_syncs ON bulk_syncs.id = schedules.sync_id AND active = TRUE
                   WHERE after_sync_id = $1 AND frequency = 'runafter'
                   ORDER BY schedules.created_at, schedules.id";
        self.0
            .db()
            .all(sql, values![sync])
            .await?
            .iter()
            .map(schedule_of)
            .collect()
    }
}

/// The drafts are all schedules that the sync has from now on.
pub(crate) async fn replace(
    tx: &mut Tx,
    organization: Uuid,
    sync: Uuid,
    author: &Author,
    drafts: &[ScheduleDraft],
) -> Result<()> {
    let kept: Vec<Uuid> = drafts.iter().filter_map(|draft| draft.id).collect();
    for row in tx
        .all("SELECT id FROM schedules WHERE sync_id = $1", values![sync])
        .await?
    {
        let id = row.id("id")?;
        if !kept.contains(&id) {
            tx.execute("DELETE FROM schedules WHERE id = $1", values![id])
                .await?;
        }
    }
    // The default may move from one schedule to another.
    let sql = "UPDATE schedules SET is_default = FALSE WHERE sync_id = $1";
    tx.execute(sql, values![sync]).await?;
    for draft in drafts {
        match draft.id {
            Some(id) => change(tx, sync, id, author, draft).await?,
            None => insert(tx, organization, sync, author, draft)
                .await
                .map(drop)?,
        }
    }
    Ok(())
}

/// Lets the scheduler work out the times again, as after a pause of the sync.
pub(crate) async fn plan_anew(tx: &mut Tx, sync: Uuid) -> Result<()> {
    let sql = "UPDATE schedules SET planned = FALSE, next_fire_at = NULL WHERE sync_id = $1";
    tx.execute(sql, values![sync]).await?;
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    organization: Uuid,
    sync: Uuid,
    author: &Author,
    draft: &ScheduleDraft,
) -> Result<Uuid> {
    let id = Uuid::now_v7();
    tx.execute(
        "INSERT INTO schedules (id, organization_id, sync_id, is_default, frequency, timing,
           schemas, selective_mode, resync_mode, run_after, run_after_success_only,
           connection_id, job_id, planned, next_fire_at, created_at, created_by, updated_at,
           updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
           $16, $17)",
        values![
            id,
            organization,
            sync,
            draft.default,
            draft.timing.frequency,
            crate::json(&draft.timing)?,
            crate::json(&draft.schemas)?,
            draft.selective_mode,
            draft.resync_mode,
            crate::json(&draft.run_after)?,
            draft.run_after_success_only,
            draft.connection_id,
            &draft.job_id,
            draft.next_fire_at.is_some(),
            draft.next_fire_at,
            clock::now(),
            author.json()?
        ],
    )
    .await?;
    put_triggers(tx, id, &draft.run_after).await?;
    Ok(id)
}

async fn change(
    tx: &mut Tx,
    sync: Uuid,
    id: Uuid,
    author: &Author,
    draft: &ScheduleDraft,
) -> Result<()> {
    let changed = tx
        .execute(
            "UPDATE schedules SET is_default = $3, frequency = $4, timing = $5, schemas = $6,
               selective_mode = $7, resync_mode = $8, run_after = $9,
               run_after_success_only = $10, connection_id = $11, job_id = $12, planned = $13,
               next_fire_at = $14, updated_at = $15, updated_by = $16
             WHERE sync_id = $1 AND id = $2",
            values![
                sync,
                id,
                draft.default,
                draft.timing.frequency,
                crate::json(&draft.timing)?,
                crate::json(&draft.schemas)?,
                draft.selective_mode,
                draft.resync_mode,
                crate::json(&draft.run_after)?,
                draft.run_after_success_only,
                draft.connection_id,
                &draft.job_id,
                draft.next_fire_at.is_some(),
                draft.next_fire_at,
                clock::now(),
                author.json()?
            ],
        )
        .await?;
    if changed == 0 {
        return Err(missing());
    }
    tx.execute(
        "DELETE FROM schedule_triggers WHERE schedule_id = $1",
        values![id],
    )
    .await?;
    put_triggers(tx, id, &draft.run_after).await
}

async fn put_triggers(tx: &mut Tx, schedule: Uuid, after: &RunAfter) -> Result<()> {
    for sync in after.bulk_sync_ids.iter().chain(&after.sync_ids) {
        tx.execute(
            "INSERT INTO schedule_triggers (schedule_id, after_sync_id) VALUES ($1, $2)
             ON CONFLICT DO NOTHING",
            values![schedule, *sync],
        )
        .await?;
    }
    Ok(())
}

fn schedule_of(row: &Row) -> Result<Schedule> {
    Ok(Schedule {
        id: row.id("id")?,
        organization_id: row.id("organization_id")?,
        sync_id: row.id("sync_id")?,
        default: row.flag("is_default")?,
        timing: row.json("timing")?,
        schemas: row.json("schemas")?,
        selective_mode: row.word("selective_mode")?,
        resync_mode: row.word("resync_mode")?,
        run_after: row.json("run_after")?,
        run_after_success_only: row.flag("run_after_success_only")?,
        connection_id: row.maybe_id("connection_id")?,
        job_id: row.maybe_text("job_id")?,
        next_fire_at: row.maybe_time("next_fire_at")?,
        last_fired_at: row.maybe_time("last_fired_at")?,
        planned: row.flag("planned")?,
        created_at: row.time("created_at")?,
        created_by: row.json("created_by")?,
        updated_at: row.time("updated_at")?,
        updated_by: row.json("updated_by")?,
    })
}

fn missing() -> Error {
    crate::db::missing("schedule")
}
