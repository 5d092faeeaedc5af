//! An in-memory source and destination that keep the promises of the traits, and can be
//! told to fail.

mod destination;
mod log;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use arrow_array::{Int64Array, RecordBatch, cast::AsArray, types::Int64Type};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tideway_core::{
    Batch, Capabilities, Catalog, CheckReport, Column, Connection, Cursor, Error, LogicalType,
    Mark, Part, Payload, Result, Roles, Table, TableId, WriteMode,
    capability::Replay,
    naming::NamePolicy,
    payload::Format,
    schema::{TableKind, arrow_schema},
    source::{BatchStream, PayloadStream, Read, Scan, Scope, Snapshot, Source},
    sums::Sums,
};

pub use destination::{FakeDestination, Spoil};
pub use log::{Deed, FakeLog};

/// `[id, value, tracking]`
pub type Row = [i64; 3];

#[derive(Clone)]
pub struct FakeSource {
    pub tables: Arc<Mutex<BTreeMap<String, Vec<Row>>>>,
    /// Reads of this table fail until the counter is used up.
    pub fails: Arc<Mutex<BTreeMap<String, (Error, AtomicU32)>>>,
    /// The planning of this table panics.
    pub panics: Option<&'static str>,
    /// What rows can be had as besides batches.
    pub formats: Vec<Format>,
    /// What happened, where the source has a change stream.
    pub log: Option<Arc<FakeLog>>,
    capabilities: Capabilities,
}

/// What [`FakeSource::fail`] knows the planning of a table by.
pub fn planning(table: &str) -> String {
    format!("planning {table}")
}

fn capabilities(replay: Replay) -> Capabilities {
    Capabilities {
        incremental: true,
        namespaces: false,
        replay,
        lanes: 3,
        modes: &WriteMode::ALL,
        history: true,
        names: NamePolicy::new(63, false),
    }
}

impl FakeSource {
    pub fn new(replay: Replay) -> Self {
        FakeSource {
            tables: Arc::default(),
            fails: Arc::default(),
            panics: None,
            formats: Vec::new(),
            log: None,
            capabilities: capabilities(replay),
        }
    }

    pub fn streaming() -> Self {
        FakeSource {
            log: Some(Arc::default()),
            ..Self::new(Replay::Snapshot)
        }
    }

    pub fn put(&self, table: &str, rows: impl IntoIterator<Item = Row>) {
        self.tables
            .lock()
            .unwrap()
            .insert(table.into(), rows.into_iter().collect());
    }

    pub fn fail(&self, table: &str, error: Error, times: u32) {
        self.fails
            .lock()
            .unwrap()
            .insert(table.into(), (error, AtomicU32::new(times)));
    }

    fn failure(&self, what: &str) -> Option<Error> {
        let panics = self.panics.map(planning);
        assert_ne!(panics.as_deref(), Some(what), "as it was told to");
        let fails = self.fails.lock().unwrap();
        let (error, left) = fails.get(what)?;
        (left.load(SeqCst) > 0).then(|| {
            left.fetch_sub(1, SeqCst);
            error.clone()
        })
    }
}

#[async_trait]
impl Connection for FakeSource {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            source: Some(self),
            changes: self.log.as_ref().map(|_| self as _),
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        CheckReport::default()
    }
}

/// A table with the columns `id`, `v`, `t`, and `x` (twice `v`) where it has been widened.
fn table(name: &str, wide: bool, rows: usize) -> Table {
    let columns = ["id", "v", "t", "x"];
    Table {
        id: TableId::new(None, name),
        columns: columns[..if wide { 4 } else { 3 }]
            .iter()
            .map(|c| Column::new(c, LogicalType::Int64))
            .collect(),
        primary_key: vec!["id".into()],
        row_estimate: Some(rows as u64),
        byte_estimate: None,
        kind: TableKind::Table,
    }
}

#[async_trait]
impl Source for FakeSource {
    async fn discover(&self, _: &Scope) -> Result<Catalog> {
        let tables = self.tables.lock().unwrap();
        let wide = |name: &str| self.log.as_ref().is_some_and(|log| log.wide(name));
        Ok(Catalog {
            tables: tables
                .iter()
                .map(|(name, rows)| table(name, wide(name), rows.len()))
                .collect(),
        })
    }

    async fn open(&self, _: &Value) -> Result<Arc<dyn Snapshot>> {
        let tables = self.tables.lock().unwrap().clone();
        Ok(Arc::new(self.showing(tables)))
    }
}

impl FakeSource {
    fn showing(&self, tables: BTreeMap<String, Vec<Row>>) -> FakeSnapshot {
        FakeSnapshot {
            tables,
            source: self.clone(),
        }
    }
}

struct FakeSnapshot {
    tables: BTreeMap<String, Vec<Row>>,
    source: FakeSource,
}

#[async_trait]
impl Snapshot for FakeSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        if let Some(error) = self.source.failure(&planning(&read.table.id.name)) {
            return Err(error);
        }
        let rows = &self.tables[&read.table.id.name];
        let from = read
            .tracking
            .as_ref()
            .and_then(|t| t.cursor.as_ref()?.from.clone());
        let from: i64 = from.map_or(i64::MIN, |from| from.parse().unwrap());
        let cursor = read.tracking.as_ref().map(|tracking| {
            let top = rows
                .iter()
                .map(|row| row[2])
                .max()
                .map(|top| top.to_string());
            let value = top.or_else(|| tracking.cursor.as_ref()?.from.clone());
            Cursor {
                column: tracking.column.clone(),
                from: value.clone(),
                marks: value
                    .map(|value| Mark { at: 0, value })
                    .into_iter()
                    .collect(),
                boundary: vec![],
            }
        });
        let parts = (0..rows.len().div_ceil(10).max(1))
            .map(|n| Part {
                id: format!("p{n}"),
                spec: json!([n, from]),
                row_estimate: None,
            })
            .collect();
        Ok(Scan {
            parts,
            row_estimate: None,
            byte_estimate: None,
            cursor,
        })
    }

    async fn formats(&self, _: &Read) -> Result<Vec<Format>> {
        Ok(self.source.formats.clone())
    }

    /// Each row as its cells, each of eight bytes.
    fn read_as(self: Arc<Self>, read: Arc<Read>, part: Part, format: &Format) -> PayloadStream {
        assert!(self.source.formats.contains(format));
        let bytes_of = |batch: Batch| Payload {
            bytes: cells(&batch)
                .concat()
                .into_iter()
                .flat_map(i64::to_be_bytes)
                .collect(),
            row_count: batch.row_count() as u64,
        };
        self.read(read, part).map_ok(bytes_of).boxed()
    }

    fn add_up(&self, _: &Format, payload: &Payload, sums: &mut Sums) -> Result<()> {
        let (cells, []) = payload.bytes.as_chunks::<8>() else {
            panic!("a cell was cut")
        };
        for row in cells.chunks(cells.len() / payload.row_count as usize) {
            add_cells(row, sums);
        }
        Ok(())
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        let table = read.table.id.name.clone();
        if let Some((error, left)) = self.source.fails.lock().unwrap().get(&table)
            && left.load(SeqCst) > 0
        {
            left.fetch_sub(1, SeqCst);
            return stream::iter([Err(error.clone())]).boxed();
        }
        let (n, from): (usize, i64) = serde_json::from_value(part.spec).unwrap();
        let rows: Vec<Row> = self.tables[&table]
            .iter()
            .skip(n * 10)
            .take(10)
            .filter(|r| r[2] >= from)
            .copied()
            .collect();
        let batches: Vec<Result<Batch>> = rows
            .chunks(4)
            .map(|rows| Ok(Batch::of_rows(record_batch(&read.columns, rows))))
            .collect();
        // A pause before each batch gives a crash somewhere to happen.
        stream::iter(batches)
            .then(|batch| async {
                tokio::task::yield_now().await;
                batch
            })
            .boxed()
    }
}

pub fn eight_bytes(words: [&str; 3]) -> Format {
    Format {
        name: "eight-bytes",
        columns: words.map(str::to_owned).to_vec(),
    }
}

fn cells(batch: &Batch) -> Vec<Vec<i64>> {
    let row = |row| {
        let columns = batch.rows.columns().iter();
        columns
            .map(|c| c.as_primitive::<Int64Type>().value(row))
            .collect()
    };
    (0..batch.row_count()).map(row).collect()
}

fn record_batch(columns: &[Column], rows: &[Row]) -> RecordBatch {
    let array = |column: &Column| {
        let value = |row: &Row| match column.name.as_str() {
            "x" => row[1] * 2,
            name => row[["id", "v", "t"].iter().position(|n| *n == name).unwrap()],
        };
        Arc::new(rows.iter().map(value).collect::<Int64Array>()) as _
    };
    RecordBatch::try_new(arrow_schema(columns), columns.iter().map(array).collect()).unwrap()
}

/// A row in the form of eight bytes per cell.
pub fn add_cells(row: &[[u8; 8]], sums: &mut Sums) {
    for (column, cell) in row.iter().enumerate() {
        sums.add_cell(column, cell);
    }
    sums.add_row(row.as_flattened());
}
