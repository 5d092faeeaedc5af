//! What tests start from.

use std::{path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, cast::AsArray, types::Int64Type,
};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tideway_adbc::DuckDbConnector;
use tideway_core::{
    Batch, Catalog, Column, Connection, Connector, LogicalType, Part, Result, Table, WriteMode,
    connector::ConnectCx,
    destination::{Deletes, Disposition, Load, Outcome, TableLoad, TargetTable, Write},
    schema::arrow_schema,
    source::{Read, Scope, Snapshot, Tracking},
};

pub struct Place {
    pub folder: tempfile::TempDir,
    pub connection: Arc<dyn Connection>,
}

/// A connection to a file that is not there yet.
pub async fn place() -> Place {
    library();
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&folder.path().join("t.duckdb")).await;
    Place { folder, connection }
}

impl Place {
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("t.duckdb")
    }

    /// Runs statements from another process.
    pub fn sql(&self, statements: &[&str]) -> Vec<Vec<String>> {
        crate::child::sql(&self.path(), statements)
    }
}

pub fn library() {
    assert!(
        std::env::var_os("TIDEWAY_DUCKDB_LIBRARY").is_some(),
        "TIDEWAY_DUCKDB_LIBRARY is not set: run through `make test`"
    );
}

pub async fn connect(path: &Path) -> Arc<dyn Connection> {
    connect_with(json!({"path": path.to_str().unwrap()}))
        .await
        .unwrap()
}

pub async fn connect_with(configuration: Value) -> Result<Arc<dyn Connection>> {
    DuckDbConnector
        .connect(&configuration, &ConnectCx::default())
        .await
}

pub const REPLICATE: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Soft,
};

/// A load of `t(id, v)` with the key `id`.
pub fn load(id: &str, write: Write) -> Load {
    Load {
        id: id.to_owned(),
        target: TargetTable {
            namespace: None,
            name: "t".to_owned(),
            columns: vec![
                Column::new("id", LogicalType::Int64),
                Column::new("v", LogicalType::Text),
            ],
            key: vec!["id".to_owned()],
            partition_key: None,
            history: None,
        },
        write,
        disposition: Disposition::Retain,
        record_timestamps: false,
        truncate_existing: false,
        resume: false,
        forgets: Vec::new(),
        options: json!({}),
    }
}

/// Rows for `load`.
pub fn rows(rows: &[(i64, &str)]) -> RecordBatch {
    let columns = &load("", Write::Append).target.columns;
    let ids: Int64Array = rows.iter().map(|(id, _)| *id).collect();
    let values: StringArray = rows.iter().map(|(_, v)| Some(*v)).collect();
    RecordBatch::try_new(arrow_schema(columns), vec![Arc::new(ids), Arc::new(values)]).unwrap()
}

pub async fn begin(connection: &Arc<dyn Connection>, load: Load) -> Box<dyn TableLoad> {
    let destination = connection.roles().destination.unwrap();
    destination.begin(load).await.unwrap()
}

/// Writes each batch as a part of its own, named `p0`, `p1` and so on.
pub async fn fill(load: &dyn TableLoad, parts: &[RecordBatch]) {
    let mut lane = load.lane().await.unwrap();
    for (index, rows) in parts.iter().enumerate() {
        lane.write(Batch::of_rows(rows.clone())).await.unwrap();
        let durable = lane.commit(&format!("p{index}")).await.unwrap();
        assert_eq!(durable.rows, rows.num_rows() as u64);
    }
}

pub async fn run(connection: &Arc<dyn Connection>, load: Load, parts: &[RecordBatch]) -> Outcome {
    let load = begin(connection, load).await;
    fill(load.as_ref(), parts).await;
    load.finish().await.unwrap()
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

pub async fn discover(connection: &Arc<dyn Connection>) -> Catalog {
    let source = connection.roles().source.unwrap();
    source.discover(&Scope::default()).await.unwrap()
}

pub async fn table(connection: &Arc<dyn Connection>, id: &str) -> Table {
    let catalog = discover(connection).await;
    catalog
        .table(id)
        .unwrap_or_else(|| panic!("no table {id} in {catalog:?}"))
        .clone()
}

pub fn read_of(table: Table) -> Read {
    Read {
        columns: table.columns.clone(),
        table,
        tracking: None,
        mode: WriteMode::Replicate,
        limit: None,
        batch_bytes: 1 << 20,
        lanes: 4,
    }
}

pub fn tracking(read: Read, column: &str, cursor: Option<tideway_core::Cursor>) -> Read {
    let tracking = Some(Tracking {
        column: column.to_owned(),
        cursor,
    });
    Read { tracking, ..read }
}

pub async fn snapshot(connection: &Arc<dyn Connection>) -> Arc<dyn Snapshot> {
    connection
        .roles()
        .source
        .unwrap()
        .open(&json!({}))
        .await
        .unwrap()
}

pub async fn read_part(snapshot: &Arc<dyn Snapshot>, read: &Read, part: Part) -> Vec<Batch> {
    let batches = snapshot.clone().read(Arc::new(read.clone()), part);
    batches.try_collect().await.unwrap()
}

pub async fn read_all(snapshot: &Arc<dyn Snapshot>, read: &Read) -> Vec<Batch> {
    let scan = snapshot.plan(read).await.unwrap();
    let mut batches = Vec::new();
    for part in scan.parts {
        batches.extend(read_part(snapshot, read, part).await);
    }
    batches
}

/// The rows of a table with columns `id` and `v` that are not marked as deleted, sorted.
pub async fn ids_and_values(connection: &Arc<dyn Connection>, id: &str) -> Vec<(i64, String)> {
    let read = read_of(table(connection, id).await);
    let mut found = Vec::new();
    for batch in read_all(&snapshot(connection).await, &read).await {
        let column = |name: &str| batch.rows.column_by_name(name).unwrap().clone();
        let (ids, values): (ArrayRef, ArrayRef) = (column("id"), column("v"));
        let deleted = batch.rows.column_by_name("_polytomic_deleted_at").cloned();
        for row in 0..batch.row_count() {
            if deleted.as_ref().is_none_or(|deleted| deleted.is_null(row)) {
                let id = ids.as_primitive::<Int64Type>().value(row);
                found.push((id, values.as_string::<i32>().value(row).to_owned()));
            }
        }
    }
    found.sort();
    found
}

pub fn owned(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(id, v)| (*id, (*v).to_owned())).collect()
}
