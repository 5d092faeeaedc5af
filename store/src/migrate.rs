//! Brings a database to the state that this release expects. All missing migrations
//! run in one transaction under a lock, so processes that start together do it once
//! and one that dies halfway leaves nothing behind.

use sha2::{Digest, Sha256};
use tideway_core::{Error, Result};

use crate::{
    clock,
    db::{Db, Tx, values},
};

/// Any number that no other program uses as its advisory lock.
const LOCK: i64 = 0x7469_6465_7761_7901;

struct Migration {
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        &[$(Migration {
            name: $name,
            sqlite: include_str!(concat!("../migrations/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("../migrations/postgres/", $name, ".sql")),
        }),*]
    };
}

/// In order. One that was released is never changed: a new one follows it.
const MIGRATIONS: &[Migration] = migrations![
    "0001_people",
    "0002_connections",
    "0003_bulk_syncs",
    "0004_executions",
    "0005_records",
    "0006_streams",
    "0007_verification",
];

pub(crate) async fn migrate(db: &Db) -> Result<()> {
    let mut tx = db.begin().await?;
    lock(&mut tx).await?;
    tx.execute(
        "CREATE TABLE IF NOT EXISTS migrations (
           name TEXT PRIMARY KEY, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)",
        values![],
    )
    .await?;
    let rows = tx
        .all(
            "SELECT name, checksum FROM migrations ORDER BY name",
            values![],
        )
        .await?;
    for row in &rows {
        check(&row.text("name")?, &row.text("checksum")?, tx.is_postgres())?;
    }
    for migration in MIGRATIONS.iter().skip(rows.len()) {
        let script = migration.script(tx.is_postgres());
        tx.script(script)
            .await
            .map_err(|error| error.while_(migration.name))?;
        tx.execute(
            "INSERT INTO migrations (name, checksum, applied_at) VALUES ($1, $2, $3)",
            values![migration.name, checksum(script), clock::now()],
        )
        .await?;
        tracing::info!(migration = migration.name, "database migrated");
    }
    tx.commit().await
}

#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().map(|migration| migration.name)
}

/// Makes transactions of this kind go one after the other, over all processes.
/// SQLite's write transactions do so anyway.
pub(crate) async fn lock(tx: &mut Tx) -> Result<()> {
    if tx.is_postgres() {
        tx.all(
            "SELECT pg_advisory_xact_lock($1)::TEXT AS held",
            values![LOCK],
        )
        .await?;
    }
    Ok(())
}

fn check(name: &str, applied: &str, postgres: bool) -> Result<()> {
    let Some(migration) = MIGRATIONS.iter().find(|migration| migration.name == name) else {
        return Err(Error::config(format!(
            "the database has been used by a newer release: it knows migration {name}"
        ))
        .hint("start that release or a newer one")
        .field("database_url"));
    };
    if checksum(migration.script(postgres)) != applied {
        return Err(Error::bug(format!(
            "migration {name} is not what it was when it ran here"
        )));
    }
    Ok(())
}

impl Migration {
    fn script(&self, postgres: bool) -> &'static str {
        if postgres { self.postgres } else { self.sqlite }
    }
}

fn checksum(script: &str) -> String {
    hex::encode(Sha256::digest(script))
}
