//! Connections: how a source or destination is reached. The configuration is kept
//! encrypted, whole.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tideway_core::{Error, Result};
use uuid::Uuid;

use crate::{
    Author, Page, PageRequest, Store, SyncName, clock,
    db::{Tx, placeholders, printable, values},
    page::{self, Place},
    row::Row,
    secrets::{self, CONFIGURATION, Configuration},
    syncs,
};

const LIST: &str = "connections";

#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub name: String,
    /// The connection type's id (`postgresql`); the HTTP API says `type`.
    pub kind: String,
    pub configuration: Configuration,
    pub policies: Vec<String>,
    /// `healthy`, `unhealthy`, … as the last check left it.
    pub status: String,
    pub status_error: Option<String>,
    /// False until somebody has finished setting it up.
    pub saved: bool,
    pub parent_connection_id: Option<Uuid>,
    /// How often it is checked, as it was written (`1h`).
    pub healthcheck_interval: Option<String>,
    pub health_checked_at: Option<DateTime<Utc>>,
    pub next_health_check_at: Option<DateTime<Utc>>,
    pub rate_limit: Option<RateLimit>,
    pub api_calls_last_24_hours: i64,
    pub created_at: DateTime<Utc>,
    pub created_by: Author,
    pub updated_at: DateTime<Utc>,
    pub updated_by: Author,
}

/// The other side has asked us to slow down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub limited_since: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// All that is chosen when a connection is made or replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionDraft {
    pub name: String,
    pub kind: String,
    pub configuration: Configuration,
    pub policies: Vec<String>,
    pub status: String,
    pub status_error: Option<String>,
    pub saved: bool,
    pub parent_connection_id: Option<Uuid>,
    pub healthcheck_interval: Option<String>,
    pub next_health_check_at: Option<DateTime<Utc>>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub status: String,
    pub error: Option<String>,
    pub next_check_at: Option<DateTime<Utc>>,
}

pub struct Connections<'a>(pub(crate) &'a Store);

impl Connections<'_> {
    pub async fn create(
        &self,
        organization: Uuid,
        author: &Author,
        draft: &ConnectionDraft,
    ) -> Result<Connection> {
        let (id, now) = (Uuid::now_v7(), clock::now());
        let mut tx = self.0.db().begin().await?;
        tx.execute(
            "INSERT INTO connections (id, organization_id, name, type, policies, status,
               status_error, saved, parent_connection_id, healthcheck_interval,
               next_health_check_at, created_at, created_by, updated_at, updated_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12, $13)",
            values![
                id,
                organization,
                &draft.name,
                &draft.kind,
                crate::json(&draft.policies)?,
                &draft.status,
                &draft.status_error,
                draft.saved,
                draft.parent_connection_id,
                &draft.healthcheck_interval,
                draft.next_health_check_at,
                now,
                author.json()?
            ],
        )
        .await?;
        self.put_configuration(&mut tx, id, &draft.configuration)
            .await?;
        tx.commit().await?;
        self.get(organization, id).await
    }

    /// Replaces everything that the draft holds.
    pub async fn update(
        &self,
        organization: Uuid,
        id: Uuid,
        author: &Author,
        draft: &ConnectionDraft,
    ) -> Result<Connection> {
        let mut tx = self.0.db().begin().await?;
        let changed = tx
            .execute(
                "UPDATE connections SET name = $3, type = $4, policies = $5, status = $6,
                   status_error = $7, saved = $8, parent_connection_id = $9,
                   healthcheck_interval = $10, next_health_check_at = $11, updated_at = $12,
                   updated_by = $13
                 WHERE organization_id = $1 AND id = $2",
                values![
                    organization,
                    id,
                    &draft.name,
                    &draft.kind,
                    crate::json(&draft.policies)?,
                    &draft.status,
                    &draft.status_error,
                    draft.saved,
                    draft.parent_connection_id,
                    &draft.healthcheck_interval,
                    draft.next_health_check_at,
                    clock::now(),
                    author.json()?
                ],
            )
            .await?;
        if changed == 0 {
            return Err(missing());
        }
        self.put_configuration(&mut tx, id, &draft.configuration)
            .await?;
        tx.commit().await?;
        self.get(organization, id).await
    }

    async fn put_configuration(
        &self,
        tx: &mut Tx,
        id: Uuid,
        configuration: &Configuration,
    ) -> Result<()> {
        let plain = zeroize::Zeroizing::new(crate::json(configuration.expose())?);
        self.0
            .put_secret(tx, id, CONFIGURATION, plain.as_bytes())
            .await
    }

    pub async fn get(&self, organization: Uuid, id: Uuid) -> Result<Connection> {
        let sql = select("WHERE connections.organization_id = $2 AND connections.id = $3");
        let row = self
            .0
            .db()
            .maybe(&sql, values![yesterday(), organization, id])
            .await?;
        self.connection_of(&row.ok_or_else(missing)?).await
    }

    /// Newest change first.
    pub async fn list(&self, organization: Uuid, page: &PageRequest) -> Result<Page<Connection>> {
        let place = page::begin(page, LIST, false)?;
        let sql = select(
            "WHERE connections.organization_id = $2
               AND (connections.updated_at, connections.id) < ($3, $4)
             ORDER BY connections.updated_at DESC, connections.id DESC LIMIT $5",
        );
        let values = values![
            yesterday(),
            organization,
            place.at(),
            place.id(),
            i64::from(page.limit) + 1
        ];
        let mut items = Vec::new();
        for row in self.0.db().all(&sql, values).await? {
            items.push(self.connection_of(&row).await?);
        }
        let place = |item: &Connection| Place::new(item.updated_at, item.id);
        Ok(page::end(items, page, LIST, place))
    }

    /// The syncs that read or write by it.
    pub async fn used_by(&self, organization: Uuid, id: Uuid) -> Result<Vec<SyncName>> {
        let rows = self
            .0
            .db()
            .all(
                "SELECT id, name FROM bulk_syncs WHERE organization_id = $1
                   AND (source_connection_id = $2 OR destination_connection_id = $2)
                 ORDER BY created_at, id",
                values![organization, id],
            )
            .await?;
        rows.iter().map(SyncName::of_row).collect()
    }

    /// Fails with Conflict while syncs or shared copies use it. `force` deletes those too;
    /// workers that run such a sync lose their lease.
    pub async fn delete(&self, organization: Uuid, id: Uuid, force: bool) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        require(&mut tx, organization, id).await?;
        let sql = "SELECT id FROM connections WHERE parent_connection_id = $1";
        let mut ids = vec![id];
        for row in tx.all(sql, values![id]).await? {
            ids.push(row.id("id")?);
        }
        let users = users_of(&mut tx, &ids).await?;
        if !force && (!users.is_empty() || ids.len() > 1) {
            return Err(in_use(&users));
        }
        for (sync, _) in &users {
            syncs::delete(&mut tx, *sync).await?;
        }
        for connection in ids.iter().rev() {
            secrets::forget(&mut tx, *connection).await?;
            tx.execute(
                "DELETE FROM connections WHERE id = $1",
                values![*connection],
            )
            .await?;
        }
        tx.commit().await
    }

    /// Keeps the outcome of a check. The order of lists stays as it is.
    pub async fn set_health(&self, organization: Uuid, id: Uuid, health: &Health) -> Result<()> {
        self.change(
            "UPDATE connections SET status = $3, status_error = $4, health_checked_at = $5,
               next_health_check_at = $6
             WHERE organization_id = $1 AND id = $2",
            values![
                organization,
                id,
                &health.status,
                health.error.as_deref().map(printable),
                clock::now(),
                health.next_check_at
            ],
        )
        .await
    }

    /// Connections whose check is due. Nobody else gets them for the time of `hold`, in
    /// which [`Connections::set_health`] is to say when the next check is.
    pub async fn claim_health_checks(&self, limit: u32, hold: Duration) -> Result<Vec<Connection>> {
        let now = clock::now();
        let until = now + TimeDelta::from_std(hold).unwrap_or(TimeDelta::MAX);
        let rows = self
            .0
            .db()
            .all(
                "UPDATE connections SET next_health_check_at = $1 WHERE id IN (
                   SELECT id FROM connections WHERE next_health_check_at <= $2
                   ORDER BY next_health_check_at LIMIT $3 {skip_locked})
                 RETURNING id, organization_id",
                values![until, now, limit],
            )
            .await?;
        let mut due = Vec::new();
        for row in rows {
            due.push(self.get(row.id("organization_id")?, row.id("id")?).await?);
        }
        Ok(due)
    }

    /// `None` once the limit is over.
    pub async fn set_rate_limit(
        &self,
        organization: Uuid,
        id: Uuid,
        limit: Option<RateLimit>,
    ) -> Result<()> {
        self.change(
            "UPDATE connections SET rate_limited_since = $3, rate_limited_until = $4
             WHERE organization_id = $1 AND id = $2",
            values![
                organization,
                id,
                limit.map(|limit| limit.limited_since),
                limit.and_then(|limit| limit.expires_at)
            ],
        )
        .await
    }

    async fn change(&self, sql: &str, values: Vec<crate::db::Value>) -> Result<()> {
        match self.0.db().execute(sql, values).await? {
            0 => Err(missing()),
            _ => Ok(()),
        }
    }

    async fn connection_of(&self, row: &Row) -> Result<Connection> {
        let id = row.id("id")?;
        let sealed = secrets::of_row(row)?;
        let plain = self.0.open_secret(id, CONFIGURATION, &sealed).await;
        let plain = plain.map_err(|error| error.while_(format!("connection {id}")))?;
        let configuration = serde_json::from_slice(&plain)
            .map_err(|_| Error::bug(format!("the configuration of connection {id} is no JSON")))?;
        let limited_since = row.maybe_time("rate_limited_since")?;
        let expires_at = row.maybe_time("rate_limited_until")?;
        Ok(Connection {
            id,
            organization_id: row.id("organization_id")?,
            name: row.text("name")?,
            kind: row.text("type")?,
            configuration: Configuration::new(configuration),
            policies: row.json("policies")?,
            status: row.text("status")?,
            status_error: row.maybe_text("status_error")?,
            saved: row.flag("saved")?,
            parent_connection_id: row.maybe_id("parent_connection_id")?,
            healthcheck_interval: row.maybe_text("healthcheck_interval")?,
            health_checked_at: row.maybe_time("health_checked_at")?,
            next_health_check_at: row.maybe_time("next_health_check_at")?,
            rate_limit: limited_since.map(|limited_since| RateLimit {
                limited_since,
                expires_at,
            }),
            api_calls_last_24_hours: row.int("calls")?,
            created_at: row.time("created_at")?,
            created_by: row.json("created_by")?,
            updated_at: row.time("updated_at")?,
            updated_by: row.json("updated_by")?,
        })
    }
}

/// The first value is the time from which on calls count.
fn select(rest: &str) -> String {
    format!(
        "SELECT connections.*, {}, (
           SELECT CAST(COALESCE(SUM(calls), 0) AS BIGINT) FROM connection_calls
           WHERE connection_id = connections.id AND hour > $1) AS calls
         FROM connections JOIN secrets
           ON secrets.record_id = connections.id AND secrets.purpose = '{CONFIGURATION}'
         {rest}",
        secrets::COLUMNS
    )
}

pub(crate) fn yesterday() -> DateTime<Utc> {
    clock::now() - TimeDelta::hours(24)
}

/// The connection exists and is this organization's; it stays so until the transaction ends.
pub(crate) async fn require(tx: &mut Tx, organization: Uuid, id: Uuid) -> Result<()> {
    let sql = "SELECT id FROM connections WHERE organization_id = $1 AND id = $2 {for_update}";
    tx.maybe(sql, values![organization, id])
        .await?
        .map(drop)
        .ok_or_else(missing)
}

async fn users_of(tx: &mut Tx, connections: &[Uuid]) -> Result<Vec<(Uuid, String)>> {
    let list = placeholders(1, connections.len());
    let sql = format!(
        "SELECT id, name FROM bulk_syncs
         WHERE source_connection_id IN ({list}) OR destination_connection_id IN ({list})
         ORDER BY created_at, id"
    );
    let values = connections.iter().map(|id| (*id).into()).collect();
    let rows = tx.all(&sql, values).await?;
    rows.iter()
        .map(|row| Ok((row.id("id")?, row.text("name")?)))
        .collect()
}

fn in_use(users: &[(Uuid, String)]) -> Error {
    let what = match users {
        [] => "the connection is shared with other organizations".to_owned(),
        [(_, name)] => format!("the connection is used by the sync {name}"),
        [(_, name), others @ ..] => {
            format!(
                "the connection is used by the sync {name} and {} more",
                others.len()
            )
        }
    };
    Error::conflict(what).hint("delete what uses it first, or delete the connection with force")
}

fn missing() -> Error {
    crate::db::missing("connection")
}
