//! The two databases behind one face. Each query is written once, in SQL that both
//! speak; the few words that differ stand in braces and are filled in here:
//!
//! | in the text     | PostgreSQL                      | SQLite              |
//! |-----------------|---------------------------------|---------------------|
//! | `{now}`         | its clock in microseconds       | likewise            |
//! | `{for_update}`  | `FOR NO KEY UPDATE`             | nothing: one writer |
//! | `{skip_locked}` | `FOR NO KEY UPDATE SKIP LOCKED` | nothing: one writer |
//!
//! `NO KEY` leaves rows that refer to the locked one free to come and go.
//! Ids are TEXT, times BIGINT microseconds since 1970 in UTC, JSON is TEXT.

use std::{path::Path, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, ConnectOptions, PgPool, Postgres, Sqlite, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tideway_core::{Error, Result};
use uuid::Uuid;

use crate::{fault, row::Row};

/// Connections that one process holds to PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 15;
const SQLITE_READERS: u32 = 4;
/// How long a statement waits for SQLite's one writer, or for a free connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// A value to bind. `None` keeps its type, which PostgreSQL wants to know.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bool(bool),
}

macro_rules! value_from {
    ($($from:ty => |$it:ident| $to:expr),* $(,)?) => {
        $(impl From<$from> for Value { fn from($it: $from) -> Self { $to } })*
    };
}

value_from! {
    &str => |it| Value::Text(Some(it.to_owned())),
    Option<&str> => |it| Value::Text(it.map(str::to_owned)),
    String => |it| Value::Text(Some(it)),
    &String => |it| Value::Text(Some(it.clone())),
    Option<String> => |it| Value::Text(it),
    &Option<String> => |it| Value::Text(it.clone()),
    Uuid => |it| Value::Text(Some(it.to_string())),
    Option<Uuid> => |it| Value::Text(it.map(|id| id.to_string())),
    i64 => |it| Value::Int(Some(it)),
    Option<i64> => |it| Value::Int(it),
    u64 => |it| Value::Int(Some(i64::try_from(it).unwrap_or(i64::MAX))),
    u32 => |it| Value::Int(Some(it.into())),
    usize => |it| Value::Int(Some(i64::try_from(it).unwrap_or(i64::MAX))),
    bool => |it| Value::Bool(it),
    DateTime<Utc> => |it| Value::Int(Some(it.timestamp_micros())),
    Option<DateTime<Utc>> => |it| Value::Int(it.map(|at| at.timestamp_micros())),
    Duration => |it| Value::Int(Some(i64::try_from(it.as_micros()).unwrap_or(i64::MAX))),
}

/// The values of a statement, in the order of its `$1`, `$2`, …
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Value::from($value)),*] };
}

pub(crate) use values;

macro_rules! bound {
    ($database:ty, $sql:expr, $values:expr) => {{
        let mut query = sqlx::query::<$database>(AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::Bool(flag) => query.bind(flag),
            };
        }
        query
    }};
}

/// The pools. SQLite has one connection that writes, so that writers of this process
/// queue here and not in its lock, and several that read beside it (WAL).
#[derive(Clone)]
pub(crate) enum Db {
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres {
        pool: PgPool,
    },
}

/// A transaction; dropped without [`Tx::commit`] it leaves nothing behind.
pub(crate) enum Tx {
    Sqlite {
        tx: sqlx::Transaction<'static, Sqlite>,
    },
    Postgres {
        tx: sqlx::Transaction<'static, Postgres>,
    },
}

impl Db {
    /// Opens `sqlite:///path` or `postgresql://…`.
    pub async fn open(url: &str) -> Result<Db> {
        if let Some(rest) = url.strip_prefix("sqlite:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            return Db::open_sqlite(Path::new(path)).await;
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Db::open_postgres(url).await;
        }
        Err(
            Error::config("the database URL is neither sqlite:///path nor postgresql://…")
                .field("database_url"),
        )
    }

    async fn open_sqlite(path: &Path) -> Result<Db> {
        if path.as_os_str().is_empty() {
            return Err(Error::config("the database URL names no file").field("database_url"));
        }
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await
            .map_err(fault::of_opening)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(PATIENCE)
            .connect_with(options.pragma("query_only", "on"))
            .await
            .map_err(fault::of_opening)?;
        Ok(Db::Sqlite { writer, readers })
    }

    async fn open_postgres(url: &str) -> Result<Db> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| Error::config("the database URL cannot be read").field("database_url"))?
            .application_name("tideway")
            .disable_statement_logging();
        // The pool would knock at a closed door for as long as its patience lasts.
        let first = tokio::time::timeout(PATIENCE, options.connect()).await;
        first
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(fault::of_opening)?;
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await
            .map_err(fault::of_opening)?;
        Ok(Db::Postgres { pool })
    }

    pub async fn close(&self) {
        match self {
            Db::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Db::Postgres { pool } => pool.close().await,
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Db::Postgres { .. })
    }

    /// All rows of a query, or of a change with `RETURNING`.
    pub async fn all(&self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>> {
        let sql = prepare(self.is_postgres(), sql, &values)?;
        match self {
            Db::Sqlite { writer, readers } => {
                let pool = if reads(&sql) { readers } else { writer };
                let rows = bound!(Sqlite, sql, values).fetch_all(pool).await;
                Ok(rows
                    .map_err(fault::of)?
                    .into_iter()
                    .map(Row::Sqlite)
                    .collect())
            }
            Db::Postgres { pool } => {
                let rows = bound!(Postgres, sql, values).fetch_all(pool).await;
                Ok(rows
                    .map_err(fault::of)?
                    .into_iter()
                    .map(Row::Postgres)
                    .collect())
            }
        }
    }

    pub async fn maybe(&self, sql: &str, values: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// The only row; `what` is missing without it.
    pub async fn one(&self, what: &str, sql: &str, values: Vec<Value>) -> Result<Row> {
        self.maybe(sql, values).await?.ok_or_else(|| missing(what))
    }

    /// How many rows a change touched.
    pub async fn execute(&self, sql: &str, values: Vec<Value>) -> Result<u64> {
        let sql = prepare(self.is_postgres(), sql, &values)?;
        match self {
            Db::Sqlite { writer, .. } => {
                let done = bound!(Sqlite, sql, values).execute(writer).await;
                Ok(done.map_err(fault::of)?.rows_affected())
            }
            Db::Postgres { pool } => {
                let done = bound!(Postgres, sql, values).execute(pool).await;
                Ok(done.map_err(fault::of)?.rows_affected())
            }
        }
    }

    /// A transaction that may write. On SQLite it holds the one write lock from its
    /// start; on PostgreSQL rows are locked where `{for_update}` says so.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Db::Sqlite { writer, .. } => Tx::Sqlite {
                tx: writer
                    .begin_with("BEGIN IMMEDIATE")
                    .await
                    .map_err(fault::of)?,
            },
            Db::Postgres { pool } => {
                // In a task of its own, so that nobody who gives up waiting cuts it off:
                // between BEGIN and its answer the pool would take back a connection with
                // an open transaction, in which the next user's writes would be lost.
                let pool = pool.clone();
                let begun = tokio::spawn(async move { pool.begin().await }).await;
                let begun = begun
                    .map_err(|died| Error::bug("a transaction could not be begun").because(died))?;
                Tx::Postgres {
                    tx: begun.map_err(fault::of)?,
                }
            }
        })
    }
}

impl Tx {
    pub async fn all(&mut self, sql: &str, values: Vec<Value>) -> Result<Vec<Row>> {
        let sql = prepare(self.is_postgres(), sql, &values)?;
        match self {
            Tx::Sqlite { tx } => {
                let rows = bound!(Sqlite, sql, values).fetch_all(&mut **tx).await;
                Ok(rows
                    .map_err(fault::of)?
                    .into_iter()
                    .map(Row::Sqlite)
                    .collect())
            }
            Tx::Postgres { tx } => {
                let rows = bound!(Postgres, sql, values).fetch_all(&mut **tx).await;
                Ok(rows
                    .map_err(fault::of)?
                    .into_iter()
                    .map(Row::Postgres)
                    .collect())
            }
        }
    }

    pub async fn maybe(&mut self, sql: &str, values: Vec<Value>) -> Result<Option<Row>> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    pub async fn one(&mut self, what: &str, sql: &str, values: Vec<Value>) -> Result<Row> {
        self.maybe(sql, values).await?.ok_or_else(|| missing(what))
    }

    pub async fn execute(&mut self, sql: &str, values: Vec<Value>) -> Result<u64> {
        let sql = prepare(self.is_postgres(), sql, &values)?;
        match self {
            Tx::Sqlite { tx } => {
                let done = bound!(Sqlite, sql, values).execute(&mut **tx).await;
                Ok(done.map_err(fault::of)?.rows_affected())
            }
            Tx::Postgres { tx } => {
                let done = bound!(Postgres, sql, values).execute(&mut **tx).await;
                Ok(done.map_err(fault::of)?.rows_affected())
            }
        }
    }

    /// Several statements without values, as a migration has them.
    pub async fn script(&mut self, sql: &'static str) -> Result<()> {
        match self {
            Tx::Sqlite { tx } => {
                sqlx::raw_sql(sql)
                    .execute(&mut **tx)
                    .await
                    .map_err(fault::of)?;
            }
            Tx::Postgres { tx } => {
                sqlx::raw_sql(sql)
                    .execute(&mut **tx)
                    .await
                    .map_err(fault::of)?;
            }
        }
        Ok(())
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Tx::Postgres { .. })
    }

    pub async fn commit(self) -> Result<()> {
        match self {
            Tx::Sqlite { tx } => tx.commit().await.map_err(fault::of),
            Tx::Postgres { tx } => tx.commit().await.map_err(fault::of),
        }
    }
}

/// `($1, $2), ($3, $4)` for two rows of two columns.
pub(crate) fn rows_of_placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let cells: Vec<_> = (1..=columns)
            .map(|cell| format!("${}", row * columns + cell))
            .collect();
        format!("({})", cells.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// `$3, $4, $5` for three values from the third on.
pub(crate) fn placeholders(first: usize, count: usize) -> String {
    let each: Vec<_> = (first..first + count).map(|n| format!("${n}")).collect();
    each.join(", ")
}

pub(crate) fn missing(what: &str) -> Error {
    Error::missing(format!("{what} not found"))
}

/// The text to send, if the values may be bound to it.
fn prepare(postgres: bool, sql: &str, values: &[Value]) -> Result<String> {
    check(values)?;
    let sql = in_dialect(postgres, sql);
    #[cfg(test)]
    crate::suite::note_statement(&sql, values);
    Ok(sql)
}

fn in_dialect(postgres: bool, sql: &str) -> String {
    if !sql.contains('{') {
        return sql.to_owned();
    }
    let [now, for_update, skip_locked] = if postgres {
        [
            "(extract(epoch FROM statement_timestamp()) * 1000000)::BIGINT",
            "FOR NO KEY UPDATE",
            "FOR NO KEY UPDATE SKIP LOCKED",
        ]
    } else {
        ["CAST(unixepoch('subsec') * 1000000 AS INTEGER)", "", ""]
    };
    sql.replace("{now}", now)
        .replace("{for_update}", for_update)
        .replace("{skip_locked}", skip_locked)
}

fn reads(sql: &str) -> bool {
    let sql = sql.trim_start();
    ["SELECT", "WITH", "EXPLAIN"]
        .iter()
        .any(|word| sql.starts_with(word))
}

/// PostgreSQL cannot store the character NUL in text; SQLite could, and both shall do the same.
fn check(values: &[Value]) -> Result<()> {
    let nul = |value: &Value| matches!(value, Value::Text(Some(text)) if text.contains('\0'));
    if values.iter().any(nul) {
        return Err(
            Error::config("text with the character NUL cannot be stored")
                .hint("remove the character \\u0000"),
        );
    }
    Ok(())
}

/// Text that we wrote ourselves and that must not fail for a NUL it quotes.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Creates an empty database file that only its owner can read; the files beside it
/// (`-wal`, `-shm`) take over its mode.
fn make_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(path).map(drop).map_err(Error::from);
    opened.map_err(|error| {
        let doing = format!("open the database {}", path.display());
        error.while_(doing).field("database_url")
    })
}
