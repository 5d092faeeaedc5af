//! Brings an existing target up to date: columns are added and widened, never dropped.

use std::collections::HashMap;

use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::{Load, SchemaChange, Write},
};

use super::{
    ddl::{Place, declaration, length_of, type_sql},
    lock,
};
use crate::{
    connect::{ServerInfo, Session},
    discover::{Described, DescribedColumn, Fills, OWN_PREFIX, indexes, text},
    sql::{ident, list, literal},
    types,
};

/// What a target needs for a load to fit.
#[derive(Debug, Default)]
pub struct Evolution {
    /// Actions of one `ALTER TABLE`, which the server carries out whole or not at all.
    actions: Vec<String>,
    pub changes: Vec<SchemaChange>,
}

impl Evolution {
    pub fn is_needed(&self) -> bool {
        !self.actions.is_empty()
    }

    fn push(&mut self, action: String, change: String) {
        self.actions.push(action);
        self.changes.push(SchemaChange(change));
    }
}

/// Compares the target with the load.
///
/// # Errors
/// `Unsupported` for a column that the server computes itself.
pub fn evolution(target: &Described, load: &Load, server: &ServerInfo) -> Result<Evolution> {
    let mut evolution = Evolution::default();
    for column in &load.target.columns {
        match target.column(&column.name) {
            None => evolution.push(
                format!("ADD COLUMN {}", optional(load, column, server)),
                format!(
                    "column {} added as {}",
                    column.name,
                    types::made(column.logical, length_of(load, column)).declared
                ),
            ),
            Some(found) => fit(&mut evolution, target, found, column, load, server)?,
        }
    }
    for name in load.system_columns() {
        if target.column(name).is_none() {
            evolution.push(
                format!("ADD COLUMN {} {}", ident(name), stamp_sql(server)),
                format!("column {name} added"),
            );
        }
    }
    relax_vanished(&mut evolution, target, load);
    Ok(evolution)
}

/// As [`declaration`], but rows that are there may be without it.
fn optional(load: &Load, column: &Column, server: &ServerInfo) -> String {
    declaration(load, column, server).replacen(" NOT NULL", " NULL", 1)
}

pub fn stamp_sql(server: &ServerInfo) -> String {
    type_sql(LogicalType::TimestampTz, None, server, false)
}

/// The type that holds what the column holds and what comes; `None` where it does already.
fn wider(found: &DescribedColumn, column: &Column) -> Option<LogicalType> {
    use LogicalType::*;
    let here = found.reading().logical;
    match (here, column.logical) {
        // All of them are moments in UTC to the server, and differ in a comment of ours.
        (Timestamp | TimestampTz, Timestamp | TimestampTz) => None,
        // A time of day goes into the server's type for it, which holds more and is read as text.
        (Text, Time) => None,
        // A boolean is a number here.
        (Boolean, Int16 | Int32 | Int64 | UInt64) => Some(column.logical),
        (Int16 | Int32 | Int64 | UInt64, Boolean) => None,
        (here, there) => Some(here.widest(there)).filter(|wide| *wide != here),
    }
}

fn fit(
    evolution: &mut Evolution,
    target: &Described,
    found: &DescribedColumn,
    column: &Column,
    load: &Load,
    server: &ServerInfo,
) -> Result<()> {
    let name = &column.name;
    if found.fills == Fills::Computed {
        return Err(Error::unsupported(format!(
            "column {name} of {} is computed by the server and cannot be written",
            load.target.name
        ))
        .hint("leave the field out, or give it another output name"));
    }
    let in_key = target.in_key(&found.name);
    let key = length_of(load, column).filter(|_| in_key);
    let relaxed = found.not_null && column.nullable && !in_key;
    if let Some(wide) = wider(found, column) {
        let required = found.not_null && !relaxed;
        evolution.push(
            format!(
                "MODIFY COLUMN {} {}",
                ident(&found.name),
                type_sql(wide, key, server, required)
            ),
            format!(
                "column {name} changed from {} to {}",
                found.server_type.declared,
                types::made(wide, key).declared
            ),
        );
    } else if relaxed {
        evolution.push(
            format!(
                "MODIFY COLUMN {} {}",
                ident(&found.name),
                nullable_sql(found)
            ),
            format!("column {name} may be null now"),
        );
    }
    Ok(())
}

/// The column as it is, but that it may be null.
pub fn nullable_sql(found: &DescribedColumn) -> String {
    let mut sql = found.server_type.declared.clone();
    if let (Some(charset), Some(collation)) = (&found.charset, &found.collation) {
        sql.push_str(&format!(" CHARACTER SET {charset} COLLATE {collation}"));
    }
    sql.push_str(" NULL");
    if !found.server_type.comment.is_empty() {
        sql.push_str(&format!(" COMMENT {}", literal(&found.server_type.comment)));
    }
    sql
}

/// What a target that is replaced will have that it has not now.
pub fn replacement(target: &Described, load: &Load) -> Vec<SchemaChange> {
    let mut changes = Vec::new();
    for column in &load.target.columns {
        let name = &column.name;
        let made = types::made(column.logical, length_of(load, column)).declared;
        match target.column(name) {
            None => changes.push(format!("column {name} added as {made}")),
            Some(found) if wider(found, column).is_some() => {
                let was = &found.server_type.declared;
                changes.push(format!("column {name} changed from {was} to {made}"));
            }
            Some(_) => {}
        }
    }
    let system = load.system_columns().into_iter();
    let missing = system.filter(|name| target.column(name).is_none());
    changes.extend(missing.map(|name| format!("column {name} added")));
    changes.into_iter().map(SchemaChange).collect()
}

/// Columns that the load lacks get null in new rows, so they must be able to.
fn relax_vanished(evolution: &mut Evolution, target: &Described, load: &Load) {
    let mut key_stays = true;
    for found in &target.columns {
        let mut loaded = load.target.columns.iter();
        let loaded = loaded.any(|column| column.name.eq_ignore_ascii_case(&found.name));
        if loaded || !found.not_null || found.fills != Fills::Never {
            continue;
        }
        let name = &found.name;
        if key_stays && target.in_key(name) {
            key_stays = false;
            evolution.push(
                "DROP PRIMARY KEY".to_owned(),
                format!("primary key dropped: its column {name} gets no values any more"),
            );
        }
        evolution.push(
            format!("MODIFY COLUMN {} {}", ident(name), nullable_sql(found)),
            format!("column {name} may be null now"),
        );
    }
}

/// Makes the changes, if there are any.
pub async fn apply(session: &mut Session, place: &Place, evolution: &Evolution) -> Result<()> {
    if !evolution.is_needed() {
        return Ok(());
    }
    let sql = format!("ALTER TABLE {} {}", place.sql(), list(&evolution.actions));
    lock::alone(session, place, &sql).await
}

/// What would follow the target to the name that it is moved away to: keys of other tables
/// that refer to it, and its own triggers.
pub async fn dependents(session: &mut Session, place: &Place) -> Result<Vec<String>> {
    let (database, name) = (literal(&place.database), literal(&place.name));
    let sql = format!(
        "SELECT DISTINCT CONCAT('a foreign key of ', TABLE_SCHEMA, '.', TABLE_NAME) \
         FROM information_schema.KEY_COLUMN_USAGE \
         WHERE REFERENCED_TABLE_SCHEMA = {database} AND REFERENCED_TABLE_NAME = {name} \
         AND NOT (TABLE_SCHEMA = {database} AND TABLE_NAME = {name}) \
         UNION SELECT CONCAT('trigger ', TRIGGER_NAME) FROM information_schema.TRIGGERS \
         WHERE EVENT_OBJECT_SCHEMA = {database} AND EVENT_OBJECT_TABLE = {name}"
    );
    let rows = session.rows(&sql).await?;
    Ok(rows.iter().map(|row| text(row, 0)).collect())
}

/// What an index has of a text at most, where a text has no length.
const PREFIX: usize = 191;

/// Whether some index leads to rows by the key.
pub fn leads_to_key(indexes: &HashMap<String, Vec<String>>, key: &[String]) -> bool {
    indexes.values().any(|columns| {
        let front = columns.get(..key.len()).unwrap_or_default();
        !front.is_empty() && front.iter().all(|name| key.contains(name))
    })
}

/// The key's columns as an index lists them.
pub fn key_columns<'a>(
    load: &'a Load,
    target: &'a Described,
) -> impl Iterator<Item = String> + use<'a> {
    load.target.key.iter().map(|name| {
        let long = target
            .column(name)
            .is_some_and(|column| column.server_type.long());
        match long {
            true => format!("{}({PREFIX})", ident(name)),
            false => ident(name),
        }
    })
}

/// Gives a target whose rows are found by key an index on it, where it has none.
pub async fn index_key(
    session: &mut Session,
    place: &Place,
    load: &Load,
    target: &Described,
) -> Result<Option<SchemaChange>> {
    let key = &load.target.key;
    if !matches!(load.write, Write::Merge { .. } | Write::Changes { .. }) {
        return Ok(None);
    }
    let found = indexes(session, &place.database, &place.name).await?;
    if leads_to_key(&found, key) {
        return Ok(None);
    }
    let sql = format!(
        "ALTER TABLE {} ADD INDEX {} ({})",
        place.sql(),
        ident(&format!("{OWN_PREFIX}key_{}", found.len())),
        list(key_columns(load, target))
    );
    lock::alone(session, place, &sql).await?;
    Ok(Some(SchemaChange(format!(
        "index on the key ({}) added",
        key.join(", ")
    ))))
}
