//! Which parts have landed and which loads are finished, kept beside the tables so that it is
//! true exactly when the rows are there (invariant 4).

use std::collections::BTreeSet;

use tideway_core::{Result, destination::Load};

use super::ddl::{Place, drop_tables, ensure_database};
use crate::{
    connect::Session,
    discover::{OWN_PREFIX, describe, number, text},
    sql::{list, literal},
};

/// The part id that says that the load is finished.
const FINISHED: &str = "";

/// The ledger of one database.
#[derive(Debug, Clone)]
pub struct Ledger {
    place: Place,
}

impl Ledger {
    pub fn beside(target: &Place) -> Ledger {
        Ledger {
            place: target.beside(format!("{OWN_PREFIX}loads")),
        }
    }

    /// Makes the ledger, and its database, where they are missing.
    pub async fn ensure(&self, session: &mut Session) -> Result<()> {
        let place = &self.place;
        if describe(session, &place.database, &place.name)
            .await?
            .is_some()
        {
            return Ok(());
        }
        ensure_database(session, &place.database).await?;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} (load_id VARBINARY(64) NOT NULL, \
             part_id VARBINARY(1024) NOT NULL, row_count BIGINT UNSIGNED NOT NULL, \
             committed_at DATETIME(6) NOT NULL, PRIMARY KEY (load_id, part_id)) ENGINE = InnoDB",
            place.sql()
        );
        let made = session.run(&sql).await;
        made.map(|_| ())
            .map_err(|error| error.while_(format!("creating {place}")))
    }

    /// Forgets loads of which nothing was heard for a week, and what they staged.
    pub async fn prune(&self, session: &mut Session) -> Result<()> {
        let table = self.place.sql();
        let stale = format!(
            "SELECT load_id, MIN(part_id) FROM {table} GROUP BY load_id \
             HAVING MAX(committed_at) < UTC_TIMESTAMP(6) - INTERVAL 7 DAY"
        );
        for row in session.rows(&stale).await? {
            let load_id = text(&row, 0);
            drop_tables(session, &self.place.all_of(&load_id)).await?;
            let forget = format!("DELETE FROM {table} WHERE load_id = {}", literal(&load_id));
            session.run(&forget).await?;
        }
        Ok(())
    }

    /// Whether anything is known of a load.
    pub async fn knows(&self, session: &mut Session, load_id: &str) -> Result<bool> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE load_id = {} LIMIT 1",
            self.place.sql(),
            literal(load_id)
        );
        Ok(session.value(&sql).await?.is_some())
    }

    pub async fn finished(&self, session: &mut Session, load_id: &str) -> Result<bool> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE load_id = {} AND part_id = {}",
            self.place.sql(),
            literal(load_id),
            literal(FINISHED)
        );
        Ok(session.value(&sql).await?.is_some())
    }

    /// The parts that have landed, with their rows.
    pub async fn landed(
        &self,
        session: &mut Session,
        load_id: &str,
    ) -> Result<(BTreeSet<String>, u64)> {
        let sql = format!(
            "SELECT part_id, row_count FROM {} WHERE load_id = {} AND part_id <> {}",
            self.place.sql(),
            literal(load_id),
            literal(FINISHED)
        );
        let (mut parts, mut total) = (BTreeSet::new(), 0_u64);
        for row in session.rows(&sql).await? {
            parts.insert(text(&row, 0));
            total += number(&row, 1).unwrap_or(0);
        }
        Ok((parts, total))
    }

    /// Records a part within the transaction that brought its rows; says whether it had not
    /// landed before.
    pub async fn record(
        &self,
        session: &mut Session,
        load_id: &str,
        part_id: &str,
        rows: u64,
    ) -> Result<bool> {
        let sql = format!(
            "INSERT IGNORE INTO {} (load_id, part_id, row_count, committed_at) \
             VALUES ({}, {}, {rows}, UTC_TIMESTAMP(6))",
            self.place.sql(),
            literal(load_id),
            literal(part_id)
        );
        Ok(session.run(&sql).await?.rows == 1)
    }

    /// Records the end of a load and forgets its parts, and what nobody asks for any more.
    pub async fn record_finished(
        &self,
        session: &mut Session,
        load: &Load,
        rows: u64,
    ) -> Result<()> {
        self.forget_parts(session, &load.id).await?;
        if !load.forgets.is_empty() {
            let forgotten = list(load.forgets.iter().map(|load| literal(load)));
            let sql = format!(
                "DELETE FROM {} WHERE load_id IN ({forgotten})",
                self.place.sql()
            );
            session.run(&sql).await?;
        }
        self.record(session, &load.id, FINISHED, rows)
            .await
            .map(|_| ())
    }

    /// Forgets the parts of a load, but not that it was finished.
    pub async fn forget_parts(&self, session: &mut Session, load_id: &str) -> Result<()> {
        let sql = format!(
            "DELETE FROM {} WHERE load_id = {} AND part_id <> {}",
            self.place.sql(),
            literal(load_id),
            literal(FINISHED)
        );
        session.run(&sql).await.map(|_| ())
    }
}
