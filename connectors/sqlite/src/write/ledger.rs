//! Which parts have landed and which loads are finished, kept in the database itself so
//! that it is true exactly when the rows are there.

use std::collections::BTreeSet;

use tideway_core::{Result, destination::Load};

use crate::{connect::Handle, write::discard};

use super::now;

/// The part id that says that the load is finished.
const FINISHED: &str = "";

/// Makes the table, and drops what nobody will ask for any more.
pub fn prepare(handle: &Handle) -> Result<()> {
    handle.run(
        "CREATE TABLE IF NOT EXISTS main._tideway_loads (load_id TEXT, part_id TEXT, \
         rows INTEGER, committed_at TIMESTAMPTZ, PRIMARY KEY (load_id, part_id)) WITHOUT ROWID",
    )?;
    let stale = handle.all::<String>(
        "SELECT load_id FROM main._tideway_loads GROUP BY load_id \
         HAVING max(committed_at) < strftime('%Y-%m-%d %H:%M:%S', 'now', '-7 days')",
        [],
        |row| row.get(0),
    )?;
    for load_id in stale {
        discard(handle, &load_id)?;
        handle.change(
            "DELETE FROM main._tideway_loads WHERE load_id = ?1",
            [load_id],
        )?;
    }
    Ok(())
}

pub fn finished(handle: &Handle, load_id: &str) -> Result<bool> {
    Ok(rows_of(handle, load_id, FINISHED)?.is_some())
}

/// How many rows a part brought, if it has landed.
pub fn rows_of(handle: &Handle, load_id: &str, part_id: &str) -> Result<Option<u64>> {
    let rows: Option<i64> = handle.one(
        "SELECT rows FROM main._tideway_loads WHERE load_id = ?1 AND part_id = ?2",
        [load_id, part_id],
    )?;
    Ok(rows.map(i64::unsigned_abs))
}

pub fn landed(handle: &Handle, load_id: &str) -> Result<BTreeSet<String>> {
    let parts = handle.all(
        "SELECT part_id FROM main._tideway_loads WHERE load_id = ?1 AND part_id <> ?2",
        [load_id, FINISHED],
        |row| row.get(0),
    )?;
    Ok(parts.into_iter().collect())
}

pub fn record_part(handle: &Handle, load_id: &str, part_id: &str, rows: u64) -> Result<()> {
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    handle
        .change(
            "INSERT INTO main._tideway_loads VALUES (?1, ?2, ?3, ?4)",
            (load_id, part_id, rows, now()),
        )
        .map(|_| ())
}

/// Also forgets what nobody asks for any more.
pub fn record_finished(handle: &Handle, load: &Load, rows: u64) -> Result<()> {
    for earlier in &load.forgets {
        handle.change(
            "DELETE FROM main._tideway_loads WHERE load_id = ?1",
            [earlier],
        )?;
    }
    record_part(handle, &load.id, FINISHED, rows)
}

pub fn forget_parts(handle: &Handle, load_id: &str) -> Result<()> {
    handle
        .change(
            "DELETE FROM main._tideway_loads WHERE load_id = ?1 AND part_id <> ?2",
            [load_id, FINISHED],
        )
        .map(|_| ())
}
