//! Tables as they are at the server and as we make them.

use futures::future::try_join;
use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::{Load, Write},
};
use tokio_postgres::{GenericClient, Row, ToStatement, Transaction, error::SqlState, types::ToSql};

use crate::{
    connect::explain,
    discover::DOMAINS,
    sql::{ident, literal, qualified},
    types::{self, PgType},
};

/// Names that begin like this are for bookkeeping.
pub const OWN_PREFIX: &str = "_tideway_";
/// The schema of tables for which none is given.
const DEFAULT_SCHEMA: &str = "public";

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub schema: String,
    pub name: String,
}

impl Place {
    pub fn of(load: &Load) -> Place {
        let schema = load.target.namespace.as_deref();
        Place {
            schema: schema.unwrap_or(DEFAULT_SCHEMA).to_owned(),
            name: load.target.name.clone(),
        }
    }

    /// Another table of the same schema.
    pub fn beside(&self, name: impl Into<String>) -> Place {
        Place {
            schema: self.schema.clone(),
            name: name.into(),
        }
    }

    pub fn stage(&self, load_id: &str) -> Place {
        self.beside(format!("{OWN_PREFIX}stage_{load_id}"))
    }

    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A table as the server describes it.
#[derive(Debug, Clone)]
pub struct Described {
    pub oid: u32,
    /// `r` for a table, `p` for a partitioned one.
    kind: String,
    pub comment: Option<String>,
    /// Name of the primary key's constraint.
    pub key_name: Option<String>,
    pub columns: Vec<DescribedColumn>,
}

#[derive(Debug, Clone)]
pub struct DescribedColumn {
    pub name: String,
    /// The type as SQL spells it, modifier included.
    pub declared: String,
    pub logical: LogicalType,
    /// What the type is made of, without a modifier.
    pub bare: String,
    /// There is a modifier, such as a length.
    pub limited: bool,
    /// Any of the types of text.
    pub textual: bool,
    pub not_null: bool,
    /// The server fills it where nothing is given.
    pub fills: Fills,
    pub in_key: bool,
}

/// When the server gives a column its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fills {
    Never,
    /// Where no value is given.
    Default,
    /// Likewise, from a sequence.
    Identity,
    /// From a sequence, and takes no value but by force.
    Always,
    /// From other columns, and takes no value at all.
    Computed,
}

const TABLE: &str = "\
SELECT c.oid, c.relkind::text, pg_catalog.obj_description(c.oid, 'pg_class'), k.conname::text \
FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p' \
WHERE n.nspname = $1 AND c.relname = $2";

const COLUMNS: &str = "\
SELECT a.attname::text AS name, t.typcategory = 'S' AS textual, \
pg_catalog.format_type(a.atttypid, a.atttypmod) AS declared, \
pg_catalog.format_type(t.oid, -1) AS bare, t.oid AS base, COALESCE(b.typmod, a.atttypmod) AS typmod, \
t.typcategory = 'A' AS array, t.typtype = 'e' AS enumeration, \
a.attnotnull AS not_null, a.atthasdef AS defaults, \
a.attgenerated::text AS generated, a.attidentity::text AS identity, \
COALESCE(a.attnum = ANY (k.conkey), false) AS in_key \
FROM pg_catalog.pg_attribute a \
LEFT JOIN bases b ON b.domain = a.atttypid \
JOIN pg_catalog.pg_type t ON t.oid = COALESCE(b.base, a.atttypid) \
LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p' \
WHERE a.attrelid = (SELECT c.oid FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $1 AND c.relname = $2) \
AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// The queries that describe a table.
pub fn describing() -> [String; 2] {
    let columns = format!("WITH RECURSIVE {DOMAINS} {COLUMNS}");
    [TABLE.to_owned(), columns]
}

/// The table at that place, if there is one.
///
/// # Errors
/// `Conflict` where the name belongs to a view or the like.
pub async fn describe<C: GenericClient>(client: &C, place: &Place) -> Result<Option<Described>> {
    let [table, columns] = describing();
    describe_by(client, place, table.as_str(), columns.as_str()).await
}

/// The same by statements that are prepared perhaps, in one round trip then.
pub async fn describe_by<C, T>(
    client: &C,
    place: &Place,
    table: &T,
    columns: &T,
) -> Result<Option<Described>>
where
    C: GenericClient,
    T: ?Sized + ToStatement + Sync + Send,
{
    let Place { schema, name } = place;
    let names: &[&(dyn ToSql + Sync)] = &[schema, name];
    let found = client.query_opt(table, names);
    let (found, columns) = try_join(found, client.query(columns, names))
        .await
        .map_err(explain)?;
    let Some(row) = found else {
        return Ok(None);
    };
    let mut described = Described {
        oid: cell(&row, 0)?,
        kind: cell(&row, 1)?,
        comment: cell(&row, 2)?,
        key_name: cell(&row, 3)?,
        columns: Vec::new(),
    };
    if !matches!(described.kind.as_str(), "r" | "p") {
        return Err(
            Error::conflict(format!("{place} is not a table and cannot be loaded"))
                .hint("give the table another output name, or drop what has its name"),
        );
    }
    let columns = columns.iter().map(described_column);
    described.columns = columns.collect::<Result<_, _>>().map_err(explain)?;
    Ok(Some(described))
}

fn fills(row: &Row) -> Result<Fills, tokio_postgres::Error> {
    let generated: String = row.try_get("generated")?;
    let identity: String = row.try_get("identity")?;
    Ok(match (generated.as_str(), identity.as_str()) {
        ("", "") if row.try_get("defaults")? => Fills::Default,
        ("", "") => Fills::Never,
        ("", "a") => Fills::Always,
        ("", _) => Fills::Identity,
        _ => Fills::Computed,
    })
}

fn described_column(row: &Row) -> Result<DescribedColumn, tokio_postgres::Error> {
    let base = PgType {
        oid: row.try_get("base")?,
        typmod: row.try_get("typmod")?,
        array: row.try_get("array")?,
        enumeration: row.try_get("enumeration")?,
    };
    Ok(DescribedColumn {
        name: row.try_get("name")?,
        declared: row.try_get("declared")?,
        bare: row.try_get("bare")?,
        limited: base.typmod >= 0,
        logical: base.reading().logical,
        textual: row.try_get("textual")?,
        not_null: row.try_get("not_null")?,
        fills: fills(row)?,
        in_key: row.try_get("in_key")?,
    })
}

/// A value of a row of ours.
pub fn cell<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(explain)
}

impl Described {
    pub fn partitioned(&self) -> bool {
        self.kind == "p"
    }

    pub fn column(&self, name: &str) -> Option<&DescribedColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The columns by which rows are told apart. Appended rows may repeat a key: each is one
/// more state of the same thing.
pub fn key(load: &Load) -> &[String] {
    match load.write {
        Write::Append => &[],
        Write::Replace | Write::Merge { .. } | Write::Changes { .. } => &load.target.key,
    }
}

pub fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<T> = items.into_iter().collect();
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    items.join(", ")
}

pub fn idents<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    list(names.into_iter().map(|name| ident(name)))
}

pub fn declaration(column: &Column) -> String {
    format!("{} {}", ident(&column.name), types::ddl(column.logical))
}

/// Columns of a staging table of changes: the code of the operation, and a bit for each
/// data column that says that the row keeps what it has there; null where it keeps nothing.
pub const OP: &str = "_tideway_op";
pub const KEPT: &str = "_tideway_kept";

/// The columns of the load's staging table, by which it is known to a later attempt.
fn stage_columns(load: &Load) -> String {
    let data = list(load.target.columns.iter().map(declaration));
    match load.write {
        Write::Changes { .. } => format!("{OP} int2, {data}, {KEPT} varbit"),
        _ => data,
    }
}

/// Whether an earlier attempt made this staging table for the very same columns.
pub fn is_laid_out(stage: &Described, load: &Load) -> bool {
    stage.comment.as_deref() == Some(stage_columns(load).as_str())
}

/// What makes the load's staging table. It has no system columns and no indexes: both come
/// for a fraction of the cost once all rows are there.
///
/// Key columns that the source promises to fill are NOT NULL from the beginning: rows are
/// looked at as they come, rather than all once more for the primary key.
pub fn stage_sql(load: &Load, stage: &Place) -> String {
    let (columns, name) = (stage_columns(load), stage.sql());
    let comment = literal(&columns);
    let required = load.target.columns.iter().filter(|column| {
        let streamed = matches!(load.write, Write::Changes { .. });
        !streamed && !column.nullable && key(load).contains(&column.name)
    });
    let required: String = required
        .map(|column| {
            let column = ident(&column.name);
            format!("; ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL")
        })
        .collect();
    format!("CREATE TABLE {name} ({columns}){required}; COMMENT ON TABLE {name} IS {comment}")
}

/// Whether a table, index, view or the like has this name.
pub async fn is_taken<C: GenericClient>(client: &C, place: &Place) -> Result<bool> {
    const FIND: &str = "SELECT FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname = $2";
    let found = client.query_opt(FIND, &[&place.schema, &place.name]).await;
    Ok(found.map_err(explain)?.is_some())
}

/// Makes the schema if it is missing. Asking first spares those who may use it the right
/// to create schemas.
pub async fn ensure_schema(transaction: &Transaction<'_>, schema: &str) -> Result<()> {
    const FIND: &str = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let found = transaction.query_opt(FIND, &[&schema]).await;
    if found.map_err(explain)?.is_some() {
        return Ok(());
    }
    let sql = format!("CREATE SCHEMA {}", ident(schema));
    transaction.batch_execute(&sql).await.map_err(|error| {
        if error.code() == Some(&SqlState::RESERVED_NAME) {
            return Error::config(format!(
                "a schema cannot be called {schema}: names that begin with pg_ are the server's own"
            ))
            .field("schema");
        }
        explain(error).while_(format!("creating schema {schema}"))
    })
}
