//! What connections were found to hold, kept so that nobody waits for discovery. One
//! row per table: most questions are about a single one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tideway_core::{Catalog, Error, Result, schema::Table};
use uuid::Uuid;

use crate::{
    Store, clock, connections,
    db::{Tx, Value, printable, rows_of_placeholders, values},
};

/// Rows that one statement inserts; PostgreSQL takes 65,535 values, SQLite 32,766.
const ROWS_PER_INSERT: usize = 200;

/// Where the cache of one connection stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogState {
    pub refresh_started_at: Option<DateTime<Utc>>,
    pub refresh_finished_at: Option<DateTime<Utc>>,
    /// Why the last refresh failed; the tables are then those of an earlier one.
    pub refresh_error: Option<String>,
    pub refreshing: bool,
    /// A refresh has succeeded at least once.
    pub has_catalog: bool,
}

pub struct Catalogs<'a>(pub(crate) &'a Store);

impl Catalogs<'_> {
    pub async fn state(&self, organization: Uuid, connection: Uuid) -> Result<CatalogState> {
        let row = self
            .0
            .db()
            .one(
                "connection",
                "SELECT catalogs.* FROM connections
                 LEFT JOIN catalogs ON catalogs.connection_id = connections.id
                 WHERE connections.organization_id = $1 AND connections.id = $2",
                values![organization, connection],
            )
            .await?;
        let until = row.maybe_time("refreshing_until")?;
        Ok(CatalogState {
            refresh_started_at: row.maybe_time("refresh_started_at")?,
            refresh_finished_at: row.maybe_time("refresh_finished_at")?,
            refresh_error: row.maybe_text("refresh_error")?,
            refreshing: until.is_some_and(|until| until > clock::now()),
            has_catalog: row.maybe_time("discovered_at")?.is_some(),
        })
    }

    /// Says that a refresh begins. False if one is under way; one that has not finished
    /// after its `hold` counts as dead.
    pub async fn start_refresh(
        &self,
        organization: Uuid,
        connection: Uuid,
        hold: Duration,
    ) -> Result<bool> {
        let now = clock::now();
        let until = now + TimeDelta::from_std(hold).unwrap_or(TimeDelta::MAX);
        let mut tx = self.0.db().begin().await?;
        connections::require(&mut tx, organization, connection).await?;
        let started = tx
            .execute(
                "INSERT INTO catalogs (connection_id, refresh_started_at, refreshing_until)
                 VALUES ($1, $2, $3)
                 ON CONFLICT (connection_id) DO UPDATE SET
                   refresh_started_at = excluded.refresh_started_at,
                   refreshing_until = excluded.refreshing_until
                 WHERE catalogs.refreshing_until IS NULL OR catalogs.refreshing_until <= $2",
                values![connection, now, until],
            )
            .await?;
        tx.commit().await?;
        Ok(started > 0)
    }

    /// Keeps what a refresh found, or why it failed.
    pub async fn finish_refresh(
        &self,
        connection: Uuid,
        found: Result<&Catalog, &Error>,
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        let discovered = match found {
            Ok(catalog) => {
                put_tables(&mut tx, connection, catalog).await?;
                Some(clock::now())
            }
            Err(_) => None,
        };
        tx.execute(
            "UPDATE catalogs SET refresh_finished_at = $2, refresh_error = $3,
               refreshing_until = NULL, discovered_at = COALESCE($4, discovered_at)
             WHERE connection_id = $1",
            values![
                connection,
                clock::now(),
                found.err().map(|error| printable(&error.to_string())),
                discovered
            ],
        )
        .await?;
        tx.commit().await
    }

    /// All tables, or None before the first refresh has succeeded.
    pub async fn get(&self, organization: Uuid, connection: Uuid) -> Result<Option<Catalog>> {
        if !self.state(organization, connection).await?.has_catalog {
            return Ok(None);
        }
        let rows = self
            .0
            .db()
            .all(
                "SELECT definition FROM catalog_tables WHERE connection_id = $1
                 ORDER BY schema_id",
                values![connection],
            )
            .await?;
        let tables = rows
            .iter()
            .map(|row| row.json("definition"))
            .collect::<Result<_>>()?;
        Ok(Some(Catalog { tables }))
    }

    /// One table by its schema id.
    pub async fn table(
        &self,
        organization: Uuid,
        connection: Uuid,
        schema_id: &str,
    ) -> Result<Option<Table>> {
        let row = self
            .0
            .db()
            .maybe(
                "SELECT definition FROM catalog_tables
                 JOIN connections ON connections.id = connection_id
                 WHERE organization_id = $1 AND connection_id = $2 AND schema_id = $3",
                values![organization, connection, schema_id],
            )
            .await?;
        row.map(|row| row.json("definition")).transpose()
    }
}

async fn put_tables(tx: &mut Tx, connection: Uuid, catalog: &Catalog) -> Result<()> {
    let sql = "DELETE FROM catalog_tables WHERE connection_id = $1";
    tx.execute(sql, values![connection]).await?;
    for tables in catalog.tables.chunks(ROWS_PER_INSERT) {
        let mut values: Vec<Value> = Vec::with_capacity(tables.len() * 3);
        for table in tables {
            values.extend(values![
                connection,
                table.id.to_string(),
                crate::json(table)?
            ]);
        }
        let sql = format!(
            "INSERT INTO catalog_tables (connection_id, schema_id, definition) VALUES {}",
            rows_of_placeholders(tables.len(), 3)
        );
        tx.execute(&sql, values).await?;
    }
    Ok(())
}
