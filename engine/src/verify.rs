//! Whether two tables hold the same rows, and which ones they do not.
//!
//! Keys are hashed into [`BUCKETS`] buckets, and each side's rows are added up in theirs. What
//! differs lies in buckets that differ: those alone are looked into by a second reading. Both
//! readings take one pass over the tables, in any order, and a few megabytes.
//! docs/decisions/verification.md says why not by ranges of keys.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tideway_core::{
    Batch, Column, Error, Result, Table, WriteMode,
    destination::DELETED_AT,
    digest::{Cells, Digest},
    source::{Read, Snapshot},
};
use xxhash_rust::xxh3::xxh3_64;

const BUCKETS: usize = 1 << 16;
/// Rows of buckets that differ are kept in memory; of more buckets the rest is only counted.
const MOST_ROWS: u64 = 500_000;
const BATCH_BYTES: usize = 1 << 20;

/// One of the two tables.
pub struct Side {
    pub snapshot: Arc<dyn Snapshot>,
    pub table: Table,
    /// The columns that are compared, in the same order on both sides.
    pub columns: Vec<Column>,
}

/// What is compared.
pub struct Comparison {
    pub source: Side,
    pub destination: Side,
    /// Places of the columns that tell rows apart; none: whole rows do.
    pub key: Vec<usize>,
    /// How many parts are read at once, of each side.
    pub lanes: usize,
    /// Rows that differ and are named, at most.
    pub limit: usize,
    /// Rows that were read so far, of both sides.
    pub progress: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The destination has no such row.
    Missing,
    /// The source has no such row.
    Extra,
    /// Both have it, with other values.
    Different,
}

/// A row that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub verdict: Verdict,
    /// The key's columns with their values as text; of a row without a key, all of them.
    pub key: Vec<(String, Option<String>)>,
    /// The columns whose values differ.
    pub columns: Vec<String>,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verified {
    pub source: Digest,
    pub destination: Digest,
    /// Rows that differ, counted as long as their buckets could be looked into.
    pub missing: u64,
    pub extra: u64,
    pub different: u64,
    /// Not all buckets were looked into: there is more.
    pub more: bool,
    pub differences: Vec<Difference>,
}

impl Verified {
    pub fn equal(&self) -> bool {
        self.source == self.destination && self.missing + self.extra + self.different == 0
    }
}

/// Reads both tables, twice where they differ.
pub async fn verify(comparison: &Comparison) -> Result<Verified> {
    let (source, destination) = tokio::try_join!(
        sums(comparison, &comparison.source),
        sums(comparison, &comparison.destination)
    )?;
    let mut verified = Verified {
        source: total(&source),
        destination: total(&destination),
        ..Verified::default()
    };
    let mut wanted = vec![false; BUCKETS];
    let mut rows = 0;
    for (bucket, (one, other)) in source.iter().zip(&destination).enumerate() {
        if one == other {
            continue;
        }
        rows += one.rows + other.rows;
        if rows > MOST_ROWS && wanted.contains(&true) {
            verified.more = true;
            break;
        }
        wanted[bucket] = true;
    }
    if !wanted.contains(&true) {
        return Ok(verified);
    }
    let wanted = Arc::new(wanted);
    let (source, destination) = tokio::try_join!(
        rows_of(comparison, &comparison.source, &wanted),
        rows_of(comparison, &comparison.destination, &wanted)
    )?;
    compare(comparison, source, destination, &mut verified);
    Ok(verified)
}

fn total(sums: &[Digest]) -> Digest {
    let mut all = Digest::default();
    for sum in sums {
        all += *sum;
    }
    all
}

async fn sums(comparison: &Comparison, side: &Side) -> Result<Vec<Digest>> {
    let take = |sums: &mut Vec<Digest>, row: &Row<'_>| {
        if let Some(sum) = sums.get_mut(row.bucket()) {
            *sum += Digest::of_row(row.bytes);
        }
    };
    let join = |all: &mut Vec<Digest>, part: Vec<Digest>| {
        for (sum, more) in all.iter_mut().zip(part) {
            *sum += more;
        }
    };
    let begin = || vec![Digest::default(); BUCKETS];
    each_part(comparison, side, begin, take, join).await
}

/// Rows with one key.
#[derive(Default)]
struct Found {
    rows: Digest,
    /// A hash for each column of the last row.
    columns: Vec<u64>,
    key: Vec<Option<String>>,
}

type Rows = HashMap<u64, Found>;

async fn rows_of(comparison: &Comparison, side: &Side, wanted: &Arc<Vec<bool>>) -> Result<Rows> {
    let named = match comparison.key.is_empty() {
        true => (0..side.columns.len()).collect(),
        false => comparison.key.clone(),
    };
    let columns = side.columns.len();
    let wanted = wanted.clone();
    let take = move |rows: &mut Rows, row: &Row<'_>| {
        if !wanted.get(row.bucket()).is_some_and(|wanted| *wanted) {
            return;
        }
        let found = rows.entry(row.key).or_default();
        found.rows += Digest::of_row(row.bytes);
        let mut buffer = Vec::new();
        let hashes = (0..columns).map(|column| row.cells.hash(column, row.at, &mut buffer));
        found.columns = hashes.collect();
        found.key = named.iter().map(|column| row.text(*column)).collect();
    };
    let join = |all: &mut Rows, part: Rows| {
        for (key, more) in part {
            let found = all.entry(key).or_default();
            found.rows += more.rows;
            (found.columns, found.key) = (more.columns, more.key);
        }
    };
    each_part(comparison, side, Rows::new, take, join).await
}

/// A row on its way through.
struct Row<'a> {
    key: u64,
    /// All its cells.
    bytes: &'a [u8],
    cells: &'a Cells<'a>,
    rows: &'a Batch,
    at: usize,
}

impl Row<'_> {
    fn bucket(&self) -> usize {
        self.key as usize % BUCKETS
    }

    fn text(&self, column: usize) -> Option<String> {
        use arrow_cast::display::{ArrayFormatter, FormatOptions};
        let array = self.rows.rows.columns().get(column)?;
        let options = FormatOptions::default();
        let shown = ArrayFormatter::try_new(array, &options).ok()?;
        (!array.is_null(self.at)).then(|| shown.value(self.at).to_string())
    }
}

/// Reads the table part by part, several at once, and joins what was gathered of each.
async fn each_part<T: Send + 'static>(
    comparison: &Comparison,
    side: &Side,
    begin: impl Fn() -> T,
    take: impl Fn(&mut T, &Row<'_>) + Clone + Send + 'static,
    join: impl Fn(&mut T, T),
) -> Result<T> {
    let mut columns = side.columns.clone();
    // Rows that are marked deleted are not there.
    let marked = side.table.column(DELETED_AT).cloned();
    columns.extend(marked.clone());
    let read = Arc::new(Read {
        table: side.table.clone(),
        columns,
        tracking: None,
        mode: WriteMode::Snapshot,
        limit: None,
        batch_bytes: BATCH_BYTES,
        lanes: comparison.lanes,
    });
    let scan = side.snapshot.plan(&read).await?;
    let shape: Arc<[_]> = side.columns.iter().map(|column| column.logical).collect();
    let key: Arc<[usize]> = comparison.key.clone().into();
    let lanes = stream::iter(scan.parts).map(|part| {
        let mut rows = side.snapshot.clone().read(read.clone(), part);
        let (shape, key, take) = (shape.clone(), key.clone(), take.clone());
        let (mut gathered, progress) = (begin(), comparison.progress.clone());
        let marks = marked.as_ref().map(|_| shape.len());
        let task = tokio::spawn(async move {
            let mut buffer = Vec::new();
            while let Some(batch) = rows.try_next().await? {
                progress.fetch_add(batch.row_count() as u64, Relaxed);
                let types = shape.iter().copied().enumerate();
                let cells = Cells::new(&batch.rows, types)?;
                let marks = marks.and_then(|at| batch.rows.columns().get(at));
                for at in 0..batch.row_count() {
                    if marks.is_some_and(|marks| !marks.is_null(at)) {
                        continue;
                    }
                    let begun = buffer.len();
                    cells.row(at, key.iter().copied(), &mut buffer);
                    let of_key = buffer.len();
                    cells.row(at, 0..shape.len(), &mut buffer);
                    let bytes = buffer.get(of_key..).unwrap_or_default();
                    let named = match key.is_empty() {
                        true => bytes,
                        false => buffer.get(begun..of_key).unwrap_or_default(),
                    };
                    let row = Row {
                        key: xxh3_64(named),
                        bytes,
                        cells: &cells,
                        rows: &batch,
                        at,
                    };
                    take(&mut gathered, &row);
                    buffer.clear();
                }
            }
            Ok::<T, Error>(gathered)
        });
        async { task.await.map_err(|error| Error::bug(error.to_string()))? }
    });
    let mut all = begin();
    let mut parts = lanes.buffer_unordered(comparison.lanes.max(1));
    while let Some(part) = parts.try_next().await? {
        join(&mut all, part);
    }
    drop(parts);
    Ok(all)
}

fn compare(comparison: &Comparison, source: Rows, mut destination: Rows, verified: &mut Verified) {
    let columns = &comparison.source.columns;
    let keyed = !comparison.key.is_empty();
    let mut shown = BTreeMap::new();
    let mut tell = |verdict: Verdict, times: u64, found: &Found, columns: Vec<String>| {
        match verdict {
            Verdict::Missing => verified.missing += times,
            Verdict::Extra => verified.extra += times,
            Verdict::Different => verified.different += times,
        }
        let named: Vec<usize> = match keyed {
            true => comparison.key.clone(),
            false => (0..comparison.source.columns.len()).collect(),
        };
        let names = named
            .iter()
            .filter_map(|at| comparison.source.columns.get(*at));
        let key: Vec<_> = names
            .map(|column| column.name.clone())
            .zip(found.key.iter().cloned())
            .collect();
        // The smallest ones, so that another run names the same.
        shown.insert(
            (order(&found.key), found.columns.clone()),
            Difference {
                verdict,
                key,
                columns,
            },
        );
        if shown.len() > comparison.limit {
            shown.pop_last();
        }
    };
    for (key, here) in &source {
        let there = destination.remove(key);
        match there {
            None => tell(Verdict::Missing, here.rows.rows, here, Vec::new()),
            Some(there) if there.rows == here.rows => {}
            Some(there) if here.rows.rows > there.rows.rows => {
                tell(
                    Verdict::Missing,
                    here.rows.rows - there.rows.rows,
                    here,
                    Vec::new(),
                );
            }
            Some(there) if here.rows.rows < there.rows.rows => {
                tell(
                    Verdict::Extra,
                    there.rows.rows - here.rows.rows,
                    &there,
                    Vec::new(),
                );
            }
            Some(there) => {
                let pairs = here.columns.iter().zip(&there.columns).zip(columns);
                let differ = pairs.filter(|((one, other), _)| one != other);
                let names = differ.map(|(_, column)| column.name.clone()).collect();
                tell(Verdict::Different, here.rows.rows, here, names);
            }
        }
    }
    for there in destination.values() {
        tell(Verdict::Extra, there.rows.rows, there, Vec::new());
    }
    verified.differences = shown.into_values().collect();
}

/// Numbers before texts, in their order.
fn order(key: &[Option<String>]) -> Vec<(Option<i128>, Option<String>)> {
    let one = |text: &Option<String>| {
        let number = text.as_ref().and_then(|text| text.parse().ok());
        (number, text.clone())
    };
    key.iter().map(one).collect()
}
