//! Tables as rows of texts, and the few steps that every test takes.

use std::{path::Path, sync::Arc};

use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tideway_core::{
    Batch, Column, Connection, Connector, LogicalType, Note, Part, Result, Table, WriteMode,
    connector::ConnectCx,
    destination::{Deletes, Disposition, Load, Outcome, TableLoad, TargetTable, Write},
    schema::arrow_schema,
    source::{Read, Scope, Tracking},
};
use tideway_files::{
    FilesConnector, S3Connector,
    format::{cells::Cells, print::Printer},
};

/// How a missing value looks in the rows of a test.
pub const NULL: &str = "∅";

pub type Rows = Vec<Vec<String>>;

pub fn column(name: &str, logical: LogicalType) -> Column {
    Column::new(name, logical)
}

pub fn columns(columns: &[(&str, LogicalType)]) -> Vec<Column> {
    columns
        .iter()
        .map(|(name, logical)| column(name, *logical))
        .collect()
}

pub fn rows(text: &str) -> Rows {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

pub fn batch(columns: &[Column], rows: &[Vec<String>]) -> RecordBatch {
    let arrays = columns.iter().enumerate().map(|(index, column)| {
        let mut cells = Cells::new(column.logical);
        for row in rows {
            match row[index].as_str() {
                NULL => cells.push_null(),
                text => assert!(cells.push(text), "{text} is no {:?}", column.logical),
            }
        }
        cells.finish()
    });
    RecordBatch::try_new(arrow_schema(columns), arrays.collect()).unwrap()
}

pub fn texts(batch: &RecordBatch, columns: &[Column]) -> Rows {
    let printers: Vec<_> = batch
        .columns()
        .iter()
        .zip(columns)
        .map(|(array, column)| (array, Printer::new(array, column.logical).unwrap()))
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cell = |(array, printer): &(&Arc<dyn Array>, Printer<'_>)| {
                if array.is_null(row) {
                    return NULL.to_owned();
                }
                let mut text = Vec::new();
                printer.print(row, &mut text);
                String::from_utf8(text).unwrap()
            };
            printers.iter().map(cell).collect()
        })
        .collect()
}

pub async fn connect(connector: &dyn Connector, configuration: Value) -> Arc<dyn Connection> {
    connector
        .connect(&configuration, &ConnectCx::default())
        .await
        .unwrap()
}

pub async fn folder(path: &Path) -> Arc<dyn Connection> {
    folder_with(path, json!({})).await
}

pub async fn folder_with(path: &Path, mut configuration: Value) -> Arc<dyn Connection> {
    configuration["path"] = path.to_str().unwrap().into();
    connect(&FilesConnector, configuration).await
}

pub fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run through `make test`"))
}

/// A bucket of its own, gone at the end.
pub struct Bucket {
    pub name: String,
    pub folder: std::path::PathBuf,
}

impl Bucket {
    pub fn new() -> Self {
        let root = environment("TIDEWAY_TEST_S3_BUCKET_ROOT");
        let folder = tempfile::Builder::new()
            .prefix("files-")
            .rand_bytes(8)
            .tempdir_in(root)
            .unwrap()
            .keep();
        // Bucket names have no capital letters.
        let name = folder.file_name().unwrap().to_str().unwrap().to_lowercase();
        let lower = folder.with_file_name(&name);
        std::fs::rename(&folder, &lower).unwrap();
        Bucket {
            name,
            folder: lower,
        }
    }

    pub fn configuration(&self, prefix: &str) -> Value {
        json!({
            "auth_mode": "access_key_and_secret",
            "aws_access_key_id": environment("TIDEWAY_TEST_S3_ACCESS_KEY"),
            "aws_secret_access_key": environment("TIDEWAY_TEST_S3_SECRET_KEY"),
            "s3_bucket_region": "us-east-1",
            "s3_bucket_name": format!("s3://{}/{prefix}", self.name),
            "endpoint": environment("TIDEWAY_TEST_S3_ENDPOINT"),
        })
    }

    pub async fn connect(&self, prefix: &str) -> Arc<dyn Connection> {
        connect(&S3Connector, self.configuration(prefix)).await
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub async fn tables(connection: &dyn Connection) -> Vec<Table> {
    let source = connection.roles().source.unwrap();
    source.discover(&Scope::default()).await.unwrap().tables
}

pub async fn table(connection: &dyn Connection, id: &str) -> Table {
    let tables = tables(connection).await;
    let found = tables.iter().find(|table| table.id.to_string() == id);
    let ids: Vec<String> = tables.iter().map(|table| table.id.to_string()).collect();
    found
        .unwrap_or_else(|| panic!("no table {id} among {ids:?}"))
        .clone()
}

/// Names and types of a table.
pub fn shape(table: &Table) -> Vec<(&str, LogicalType)> {
    table
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.logical))
        .collect()
}

pub fn read_request(table: &Table) -> Read {
    Read {
        table: table.clone(),
        columns: table.columns.clone(),
        tracking: None,
        mode: WriteMode::Snapshot,
        limit: None,
        batch_bytes: 64 << 10,
        lanes: 2,
    }
}

/// Everything that a read gives, with its parts.
pub struct Reading {
    pub rows: Rows,
    pub notes: Vec<Note>,
    pub parts: Vec<Part>,
    pub cursor: Option<tideway_core::Cursor>,
    pub batches: usize,
}

pub async fn read(connection: &dyn Connection, read: Read) -> Result<Reading> {
    let snapshot = connection.roles().source.unwrap().open(&json!({})).await?;
    let scan = snapshot.plan(&read).await?;
    let read = Arc::new(read);
    let mut reading = Reading {
        rows: vec![],
        notes: vec![],
        parts: scan.parts.clone(),
        cursor: scan.cursor,
        batches: 0,
    };
    for part in scan.parts {
        let mut batches = snapshot.clone().read(read.clone(), part);
        while let Some(batch) = batches.try_next().await? {
            reading.rows.extend(texts(&batch.rows, &read.columns));
            reading.notes.extend(batch.notes);
            reading.batches += 1;
        }
    }
    Ok(reading)
}

/// All rows of a table, sorted.
pub async fn rows_of(connection: &dyn Connection, id: &str) -> Rows {
    let table = table(connection, id).await;
    let mut rows = read(connection, read_request(&table)).await.unwrap().rows;
    rows.sort();
    rows
}

pub fn tracked(table: &Table, column: &str, cursor: Option<tideway_core::Cursor>) -> Read {
    Read {
        tracking: Some(Tracking {
            column: column.to_owned(),
            cursor,
        }),
        ..read_request(table)
    }
}

pub const REPLICATE: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Soft,
};

/// A load of the table `orders`, to be changed at will.
pub fn load(id: &str, write: Write, columns: &[Column], options: Value) -> Load {
    Load {
        id: id.to_owned(),
        target: TargetTable {
            namespace: None,
            name: "orders".to_owned(),
            columns: columns.to_vec(),
            key: vec![columns[0].name.clone()],
            partition_key: None,
            history: None,
        },
        write,
        disposition: Disposition::Retain,
        record_timestamps: false,
        truncate_existing: false,
        resume: false,
        forgets: Vec::new(),
        options,
    }
}

pub async fn begin(connection: &dyn Connection, load: Load) -> Box<dyn TableLoad> {
    connection
        .roles()
        .destination
        .unwrap()
        .begin(load)
        .await
        .unwrap()
}

/// Lands one part.
pub async fn land(load: &dyn TableLoad, part: &str, rows: RecordBatch) -> Vec<Note> {
    let mut lane = load.lane().await.unwrap();
    let count = rows.num_rows() as u64;
    let mut notes = vec![];
    if count > 0 {
        notes = lane.write(Batch::of_rows(rows)).await.unwrap().notes;
    }
    assert_eq!(lane.commit(part).await.unwrap().rows, count);
    notes
}

/// Carries a load through, in two parts.
pub async fn carry(connection: &dyn Connection, load: Load, rows: &[Vec<String>]) -> Outcome {
    let columns = load.target.columns.clone();
    let begun = begin(connection, load).await;
    let (first, second) = rows.split_at(rows.len() / 2);
    land(begun.as_ref(), "a", batch(&columns, first)).await;
    land(begun.as_ref(), "b", batch(&columns, second)).await;
    begun.finish().await.unwrap()
}

/// `(inserted, updated, deleted, unchanged)`
pub fn counts(outcome: &Outcome) -> (u64, u64, u64, u64) {
    assert!(!outcome.repeated);
    (
        outcome.inserted,
        outcome.updated,
        outcome.deleted,
        outcome.unchanged,
    )
}

/// Names of all files below a folder, sorted.
pub fn files_below(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, root, found),
                false => found.push(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                ),
            }
        }
    }
    let mut found = vec![];
    if folder.exists() {
        walk(folder, folder, &mut found);
    }
    found.sort();
    found
}

pub fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}
