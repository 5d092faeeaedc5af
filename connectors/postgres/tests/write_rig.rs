//! A database of its own for each test of writing, and loads to put into it.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::json;
use tideway_core::{
    Batch, Column, Connection, Connector, Error, LogicalType, Note,
    connector::ConnectCx,
    destination::{Deletes, Disposition, Lane, Load, Outcome, TableLoad, TargetTable, Write},
    schema::arrow_schema,
};
use tideway_postgres::POSTGRESQL;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
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

fn server() -> Url {
    const NAME: &str = "TIDEWAY_TEST_POSTGRES_URL";
    let url = std::env::var(NAME)
        .unwrap_or_else(|_| panic!("{NAME} is not set: run through `make test`"));
    url.parse().unwrap()
}

async fn client(url: &Url) -> Client {
    let (client, driver) = tokio_postgres::connect(url.as_str(), NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// A new database, dropped in the end.
pub struct Rig {
    name: String,
    pub url: Url,
    client: Client,
    pub connection: Arc<dyn Connection>,
}

impl Rig {
    pub async fn new() -> Rig {
        let name = format!("write_{}", uuid::Uuid::new_v4().simple());
        let mut url = server();
        let admin = client(&url).await;
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        url.set_path(&name);
        let connection = connect(&url).await;
        let client = client(&url).await;
        Rig {
            name,
            url,
            client,
            connection,
        }
    }

    pub async fn run(&self, sql: &str) {
        self.client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| {
                panic!("{sql}: {error:?}");
            });
    }

    /// The rows as the server prints them, cells set apart by `|`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        let answers = self.client.simple_query(sql).await.unwrap_or_else(|error| {
            panic!("{sql}: {error:?}");
        });
        let row = |answer| match answer {
            SimpleQueryMessage::Row(row) => {
                let cells: Vec<&str> = (0..row.len())
                    .map(|at| row.get(at).unwrap_or("null"))
                    .collect();
                Some(cells.join("|"))
            }
            _ => None,
        };
        answers.into_iter().filter_map(row).collect()
    }

    pub async fn one(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.into_iter().next().unwrap()
    }

    /// Tables of ours besides the ledger, in all schemas.
    pub async fn staged(&self) -> Vec<String> {
        let sql = r"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '\_tideway\_stage%'";
        self.rows(sql).await
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
        let table = self.begin(load).await;
        land(table.as_ref(), "1", rows).await;
        table.finish().await.unwrap()
    }

    pub async fn try_load(&self, load: Load, rows: RecordBatch) -> Result<Outcome, Error> {
        let table = self.try_begin(load).await?;
        try_land(table.as_ref(), "1", rows).await?;
        table.finish().await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let (name, url) = (self.name.clone(), server());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let admin = client(&url).await;
                // A database is not dropped while a slot is in it.
                let slots = format!(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots \
                     WHERE database = '{name}' AND active_pid IS NOT NULL"
                );
                admin.batch_execute(&slots).await.unwrap();
                let slots = format!(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                     WHERE database = '{name}'"
                );
                for _ in 0..100 {
                    if admin.batch_execute(&slots).await.is_ok() {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                admin.batch_execute(&drop).await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}

pub async fn connect(url: &Url) -> Arc<dyn Connection> {
    let configuration = json!({
        "host": url.host_str(),
        "port": url.port(),
        "database": url.path().trim_start_matches('/'),
        "username": url.username(),
        "password": url.password(),
        "sslmode": "disable",
    });
    let connected = POSTGRESQL
        .connect(&configuration, &ConnectCx::default())
        .await;
    connected.unwrap()
}

pub async fn land(table: &dyn TableLoad, part: &str, rows: RecordBatch) -> Vec<Note> {
    try_land(table, part, rows).await.unwrap()
}

pub async fn try_land(
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

/// A load of `shop.people`, whose columns are `id` and `name`.
pub fn people(write: Write) -> Load {
    load_of(
        write,
        vec![
            Column {
                nullable: false,
                ..Column::new("id", LogicalType::Int64)
            },
            Column::new("name", LogicalType::Text),
        ],
    )
}

/// A load of `shop.people`; its first column is the key.
pub fn load_of(write: Write, columns: Vec<Column>) -> Load {
    Load {
        id: uuid::Uuid::new_v4().simple().to_string(),
        target: TargetTable {
            namespace: Some("shop".into()),
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
    let load = self::people(Write::Append);
    batch(&load, vec![Arc::new(ids), Arc::new(names)])
}

pub fn batch(load: &Load, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(arrow_schema(&load.target.columns), arrays).unwrap()
}

/// What a finished load of `shop.people` did.
pub fn did(inserted: u64, updated: u64, deleted: u64, unchanged: u64) -> Outcome {
    Outcome {
        inserted,
        updated,
        deleted,
        unchanged,
        notes: Vec::new(),
        repeated: false,
        place: "shop.people".into(),
        verified: None,
    }
}
