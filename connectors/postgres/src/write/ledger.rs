//! Which parts have landed and which loads are finished, kept beside the tables so that
//! it is true exactly when the rows are there (invariant 4).

use std::collections::BTreeSet;

use tideway_core::{Result, destination::Load};
use tokio_postgres::{GenericClient, Transaction};

use crate::{
    connect::{Session, explain},
    sql::literal,
};

use super::{
    ddl::{OWN_PREFIX, Place, cell, ensure_schema, is_taken, list},
    lock, transaction,
};

/// The part id that says that the load is finished.
const FINISHED: &str = "";

/// The ledger of one schema.
#[derive(Debug, Clone)]
pub struct Ledger {
    place: Place,
    table: String,
}

impl Ledger {
    pub fn beside(target: &Place) -> Ledger {
        let place = target.beside(format!("{OWN_PREFIX}loads"));
        Ledger {
            table: place.sql(),
            place,
        }
    }

    pub async fn is_there(&self, session: &Session) -> Result<bool> {
        is_taken(&**session, &self.place).await
    }

    /// Makes the ledger, and its schema, where they are missing. Loads that begin at the
    /// same moment do so in turns.
    pub async fn ensure(&self, session: &mut Session) -> Result<()> {
        if self.is_there(session).await? {
            return Ok(());
        }
        let transaction = transaction::begin(session).await?;
        lock::take_turn(&transaction, &self.place).await?;
        ensure_schema(&transaction, &self.place.schema).await?;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (load_id text, part_id text, rows bigint NOT NULL, \
             committed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (load_id, part_id))",
            self.table
        );
        let made = transaction.batch_execute(&sql).await;
        made.map_err(|error| explain(error).while_(format!("creating {}", self.place)))?;
        transaction.commit().await.map_err(explain)
    }

    /// Forgets loads of which nothing was heard for a week, and what they staged.
    pub async fn prune(&self, client: &Transaction<'_>, target: &Place) -> Result<()> {
        let table = &self.table;
        let sql = format!(
            "DELETE FROM {table} WHERE load_id IN (SELECT load_id FROM {table} GROUP BY load_id \
             HAVING max(committed_at) < now() - interval '7 days') RETURNING load_id, part_id"
        );
        let rows = client.query(&sql, &[]).await.map_err(explain)?;
        let mut unfinished = BTreeSet::new();
        for row in &rows {
            let (load_id, part_id): (String, String) = (cell(row, 0)?, cell(row, 1)?);
            if part_id != FINISHED {
                unfinished.insert(load_id);
            }
        }
        for load_id in unfinished {
            let drop = format!("DROP TABLE IF EXISTS {}", target.stage(&load_id).sql());
            client.batch_execute(&drop).await.map_err(explain)?;
        }
        Ok(())
    }

    /// The query for what is known of a load as of one moment, by the load's id and the
    /// schema and name of its staging table.
    pub fn state_sql(&self) -> String {
        let table = &self.table;
        format!(
            "SELECT EXISTS (SELECT FROM {table} WHERE load_id = $1 AND part_id = '{FINISHED}'), \
             EXISTS (SELECT FROM {table} WHERE load_id = $1 AND part_id <> '{FINISHED}'), \
             EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
             ON n.oid = c.relnamespace WHERE n.nspname = $2 AND c.relname = $3)"
        )
    }

    /// The query for the parts of a load that have landed: the id, how many rows, and the
    /// transaction that brought both them and the token.
    pub fn parts_sql(&self) -> String {
        format!(
            "SELECT part_id, rows, xmin::text FROM {} WHERE load_id = $1 AND part_id <> '{FINISHED}'",
            self.table
        )
    }

    /// The statements that forget the load's parts and what nobody asks for any more, and say
    /// that it is finished.
    pub fn close_sql(&self, load: &Load, rows: u64) -> String {
        let (table, id) = (&self.table, literal(&load.id));
        let forgotten = load.forgets.iter().map(|load| literal(load));
        let forgotten = list(forgotten.chain([id.clone()]));
        format!(
            "DELETE FROM {table} WHERE load_id IN ({forgotten}) \
             AND (part_id <> '{FINISHED}' OR load_id <> {id}); \
             INSERT INTO {table} (load_id, part_id, rows) VALUES ({id}, '{FINISHED}', {rows})"
        )
    }

    pub async fn finished<C: GenericClient>(&self, client: &C, load_id: &str) -> Result<bool> {
        Ok(self.rows_of(client, load_id, FINISHED).await?.is_some())
    }

    /// How many rows a part brought, if it has landed.
    pub async fn rows_of<C: GenericClient>(
        &self,
        client: &C,
        load_id: &str,
        part_id: &str,
    ) -> Result<Option<u64>> {
        let sql = format!(
            "SELECT rows FROM {} WHERE load_id = $1 AND part_id = $2",
            self.table
        );
        let row = client.query_opt(&sql, &[&load_id, &part_id]).await;
        match row.map_err(explain)? {
            Some(row) => Ok(Some(cell::<i64>(&row, 0)?.unsigned_abs())),
            None => Ok(None),
        }
    }

    /// The parts that have landed, with their rows.
    pub async fn landed<C: GenericClient>(
        &self,
        client: &C,
        load_id: &str,
    ) -> Result<(BTreeSet<String>, u64)> {
        let sql = format!(
            "SELECT part_id, rows FROM {} WHERE load_id = $1 AND part_id <> $2",
            self.table
        );
        let rows = client.query(&sql, &[&load_id, &FINISHED]).await;
        let (mut parts, mut total) = (BTreeSet::new(), 0_u64);
        for row in rows.map_err(explain)? {
            parts.insert(cell(&row, 0)?);
            total += cell::<i64>(&row, 1)?.unsigned_abs();
        }
        Ok((parts, total))
    }

    /// The statement that records a part: load, part, rows. It does nothing where the
    /// part has landed before.
    pub fn record_sql(&self) -> String {
        format!(
            "INSERT INTO {} (load_id, part_id, rows) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            self.table
        )
    }

    /// Forgets the parts of a load, but not that it was finished.
    pub async fn forget_parts(&self, client: &Transaction<'_>, load_id: &str) -> Result<()> {
        let sql = format!(
            "DELETE FROM {} WHERE load_id = $1 AND part_id <> $2",
            self.table
        );
        let done = client.execute(&sql, &[&load_id, &FINISHED]).await;
        done.map(|_| ()).map_err(explain)
    }
}
