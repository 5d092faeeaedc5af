//! Cutting a table into parts.

use tideway_core::{
    Column, Error, Part, Result,
    source::{Read, Scan},
};

use super::{
    keys::{self, Range},
    snapshot::MySqlSnapshot,
    tracking,
};
use crate::{
    connect::Session,
    discover::{Described, DescribedColumn, indexes},
    sql::{ident, list, qualified},
};

const PART_ROWS: u64 = 250_000;
const PART_BYTES: u64 = 64 << 20;
const MOST_PARTS: u64 = 1024;
/// A table with fewer rows is not worth several sessions.
const ROWS_FOR_ALL_LANES: u64 = 50_000;
/// Up to so many changed rows are fetched by index, in one go.
const ROWS_BY_INDEX: u64 = 2 * PART_ROWS;

pub async fn plan(snapshot: &MySqlSnapshot, read: &Read) -> Result<Scan> {
    let table = snapshot.table(&read.table.id).await?;
    for (found, column) in columns_of(&table, &read.columns)?.iter().zip(&read.columns) {
        if found.reading().logical != column.logical {
            return Err(Error::drift(format!(
                "column {} is of another type now ({})",
                column.name, found.server_type.declared
            )));
        }
    }
    let (filter, cursor) = match &read.tracking {
        Some(tracking) => (
            tracking::filter(&table, tracking)?,
            Some(tracking::next_cursor(snapshot, &table, tracking).await?),
        ),
        None => (None, None),
    };
    let (ranges, rows) = snapshot
        .with(async |session: &mut Session| cut(session, &table, read, filter.as_deref()).await)
        .await?;
    let share = rows / (ranges.len() as u64).max(1);
    let parts = ranges.into_iter().enumerate().map(|(at, range)| {
        let spec = serde_json::to_value(range)
            .map_err(|error| Error::bug(format!("writing down a part: {error}")))?;
        Ok(Part {
            id: format!("{at:04}"),
            spec,
            row_estimate: Some(share),
        })
    });
    Ok(Scan {
        parts: parts.collect::<Result<_>>()?,
        row_estimate: Some(rows),
        byte_estimate: table.bytes,
        cursor,
    })
}

/// The ranges of the table, and how many rows they will give.
async fn cut(
    session: &mut Session,
    table: &Described,
    read: &Read,
    filter: Option<&str>,
) -> Result<(Vec<Range>, u64)> {
    let place = qualified(&table.database, &table.name);
    // A fresh look, which also shows whether the table may be read at all.
    let columns = list(read.columns.iter().map(|column| ident(&column.name)));
    let columns = if columns.is_empty() { "1" } else { &columns };
    session
        .rows(&format!("SELECT {columns} FROM {place} LIMIT 0"))
        .await?;
    let all = if table.view {
        0
    } else {
        keys::explained_rows(session, &place, "1 = 1").await?
    };
    let rows = match filter {
        Some(filter) => keys::explained_rows(session, &place, filter).await?,
        None => all,
    };
    if let Some(limit) = read.limit {
        return Ok((vec![Range::default()], rows.min(limit)));
    }
    if table.view || !keys::has_ranges(table) {
        return Ok((vec![Range::default()], rows));
    }
    if let (Some(tracking), true) = (&read.tracking, filter.is_some() && rows <= ROWS_BY_INDEX)
        && is_indexed(session, table, &tracking.column).await?
    {
        return Ok((vec![Range::default()], rows));
    }
    let count = part_count(all, table.bytes.unwrap_or(0), read.lanes);
    Ok((keys::cut(session, table, all, count).await?, rows))
}

async fn is_indexed(session: &mut Session, table: &Described, column: &str) -> Result<bool> {
    let indexes = indexes(session, &table.database, &table.name).await?;
    Ok(indexes
        .values()
        .any(|columns| columns.first().is_some_and(|first| first == column)))
}

fn part_count(rows: u64, bytes: u64, lanes: usize) -> u64 {
    let for_lanes = if rows > ROWS_FOR_ALL_LANES {
        lanes as u64
    } else {
        1
    };
    rows.div_ceil(PART_ROWS)
        .max(bytes.div_ceil(PART_BYTES))
        .max(for_lanes)
        .clamp(1, MOST_PARTS)
}

pub fn column_of<'a>(table: &'a Described, name: &str) -> Result<&'a DescribedColumn> {
    table
        .columns
        .iter()
        .find(|column| column.name == name)
        .ok_or_else(|| Error::drift(format!("column {name} is not there any more")))
}

/// The columns as the server describes them, in the order that is asked for.
pub fn columns_of<'a>(
    table: &'a Described,
    columns: &[Column],
) -> Result<Vec<&'a DescribedColumn>> {
    columns
        .iter()
        .map(|column| column_of(table, &column.name))
        .collect()
}

pub fn conditions(table: &Described, range: &Range, filter: Option<String>) -> Result<Vec<String>> {
    let mut conditions = range.conditions(table)?;
    conditions.extend(filter);
    Ok(conditions)
}

pub fn select(
    table: &Described,
    columns: &[Column],
    conditions: &[String],
    limit: Option<u64>,
) -> String {
    let columns = list(columns.iter().map(|column| ident(&column.name)));
    let columns = if columns.is_empty() { "1" } else { &columns };
    let mut sql = format!(
        "SELECT {columns} FROM {}",
        qualified(&table.database, &table.name)
    );
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    if let Some(limit) = limit {
        sql.push_str(&format!(" LIMIT {limit}"));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tables_are_cut_by_rows_bytes_and_lanes() {
        assert_eq!(part_count(10, 8192, 8), 1);
        assert_eq!(part_count(60_000, 1 << 20, 4), 4);
        assert_eq!(part_count(1_000_000, 200 << 20, 2), 4);
        assert_eq!(part_count(1000, 1 << 30, 2), 16);
        assert_eq!(part_count(u64::MAX, u64::MAX, 2), MOST_PARTS);
    }
}
