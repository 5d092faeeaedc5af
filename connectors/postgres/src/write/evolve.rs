//! Brings an existing target up to date: columns are added and widened, never dropped.

use tideway_core::{
    Column, Error, Result,
    destination::{DELETED_AT, Load, SchemaChange, Write},
};
use tokio_postgres::Transaction;

use crate::{connect::explain, sql::ident, types};

use super::{
    ddl::{Described, DescribedColumn, OWN_PREFIX, Place, declaration, idents, system_columns},
    lock,
};

/// What a target needs for a load to fit.
#[derive(Debug, Default)]
pub struct Evolution {
    /// Actions of one `ALTER TABLE`.
    actions: Vec<String>,
    pub changes: Vec<SchemaChange>,
}

impl Evolution {
    fn push(&mut self, action: String, change: String) {
        self.actions.push(action);
        self.changes.push(SchemaChange(change));
    }
}

/// Compares the target with the load.
///
/// # Errors
/// `Unsupported` for a column that the server computes itself.
pub fn evolution(target: &Described, load: &Load) -> Result<Evolution> {
    let mut evolution = Evolution::default();
    for column in &load.target.columns {
        match target.column(&column.name) {
            None => evolution.push(
                format!("ADD COLUMN IF NOT EXISTS {}", declaration(column)),
                format!("column {} added as {}", column.name, types::ddl(column.logical)),
            ),
            Some(found) => fit(&mut evolution, found, column, load)?,
        }
    }
    for name in system_columns(load) {
        if target.column(name).is_none() {
            evolution.push(
                format!("ADD COLUMN IF NOT EXISTS {} timestamptz", ident(name)),
                format!("column {name} added"),
            );
        }
    }
    relax_vanished(&mut evolution, target, load);
    Ok(evolution)
}

fn fit(
    evolution: &mut Evolution,
    found: &DescribedColumn,
    column: &Column,
    load: &Load,
) -> Result<()> {
    let name = &column.name;
    if found.generated {
        return Err(Error::unsupported(format!(
            "column {name} of {} is computed by PostgreSQL and cannot be written",
            load.target.name
        ))
        .hint("leave the field out, or give it another output name"));
    }
    let wide = found.logical.widest(column.logical);
    if wide != found.logical {
        let (quoted, declared) = (ident(name), types::ddl(wide));
        evolution.push(
            format!("ALTER COLUMN {quoted} TYPE {declared} USING {quoted}::{declared}"),
            format!("column {name} changed from {} to {declared}", found.declared),
        );
    } else if found.logical == column.logical && found.declared != spelled(column) {
        evolution.changes.push(SchemaChange(format!(
            "column {name} stays {}: values are converted to it",
            found.declared
        )));
    }
    if found.not_null && !found.in_key && column.nullable && !load.target.key.contains(name) {
        evolution.push(
            format!("ALTER COLUMN {} DROP NOT NULL", ident(name)),
            format!("column {name} may be null now"),
        );
    }
    Ok(())
}

/// The type that we would give the column, as the server spells it.
fn spelled(column: &Column) -> String {
    match types::ddl(column.logical).as_str() {
        "timestamp" => "timestamp without time zone".to_owned(),
        "timestamptz" => "timestamp with time zone".to_owned(),
        "time" => "time without time zone".to_owned(),
        declared => declared.to_owned(),
    }
}

/// Columns that the load lacks get null in new rows, so they must be able to.
fn relax_vanished(evolution: &mut Evolution, target: &Described, load: &Load) {
    let mut key_stays = true;
    for found in &target.columns {
        let loaded = load.target.columns.iter().any(|column| column.name == found.name);
        if loaded || !found.not_null || found.fills {
            continue;
        }
        if let (true, true, Some(key)) = (key_stays, found.in_key, &target.key_name) {
            key_stays = false;
            evolution.push(
                format!("DROP CONSTRAINT {}", ident(key)),
                format!("primary key dropped: its column {} gets no values any more", found.name),
            );
        }
        evolution.push(
            format!("ALTER COLUMN {} DROP NOT NULL", ident(&found.name)),
            format!("column {} may be null now", found.name),
        );
    }
}

/// Makes the changes, if there are any.
pub async fn apply(
    transaction: &mut Transaction<'_>,
    place: &Place,
    evolution: &Evolution,
) -> Result<()> {
    if evolution.actions.is_empty() {
        return Ok(());
    }
    lock::lock_table(transaction, place).await?;
    let sql = format!("ALTER TABLE {} {}", place.sql(), evolution.actions.join(", "));
    transaction.batch_execute(&sql).await.map_err(|error| {
        let in_use = error.code().is_some_and(|code| code.code() == "0A000");
        let error = explain(error).while_(format!("altering {place}"));
        if in_use {
            error.hint("drop the view or rule that uses the column and make it again after the next run, or give the table another output name")
        } else {
            error
        }
    })
}

/// Views on the target and foreign keys to it, which keep it from being dropped.
const DEPENDENTS: &str = "\
SELECT DISTINCT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_depend d \
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
AND d.refobjid = $1 AND c.oid <> $1 \
UNION SELECT conrelid::pg_catalog.regclass::text FROM pg_catalog.pg_constraint \
WHERE contype = 'f' AND confrelid = $1 AND conrelid <> $1 ORDER BY 1";

pub async fn dependents(transaction: &Transaction<'_>, target: &Described) -> Result<Vec<String>> {
    let rows = transaction.query(DEPENDENTS, &[&target.oid]).await;
    let rows = rows.map_err(explain)?;
    rows.iter().map(|row| super::ddl::cell(row, 0)).collect()
}

/// Whether some index leads to rows by the key columns, in whatever order.
const KEY_INDEX: &str = "\
SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL \
AND (SELECT count(*) FROM pg_catalog.unnest(i.indkey[0:$3::int - 1]) k \
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k \
WHERE a.attname = ANY ($2::text[])) = $3::int LIMIT 1";

/// Gives a target that is merged into an index on the key, where it has none.
pub async fn index_key(
    transaction: &mut Transaction<'_>,
    place: &Place,
    target: &Described,
    load: &Load,
) -> Result<Option<SchemaChange>> {
    let key = &load.target.key;
    if !matches!(load.write, Write::Merge { .. }) || target.in_key(key) {
        return Ok(None);
    }
    let columns = i32::try_from(key.len()).unwrap_or(i32::MAX);
    let found = transaction.query_opt(KEY_INDEX, &[&target.oid, key, &columns]);
    if found.await.map_err(explain)?.is_some() {
        return Ok(None);
    }
    lock::lock_table(transaction, place).await?;
    let name = ident(&format!("{OWN_PREFIX}key_{}", target.oid));
    let sql = format!("CREATE INDEX IF NOT EXISTS {name} ON {} ({})", place.sql(), idents(key));
    transaction.batch_execute(&sql).await.map_err(explain)?;
    let names: Vec<&str> = key.iter().map(String::as_str).collect();
    Ok(Some(SchemaChange(format!("index on the key ({}) added", names.join(", ")))))
}

impl Described {
    /// Whether these columns are the primary key's.
    fn in_key(&self, key: &[String]) -> bool {
        let mut of_key = self.columns.iter().filter(|column| column.in_key);
        self.key_name.is_some() && of_key.all(|column| key.contains(&column.name))
    }

    /// Whether rows of the target can be marked as deleted.
    pub fn marks_deleted(&self) -> bool {
        self.column(DELETED_AT).is_some()
    }
}
