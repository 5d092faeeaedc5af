//! Files, reads and loads for the tests.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use rusqlite::types::Value;
use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    Batch, Catalog, Column, Connection, Connector, Cursor, LogicalType, Note, Result, Table,
    WriteMode,
    connector::ConnectCx,
    destination::{
        Deletes, Destination, Disposition, Load, Outcome, TableLoad, TargetTable, Write,
    },
    schema::arrow_schema,
    source::{Read, Scope, Snapshot, Source, Tracking},
};
use tideway_sqlite::Sqlite;

/// A database file in a folder of its own.
pub struct File {
    pub folder: TempDir,
    pub path: PathBuf,
}

impl File {
    /// A file made by running `sql`.
    pub fn with(sql: &str) -> File {
        let file = File::absent();
        file.run(sql);
        file
    }

    /// A file that does not exist yet.
    pub fn absent() -> File {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("shop.db");
        File { folder, path }
    }

    pub fn open(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).unwrap()
    }

    pub fn run(&self, sql: &str) {
        self.open().execute_batch(sql).unwrap();
    }

    /// What another program sees: each value as SQLite holds it.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let conn = self.open();
        let mut statement = conn.prepare(sql).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect());
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// The first column as text.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql)
            .into_iter()
            .map(|row| match &row[0] {
                Value::Text(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    pub async fn connect(&self) -> Arc<dyn Connection> {
        connect(&self.path).await
    }

    pub async fn discover(&self) -> Catalog {
        let connection = self.connect().await;
        source(&connection)
            .discover(&Scope::default())
            .await
            .unwrap()
    }

    pub async fn table(&self, name: &str) -> Table {
        self.discover().await.table(name).unwrap().clone()
    }
}

pub async fn connect(path: &Path) -> Arc<dyn Connection> {
    let configuration = json!({"path": path.to_str().unwrap()});
    Sqlite
        .connect(&configuration, &ConnectCx::default())
        .await
        .unwrap()
}

pub fn source(connection: &Arc<dyn Connection>) -> &dyn Source {
    connection.roles().need_source("sqlite").unwrap()
}

pub fn destination(connection: &Arc<dyn Connection>) -> &dyn Destination {
    connection.roles().need_destination("sqlite").unwrap()
}

/// Logical types by column name.
pub fn types(table: &Table) -> Vec<(&str, LogicalType)> {
    table
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.logical))
        .collect()
}

pub fn read_of(table: &Table) -> Read {
    Read {
        table: table.clone(),
        columns: table.columns.clone(),
        tracking: None,
        mode: WriteMode::Replicate,
        limit: None,
        batch_bytes: 1 << 20,
        lanes: 1,
    }
}

pub fn tracked(table: &Table, column: &str, cursor: Option<Cursor>) -> Read {
    Read {
        tracking: Some(Tracking {
            column: column.to_owned(),
            cursor,
        }),
        ..read_of(table)
    }
}

/// All batches of all parts, and the cursor.
pub async fn carry_out(
    snapshot: Arc<dyn Snapshot>,
    read: Read,
) -> Result<(Vec<RecordBatch>, Option<Cursor>)> {
    let scan = snapshot.plan(&read).await?;
    assert!(!scan.parts.is_empty());
    let read = Arc::new(read);
    let mut batches = Vec::new();
    for part in scan.parts {
        let part: Vec<Batch> = snapshot
            .clone()
            .read(read.clone(), part)
            .try_collect()
            .await?;
        batches.extend(part.into_iter().map(|batch| batch.rows));
    }
    Ok((batches, scan.cursor))
}

pub async fn try_read(file: &File, read: Read) -> Result<(Vec<RecordBatch>, Option<Cursor>)> {
    let connection = file.connect().await;
    let snapshot = source(&connection).open(&json!({})).await?;
    carry_out(snapshot, read).await
}

/// The rows of a table as it is discovered, as text.
pub async fn read_table(file: &File, name: &str) -> Vec<Vec<String>> {
    let table = file.table(name).await;
    let (batches, _) = try_read(file, read_of(&table)).await.unwrap();
    batches.iter().flat_map(shown).collect()
}

/// Each row as text; null is `∅`.
pub fn shown(rows: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("∅");
    let columns: Vec<_> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..rows.num_rows())
        .map(|row| {
            columns
                .iter()
                .map(|column| column.value(row).to_string())
                .collect()
        })
        .collect()
}

pub fn texts<const N: usize>(rows: &[[&str; N]]) -> Vec<Vec<String>> {
    rows.iter()
        .map(|row| row.map(str::to_owned).to_vec())
        .collect()
}

/// The columns of most loads here: a key and a text.
pub fn people() -> Vec<Column> {
    vec![
        Column::new("id", LogicalType::Int64),
        Column::new("name", LogicalType::Text),
    ]
}

pub fn batch(columns: &[Column], arrays: Vec<ArrayRef>) -> Batch {
    Batch::of_rows(RecordBatch::try_new(arrow_schema(columns), arrays).unwrap())
}

pub fn person_rows(rows: &[(i64, &str)]) -> Batch {
    let ids = rows.iter().map(|row| Some(row.0)).collect::<Int64Array>();
    let names = rows.iter().map(|row| Some(row.1)).collect::<StringArray>();
    batch(&people(), vec![Arc::new(ids), Arc::new(names)])
}

static LOADS: AtomicUsize = AtomicUsize::new(0);

/// A load of people into `t`, with an id of its own.
pub fn load(write: Write, disposition: Disposition) -> Load {
    load_of(people(), &["id"], write, disposition)
}

pub fn load_of(columns: Vec<Column>, key: &[&str], write: Write, disposition: Disposition) -> Load {
    Load {
        id: format!("load{}", LOADS.fetch_add(1, Relaxed)),
        target: TargetTable {
            namespace: None,
            name: "t".to_owned(),
            columns,
            key: key.iter().map(|name| (*name).to_owned()).collect(),
            partition_key: None,
            history: None,
        },
        write,
        disposition,
        record_timestamps: false,
        truncate_existing: false,
        resume: false,
        forgets: Vec::new(),
        options: json!({}),
    }
}

pub async fn begin(file: &File, load: &Load) -> Result<Box<dyn TableLoad>> {
    let connection = file.connect().await;
    destination(&connection).begin(load.clone()).await
}

/// Writes and commits the batches as the parts `0`, `1`, …
pub async fn land(begun: &dyn TableLoad, batches: Vec<Batch>) -> Result<Vec<Note>> {
    let mut lane = begun.lane().await?;
    let mut notes = Vec::new();
    for (part, batch) in batches.into_iter().enumerate() {
        let rows = batch.row_count() as u64;
        notes.extend(lane.write(batch).await?.notes);
        assert_eq!(lane.commit(&part.to_string()).await?.rows, rows);
    }
    Ok(notes)
}

/// A whole load in one go.
pub async fn run_load(file: &File, load: &Load, batches: Vec<Batch>) -> Result<Outcome> {
    let begun = begin(file, load).await?;
    land(begun.as_ref(), batches).await?;
    begun.finish().await
}

/// The counts of an outcome: inserted, updated, deleted, unchanged.
pub fn counts(outcome: &Outcome) -> [u64; 4] {
    [
        outcome.inserted,
        outcome.updated,
        outcome.deleted,
        outcome.unchanged,
    ]
}

pub const SOFT: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Soft,
};
pub const HARD: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Hard,
};
pub const PARTIAL: Write = Write::Merge {
    complete: false,
    deletes: Deletes::Soft,
};

/// A target with rows 1 to 3, as an earlier load of the same kind left it.
pub async fn filled(write: Write) -> File {
    let file = File::absent();
    let first = load(write, Disposition::Retain);
    let rows = person_rows(&[(1, "ann"), (2, "bob"), (3, "cid")]);
    let outcome = run_load(&file, &first, vec![rows]).await.unwrap();
    assert_eq!(counts(&outcome), [3, 0, 0, 0]);
    assert!(outcome.place.starts_with("t in /") && outcome.place.ends_with("shop.db"));
    file
}

pub fn names(file: &File) -> Vec<String> {
    file.texts("SELECT id || ' ' || name FROM t ORDER BY 1")
}

pub fn no_leftovers(file: &File) {
    let tables = file.texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1");
    assert_eq!(tables, ["_tideway_loads", "t"]);
}
