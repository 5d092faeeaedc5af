//! Bulk syncs: which connection is copied to which, how, and with what settings.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tideway_core::{Error, Result, WriteMode};
use uuid::Uuid;

use crate::{
    Author, Page, PageRequest, ScheduleDraft, Store, SyncSchema, clock,
    db::{Tx, Value, values},
    page::{self, Place},
    row::Row,
    schedules, streams, sync_schemas,
    words::words,
};

const LIST: &str = "bulk_syncs";

words! {
    /// Which newly found objects or fields are taken in by themselves.
    pub enum Discover {
        All = "all",
        OnlyIncremental = "onlyIncremental",
        OnlyNonIncremental = "onlyNonIncremental",
        None = "none",
    }
}

words! {
    /// How names are fitted to the destination.
    pub enum NormalizeNames {
        Enabled = "enabled",
        Disabled = "disabled",
        Legacy = "legacy",
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct BulkSync {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub name: String,
    pub source_connection_id: Uuid,
    pub destination_connection_id: Uuid,
    pub mode: WriteMode,
    /// Schedules of an inactive sync do not fire.
    pub active: bool,
    pub settings: SyncSettings,
    pub error_handling: ErrorHandling,
    pub created_at: DateTime<Utc>,
    pub created_by: Author,
    pub updated_at: DateTime<Utc>,
    pub updated_by: Author,
}

/// Settings that nothing searches for, stored as one JSON object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncSettings {
    pub source_configuration: Json,
    pub destination_configuration: Json,
    pub automatically_add_new_fields: Discover,
    pub automatically_add_new_objects: Discover,
    pub normalize_names: NormalizeNames,
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    pub disable_record_timestamps: bool,
    /// Tables that are copied at once.
    pub concurrency_limit: Option<i64>,
    pub resync_concurrency_limit: Option<i64>,
    pub policies: Vec<String>,
}

impl Default for SyncSettings {
    fn default() -> Self {
        SyncSettings {
            source_configuration: Json::Object(Default::default()),
            destination_configuration: Json::Object(Default::default()),
            automatically_add_new_fields: Discover::All,
            automatically_add_new_objects: Discover::None,
            normalize_names: NormalizeNames::Enabled,
            data_cutoff_timestamp: None,
            disable_record_timestamps: false,
            concurrency_limit: None,
            resync_concurrency_limit: None,
            policies: Vec::new(),
        }
    }
}

/// Who is told of failures, and from which lag on ingestion counts as failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorHandling {
    /// Mail addresses.
    pub subscribers: Vec<String>,
    /// Seconds or items, as the source counts its lag.
    pub ingestion_failure_threshold: Option<i64>,
}

/// All that is chosen when a sync is made or replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncDraft {
    pub name: String,
    pub source_connection_id: Uuid,
    pub destination_connection_id: Uuid,
    pub mode: WriteMode,
    pub active: bool,
    pub settings: SyncSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncName {
    pub id: Uuid,
    pub name: String,
}

impl SyncName {
    pub(crate) fn of_row(row: &Row) -> Result<Self> {
        Ok(SyncName {
            id: row.id("id")?,
            name: row.text("name")?,
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncFilter {
    pub active: Option<bool>,
    /// Its source or its destination.
    pub connection: Option<Uuid>,
}

pub struct BulkSyncs<'a>(pub(crate) &'a Store);

impl BulkSyncs<'_> {
    /// Fails with Missing (and the field) where a connection is not this organization's.
    pub async fn create(
        &self,
        organization: Uuid,
        author: &Author,
        draft: &SyncDraft,
        schemas: &[SyncSchema],
        schedules: &[ScheduleDraft],
    ) -> Result<BulkSync> {
        let id = Uuid::now_v7();
        let mut tx = self.0.db().begin().await?;
        require_connections(&mut tx, organization, draft).await?;
        tx.execute(
            "INSERT INTO bulk_syncs (id, organization_id, name, source_connection_id,
               destination_connection_id, mode, active, settings, error_subscribers,
               created_at, created_by, updated_at, updated_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '[]', $9, $10, $9, $10)",
            values![
                id,
                organization,
                &draft.name,
                draft.source_connection_id,
                draft.destination_connection_id,
                draft.mode.word(),
                draft.active,
                crate::json(&draft.settings)?,
                clock::now(),
                author.json()?
            ],
        )
        .await?;
        sync_schemas::put(&mut tx, id, schemas).await?;
        schedules::replace(&mut tx, organization, id, author, schedules).await?;
        tx.commit().await?;
        self.get(organization, id).await
    }

    /// Replaces everything that the draft holds; schemas and schedules too where they are
    /// given, else they stay. With another source or destination the tables begin anew.
    pub async fn update(
        &self,
        organization: Uuid,
        id: Uuid,
        author: &Author,
        draft: &SyncDraft,
        schemas: Option<&[SyncSchema]>,
        schedules: Option<&[ScheduleDraft]>,
    ) -> Result<BulkSync> {
        let mut tx = self.0.db().begin().await?;
        lock_executions(&mut tx, organization, id).await?;
        let was_active = require(&mut tx, organization, id).await?;
        require_connections(&mut tx, organization, draft).await?;
        let same = "SELECT id FROM bulk_syncs WHERE id = $1 AND source_connection_id = $2
                    AND destination_connection_id = $3";
        let ends = values![
            id,
            draft.source_connection_id,
            draft.destination_connection_id
        ];
        if tx.maybe(same, ends).await?.is_none() {
            streams::moved(&mut tx, id).await?;
        }
        tx.execute(
            "UPDATE bulk_syncs SET name = $2, source_connection_id = $3,
               destination_connection_id = $4, mode = $5, active = $6, settings = $7,
               updated_at = $8, updated_by = $9
             WHERE id = $1",
            values![
                id,
                &draft.name,
                draft.source_connection_id,
                draft.destination_connection_id,
                draft.mode.word(),
                draft.active,
                crate::json(&draft.settings)?,
                clock::now(),
                author.json()?
            ],
        )
        .await?;
        if let Some(schemas) = schemas {
            sync_schemas::replace(&mut tx, id, schemas).await?;
        }
        if let Some(schedules) = schedules {
            schedules::replace(&mut tx, organization, id, author, schedules).await?;
        } else if draft.active && !was_active {
            schedules::plan_anew(&mut tx, id).await?;
        }
        tx.commit().await?;
        self.get(organization, id).await
    }

    pub async fn get(&self, organization: Uuid, id: Uuid) -> Result<BulkSync> {
        let sql = "SELECT * FROM bulk_syncs WHERE organization_id = $1 AND id = $2";
        let row = self.0.db().maybe(sql, values![organization, id]).await?;
        sync_of(&row.ok_or_else(missing)?)
    }

    /// Newest change first.
    pub async fn list(
        &self,
        organization: Uuid,
        filter: SyncFilter,
        page: &PageRequest,
    ) -> Result<Page<BulkSync>> {
        let place = page::begin(page, LIST, false)?;
        let mut values = values![
            organization,
            place.at(),
            place.id(),
            i64::from(page.limit) + 1
        ];
        let mut conditions = String::new();
        if let Some(active) = filter.active {
            values.push(active.into());
            conditions += &format!(" AND active = ${}", values.len());
        }
        if let Some(connection) = filter.connection {
            values.push(connection.into());
            let n = values.len();
            conditions +=
                &format!(" AND (source_connection_id = ${n} OR destination_connection_id = ${n})");
        }
        let sql = format!(
            "SELECT * FROM bulk_syncs
             WHERE organization_id = $1 AND (updated_at, id) < ($2, $3){conditions}
             ORDER BY updated_at DESC, id DESC LIMIT $4"
        );
        let rows = self.0.db().all(&sql, values).await?;
        let items = rows.iter().map(sync_of).collect::<Result<Vec<_>>>()?;
        Ok(page::end(items, page, LIST, |item| {
            Place::new(item.updated_at, item.id)
        }))
    }

    /// All of the organization, oldest first.
    pub async fn names(&self, organization: Uuid, filter: SyncFilter) -> Result<Vec<SyncName>> {
        let mut values: Vec<Value> = values![organization];
        let mut sql = "SELECT id, name FROM bulk_syncs WHERE organization_id = $1".to_owned();
        if let Some(active) = filter.active {
            values.push(active.into());
            sql += " AND active = $2";
        }
        if let Some(connection) = filter.connection {
            values.push(connection.into());
            let n = values.len();
            sql +=
                &format!(" AND (source_connection_id = ${n} OR destination_connection_id = ${n})");
        }
        sql += " ORDER BY created_at, id";
        self.0
            .db()
            .all(&sql, values)
            .await?
            .iter()
            .map(SyncName::of_row)
            .collect()
    }

    /// Switches schedules on or off. A running execution is not touched.
    pub async fn set_active(
        &self,
        organization: Uuid,
        id: Uuid,
        author: &Author,
        active: bool,
    ) -> Result<BulkSync> {
        let mut tx = self.0.db().begin().await?;
        let was_active = require(&mut tx, organization, id).await?;
        tx.execute(
            "UPDATE bulk_syncs SET active = $2, updated_at = $3, updated_by = $4 WHERE id = $1",
            values![id, active, clock::now(), author.json()?],
        )
        .await?;
        if active && !was_active {
            schedules::plan_anew(&mut tx, id).await?;
        }
        tx.commit().await?;
        self.get(organization, id).await
    }

    /// Deletes the sync with its schedules, schemas, executions, checkpoints and logs. A
    /// worker that runs it is told by its next heartbeat (Fenced).
    pub async fn delete(&self, organization: Uuid, id: Uuid) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        let sql = "SELECT id FROM bulk_syncs WHERE organization_id = $1 AND id = $2";
        tx.maybe(sql, values![organization, id])
            .await?
            .ok_or_else(missing)?;
        delete(&mut tx, id).await?;
        tx.commit().await
    }

    pub async fn set_error_handling(
        &self,
        organization: Uuid,
        id: Uuid,
        handling: &ErrorHandling,
    ) -> Result<()> {
        let changed = self
            .0
            .db()
            .execute(
                "UPDATE bulk_syncs SET error_subscribers = $3, ingestion_failure_threshold = $4
                 WHERE organization_id = $1 AND id = $2",
                values![
                    organization,
                    id,
                    crate::json(&handling.subscribers)?,
                    handling.ingestion_failure_threshold
                ],
            )
            .await?;
        if changed == 0 { Err(missing()) } else { Ok(()) }
    }
}

/// The sync exists and is this organization's; it stays so until the transaction ends.
/// Tells whether it is active.
pub(crate) async fn require(tx: &mut Tx, organization: Uuid, id: Uuid) -> Result<bool> {
    let sql = "SELECT active FROM bulk_syncs WHERE organization_id = $1 AND id = $2 {for_update}";
    let row = tx.maybe(sql, values![organization, id]).await?;
    row.ok_or_else(missing)?.flag("active")
}

/// To be locked first, in the order that workers do, so that neither side waits for the
/// other in a circle.
async fn lock_executions(tx: &mut Tx, organization: Uuid, id: Uuid) -> Result<()> {
    let sql = "SELECT id FROM executions
               WHERE organization_id = $1 AND sync_id = $2 AND completed_at IS NULL {for_update}";
    tx.all(sql, values![organization, id]).await.map(drop)
}

/// Locks in the order that workers do, the execution first.
pub(crate) async fn delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    let sql = "SELECT id FROM executions WHERE sync_id = $1 AND completed_at IS NULL {for_update}";
    tx.all(sql, values![id]).await?;
    tx.execute("DELETE FROM bulk_syncs WHERE id = $1", values![id])
        .await?;
    Ok(())
}

/// A changed schema or schedule is a change of its sync.
pub(crate) async fn touch(tx: &mut Tx, id: Uuid, author: &Author) -> Result<()> {
    let sql = "UPDATE bulk_syncs SET updated_at = $2, updated_by = $3 WHERE id = $1";
    tx.execute(sql, values![id, clock::now(), author.json()?])
        .await?;
    Ok(())
}

async fn require_connections(tx: &mut Tx, organization: Uuid, draft: &SyncDraft) -> Result<()> {
    let named = [
        ("source_connection_id", draft.source_connection_id),
        ("destination_connection_id", draft.destination_connection_id),
    ];
    for (field, id) in named {
        let sql = "SELECT id FROM connections WHERE organization_id = $1 AND id = $2";
        if tx.maybe(sql, values![organization, id]).await?.is_none() {
            return Err(crate::db::missing("connection").field(field));
        }
    }
    Ok(())
}

pub(crate) fn sync_of(row: &Row) -> Result<BulkSync> {
    let mode = WriteMode::parse(&row.text("mode")?);
    Ok(BulkSync {
        id: row.id("id")?,
        organization_id: row.id("organization_id")?,
        name: row.text("name")?,
        source_connection_id: row.id("source_connection_id")?,
        destination_connection_id: row.id("destination_connection_id")?,
        mode: mode.ok_or_else(|| Error::bug("a stored sync has an unknown mode"))?,
        active: row.flag("active")?,
        settings: row.json("settings")?,
        error_handling: ErrorHandling {
            subscribers: row.json("error_subscribers")?,
            ingestion_failure_threshold: row.maybe_int("ingestion_failure_threshold")?,
        },
        created_at: row.time("created_at")?,
        created_by: row.json("created_by")?,
        updated_at: row.time("updated_at")?,
        updated_by: row.json("updated_by")?,
    })
}

fn missing() -> Error {
    crate::db::missing("bulk sync")
}
