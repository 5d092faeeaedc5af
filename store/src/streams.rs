//! The change streams that syncs have at their sources: how far behind each is, and which
//! are to be removed there since nobody wants them any more. A stream outlives its sync and
//! its connection until that has been done; so it keeps what it takes to connect.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Configuration, Lease, Store, clock,
    db::{Tx, Value, values},
    queue,
    row::Row,
    secrets,
};

const CONFIGURATION: &str = "stream";
/// What seems to be put off for longer was so before the clock was set back.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);

/// Where a stream stands, as its worker saw it last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// Up to here the destination has every table; in the source's own words.
    pub position: Option<String>,
    /// When what lies before it was committed.
    pub position_time: Option<DateTime<Utc>>,
    /// The end of the log.
    pub end: Option<String>,
    pub lag_bytes: Option<u64>,
    pub lag_seconds: Option<u64>,
    pub retained_bytes: Option<u64>,
    pub headroom_bytes: Option<u64>,
    /// What is not as it should be.
    pub warning: Option<String>,
    /// Why it does not go on.
    pub error: Option<String>,
}

/// The stream of a sync.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncStream {
    pub state: StreamState,
    /// None before the first observation.
    pub state_at: Option<DateTime<Utc>>,
    pub attached_at: DateTime<Utc>,
}

/// A stream as it was made, with what it takes to reach it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub sync_id: Uuid,
    pub connection_id: Uuid,
    /// The connection's type.
    pub kind: String,
    pub configuration: Configuration,
    /// The sync's `source_configuration`.
    pub options: Json,
    /// How often its removal has been tried.
    pub attempts: u32,
}

pub struct Streams<'a>(pub(crate) &'a Store);

impl Streams<'_> {
    /// Notes that the sync has a stream at this source, before it is made there.
    pub async fn attach(
        &self,
        lease: &Lease,
        connection: Uuid,
        kind: &str,
        configuration: &Configuration,
        options: &Json,
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        queue::guard(&mut tx, lease).await?;
        let row = tx
            .one(
                "stream",
                "INSERT INTO streams (id, organization_id, sync_id, connection_id, kind, options,
                   wanted, attached_at, due_at, attempts)
                 VALUES ($1, $2, $3, $4, $5, $6, TRUE, $7, $7, 0)
                 ON CONFLICT (sync_id, connection_id) DO UPDATE SET kind = excluded.kind,
                   options = excluded.options, wanted = TRUE, attached_at = excluded.attached_at,
                   due_at = excluded.due_at, attempts = 0
                 RETURNING id",
                values![
                    Uuid::now_v7(),
                    lease.organization_id,
                    lease.sync_id,
                    connection,
                    kind,
                    options.to_string(),
                    clock::now()
                ],
            )
            .await?;
        let plain = zeroize::Zeroizing::new(crate::json(configuration.expose())?);
        self.0
            .put_secret(&mut tx, row.id("id")?, CONFIGURATION, plain.as_bytes())
            .await?;
        tx.commit().await
    }

    /// Keeps where the stream stands.
    pub async fn observe(
        &self,
        lease: &Lease,
        connection: Uuid,
        state: &StreamState,
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        queue::guard(&mut tx, lease).await?;
        let sql = "UPDATE streams SET state = $3, state_at = $4
                   WHERE sync_id = $1 AND connection_id = $2";
        let values = values![lease.sync_id, connection, crate::json(state)?, clock::now()];
        tx.execute(sql, values).await?;
        tx.commit().await
    }

    /// The stream that the sync has at its present source.
    pub async fn of_sync(&self, organization: Uuid, sync: Uuid) -> Result<Option<SyncStream>> {
        let sql = "SELECT streams.* FROM streams
                   JOIN bulk_syncs ON bulk_syncs.id = sync_id
                     AND source_connection_id = connection_id
                   WHERE streams.organization_id = $1 AND sync_id = $2 AND wanted = TRUE";
        let row = self.0.db().maybe(sql, values![organization, sync]).await?;
        row.as_ref().map(stream_of).transpose()
    }

    /// Nobody wants the streams that the sync has, at whatever source.
    pub async fn dismiss(&self, organization: Uuid, sync: Uuid) -> Result<()> {
        let sql = "UPDATE streams SET wanted = FALSE, due_at = $3, attempts = 0
                   WHERE organization_id = $1 AND sync_id = $2 AND wanted = TRUE";
        let values = values![organization, sync, clock::now()];
        self.0.db().execute(sql, values).await.map(drop)
    }

    /// Streams to be removed at their sources: dismissed ones, and those whose sync is gone
    /// or reads from elsewhere now. Nobody else gets them for the time of `hold`.
    pub async fn unwanted(&self, limit: u32, hold: Duration) -> Result<Vec<Attachment>> {
        let unwanted = "(wanted = FALSE OR NOT EXISTS (
                          SELECT 1 FROM bulk_syncs WHERE bulk_syncs.id = streams.sync_id
                            AND source_connection_id = streams.connection_id))";
        self.claim(unwanted, limit, hold).await
    }

    /// Streams whose connection was changed after they were attached: it may offer them no
    /// longer.
    pub async fn doubtful(&self, limit: u32, hold: Duration) -> Result<Vec<Attachment>> {
        let changed = "wanted = TRUE AND EXISTS (
                         SELECT 1 FROM connections WHERE connections.id = streams.connection_id
                           AND connections.updated_at > streams.attached_at)";
        self.claim(changed, limit, hold).await
    }

    async fn claim(&self, which: &str, limit: u32, hold: Duration) -> Result<Vec<Attachment>> {
        let now = clock::now();
        let until = now + TimeDelta::from_std(hold).unwrap_or(TimeDelta::MAX);
        let sql = format!(
            "UPDATE streams SET due_at = $1, attempts = attempts + 1 WHERE id IN (
               SELECT id FROM streams WHERE (due_at <= $2 OR due_at > $4) AND {which}
               ORDER BY due_at LIMIT $3 {{skip_locked}})
             RETURNING id"
        );
        let values = values![until, now, limit, now + LONGEST_WAIT];
        let mut due = Vec::new();
        for row in self.0.db().all(&sql, values).await? {
            let which = "streams.id = $1";
            due.extend(self.attachment(which, values![row.id("id")?]).await?);
        }
        Ok(due)
    }

    async fn attachment(&self, which: &str, values: Vec<Value>) -> Result<Option<Attachment>> {
        let sql = format!(
            "SELECT streams.*, {} FROM streams JOIN secrets
               ON secrets.record_id = streams.id AND secrets.purpose = '{CONFIGURATION}'
             WHERE {which}",
            secrets::COLUMNS
        );
        match self.0.db().maybe(&sql, values).await? {
            Some(row) => self.attachment_of(&row).await.map(Some),
            None => Ok(None),
        }
    }

    /// The stream that the sync was attached to over this connection, as it was set up then.
    pub async fn attached(&self, sync: Uuid, connection: Uuid) -> Result<Option<Attachment>> {
        let which = "sync_id = $1 AND connection_id = $2";
        self.attachment(which, values![sync, connection]).await
    }

    /// Another stream takes its place; it is left behind, to be removed.
    pub async fn leave_behind(&self, lease: &Lease, id: Uuid) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        queue::guard(&mut tx, lease).await?;
        // An id that no connection has: the place in the table is the next stream's.
        let sql = "UPDATE streams SET connection_id = $2, wanted = FALSE, due_at = $3, attempts = 0
                   WHERE id = $1";
        tx.execute(sql, values![id, Uuid::now_v7(), clock::now()])
            .await?;
        tx.commit().await
    }

    /// It stays, and is looked at again when its connection is changed once more.
    pub async fn keep(&self, id: Uuid) -> Result<()> {
        let sql = "UPDATE streams SET attached_at = $2, due_at = $2, attempts = 0 WHERE id = $1";
        let values = values![id, clock::now()];
        self.0.db().execute(sql, values).await.map(drop)
    }

    /// Its removal is tried again after the pause.
    pub async fn postpone(&self, id: Uuid, pause: Duration) -> Result<()> {
        let at = clock::now() + TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX);
        let sql = "UPDATE streams SET due_at = $2 WHERE id = $1";
        self.0.db().execute(sql, values![id, at]).await.map(drop)
    }

    /// Nothing is left of it at the source.
    pub async fn removed(&self, id: Uuid) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        secrets::forget(&mut tx, id).await?;
        tx.execute("DELETE FROM streams WHERE id = $1", values![id])
            .await?;
        tx.commit().await
    }

    async fn attachment_of(&self, row: &Row) -> Result<Attachment> {
        let id = row.id("id")?;
        let sealed = secrets::of_row(row)?;
        let plain = self.0.open_secret(id, CONFIGURATION, &sealed).await?;
        let configuration = serde_json::from_slice(&plain).map_err(|_| {
            tideway_core::Error::bug(format!("the configuration of stream {id} is no JSON"))
        })?;
        Ok(Attachment {
            id,
            organization_id: row.id("organization_id")?,
            sync_id: row.id("sync_id")?,
            connection_id: row.id("connection_id")?,
            kind: row.text("kind")?,
            configuration: Configuration::new(configuration),
            options: row.json("options")?,
            attempts: u32::try_from(row.int("attempts")?).unwrap_or(u32::MAX),
        })
    }
}

/// The sync reads from or writes to another system: what was remembered of the tables says
/// nothing about that one. A worker that is at it is cut off, and the run begins anew. The
/// caller has locked the executions.
pub(crate) async fn moved(tx: &mut Tx, sync: Uuid) -> Result<()> {
    tx.execute(
        "UPDATE executions SET worker = NULL, claimable_at = {now}, updated_at = $2
         WHERE sync_id = $1 AND completed_at IS NULL",
        values![sync, clock::now()],
    )
    .await?;
    tx.execute(
        "DELETE FROM schema_executions WHERE execution_id IN (
           SELECT id FROM executions WHERE sync_id = $1 AND completed_at IS NULL)",
        values![sync],
    )
    .await?;
    tx.execute("DELETE FROM checkpoints WHERE sync_id = $1", values![sync])
        .await?;
    Ok(())
}

fn stream_of(row: &Row) -> Result<SyncStream> {
    let state = row.maybe_text("state")?;
    let state = state.and_then(|state| serde_json::from_str(&state).ok());
    Ok(SyncStream {
        state: state.unwrap_or_default(),
        state_at: row.maybe_time("state_at")?,
        attached_at: row.time("attached_at")?,
    })
}
