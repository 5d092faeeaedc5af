//! Tables that change hands in one step, and notice what must never happen to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use arrow_array::{Array, cast::AsArray, types::Int64Type};
use async_trait::async_trait;
use tideway_core::{
    Batch, Capabilities, CheckReport, Column, Connection, Error, LogicalType, Note, Op, Ops,
    Payload, Result, Roles,
    capability::Replay,
    destination::{
        Accepted, Deletes, Destination, Durable, Lane, Load, Outcome, ReadBack, SchemaChange,
        TableLoad, Write,
    },
    payload::Format,
    sums::Sums,
};

use super::capabilities;

/// Stands for a null.
const NULL: i64 = i64::MIN;

/// A row as it was staged; with its operation where it is a change, and `None` for a
/// value that it keeps.
#[derive(Debug, Clone)]
struct StagedRow {
    op: Option<Op>,
    cells: Vec<Option<i64>>,
}

#[derive(Default)]
struct Staged {
    parts: BTreeMap<String, Vec<StagedRow>>,
}

#[derive(Default)]
struct Disk {
    tables: BTreeMap<String, Vec<Vec<i64>>>,
    staged: BTreeMap<String, Staged>,
    finished: BTreeSet<String>,
    /// The highest third column (`t`) that each key of each table has had.
    newest: BTreeMap<(String, i64), i64>,
    /// What must never happen.
    wrongs: Vec<String>,
    /// Loads of this table fail.
    fails: BTreeMap<String, Error>,
    finishes: u64,
    /// Bytes of the batches that are being written, and the most there have been.
    most_bytes: usize,
}

/// What goes wrong with staged rows between writing and reading back.
pub type Spoil = fn(&mut Vec<Vec<Option<i64>>>);

#[derive(Clone)]
pub struct FakeDestination {
    disk: Arc<Mutex<Disk>>,
    /// How long it takes to put a load in place.
    pub slow: Option<Duration>,
    /// What loads take besides batches.
    pub takes: Option<Format>,
    /// Rows that came so.
    pub passed: Arc<AtomicU64>,
    /// What it did to the values of each batch.
    pub notes: Vec<Note>,
    /// Set once a part has been committed.
    pub committed: Arc<AtomicBool>,
    /// Rows that a part says to have lost, once it is committed.
    pub loses: u64,
    /// What became of the staged rows, unseen, by the time they are read back.
    pub spoils: Option<Spoil>,
    /// Staged rows cannot be read back, for this reason.
    pub unreadable: Option<Error>,
    /// What is staged of this column does not show its values.
    pub blind: Option<&'static str>,
    capabilities: Capabilities,
}

impl FakeDestination {
    pub fn new() -> Self {
        FakeDestination {
            disk: Arc::default(),
            slow: None,
            takes: None,
            passed: Arc::default(),
            notes: Vec::new(),
            committed: Arc::default(),
            loses: 0,
            spoils: None,
            unreadable: None,
            blind: None,
            capabilities: capabilities(Replay::Snapshot),
        }
    }

    pub fn fail(&self, table: &str, error: Error) {
        self.disk.lock().unwrap().fails.insert(table.into(), error);
    }

    pub fn heal(&self) {
        self.disk.lock().unwrap().fails.clear();
    }

    pub fn wrongs(&self) -> Vec<String> {
        self.disk.lock().unwrap().wrongs.clone()
    }

    pub fn finishes(&self) -> u64 {
        self.disk.lock().unwrap().finishes
    }

    /// The largest batch that was written.
    pub fn most_bytes(&self) -> usize {
        self.disk.lock().unwrap().most_bytes
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
        let failing = self
            .disk
            .lock()
            .unwrap()
            .fails
            .get(&load.target.name)
            .cloned();
        if let Some(error) = failing {
            return Err(error);
        }
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

    fn tells_apart(&self, column: &Column) -> bool {
        self.destination.blind != Some(column.name.as_str())
    }

    async fn read_back(&self, how: &ReadBack<'_>) -> Result<Option<Sums>> {
        tokio::task::yield_now().await;
        if let Some(error) = &self.destination.unreadable {
            return Err(error.clone());
        }
        let disk = self.destination.disk.lock().unwrap();
        let staged = disk.staged.get(&self.load.id);
        let staged = staged.ok_or_else(|| Error::missing("the staging place is gone"))?;
        let rows = staged.parts.values().flatten();
        let mut rows: Vec<Vec<Option<i64>>> = rows.map(|row| row.cells.clone()).collect();
        if let Some(spoil) = self.destination.spoils {
            spoil(&mut rows);
        }
        let width = self.load.target.columns.len();
        let mut sums = Sums::new(width);
        if how.format.is_some() {
            for row in &rows {
                let cells = row.iter().map(|cell| cell.unwrap().to_be_bytes());
                super::add_cells(&cells.collect::<Vec<_>>(), &mut sums);
            }
            return Ok(Some(sums));
        }
        let column = |at: usize| -> Arc<dyn Array> {
            let cells = rows.iter().map(|row| row[at].filter(|cell| *cell != NULL));
            Arc::new(cells.collect::<arrow_array::Int64Array>())
        };
        let columns = (0..width).map(|at| (format!("c{at}"), column(at), true));
        let batch = arrow_array::RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let columns = self.load.target.columns.iter();
        let told = columns.map(|column| self.tells_apart(column).then_some(LogicalType::Int64));
        sums.add_batch(&batch, &told.collect::<Vec<_>>())?;
        Ok(Some(sums))
    }

    async fn finish(&self) -> Result<Outcome> {
        tokio::task::yield_now().await;
        if let Some(time) = self.destination.slow {
            tokio::time::sleep(time).await;
        }
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
                .keys()
                .cloned()
                .collect(),
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
        self.finishes += 1;
        let name = load.target.name.clone();
        let rows: Vec<StagedRow> = staged.parts.into_values().flatten().collect();
        for row in &rows {
            self.notice(&name, row);
        }
        let width = load.target.columns.len();
        let table = self.tables.entry(name).or_default();
        for row in table.iter_mut() {
            row.resize(width, NULL);
        }
        let whole = |row: StagedRow| -> Vec<i64> {
            row.cells
                .into_iter()
                .map(|cell| cell.unwrap_or(NULL))
                .collect()
        };
        match load.write {
            Write::Append => {
                outcome.inserted = rows.len() as u64;
                table.extend(rows.into_iter().map(whole));
            }
            Write::Replace => {
                outcome.inserted = rows.len() as u64;
                *table = rows.into_iter().map(whole).collect();
            }
            Write::Merge { complete, deletes } => {
                let keys: BTreeSet<Option<i64>> = rows.iter().map(|row| row.cells[0]).collect();
                let before = table.len();
                table.retain(|row| {
                    !(keys.contains(&Some(row[0])) || (complete && deletes == Deletes::Hard))
                });
                outcome.updated = (before - table.len()) as u64;
                table.extend(rows.into_iter().map(whole));
            }
            Write::Changes { complete, .. } => {
                if complete {
                    let told: BTreeSet<Option<i64>> = rows.iter().map(|row| row.cells[0]).collect();
                    let before = table.len();
                    table.retain(|row| told.contains(&Some(row[0])));
                    outcome.deleted += (before - table.len()) as u64;
                }
                for row in rows {
                    change(table, row, &mut outcome);
                }
            }
        }
        Ok(outcome)
    }

    /// No row's version may ever go back.
    fn notice(&mut self, table: &str, row: &StagedRow) {
        if row.op == Some(Op::Delete) {
            return;
        }
        let (Some(id), Some(Some(version))) = (row.cells[0], row.cells.get(2).copied()) else {
            return;
        };
        let newest = self.newest.entry((table.to_owned(), id)).or_insert(version);
        if version < *newest {
            let wrong = format!("{table} {id}: version {version} after {newest}");
            self.wrongs.push(wrong);
        }
        *newest = version.max(*newest);
    }
}

fn change(table: &mut Vec<Vec<i64>>, row: StagedRow, outcome: &mut Outcome) {
    let at = table
        .iter()
        .position(|there| Some(there[0]) == row.cells[0]);
    match (row.op, at) {
        (Some(Op::Delete), Some(at)) => {
            table.remove(at);
            outcome.deleted += 1;
        }
        (Some(Op::Delete), None) => {}
        (_, Some(at)) => {
            for (cell, now) in table[at].iter_mut().zip(row.cells) {
                *cell = now.unwrap_or(*cell);
            }
            outcome.updated += 1;
        }
        (_, None) => {
            let cells = row.cells.into_iter();
            table.push(cells.map(|cell| cell.unwrap_or(NULL)).collect());
            outcome.inserted += 1;
        }
    }
}

struct FakeLane {
    id: String,
    rows: Vec<StagedRow>,
    destination: FakeDestination,
}

#[async_trait]
impl Lane for FakeLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        tokio::task::yield_now().await;
        {
            let mut disk = self.destination.disk.lock().unwrap();
            disk.most_bytes = disk.most_bytes.max(batch.byte_count());
        }
        let kept = |column: usize, row: usize| {
            let mask = batch.kept.iter().find(|(index, _)| *index == column);
            mask.is_some_and(|(_, mask)| mask.value(row))
        };
        let mut keys = BTreeSet::new();
        for row in 0..batch.row_count() {
            let cell = |(column, values): (usize, &Arc<dyn Array>)| {
                let values = values.as_primitive::<Int64Type>();
                let told = if values.is_null(row) {
                    NULL
                } else {
                    values.value(row)
                };
                (!kept(column, row)).then_some(told)
            };
            let cells: Vec<Option<i64>> =
                batch.rows.columns().iter().enumerate().map(cell).collect();
            let op = match &batch.ops {
                Ops::Rows => None,
                Ops::Each(ops) => Op::of(ops.value(row)),
            };
            if op.is_some() && !keys.insert(cells[0]) {
                let wrong = format!("key {:?} twice in a part", cells[0]);
                self.destination.disk.lock().unwrap().wrongs.push(wrong);
            }
            self.rows.push(StagedRow { op, cells });
        }
        Ok(Accepted {
            notes: self.destination.notes.clone(),
        })
    }

    async fn write_payload(&mut self, payload: Payload) -> Result<Accepted> {
        tokio::task::yield_now().await;
        self.destination.passed.fetch_add(payload.row_count, SeqCst);
        let (cells, []) = payload.bytes.as_chunks::<8>() else {
            panic!("a cell was cut")
        };
        let cells: Vec<Option<i64>> = cells
            .iter()
            .map(|cell| Some(i64::from_be_bytes(*cell)))
            .collect();
        let rows = cells.chunks(cells.len() / payload.row_count as usize);
        self.rows.extend(rows.map(|cells| StagedRow {
            op: None,
            cells: cells.to_vec(),
        }));
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
        staged.parts.entry(part_id.to_owned()).or_insert(rows);
        self.destination.committed.store(true, SeqCst);
        Ok(Durable {
            rows: count - self.destination.loses,
        })
    }
}
