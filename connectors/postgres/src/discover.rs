//! What the database offers, and pick lists for the form.

use serde_json::Value;
use tideway_core::{
    Catalog, Column, Error, Result, Table, TableId,
    connector::{Choice, ConnectCx},
    schema::TableKind,
    source::Scope,
};
use tokio_postgres::Row;

use crate::{
    config::Config,
    connect::{Postgres, Session, explain},
    types::{PgType, Wire},
};

/// What every domain is made of in the end, domains over domains included.
pub const DOMAINS: &str = "\
domains (domain, base, typmod) AS ( \
  SELECT t.oid, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type t WHERE t.typtype = 'd' \
  UNION ALL \
  SELECT d.domain, t.typbasetype, CASE WHEN d.typmod >= 0 THEN d.typmod ELSE t.typtypmod END \
  FROM domains d JOIN pg_catalog.pg_type t ON t.oid = d.base WHERE t.typtype = 'd' \
), bases AS ( \
  SELECT d.domain, d.base, d.typmod FROM domains d \
  JOIN pg_catalog.pg_type t ON t.oid = d.base WHERE t.typtype <> 'd' \
)";

/// Columns of the relation `c` that the role may read. A null where NOT NULL is not yet
/// validated (PostgreSQL 18) or never enforced (foreign tables) is still possible.
pub const COLUMNS: &str = "\
LATERAL ( \
  SELECT a.attnum, a.attname::pg_catalog.text, \
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name, \
    a.attnotnull AND c.relkind IN ('r', 'p') AND NOT EXISTS ( \
      SELECT FROM pg_catalog.pg_constraint n WHERE n.conrelid = c.oid AND n.contype = 'n' \
      AND NOT n.convalidated AND n.conkey = ARRAY[a.attnum]) AS required, \
    t.oid AS base, COALESCE(b.typmod, a.atttypmod) AS typmod, \
    t.typtype = 'e' AS enumeration, t.typcategory = 'A' AS array, \
    EXISTS (SELECT FROM pg_catalog.pg_constraint p WHERE p.conrelid = c.oid \
      AND p.contype = 'p' AND a.attnum = ANY (p.conkey)) AS in_key \
  FROM pg_catalog.pg_attribute a \
  LEFT JOIN bases b ON b.domain = a.atttypid \
  JOIN pg_catalog.pg_type t ON t.oid = COALESCE(b.base, a.atttypid) \
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') \
) f";

/// Tables that a sync may read. Partitions are read through their table; what the
/// database or we keep for ourselves is left out.
const TABLES: &str = "\
tables AS ( \
  SELECT c.oid, c.relkind, n.nspname, c.relname, c.reltuples, c.relpages, c.reltoastrelid \
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
    AND n.nspname !~ '^(pg_|_timescaledb_)' AND n.nspname <> 'information_schema' \
    AND c.relname !~ '^_tideway_' \
    AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
    AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT') \
    AND ($1::pg_catalog.text[] IS NULL OR n.nspname = ANY ($1)) \
    AND ($2::pg_catalog.text[] IS NULL OR n.nspname || '.' || c.relname = ANY ($2)) \
)";

/// A table's own rows and pages and those of its partitions, as last counted. Nothing
/// is looked at on disk, so no lock is waited for.
const SIZES: &str = "\
leaves (root, oid) AS ( \
  SELECT c.oid, c.oid FROM tables c \
  UNION ALL \
  SELECT l.root, i.inhrelid FROM leaves l JOIN pg_catalog.pg_inherits i ON i.inhparent = l.oid \
  JOIN pg_catalog.pg_class p ON p.oid = l.oid AND p.relkind = 'p' \
), sizes AS ( \
  SELECT l.root, \
    pg_catalog.sum(GREATEST(c.reltuples, 0)) FILTER (WHERE c.relpages > 0)::pg_catalog.float8 AS row_estimate, \
    pg_catalog.sum(c.relpages::pg_catalog.int8 + COALESCE(t.relpages, 0))::pg_catalog.int8 AS pages \
  FROM leaves l JOIN pg_catalog.pg_class c ON c.oid = l.oid AND c.relkind IN ('r', 'm') \
  LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid \
  GROUP BY l.root \
)";

fn statement() -> String {
    format!(
        "WITH RECURSIVE {DOMAINS}, {TABLES}, {SIZES} \
         SELECT c.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind IN ('v', 'm') AS view, \
           s.row_estimate, s.pages * pg_catalog.current_setting('block_size')::pg_catalog.int8 AS bytes, \
           f.*, \
           pg_catalog.array_position(k.conkey, f.attnum) AS key_place \
         FROM tables c JOIN {COLUMNS} ON true \
         LEFT JOIN sizes s ON s.root = c.oid \
         LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p' \
         ORDER BY c.nspname, c.relname, f.attnum"
    )
}

/// Every table in scope, sorted by id.
pub async fn discover(session: &Session, scope: &Scope) -> Result<Catalog> {
    let rows = session
        .query(&statement(), &[&scope.namespaces, &scope.tables])
        .await
        .map_err(explain)?;
    let mut tables: Vec<Table> = Vec::new();
    // Places of key columns within the key, of the last table.
    let mut key: Vec<(i32, String)> = Vec::new();
    for row in &rows {
        let found = Found::of(row).map_err(explain)?;
        if tables.last().is_none_or(|table| table.id != found.id) {
            close_key(&mut tables, &mut key);
            tables.push(found.table());
        }
        if let Some(place) = found.key_place {
            key.push((place, found.column.name.clone()));
        }
        if let Some(table) = tables.last_mut() {
            table.columns.push(found.column);
        }
    }
    close_key(&mut tables, &mut key);
    tables.sort_by_cached_key(|table| table.id.to_string());
    Ok(Catalog { tables })
}

fn close_key(tables: &mut [Table], key: &mut Vec<(i32, String)>) {
    key.sort_unstable();
    let names = key.drain(..).map(|(_, name)| name);
    if let Some(table) = tables.last_mut() {
        table.primary_key = names.collect();
    }
}

/// One column with what is known of its table.
struct Found {
    id: TableId,
    kind: TableKind,
    row_estimate: Option<f64>,
    bytes: Option<i64>,
    column: Column,
    key_place: Option<i32>,
}

impl Found {
    fn of(row: &Row) -> Result<Found, tokio_postgres::Error> {
        let (namespace, name): (&str, &str) = (row.try_get("nspname")?, row.try_get("relname")?);
        let view = row.try_get("view")?;
        let described = Described::of(row)?;
        Ok(Found {
            id: TableId::new(Some(namespace), name),
            kind: if view {
                TableKind::View
            } else {
                TableKind::Table
            },
            row_estimate: row.try_get("row_estimate")?,
            bytes: row.try_get("bytes")?,
            column: Column {
                logical: described.pg_type.reading().logical,
                name: described.name,
                nullable: described.nullable,
                remote_type: row.try_get("type_name")?,
            },
            key_place: row.try_get("key_place")?,
        })
    }

    fn table(&self) -> Table {
        Table {
            id: self.id.clone(),
            columns: Vec::new(),
            primary_key: Vec::new(),
            row_estimate: self.row_estimate.map(|rows| rows as u64),
            byte_estimate: self
                .bytes
                .and_then(|bytes| u64::try_from(bytes).ok())
                .filter(|bytes| *bytes > 0),
            kind: self.kind,
        }
    }
}

/// One row of [`COLUMNS`].
pub struct Described {
    pub name: String,
    /// `pg_attribute.attnum`.
    pub number: i16,
    pub pg_type: PgType,
    /// Whether a null may come. Many a destination stores NaN of a decimal as one, so that
    /// it may come even where the server wants a value; in a key it may not.
    pub nullable: bool,
}

impl Described {
    pub fn of(row: &Row) -> Result<Described, tokio_postgres::Error> {
        let pg_type = PgType {
            oid: row.try_get("base")?,
            typmod: row.try_get("typmod")?,
            array: row.try_get("array")?,
            enumeration: row.try_get("enumeration")?,
        };
        let (required, in_key): (bool, bool) = (row.try_get("required")?, row.try_get("in_key")?);
        let may_be_nan = matches!(pg_type.reading().wire, Wire::Decimal { .. });
        Ok(Described {
            name: row.try_get("attname")?,
            number: row.try_get("attnum")?,
            pg_type,
            nullable: !required || (may_be_nan && !in_key),
        })
    }
}

/// Values of a field that only the server knows. What is not filled in yet is guessed.
pub async fn choices(
    field: &str,
    read: fn(&Value) -> Result<Config>,
    configuration: &Value,
    cx: &ConnectCx,
) -> Result<Vec<Choice>> {
    let (statement, any_database) = match field {
        "database" => (
            "SELECT datname::pg_catalog.text FROM pg_catalog.pg_database \
             WHERE datallowconn AND NOT datistemplate \
             AND pg_catalog.has_database_privilege(oid, 'CONNECT') ORDER BY datname",
            true,
        ),
        "publication" => (
            "SELECT pubname::pg_catalog.text FROM pg_catalog.pg_publication ORDER BY pubname",
            false,
        ),
        _ => return Err(Error::config(format!("{field} has no list of values")).field(field)),
    };
    let session = session_for(read, configuration, any_database, cx).await?;
    let rows = session.query(statement, &[]).await.map_err(explain)?;
    let names = rows.iter().map(|row| row.try_get::<_, String>(0));
    let names: Result<Vec<String>, _> = names.collect();
    let choice = |name: String| Choice {
        value: name.clone().into(),
        label: name,
    };
    Ok(names.map_err(explain)?.into_iter().map(choice).collect())
}

/// A session in the database that is filled in, or in the one that every server has where
/// any will do.
async fn session_for(
    read: fn(&Value) -> Result<Config>,
    configuration: &Value,
    any_database: bool,
    cx: &ConnectCx,
) -> Result<Session> {
    let mut configuration = configuration.clone();
    let named = configuration["database"]
        .as_str()
        .is_some_and(|name| !name.trim().is_empty());
    if named || !any_database {
        match Postgres::open(read(&configuration)?, cx).await {
            Err(error) if any_database && error.blamed_field() == Some("database") => {}
            opened => return opened?.client().await,
        }
    }
    if let Some(fields) = configuration.as_object_mut() {
        fields.insert("database".into(), "postgres".into());
    }
    Postgres::open(read(&configuration)?, cx)
        .await?
        .client()
        .await
}
