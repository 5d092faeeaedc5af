//! Reading: one connection holds one read transaction, so that all tables of a run are
//! seen at one moment. SQLite cannot lend that moment to a second connection; lanes take
//! turns with the one that there is, a batch at a time, and none can keep it from another.
//!
//! A batch is found by the number of the last row before it. What has no such number (a
//! view, a virtual table, a table WITHOUT ROWID) is copied into a temporary table first,
//! which SQLite keeps in a file of its own.

mod columns;
mod track;

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use arrow_array::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use rusqlite::{ToSql, types::ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tideway_core::{
    Batch, Catalog, Column, Cursor, Error, Part, Result,
    schema::arrow_schema,
    source::{BatchStream, Read, Scan, Scope, Snapshot, Source},
};

use crate::{
    Database,
    config::SourceOptions,
    connect::{Handle, Visit, blocking},
    discover,
    sql::{list, quoted},
};

use columns::Decoder;
use track::Track;

/// Rows of one part, more or less.
const PART_ROWS: u64 = 100_000;

/// Values of at most this many bytes before the last row of a batch. An Arrow column of
/// texts ends at 2 GiB, and a single row may bring almost 1 GiB.
const MOST_BATCH_BYTES: usize = 256 << 20;

#[async_trait]
impl Source for Database {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        let (file, scope) = (self.file.clone(), scope.clone());
        blocking(move || discover::catalog(&Handle::reader(&file)?, &scope)).await
    }

    async fn open(&self, options: &Value) -> Result<Arc<dyn Snapshot>> {
        let SourceOptions {} = tideway_core::form::parse(options)
            .map_err(|error| error.while_("source_configuration"))?;
        let file = self.file.clone();
        blocking(move || {
            let handle = Handle::reader(&file)?;
            handle.run("BEGIN")?;
            // The moment that is seen begins with the first read.
            handle.one::<i64>("SELECT count(*) FROM sqlite_schema", [])?;
            let view: Arc<dyn Snapshot> = Arc::new(View(Arc::new(Shared {
                handle: Mutex::new(handle),
                copies: AtomicUsize::new(0),
            })));
            Ok(view)
        })
        .await
    }
}

/// The database as it was when a run began.
struct View(Arc<Shared>);

struct Shared {
    handle: Mutex<Handle>,
    copies: AtomicUsize,
}

impl Shared {
    fn handle(&self) -> MutexGuard<'_, Handle> {
        // A panic elsewhere leaves a connection behind that is still good to read.
        self.handle
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

/// Where the rows of a part are: those with numbers `from` to `to`, both included.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Range {
    place: Place,
    from: i64,
    to: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The table itself, with the name of its row number.
    Table { row_number: String },
    /// The temporary copy of that name; its columns are `c0`, `c1`, …
    Copy { name: String },
}

impl Place {
    fn from(&self, table: &str) -> String {
        match self {
            Place::Table { .. } => format!("main.{} AS t", quoted(table)),
            Place::Copy { name } => format!("temp.{} AS t", quoted(name)),
        }
    }

    fn row_number(&self) -> String {
        match self {
            Place::Table { row_number } => format!("t.{}", quoted(row_number)),
            Place::Copy { .. } => "t.rowid".to_owned(),
        }
    }

    fn column(&self, at: usize, name: &str) -> String {
        match self {
            Place::Table { .. } => format!("t.{}", quoted(name)),
            Place::Copy { .. } => format!("t.c{at}"),
        }
    }
}

#[async_trait]
impl Snapshot for View {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let (shared, read) = (self.0.clone(), read.clone());
        blocking(move || plan(&shared, &read)).await
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        let start = Progress::of(&read, &part).map(|progress| (self.0.clone(), read, progress));
        match start {
            Err(error) => stream::once(async { Err(error) }).boxed(),
            Ok(start) => stream::try_unfold(start, |(shared, read, progress)| async move {
                let Some(from) = progress.from else {
                    return Ok(None);
                };
                blocking(move || {
                    let (rows, progress) = batch(&shared, &read, progress, from)?;
                    let more = rows.num_rows() > 0 || progress.from.is_some();
                    Ok(more.then(|| (Batch::of_rows(rows), (shared, read, progress))))
                })
                .await
            })
            .boxed(),
        }
    }
}

/// The columns of a read as they are selected: those wanted, and the tracking field
/// behind them if it is not among them.
fn selected(read: &Read) -> Result<(Vec<Column>, Option<usize>)> {
    let mut columns = read.columns.clone();
    let Some(tracking) = &read.tracking else {
        return Ok((columns, None));
    };
    if let Some(at) = columns
        .iter()
        .position(|column| column.name == tracking.column)
    {
        return Ok((columns, Some(at)));
    }
    let column = read
        .table
        .column(&tracking.column)
        .cloned()
        .ok_or_else(|| {
            Error::drift(format!(
                "{} has no column {}",
                read.table.id, tracking.column
            ))
        })?;
    columns.push(column);
    let at = columns.len() - 1;
    Ok((columns, Some(at)))
}

fn plan(shared: &Shared, read: &Read) -> Result<Scan> {
    let handle = &*shared.handle();
    let (columns, tracked) = selected(read)?;
    let track = Track::of(read)?;
    let described = discover::require(handle, &read.table.id.name)?;
    let place = match described.row_number() {
        Some(row_number) => Place::Table { row_number },
        None => copy(shared, handle, read, &columns, track.as_ref(), tracked)?,
    };
    let table = &read.table.id.name;
    let (from, number) = (place.from(table), place.row_number());
    let first: Option<i64> = lone(handle, &format!("SELECT min({number}) FROM {from}"))?;
    let last: Option<i64> = lone(handle, &format!("SELECT max({number}) FROM {from}"))?;
    let rows = match &place {
        Place::Copy { name } => lone(
            handle,
            &format!("SELECT count(*) FROM temp.{}", quoted(name)),
        )?
        .map(i64::unsigned_abs),
        Place::Table { .. } => read.table.row_estimate,
    };
    let rows = match read.limit {
        Some(limit) => Some(rows.unwrap_or(limit).min(limit)),
        None => rows,
    };
    let ranges = match (first, last) {
        (Some(first), Some(last)) if read.limit.is_none() => ranges(first, last, rows.unwrap_or(0)),
        (Some(first), Some(last)) => vec![(first, last)],
        _ => vec![(1, 0)],
    };
    let cursor = match (&track, tracked.and_then(|at| Some((at, columns.get(at)?)))) {
        (Some(track), Some((at, column))) => Some(cursor(
            handle,
            track,
            &from,
            &place.column(at, &column.name),
        )?),
        _ => None,
    };
    let estimate = rows.map(|rows| rows.div_ceil(ranges.len() as u64));
    let parts = ranges
        .into_iter()
        .enumerate()
        .map(|(at, (from, to))| {
            let range = Range {
                place: place.clone(),
                from,
                to,
            };
            let spec = serde_json::to_value(range)
                .map_err(|error| Error::bug(format!("a part cannot be written down: {error}")))?;
            Ok(Part {
                id: format!("{at:05}"),
                spec,
                row_estimate: estimate,
            })
        })
        .collect::<Result<Vec<Part>>>()?;
    Ok(Scan {
        parts,
        row_estimate: rows,
        byte_estimate: None,
        cursor,
    })
}

/// The one value of a query; null counts as none.
fn lone(handle: &Handle, sql: &str) -> Result<Option<i64>> {
    Ok(handle.one::<Option<i64>>(sql, [])?.flatten())
}

/// Cuts `first..=last` in equal pieces, as many as `rows` asks for.
fn ranges(first: i64, last: i64, rows: u64) -> Vec<(i64, i64)> {
    let span = i128::from(last) - i128::from(first) + 1;
    let pieces = i128::from(rows.div_ceil(PART_ROWS).max(1)).min(span.max(1));
    let edge = |piece: i128| {
        let at = i128::from(first) + span * piece / pieces;
        i64::try_from(at).unwrap_or(i64::MAX)
    };
    (0..pieces)
        .map(|piece| {
            let to = if piece + 1 == pieces {
                last
            } else {
                edge(piece + 1) - 1
            };
            (edge(piece), to)
        })
        .collect()
}

/// Copies what will be read into a temporary table. Its columns are declared without
/// types, so SQLite changes no value on the way.
fn copy(
    shared: &Shared,
    handle: &Handle,
    read: &Read,
    columns: &[Column],
    track: Option<&Track>,
    tracked: Option<usize>,
) -> Result<Place> {
    let name = format!(
        "{}copy_{}",
        discover::OWN_PREFIX,
        shared.copies.fetch_add(1, Relaxed)
    );
    let targets = list((0..columns.len()).map(|at| format!("c{at}")));
    let sources = list(
        columns
            .iter()
            .map(|column| format!("t.{}", quoted(&column.name))),
    );
    let mut sql = format!(
        "INSERT INTO temp.{name} ({targets}) SELECT {sources} FROM main.{} AS t",
        quoted(&read.table.id.name)
    );
    let mut params: Vec<&dyn ToSql> = Vec::new();
    let column = tracked.and_then(|at| columns.get(at));
    let filter = match (track, column) {
        (Some(track), Some(column)) => track.filter(&format!("t.{}", quoted(&column.name))),
        _ => None,
    };
    if let Some(filter) = &filter {
        sql.push_str(&format!(" WHERE {}", filter.sql));
        params.push(&filter.bound);
    }
    // With a filter that lets too many through, the limit is for the reader to keep.
    if let (Some(limit), None) = (read.limit, track) {
        sql.push_str(&format!(" LIMIT {limit}"));
    }
    handle.run(&format!("CREATE TEMP TABLE {name} ({targets})"))?;
    handle.change(&sql, params.as_slice())?;
    Ok(Place::Copy { name })
}

/// Where the next run goes on: at the newest value of the tracking field.
fn cursor(handle: &Handle, track: &Track, from: &str, column: &str) -> Result<Cursor> {
    let filter = track.filter(column);
    let mut sql = format!("SELECT {column} FROM {from}");
    if let Some(filter) = &filter {
        sql.push_str(&format!(" WHERE {}", filter.sql));
    }
    let bound: Vec<&dyn ToSql> = filter.iter().map(|filter| &filter.bound as _).collect();
    let mut statement = handle.prepare(&sql)?;
    let mut rows = statement
        .query(bound.as_slice())
        .map_err(|error| handle.explain(error))?;
    let mut newest = None;
    handle.visit(&mut rows, |row| {
        let value = row.get_ref(0).map_err(|error| handle.explain(error))?;
        newest = track.newer(newest.take(), value)?;
        Ok(Visit::More)
    })?;
    Ok(track.cursor(newest))
}

/// How far a part has been read.
struct Progress {
    range: Range,
    /// Number of the next row, while there may be one.
    from: Option<i64>,
    /// Rows that may still be read of a test run.
    left: Option<u64>,
}

impl Progress {
    fn of(read: &Read, part: &Part) -> Result<Progress> {
        let range: Range = serde_json::from_value(part.spec.clone())
            .map_err(|error| Error::bug(format!("part {} cannot be read: {error}", part.id)))?;
        Ok(Progress {
            from: Some(range.from),
            range,
            left: read.limit,
        })
    }
}

/// Reads the rows from number `from` on, until the batch is full or the part ends.
fn batch(
    shared: &Shared,
    read: &Read,
    progress: Progress,
    from: i64,
) -> Result<(RecordBatch, Progress)> {
    let handle = &*shared.handle();
    let (columns, tracked) = selected(read)?;
    let track = Track::of(read)?;
    let Progress { range, left, .. } = progress;
    let names: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| range.place.column(at, &column.name))
        .collect();
    let filter = match (&track, tracked.and_then(|at| names.get(at))) {
        // The plus keeps SQLite from looking the value up in an index: the rows are
        // wanted by their numbers.
        (Some(track), Some(name)) => track.filter(&format!("+{name}")),
        _ => None,
    };
    let number = range.place.row_number();
    let mut sql = format!(
        "SELECT {}, {number} FROM {} WHERE {number} BETWEEN ?2 AND ?3",
        list(&names),
        range.place.from(&read.table.id.name)
    );
    let mut bound: Vec<&dyn ToSql> = vec![&rusqlite::types::Null, &from, &range.to];
    if let Some(filter) = &filter {
        sql.push_str(&format!(" AND {}", filter.sql));
        if let Some(first) = bound.first_mut() {
            *first = &filter.bound;
        }
    }
    sql.push_str(&format!(" ORDER BY {number}"));

    let mut decoders: Vec<Decoder> = read.columns.iter().map(Decoder::new).collect();
    let full = read.batch_bytes.clamp(1, MOST_BATCH_BYTES);
    let (mut rows, mut bytes, mut last) = (0_u64, 0_usize, None);
    let mut statement = handle.prepare(&sql)?;
    let mut found = statement
        .query(bound.as_slice())
        .map_err(|error| handle.explain(error))?;
    let ended = handle.visit(&mut found, |row| {
        let cell = |at: usize| row.get_ref(at).map_err(|error| handle.explain(error));
        if left == Some(rows) {
            return Ok(Visit::Enough);
        }
        if let (Some(track), Some(at)) = (&track, tracked)
            && !track.passes(cell(at)?)?
        {
            return Ok(Visit::More);
        }
        for (at, decoder) in decoders.iter_mut().enumerate() {
            bytes += decoder
                .append(cell(at)?)
                .map_err(|misfit| misfit.explain(&read.table))?;
        }
        rows += 1;
        last = match cell(columns.len())? {
            ValueRef::Integer(number) => Some(number),
            _ => return Err(Error::bug("a row has no number")),
        };
        Ok(if bytes >= full {
            Visit::Enough
        } else {
            Visit::More
        })
    })?;
    let left = left.map(|left| left - rows);
    let goes_on = ended == Visit::Enough && left != Some(0);
    let next = last
        .filter(|_| goes_on)
        .and_then(|last| last.checked_add(1));
    let arrays = decoders.into_iter().map(Decoder::finish).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
    let batch = RecordBatch::try_new_with_options(arrow_schema(&read.columns), arrays, &options)
        .map_err(|error| Error::bug(format!("{}: {error}", read.table.id)))?;
    Ok((
        batch,
        Progress {
            from: next,
            range,
            left,
        },
    ))
}
