//! An in-memory source and destination that keep the promises of the traits, and can be
//! told to fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
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
    destination::{
        Accepted, Deletes, Destination, Durable, Lane, Load, Outcome, SchemaChange, TableLoad,
        Write,
    },
    naming::NamePolicy,
    payload::Format,
    schema::{TableKind, arrow_schema},
    source::{BatchStream, PayloadStream, Read, Scan, Scope, Snapshot, Source},
};

/// `[id, value, tracking]`
pub type Row = [i64; 3];

#[derive(Clone)]
pub struct FakeSource {
    pub tables: Arc<Mutex<BTreeMap<String, Vec<Row>>>>,
    /// Reads of this table fail until the counter is used up.
    pub fails: Arc<Mutex<BTreeMap<String, (Error, AtomicU32)>>>,
    /// What rows can be had as besides batches.
    pub formats: Vec<Format>,
    capabilities: Capabilities,
}

fn capabilities(replay: Replay) -> Capabilities {
    Capabilities {
        incremental: true,
        namespaces: false,
        replay,
        lanes: 3,
        modes: &WriteMode::ALL,
        names: NamePolicy::new(63, false),
    }
}

impl FakeSource {
    pub fn new(replay: Replay) -> Self {
        FakeSource {
            tables: Arc::default(),
            fails: Arc::default(),
            formats: Vec::new(),
            capabilities: capabilities(replay),
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
}

#[async_trait]
impl Connection for FakeSource {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            source: Some(self),
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        CheckReport::default()
    }
}

#[async_trait]
impl Source for FakeSource {
    async fn discover(&self, _: &Scope) -> Result<Catalog> {
        let tables = self.tables.lock().unwrap();
        Ok(Catalog {
            tables: tables
                .iter()
                .map(|(name, rows)| Table {
                    id: TableId::new(None, name),
                    columns: ["id", "v", "t"]
                        .map(|c| Column::new(c, LogicalType::Int64))
                        .to_vec(),
                    primary_key: vec!["id".into()],
                    row_estimate: Some(rows.len() as u64),
                    byte_estimate: None,
                    kind: TableKind::Table,
                })
                .collect(),
        })
    }

    async fn open(&self, _: &Value) -> Result<Arc<dyn Snapshot>> {
        let tables = self.tables.lock().unwrap().clone();
        Ok(Arc::new(FakeSnapshot {
            tables,
            source: self.clone(),
        }))
    }
}

struct FakeSnapshot {
    tables: BTreeMap<String, Vec<Row>>,
    source: FakeSource,
}

#[async_trait]
impl Snapshot for FakeSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
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
        let at = ["id", "v", "t"]
            .iter()
            .position(|name| *name == column.name)
            .unwrap();
        Arc::new(rows.iter().map(|row| row[at]).collect::<Int64Array>()) as _
    };
    RecordBatch::try_new(arrow_schema(columns), columns.iter().map(array).collect()).unwrap()
}

#[derive(Default)]
struct Staged {
    rows: Vec<Vec<i64>>,
    parts: BTreeSet<String>,
}

#[derive(Default)]
struct Disk {
    tables: BTreeMap<String, Vec<Vec<i64>>>,
    staged: BTreeMap<String, Staged>,
    finished: BTreeSet<String>,
}

#[derive(Clone)]
pub struct FakeDestination {
    disk: Arc<Mutex<Disk>>,
    /// What loads take besides batches.
    pub takes: Option<Format>,
    /// Rows that came so.
    pub passed: Arc<AtomicU64>,
    /// Rows that a part says to have lost, once it is committed.
    pub loses: u64,
    capabilities: Capabilities,
}

impl FakeDestination {
    pub fn new() -> Self {
        FakeDestination {
            disk: Arc::default(),
            takes: None,
            passed: Arc::default(),
            loses: 0,
            capabilities: capabilities(Replay::Snapshot),
        }
    }

    /// Rows of a table, sorted.
    pub fn rows(&self, table: &str) -> Vec<Vec<i64>> {
        let mut rows = self
            .disk
            .lock()
            .unwrap()
            .tables
            .get(table)
            .cloned()
            .unwrap_or_default();
        rows.sort();
        rows
    }

    pub fn exists(&self, table: &str) -> bool {
        self.disk.lock().unwrap().tables.contains_key(table)
    }

    pub fn staged(&self) -> usize {
        self.disk.lock().unwrap().staged.len()
    }
}

#[async_trait]
impl Connection for FakeDestination {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            destination: Some(self),
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        CheckReport::default()
    }
}

#[async_trait]
impl Destination for FakeDestination {
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>> {
        tokio::task::yield_now().await;
        let (finished, landed) = self.disk.lock().unwrap().begin(&load);
        // A crash may come after the staging place was made.
        tokio::task::yield_now().await;
        Ok(Box::new(FakeLoad {
            load,
            landed,
            finished,
            destination: self.clone(),
        }))
    }
}

struct FakeLoad {
    load: Load,
    landed: BTreeSet<String>,
    finished: bool,
    destination: FakeDestination,
}

#[async_trait]
impl TableLoad for FakeLoad {
    fn schema_changes(&self) -> &[SchemaChange] {
        &[]
    }

    fn landed(&self) -> &BTreeSet<String> {
        &self.landed
    }

    fn finished(&self) -> bool {
        self.finished
    }

    fn takes(&self, format: &Format) -> bool {
        self.destination.takes.as_ref() == Some(format)
    }

    async fn lane(&self) -> Result<Box<dyn Lane>> {
        Ok(Box::new(FakeLane {
            id: self.load.id.clone(),
            rows: vec![],
            destination: self.destination.clone(),
        }))
    }

    async fn finish(&self) -> Result<Outcome> {
        tokio::task::yield_now().await;
        let outcome = self.destination.disk.lock().unwrap().finish(&self.load)?;
        // A crash may come after the commit but before the answer.
        tokio::task::yield_now().await;
        Ok(outcome)
    }

    async fn abandon(&self) -> Result<()> {
        let mut disk = self.destination.disk.lock().unwrap();
        disk.staged.remove(&self.load.id);
        Ok(())
    }
}

impl Disk {
    fn begin(&mut self, load: &Load) -> (bool, BTreeSet<String>) {
        if !load.resume {
            self.staged.remove(&load.id);
        }
        let finished = self.finished.contains(&load.id);
        let landed = match finished {
            true => BTreeSet::new(),
            false => self
                .staged
                .entry(load.id.clone())
                .or_default()
                .parts
                .clone(),
        };
        (finished, landed)
    }

    fn finish(&mut self, load: &Load) -> Result<Outcome> {
        let mut outcome = Outcome {
            place: load.target.name.clone(),
            ..Outcome::default()
        };
        if !self.finished.insert(load.id.clone()) {
            return Ok(Outcome {
                repeated: true,
                ..outcome
            });
        }
        let staged = self
            .staged
            .remove(&load.id)
            .ok_or_else(|| Error::bug("no staging"))?;
        let table = self.tables.entry(load.target.name.clone()).or_default();
        match load.write {
            Write::Append => {
                outcome.inserted = staged.rows.len() as u64;
                table.extend(staged.rows);
            }
            Write::Replace => {
                outcome.inserted = staged.rows.len() as u64;
                *table = staged.rows;
            }
            Write::Merge { complete, deletes } => {
                let keys: BTreeSet<i64> = staged.rows.iter().map(|row| row[0]).collect();
                let before = table.len();
                table.retain(|row| {
                    !(keys.contains(&row[0]) || (complete && deletes == Deletes::Hard))
                });
                outcome.updated = (before - table.len()) as u64;
                table.extend(staged.rows);
            }
            Write::Changes { .. } => {
                return Err(Error::unsupported("the fake table takes no change stream"));
            }
        }
        Ok(outcome)
    }
}

struct FakeLane {
    id: String,
    rows: Vec<Vec<i64>>,
    destination: FakeDestination,
}

#[async_trait]
impl Lane for FakeLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        tokio::task::yield_now().await;
        self.rows.extend(cells(&batch));
        Ok(Accepted::default())
    }

    async fn write_payload(&mut self, payload: Payload) -> Result<Accepted> {
        tokio::task::yield_now().await;
        self.destination.passed.fetch_add(payload.row_count, SeqCst);
        let (cells, []) = payload.bytes.as_chunks::<8>() else {
            panic!("a cell was cut")
        };
        let cells: Vec<i64> = cells.iter().copied().map(i64::from_be_bytes).collect();
        self.rows.extend(
            cells
                .chunks(cells.len() / payload.row_count as usize)
                .map(<[i64]>::to_vec),
        );
        Ok(Accepted::default())
    }

    async fn commit(&mut self, part_id: &str) -> Result<Durable> {
        tokio::task::yield_now().await;
        let rows = std::mem::take(&mut self.rows);
        let count = rows.len() as u64;
        let mut disk = self.destination.disk.lock().unwrap();
        let staged = disk
            .staged
            .get_mut(&self.id)
            .ok_or_else(|| Error::missing("the staging place is gone"))?;
        if staged.parts.insert(part_id.to_owned()) {
            staged.rows.extend(rows);
        }
        Ok(Durable {
            rows: count - self.destination.loses,
        })
    }
}
