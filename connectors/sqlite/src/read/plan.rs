//! How a table is cut into parts.

use std::sync::atomic::Ordering::Relaxed;

use tideway_core::{
    Cursor, Error, Part, Result,
    source::{Read, Scan},
};

use crate::{
    connect::{Handle, Visit},
    discover,
    sql::list,
};

use super::{Place, Range, Shared, selection::Selection};

/// Rows of one part, more or less.
const PART_ROWS: u64 = 100_000;

pub fn plan(shared: &Shared, read: &Read) -> Result<Scan> {
    let handle = &*shared.handle();
    let selection = Selection::of(read)?;
    let described = discover::require(handle, &read.table.id.name)?;
    let place = match described.row_number() {
        Some(row_number) => Place::Table { row_number },
        None => copy(shared, handle, read, &selection)?,
    };
    let (from, number) = (place.from(&read.table.id.name), place.row_number());
    let rows = match &place {
        Place::Table { .. } => read.table.row_estimate,
        Place::Copy { .. } => {
            lone(handle, &format!("SELECT count(*) FROM {from}"))?.map(i64::unsigned_abs)
        }
    };
    let rows = rows.map(|rows| rows.min(read.limit.unwrap_or(rows)));
    // One part is enough for a test run, as the limit is for all of them together.
    let pieces = match (rows, read.limit) {
        (Some(rows), None) => rows.div_ceil(PART_ROWS).max(1),
        _ => 1,
    };
    let first = lone(handle, &format!("SELECT min({number}) FROM {from}"))?;
    let last = lone(handle, &format!("SELECT max({number}) FROM {from}"))?;
    let ranges = match (first, last) {
        (Some(first), Some(last)) => ranges(first, last, pieces),
        _ => vec![(1, 0)],
    };
    let parts = parts(&place, &ranges, rows)?;
    Ok(Scan {
        parts,
        row_estimate: rows,
        byte_estimate: None,
        cursor: cursor(handle, &selection, &place, &from)?,
    })
}

/// The one value of a query; null counts as none.
fn lone(handle: &Handle, sql: &str) -> Result<Option<i64>> {
    Ok(handle.one::<Option<i64>>(sql, [])?.flatten())
}

/// Cuts `first..=last` in equal pieces.
fn ranges(first: i64, last: i64, pieces: u64) -> Vec<(i64, i64)> {
    let span = i128::from(last) - i128::from(first) + 1;
    let pieces = i128::from(pieces).clamp(1, span.max(1));
    let edge = |piece: i128| {
        let at = i128::from(first) + span * piece / pieces;
        i64::try_from(at).unwrap_or(i64::MAX)
    };
    (0..pieces)
        .map(|piece| {
            let ends = piece + 1 == pieces;
            (edge(piece), if ends { last } else { edge(piece + 1) - 1 })
        })
        .collect()
}

fn parts(place: &Place, ranges: &[(i64, i64)], rows: Option<u64>) -> Result<Vec<Part>> {
    let estimate = rows.map(|rows| rows.div_ceil(ranges.len().max(1) as u64));
    ranges
        .iter()
        .enumerate()
        .map(|(at, (from, to))| {
            let range = Range {
                place: place.clone(),
                from: *from,
                to: *to,
            };
            let spec = serde_json::to_value(range)
                .map_err(|error| Error::bug(format!("a part cannot be written down: {error}")))?;
            Ok(Part {
                id: format!("{at:05}"),
                spec,
                row_estimate: estimate,
            })
        })
        .collect()
}

/// Copies what will be read into a temporary table. Its columns are declared without
/// types, so SQLite changes no value on the way.
fn copy(shared: &Shared, handle: &Handle, read: &Read, selection: &Selection) -> Result<Place> {
    let number = shared.copies.fetch_add(1, Relaxed);
    let name = format!("{}copy_{number}", discover::OWN_PREFIX);
    let original = Place::Table {
        row_number: String::new(),
    };
    let copied = list((0..selection.columns.len()).map(|at| format!("c{at}")));
    let filter = selection.filter(&original, "");
    // What the filter lets through may still be too much, so that its rows are counted
    // only when they are read.
    let limit = match (read.limit, &selection.track) {
        (Some(limit), None) => format!("LIMIT {limit}"),
        _ => String::new(),
    };
    handle.run(&format!("CREATE TEMP TABLE {name} ({copied})"))?;
    handle.change(
        &format!(
            "INSERT INTO temp.{name} SELECT {} FROM {} WHERE {} {limit}",
            list(selection.names(&original)),
            original.from(&read.table.id.name),
            filter.sql
        ),
        [&filter.bound],
    )?;
    Ok(Place::Copy { name })
}

/// Where the next run goes on: at the newest value of the tracking field.
fn cursor(
    handle: &Handle,
    selection: &Selection,
    place: &Place,
    from: &str,
) -> Result<Option<Cursor>> {
    let Some((column, track)) = selection.tracked(place) else {
        return Ok(None);
    };
    let filter = track.filter(&column);
    let sql = format!("SELECT {column} FROM {from} WHERE {}", filter.sql);
    let mut statement = handle.prepare(&sql)?;
    let mut rows = statement
        .query([&filter.bound])
        .map_err(|error| handle.explain(error))?;
    let mut newest = None;
    handle.visit(&mut rows, |row| {
        let value = row.get_ref(0).map_err(|error| handle.explain(error))?;
        newest = track.newer(newest.take(), value)?;
        Ok(Visit::More)
    })?;
    Ok(Some(track.cursor(newest)))
}
