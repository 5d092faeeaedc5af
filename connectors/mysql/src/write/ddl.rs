//! Tables as we make them.

use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::{Load, Write},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    config::Config,
    connect::{ServerInfo, Session},
    discover::OWN_PREFIX,
    sql::{ident, list, literal, qualified},
    types::{self, collation},
};

use super::evolve;

/// Columns of a staging table of changes: the number of the part, which its lane draws, and of
/// the row within it; the code of its operation; and a digit for each data column that says
/// whether the row keeps what is there, null where it keeps nothing. A row with [`PART_END`]
/// for its operation ends a part, whose id stands in the last one.
pub const PART: &str = "_tideway_part";
pub const ROW: &str = "_tideway_row";
pub const OP: &str = "_tideway_op";
pub const KEPT: &str = "_tideway_kept";
pub const PART_END: u8 = 9;

/// An index holds so many bytes of a row in all.
const MOST_KEY_BYTES: usize = 3072;
/// What a key column of fixed size takes at most.
const FIXED_KEY_BYTES: usize = 40;
const BYTES_PER_CHARACTER: usize = 4;

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub database: String,
    pub name: String,
}

impl Place {
    /// # Errors
    /// `Config` where neither the sync nor the connection names a database.
    pub fn of(load: &Load, config: &Config) -> Result<Place> {
        let named = load.target.namespace.as_deref().or(config.database());
        let database = named.ok_or_else(|| {
            Error::config("no database is named to write to")
                .field("schema")
                .hint("set schema in the sync's destination, or dbname in the connection")
        })?;
        Ok(Place {
            database: database.to_owned(),
            name: load.target.name.clone(),
        })
    }

    /// Another table of the same database.
    pub fn beside(&self, name: impl Into<String>) -> Place {
        Place {
            database: self.database.clone(),
            name: name.into(),
        }
    }

    pub fn stage(&self, load_id: &str) -> Place {
        self.beside(format!("{OWN_PREFIX}stage_{load_id}"))
    }

    /// Where the table goes that a load takes the place of, for an instant.
    pub fn old(&self, load_id: &str) -> Place {
        self.beside(format!("{OWN_PREFIX}old_{load_id}"))
    }

    /// Where changes make the table that is not there yet.
    pub fn made(&self, load_id: &str) -> Place {
        self.beside(format!("{OWN_PREFIX}made_{load_id}"))
    }

    /// Whatever a load may leave behind.
    pub fn all_of(&self, load_id: &str) -> [Place; 3] {
        [self.stage(load_id), self.made(load_id), self.old(load_id)]
    }

    pub fn sql(&self) -> String {
        qualified(&self.database, &self.name)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

/// Whether a table that the load makes has its primary key from the beginning. In a staging
/// table of rows one that comes again replaces the one before, and nothing has to be sorted in
/// the end.
pub fn is_keyed(load: &Load) -> bool {
    match load.write {
        // Rows without a key are not staged.
        Write::Merge { .. } | Write::Changes { .. } => true,
        Write::Replace => !load.target.key.is_empty() && !key_may_be_null(load),
        // Appended rows may repeat a key: each is one more state of the same thing.
        Write::Append => false,
    }
}

/// Whether what is staged are changes rather than rows.
pub fn has_changes(load: &Load) -> bool {
    matches!(load.write, Write::Changes { .. })
}

pub fn key_may_be_null(load: &Load) -> bool {
    let of_key = load
        .target
        .columns
        .iter()
        .filter(|column| in_key(load, &column.name));
    of_key.into_iter().any(|column| column.nullable)
}

pub fn in_key(load: &Load, name: &str) -> bool {
    load.target.key.iter().any(|key| key == name)
}

/// How many characters a value of varying length may have in the key.
pub fn key_length(load: &Load) -> usize {
    let of_key = load
        .target
        .columns
        .iter()
        .filter(|column| in_key(load, &column.name));
    let (mut varying, mut fixed) = (0, 0);
    for column in of_key {
        if types::made(column.logical, Some(1))
            .declared
            .starts_with("var")
        {
            varying += 1;
        } else if column.logical == LogicalType::Uuid {
            fixed += 36 * BYTES_PER_CHARACTER;
        } else {
            fixed += FIXED_KEY_BYTES;
        }
    }
    let room = MOST_KEY_BYTES.saturating_sub(fixed) / BYTES_PER_CHARACTER;
    (room / varying.max(1)).clamp(1, MOST_KEY_BYTES / BYTES_PER_CHARACTER)
}

/// The length of a key column's values where it has one, for [`types::made`].
pub fn length_of(load: &Load, column: &Column) -> Option<usize> {
    let indexed = !matches!(load.write, Write::Append) && in_key(load, &column.name);
    indexed.then(|| key_length(load))
}

/// A column's name and type, as they stand in `CREATE TABLE`.
pub fn declaration(load: &Load, column: &Column, server: &ServerInfo) -> String {
    let required = is_keyed(load) && in_key(load, &column.name);
    let kind = type_sql(column.logical, length_of(load, column), server, required);
    format!("{} {kind}", ident(&column.name))
}

/// A type with all that belongs to it.
pub fn type_sql(
    logical: LogicalType,
    key: Option<usize>,
    server: &ServerInfo,
    required: bool,
) -> String {
    let made = types::made(logical, key);
    let mut sql = made.declared;
    if made.textual {
        let collation = collation(server.flavor, server.version);
        sql.push_str(&format!(" CHARACTER SET utf8mb4 COLLATE {collation}"));
    }
    sql.push_str(if required { " NOT NULL" } else { " NULL" });
    if let Some(comment) = made.comment {
        sql.push_str(&format!(" COMMENT {}", literal(comment)));
    }
    sql
}

/// What says which load a table was made by, and of which columns. It goes with the table
/// wherever it is renamed to.
pub fn token(load: &Load, server: &ServerInfo) -> String {
    let columns = staged_layout(load, server);
    format!("{}{:016x}", token_of(&load.id), xxh3_64(columns.as_bytes()))
}

pub fn token_of(load_id: &str) -> String {
    format!("tideway load {load_id} ")
}

fn staged_layout(load: &Load, server: &ServerInfo) -> String {
    match has_changes(load) {
        true => layout_of_changes(load, server),
        false => layout(load, server, &[]),
    }
}

fn layout_of_changes(load: &Load, server: &ServerInfo) -> String {
    let mut parts = vec![
        format!("{PART} BIGINT UNSIGNED NOT NULL"),
        format!("{ROW} BIGINT UNSIGNED NOT NULL"),
        format!("{OP} TINYINT UNSIGNED NOT NULL"),
    ];
    // Of a deleted row the key alone is told, and what ends a part has not even that.
    parts.extend(load.target.columns.iter().map(|column| {
        let kind = type_sql(column.logical, length_of(load, column), server, false);
        format!("{} {kind}", ident(&column.name))
    }));
    parts.push(format!("{KEPT} VARBINARY(1024) NULL"));
    parts.push(format!("PRIMARY KEY ({PART}, {ROW})"));
    list(parts)
}

fn layout(load: &Load, server: &ServerInfo, system: &[&str]) -> String {
    let columns = load.target.columns.iter();
    let mut parts: Vec<String> = columns
        .map(|column| declaration(load, column, server))
        .collect();
    let stamp = evolve::stamp_sql(server);
    parts.extend(system.iter().map(|name| format!("{} {stamp}", ident(name))));
    if is_keyed(load) {
        parts.push(format!("PRIMARY KEY ({})", idents(&load.target.key)));
    }
    parts.join(", ")
}

pub fn idents<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    list(names.into_iter().map(|name| ident(name)))
}

/// Makes the staging table. System columns come once all rows are there.
pub async fn create_stage(session: &mut Session, load: &Load, stage: &Place) -> Result<()> {
    let columns = staged_layout(load, &session.server);
    create(session, load, stage, &columns).await
}

/// Makes a table with all that the target is to have, empty.
pub async fn create_target(session: &mut Session, load: &Load, place: &Place) -> Result<()> {
    let columns = layout(load, &session.server, &load.system_columns());
    create(session, load, place, &columns).await
}

async fn create(session: &mut Session, load: &Load, place: &Place, columns: &str) -> Result<()> {
    let server = session.server.clone();
    let sql = format!(
        "CREATE TABLE {} ({columns}) ENGINE = InnoDB ROW_FORMAT = DYNAMIC \
         DEFAULT CHARACTER SET utf8mb4 COLLATE {} COMMENT {}",
        place.sql(),
        collation(server.flavor, server.version),
        literal(&token(load, &server))
    );
    session.run(&sql).await.map(|_| ())
}

/// Drops those of the tables that are there.
pub async fn drop_tables(session: &mut Session, places: &[Place]) -> Result<()> {
    let names = list(places.iter().map(Place::sql));
    let sql = format!("DROP TABLE IF EXISTS {names}");
    session.run(&sql).await.map(|_| ())
}

/// Makes the database if it is missing. Asking first spares those who may use it the right to
/// create databases.
pub async fn ensure_database(session: &mut Session, database: &str) -> Result<()> {
    let find = format!(
        "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
        literal(database)
    );
    if session.value(&find).await?.is_some() {
        return Ok(());
    }
    session
        .run(&format!(
            "CREATE DATABASE IF NOT EXISTS {}",
            ident(database)
        ))
        .await
        .map(|_| ())
        .map_err(|error| error.while_(format!("creating database {database}")))
}
