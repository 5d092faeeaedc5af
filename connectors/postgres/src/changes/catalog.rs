//! What the stream has to know from the server's catalogue. The catalogue shows the
//! present; the stream may still tell of the past.

use std::collections::HashMap;

use tideway_core::{Error, Result, Table, TableId, source::Scope};
use tokio_postgres::Row;

use crate::{
    connect::{Session, explain},
    discover::{self, DOMAINS},
    types::{PgType, Reading},
};

/// A type as cells are told in it.
#[derive(Debug, Clone, Copy)]
pub struct TypeInfo {
    /// Its modifier is the column's, unless a domain sets it.
    pg_type: PgType,
    domain: bool,
    /// Its binary form is its text form.
    pub sent_as_text: bool,
    /// Its cast to text is not its text form.
    pub cast_by_function: bool,
}

impl TypeInfo {
    /// The type that values are made of, domains resolved.
    pub fn base(&self) -> u32 {
        self.pg_type.oid
    }

    /// How a column of this type and modifier is read.
    pub fn reading(&self, typmod: i32) -> Reading {
        let typmod = if self.domain {
            self.pg_type.typmod
        } else {
            typmod
        };
        PgType {
            typmod,
            ..self.pg_type
        }
        .reading()
    }
}

#[cfg(any(test, fuzzing, feature = "decoders"))]
impl TypeInfo {
    /// A built-in type that is neither an array nor an enumeration.
    pub fn built_in(oid: u32) -> TypeInfo {
        TypeInfo {
            pg_type: PgType {
                oid,
                typmod: -1,
                array: false,
                enumeration: false,
            },
            domain: false,
            sent_as_text: false,
            cast_by_function: false,
        }
    }
}

const TYPES: &str = "\
SELECT t.oid, u.oid AS base, t.typtype = 'd' AS domain, COALESCE(b.typmod, -1) AS typmod, \
  u.typtype = 'e' AS enumeration, u.typcategory = 'A' AS array, \
  COALESCE(s.prosrc IN ('textsend', 'enum_send'), false) AS sent_as_text, \
  EXISTS (SELECT FROM pg_catalog.pg_cast x WHERE x.castsource = u.oid \
    AND x.casttarget = 'pg_catalog.text'::pg_catalog.regtype AND x.castfunc <> 0) AS by_function \
FROM pg_catalog.pg_type t LEFT JOIN bases b ON b.domain = t.oid \
JOIN pg_catalog.pg_type u ON u.oid = COALESCE(b.base, t.oid) \
LEFT JOIN pg_catalog.pg_proc s ON s.oid = u.typsend \
WHERE t.oid = ANY ($1)";

/// What is known of these types; a type that was dropped is missing.
pub async fn types(session: &Session, oids: &[u32]) -> Result<HashMap<u32, TypeInfo>> {
    let statement = format!("WITH RECURSIVE {DOMAINS} {TYPES}");
    let rows = session.query(&statement, &[&oids]).await.map_err(explain)?;
    let info = |row: &Row| -> Result<(u32, TypeInfo), tokio_postgres::Error> {
        let pg_type = PgType {
            oid: row.try_get("base")?,
            typmod: row.try_get("typmod")?,
            array: row.try_get("array")?,
            enumeration: row.try_get("enumeration")?,
        };
        let info = TypeInfo {
            pg_type,
            domain: row.try_get("domain")?,
            sent_as_text: row.try_get("sent_as_text")?,
            cast_by_function: row.try_get("by_function")?,
        };
        Ok((row.try_get("oid")?, info))
    };
    rows.iter().map(|row| info(row).map_err(explain)).collect()
}

/// Types within the columns of a publication's tables, down to elements and fields, that
/// have no binary form. The server fails on them in the middle of a stream where binary
/// cells are asked for, also in tables that nobody follows.
const WITHOUT_BINARY: &str = "\
WITH RECURSIVE used (oid) AS ( \
  SELECT a.atttypid FROM pg_catalog.pg_publication_tables p \
  JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname \
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
  WHERE p.pubname = $1 AND a.attnum > 0 AND NOT a.attisdropped \
  UNION \
  SELECT n.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid, \
  LATERAL ( \
    SELECT t.typelem AS oid WHERE t.typcategory = 'A' \
    UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd' \
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid \
    UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f \
      WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped \
  ) n WHERE n.oid <> 0 \
) SELECT EXISTS (SELECT FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid WHERE t.typsend = 0)";

/// Whether every value of the publication's tables can be sent in binary form.
pub async fn all_binary(session: &Session, publication: &str) -> Result<bool> {
    let row = session.query_one(WITHOUT_BINARY, &[&publication]).await;
    let lacking: bool = row.and_then(|row| row.try_get(0)).map_err(explain)?;
    Ok(!lacking)
}

/// The object ids of tables that are there.
pub async fn oids(session: &Session, tables: &[TableId]) -> Result<HashMap<TableId, u32>> {
    let (namespaces, names): (Vec<&str>, Vec<&str>) = tables
        .iter()
        .map(|table| (namespace(table), table.name.as_str()))
        .unzip();
    let statement = "\
        SELECT w.place, c.oid \
        FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) \
          WITH ORDINALITY AS w (nspname, relname, place) \
        JOIN pg_catalog.pg_namespace n ON n.nspname = w.nspname \
        JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname \
          AND c.relkind IN ('r', 'p')";
    let rows = session.query(statement, &[&namespaces, &names]).await;
    let found = |row: &Row| -> Result<(TableId, u32)> {
        let place: i64 = row.try_get(0).map_err(explain)?;
        let table = usize::try_from(place - 1)
            .ok()
            .and_then(|at| tables.get(at));
        let table = table.ok_or_else(|| Error::bug("a table was found that was not asked for"))?;
        Ok((table.clone(), row.try_get(1).map_err(explain)?))
    };
    rows.map_err(explain)?.iter().map(found).collect()
}

/// The schema of a table whose id names none.
pub fn namespace(table: &TableId) -> &str {
    table.namespace.as_deref().unwrap_or("public")
}

/// The table as it is now; `None` where it is gone.
pub async fn table(session: &Session, id: &TableId) -> Result<Option<Table>> {
    let scope = Scope {
        namespaces: None,
        tables: Some(vec![format!("{}.{}", namespace(id), id.name)]),
    };
    let catalog = discover::discover(session, &scope).await?;
    let found = catalog.tables.into_iter().find(|table| table.id == *id);
    Ok(found)
}

/// A column as it is now, in what matters when it comes in mid-stream.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub number: i16,
    /// Rows that were there before got a value in it, without being told.
    pub filled: bool,
    /// Computed by the server, which does not tell it.
    pub generated: bool,
}

/// Columns are looked at as JSON because older servers lack some of the attributes.
const ARRIVALS: &str = "\
SELECT a.attname::pg_catalog.text, a.attnum, \
  a.atthasdef OR t.typdefault IS NOT NULL \
    OR COALESCE((pg_catalog.to_jsonb(a) ->> 'atthasmissing')::pg_catalog.bool, false) \
    OR COALESCE(pg_catalog.to_jsonb(a) ->> 'attidentity', '') <> '' AS filled, \
  COALESCE(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> '' AS generated \
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";

pub async fn arrivals(session: &Session, table: u32) -> Result<HashMap<String, Arrival>> {
    let rows = session.query(ARRIVALS, &[&table]).await.map_err(explain)?;
    let arrival = |row: &Row| -> Result<(String, Arrival), tokio_postgres::Error> {
        let arrival = Arrival {
            number: row.try_get(1)?,
            filled: row.try_get(2)?,
            generated: row.try_get(3)?,
        };
        Ok((row.try_get(0)?, arrival))
    };
    rows.iter()
        .map(|row| arrival(row).map_err(explain))
        .collect()
}
