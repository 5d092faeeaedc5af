//! A database of its own for each test, on each of the two servers.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, cast::AsArray, types::*};
use futures::TryStreamExt;
use serde_json::{Value, json};
use tideway_core::{
    Batch, Column, Connection, Connector, Cursor, Error, LogicalType, Note, Table, WriteMode,
    connector::ConnectCx,
    destination::{Deletes, Disposition, Lane, Load, Outcome, TableLoad, TargetTable, Write},
    schema::arrow_schema,
    source::{Read, Scan, Scope, Snapshot, Tracking},
};
use tideway_mysql::MYSQL;
use url::Url;

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

/// Which server a test talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    MySql,
    MariaDb,
}

impl Server {
    fn variable(self, what: &str) -> String {
        let name = match self {
            Server::MySql => format!("TIDEWAY_TEST_MYSQL_{what}"),
            Server::MariaDb => format!("TIDEWAY_TEST_MARIADB_{what}"),
        };
        std::env::var(&name)
            .unwrap_or_else(|_| panic!("{name} is not set: run through `make test`"))
    }

    pub fn file(self, what: &str) -> String {
        std::fs::read_to_string(self.variable(what)).unwrap()
    }

    pub fn settings(self, changes: Value) -> Value {
        let url: Url = self.variable("URL").parse().unwrap();
        let mut settings = json!({
            "hostname": url.host_str(),
            "port": url.port(),
            "account": url.username(),
            "passwd": url.password(),
        });
        for (field, value) in changes.as_object().unwrap() {
            settings[field] = value.clone();
        }
        settings
    }

    pub async fn connect(self, changes: Value) -> Result<Arc<dyn Connection>, Error> {
        let settings = self.settings(changes);
        MYSQL.connect(&settings, &ConnectCx::default()).await
    }
}

/// Statements for the tests' own eyes go through the connector's session.
pub struct Rig {
    pub database: String,
    pub connection: Arc<dyn Connection>,
    /// Through which tests look at what is there.
    pub eyes: tokio::sync::Mutex<tideway_mysql::testing::Eyes>,
}

impl Rig {
    pub async fn new(server: Server) -> Rig {
        Rig::with(server, json!({})).await
    }

    /// With some settings of the connection changed.
    pub async fn with(server: Server, mut changes: Value) -> Rig {
        let database = format!("tw_{}", uuid::Uuid::new_v4().simple());
        let mut eyes = tideway_mysql::testing::Eyes::open(&server.settings(json!({})))
            .await
            .unwrap();
        eyes.run(&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"))
            .await
            .unwrap();
        eyes.run(&format!("USE {database}")).await.unwrap();
        changes["dbname"] = database.as_str().into();
        let connection = server.connect(changes).await.unwrap();
        Rig {
            database,
            connection,
            eyes: eyes.into(),
        }
    }

    pub async fn run(&self, sql: &str) {
        let mut eyes = self.eyes.lock().await;
        eyes.run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The rows as the server prints them, cells set apart by `|`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let mut eyes = self.eyes.lock().await;
        let rows = eyes
            .rows(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let shown = |cell: Option<String>| cell.unwrap_or_else(|| "null".into());
        rows.into_iter()
            .map(|row| row.into_iter().map(shown).collect::<Vec<_>>().join("|"))
            .collect()
    }

    pub async fn drop(self) {
        self.run(&format!("DROP DATABASE {}", self.database)).await;
    }

    /// Tables of ours besides the ledger.
    pub async fn staged(&self) -> Vec<String> {
        self.rows(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
             AND LEFT(TABLE_NAME, 9) = '_tideway_' AND TABLE_NAME <> '_tideway_loads'",
        )
        .await
    }

    pub async fn table(&self, name: &str) -> Table {
        let source = self.connection.roles().source.unwrap();
        let catalog = source.discover(&Scope::default()).await.unwrap();
        let id = format!("{}.{name}", self.database);
        catalog
            .table(&id)
            .unwrap_or_else(|| panic!("{id} was not found"))
            .clone()
    }

    pub async fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.connection
            .roles()
            .source
            .unwrap()
            .open(&json!({}))
            .await
            .unwrap()
    }

    /// All rows of a table, through a snapshot of its own.
    pub async fn read(&self, name: &str) -> Vec<Batch> {
        let snapshot = self.snapshot().await;
        read_all(&snapshot, request(&self.table(name).await))
            .await
            .unwrap()
            .1
    }

    pub async fn track(
        &self,
        name: &str,
        column: &str,
        cursor: Option<Cursor>,
    ) -> (Cursor, Vec<Batch>) {
        let snapshot = self.snapshot().await;
        let read = Read {
            tracking: Some(Tracking {
                column: column.into(),
                cursor,
            }),
            ..request(&self.table(name).await)
        };
        let (scan, batches) = read_all(&snapshot, read).await.unwrap();
        (scan.cursor.unwrap(), batches)
    }

    pub async fn begin(&self, load: Load) -> Box<dyn TableLoad> {
        self.try_begin(load).await.unwrap()
    }

    pub async fn try_begin(&self, load: Load) -> Result<Box<dyn TableLoad>, Error> {
        self.connection
            .roles()
            .destination
            .unwrap()
            .begin(load)
            .await
    }

    /// Carries a whole load through in one part.
    pub async fn load(&self, load: Load, rows: RecordBatch) -> Outcome {
        self.try_load(load, rows).await.unwrap()
    }

    pub async fn try_load(&self, load: Load, rows: RecordBatch) -> Result<Outcome, Error> {
        let table = self.try_begin(load).await?;
        land(table.as_ref(), "1", rows).await?;
        table.finish().await
    }

    /// What a finished load did.
    pub fn did(&self, inserted: u64, updated: u64, deleted: u64, unchanged: u64) -> Outcome {
        Outcome {
            inserted,
            updated,
            deleted,
            unchanged,
            repeated: false,
            notes: Vec::new(),
            place: format!("{}.people", self.database),
            verified: None,
        }
    }
}

pub async fn land(
    table: &dyn TableLoad,
    part: &str,
    rows: RecordBatch,
) -> Result<Vec<Note>, Error> {
    let mut lane = table.lane().await?;
    write_part(lane.as_mut(), part, rows).await
}

pub async fn write_part(
    lane: &mut dyn Lane,
    part: &str,
    rows: RecordBatch,
) -> Result<Vec<Note>, Error> {
    let count = rows.num_rows() as u64;
    let accepted = lane.write(Batch::of_rows(rows)).await?;
    assert_eq!(lane.commit(part).await?.rows, count);
    Ok(accepted.notes)
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

/// A load of `people`, whose columns are `id` and `name`.
pub fn people(write: Write) -> Load {
    let id = Column {
        nullable: false,
        ..Column::new("id", LogicalType::Int64)
    };
    load_of(write, vec![id, Column::new("name", LogicalType::Text)])
}

/// A load of `people`; its first column is the key.
pub fn load_of(write: Write, columns: Vec<Column>) -> Load {
    Load {
        id: uuid::Uuid::new_v4().simple().to_string(),
        target: TargetTable {
            namespace: None,
            name: "people".into(),
            key: vec![columns[0].name.clone()],
            columns,
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

pub fn rows(people: &[(i64, &str)]) -> RecordBatch {
    let ids: Int64Array = people.iter().map(|(id, _)| *id).collect();
    let names: StringArray = people.iter().map(|(_, name)| Some(*name)).collect();
    batch(
        &self::people(Write::Append),
        vec![Arc::new(ids), Arc::new(names)],
    )
}

pub fn batch(load: &Load, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(arrow_schema(&load.target.columns), arrays).unwrap()
}

/// A value as text: times as microseconds and days since 1970.
pub fn text(rows: &RecordBatch, column: usize, row: usize) -> String {
    let (field, array) = (rows.schema_ref().field(column).clone(), rows.column(column));
    if array.is_null(row) {
        return "null".into();
    }
    match LogicalType::of(&field).unwrap() {
        LogicalType::Boolean => array.as_boolean().value(row).to_string(),
        LogicalType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        LogicalType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        LogicalType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        LogicalType::UInt64 => array.as_primitive::<UInt64Type>().value(row).to_string(),
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
        LogicalType::Uuid => {
            let bytes = array.as_fixed_size_binary().value(row);
            uuid::Uuid::from_slice(bytes).unwrap().to_string()
        }
        LogicalType::Binary => {
            let bytes = array.as_binary::<i32>().value(row);
            bytes
                .iter()
                .fold("x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
        }
        _ => array.as_string::<i32>().value(row).to_owned(),
    }
}

/// All values of a column, over all batches, sorted.
pub fn all(batches: &[Batch], column: usize) -> Vec<String> {
    let mut values: Vec<String> = batches
        .iter()
        .flat_map(|batch| (0..batch.row_count()).map(|row| text(&batch.rows, column, row)))
        .collect();
    values.sort();
    values
}

/// Runs every test against both servers.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod mysql {
            $(#[tokio::test] async fn $name() { super::$name($crate::rig::Server::MySql).await; })*
        }
        mod mariadb {
            $(#[tokio::test] async fn $name() { super::$name($crate::rig::Server::MariaDb).await; })*
        }
    };
}
pub(crate) use on_both;
