//! Reading tables of a test's own database, as the engine does.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch, cast::AsArray, types::*};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tideway_core::{
    Batch, Catalog, Column, Connection, Connector, Cursor, Error, LogicalType, Table, WriteMode,
    connector::ConnectCx,
    source::{Read, Scan, Scope, Snapshot, Source, Tracking},
};
use tideway_postgres::POSTGRESQL;

pub use crate::write_rig::Rig;

impl Rig {
    pub fn source(&self) -> &dyn Source {
        self.connection.roles().source.unwrap()
    }

    pub async fn catalog(&self) -> Catalog {
        self.source().discover(&Scope::default()).await.unwrap()
    }

    pub async fn table(&self, id: &str) -> Table {
        let catalog = self.catalog().await;
        catalog
            .table(id)
            .unwrap_or_else(|| panic!("{id} was not found"))
            .clone()
    }

    pub async fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.source().open(&json!({})).await.unwrap()
    }

    /// All rows of a table, through a snapshot of its own.
    pub async fn read(&self, id: &str) -> Vec<Batch> {
        let snapshot = self.snapshot().await;
        read_all(&snapshot, request(&self.table(id).await))
            .await
            .unwrap()
            .1
    }

    /// As [`Rig::read`], from where the cursor stands; gives the next one too.
    pub async fn track(
        &self,
        id: &str,
        column: &str,
        cursor: Option<Cursor>,
    ) -> (Cursor, Vec<Batch>) {
        let snapshot = self.snapshot().await;
        let read = tracked(&self.table(id).await, column, cursor);
        let (scan, batches) = read_all(&snapshot, read).await.unwrap();
        (scan.cursor.unwrap(), batches)
    }

    /// Settings with some changed.
    pub fn settings(&self, changes: Value) -> Value {
        let mut settings = json!({
            "host": self.url.host_str(),
            "port": self.url.port(),
            "database": self.url.path().trim_start_matches('/'),
            "username": self.url.username(),
            "password": self.url.password(),
            "sslmode": "disable",
        });
        for (field, value) in changes.as_object().unwrap() {
            settings[field] = value.clone();
        }
        settings
    }

    pub async fn connect(&self, changes: Value) -> Result<Arc<dyn Connection>, Error> {
        POSTGRESQL
            .connect(&self.settings(changes), &ConnectCx::default())
            .await
    }

    /// Runs statements that may fail, through a session of their own.
    pub async fn attempt(&self, sql: &str) -> Result<(), String> {
        let (client, driver) = tokio_postgres::connect(self.url.as_str(), tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(driver);
        let outcome = client.batch_execute(sql).await;
        outcome.map_err(|error| error.as_db_error().unwrap().message().to_owned())
    }

    /// A role that may do nothing yet, and a connection as it. Its name is the database's.
    pub async fn as_new_role(&self) -> (String, Arc<dyn Connection>) {
        let role = self.url.path().trim_start_matches('/').to_owned();
        self.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'"))
            .await;
        let connection = self
            .connect(json!({"username": role, "password": "reader"}))
            .await;
        (role, connection.unwrap())
    }

    /// To be called at the end of a test that made a role.
    pub async fn drop_role(&self, role: &str) {
        self.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
            .await;
    }
}

pub fn request(table: &Table) -> Read {
    Read {
        table: table.clone(),
        columns: table.columns.clone(),
        tracking: None,
        mode: WriteMode::Replicate,
        limit: None,
        batch_bytes: 1 << 20,
        lanes: 4,
    }
}

pub fn tracked(table: &Table, column: &str, cursor: Option<Cursor>) -> Read {
    Read {
        tracking: Some(Tracking {
            column: column.to_owned(),
            cursor,
        }),
        ..request(table)
    }
}

/// Plans and reads every part, all at once.
pub async fn read_all(
    snapshot: &Arc<dyn Snapshot>,
    read: Read,
) -> Result<(Scan, Vec<Batch>), Error> {
    let scan = snapshot.plan(&read).await?;
    let read = Arc::new(read);
    let parts = scan.parts.iter().map(|part| {
        let stream = snapshot.clone().read(read.clone(), part.clone());
        stream.try_collect::<Vec<Batch>>()
    });
    let batches: Vec<Vec<Batch>> = futures::future::try_join_all(parts).await?;
    Ok((scan, batches.into_iter().flatten().collect()))
}

/// The values of an integer column, over all batches, sorted.
pub fn numbers(batches: &[Batch], column: &str) -> Vec<i64> {
    let mut numbers: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            let column = batch.rows.column_by_name(column).unwrap();
            match column.data_type() {
                arrow_schema::DataType::Int32 => column
                    .as_primitive::<Int32Type>()
                    .values()
                    .iter()
                    .map(|n| i64::from(*n))
                    .collect::<Vec<_>>(),
                _ => column.as_primitive::<Int64Type>().values().to_vec(),
            }
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// A value as text: numbers and texts as the server writes them, times as microseconds
/// and days since 1970.
pub fn text(rows: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let (field, array) = (rows.schema_ref().field(column).clone(), rows.column(column));
    if array.is_null(row) {
        return None;
    }
    Some(match LogicalType::of(&field).unwrap() {
        LogicalType::Boolean => array.as_boolean().value(row).to_string(),
        LogicalType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        LogicalType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        LogicalType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        LogicalType::Float32 => format!("{:?}", array.as_primitive::<Float32Type>().value(row)),
        LogicalType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        LogicalType::Decimal {
            precision: ..=38, ..
        } => array.as_primitive::<Decimal128Type>().value_as_string(row),
        LogicalType::Decimal { .. } => array.as_primitive::<Decimal256Type>().value_as_string(row),
        LogicalType::Date => array.as_primitive::<Date32Type>().value(row).to_string(),
        LogicalType::Time => array
            .as_primitive::<Time64MicrosecondType>()
            .value(row)
            .to_string(),
        LogicalType::Timestamp | LogicalType::TimestampTz => array
            .as_primitive::<TimestampMicrosecondType>()
            .value(row)
            .to_string(),
        LogicalType::Uuid => uuid::Uuid::from_slice(array.as_fixed_size_binary().value(row))
            .unwrap()
            .to_string(),
        LogicalType::Binary => {
            let bytes = array.as_binary::<i32>().value(row);
            bytes
                .iter()
                .fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
        }
        _ => array.as_string::<i32>().value(row).to_owned(),
    })
}

pub fn columns(table: &Table) -> Vec<(&str, LogicalType, bool)> {
    let shown = |column: &Column| (column.logical, column.nullable);
    table
        .columns
        .iter()
        .map(|column| {
            let (logical, nullable) = shown(column);
            (column.name.as_str(), logical, nullable)
        })
        .collect()
}
