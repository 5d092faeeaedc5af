//! A table as the server has it in the snapshot, and holding it so.

use std::collections::HashMap;

use tideway_core::{Column, Error, Result, TableId};

use super::snapshot::Steady;
use crate::{
    connect::explain,
    discover::{COLUMNS, DOMAINS, Described},
    sql::{ident, qualified},
    types::{Cast, Reading},
};

/// A table, view or the like.
pub struct Relation {
    pub oid: u32,
    pub kind: Kind,
    columns: HashMap<String, Described>,
    /// How its name is written in SQL, `ONLY` included where descendants do not belong.
    pub from: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has pages of its own: a table or a materialized view in heap format.
    Heap,
    /// Its rows are in its partitions.
    Partitioned,
    /// Read as a whole: a view, a foreign table, a table with children that inherit from
    /// it, another storage format.
    Opaque,
}

/// A piece of a relation's storage: itself, or one of its partitions.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub namespace: String,
    pub name: String,
    /// `None` where it has no pages that could be cut.
    pub blocks: Option<u32>,
}

const FIND: &str = "\
SELECT c.oid, c.relkind = 'p' AS partitioned, \
  c.relkind IN ('r', 'm') AND COALESCE(m.amname, 'heap') = 'heap' AS heap, \
  c.relkind IN ('r', 'p') AND EXISTS ( \
    SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS children, \
  pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AS readable, \
  pg_catalog.to_regclass($3) IS NOT NULL AS replaced, \
  f.* \
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam";

impl Relation {
    pub async fn find(holder: &Steady, id: &TableId) -> Result<Relation> {
        let namespace = id.namespace.as_deref().unwrap_or("public");
        let name = qualified(namespace, &id.name);
        let statement = format!(
            "WITH RECURSIVE {DOMAINS} {FIND} LEFT JOIN {COLUMNS} ON true \
             WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
        );
        let rows = holder
            .rows(&statement, &[&namespace, &id.name, &name])
            .await?;
        let Some(first) = rows.first() else {
            return Err(Error::missing("the table is not there any more"));
        };
        // Rights are looked up in what is there now, and are null for what is not.
        match first.try_get("readable").map_err(explain)? {
            Some(true) => {}
            Some(false) => return Err(Error::permission("the role may not read the table")),
            None if first.try_get("replaced").map_err(explain)? => {
                return Err(Error::drift(
                    "the table was replaced after the snapshot was taken",
                ));
            }
            None => return Err(Error::missing("the table is not there any more")),
        }
        let relation = || -> Result<Relation, tokio_postgres::Error> {
            let heap: bool = first.try_get("heap")?;
            let children: bool = first.try_get("children")?;
            let kind = match (first.try_get("partitioned")?, heap && !children) {
                (true, _) => Kind::Partitioned,
                (false, true) => Kind::Heap,
                (false, false) => Kind::Opaque,
            };
            let mut columns = HashMap::new();
            for row in &rows {
                // A table may have no column at all.
                if row.try_get::<_, Option<i16>>("attnum")?.is_some() {
                    let column = Described::of(row)?;
                    columns.insert(column.name.clone(), column);
                }
            }
            Ok(Relation {
                oid: first.try_get("oid")?,
                kind,
                columns,
                from: if kind == Kind::Heap {
                    format!("ONLY {name}")
                } else {
                    name
                },
            })
        };
        relation().map_err(explain)
    }

    pub fn column(&self, name: &str) -> Result<&Described> {
        let column = self.columns.get(name);
        column.ok_or_else(|| {
            Error::drift(format!(
                "column {name} is not there any more, or may not be read"
            ))
        })
    }

    /// How each of `columns` is read; they were discovered some time ago.
    pub fn readings(&self, columns: &[Column]) -> Result<Vec<Reading>> {
        let readings = columns.iter().map(|wanted| {
            let found = self.column(&wanted.name)?;
            let reading = found.pg_type.reading();
            if reading.logical != wanted.logical {
                return Err(Error::drift(format!(
                    "column {} has another type now",
                    wanted.name
                )));
            }
            if found.nullable && !wanted.nullable {
                return Err(Error::drift(format!(
                    "column {} may be null now",
                    wanted.name
                )));
            }
            Ok(reading)
        });
        readings.collect()
    }

    /// How each of `columns` passes undecoded; `None` where one of them cannot.
    pub fn passing(&self, columns: &[Column]) -> Result<Option<Vec<Cast>>> {
        let casts = columns.iter().map(|wanted| {
            let found = self.column(&wanted.name)?;
            Ok(found.pg_type.passing())
        });
        casts.collect()
    }

    /// What is selected, in order.
    pub fn select_list(columns: &[Column], casts: impl IntoIterator<Item = Cast>) -> String {
        let expressions = columns.iter().zip(casts);
        let expressions = expressions.map(|(column, cast)| cast.expression(&ident(&column.name)));
        expressions.collect::<Vec<_>>().join(", ")
    }

    /// Keeps the relation and its partitions from being dropped, truncated or rewritten
    /// for as long as the snapshot is held: rows would be elsewhere or gone.
    ///
    /// # Errors
    /// `Drift` where it has happened since the snapshot was taken, `Missing` where the
    /// table is gone, `Timeout` where someone else keeps it locked.
    pub async fn hold(&self, holder: &Steady) -> Result<()> {
        // Planning the statement locks what it names. Nothing is read.
        let from = &self.from;
        holder
            .ask(&format!(
                "SET LOCAL lock_timeout = '30s'; SELECT 1 FROM {from} LIMIT 0"
            ))
            .await
            .map_err(|error| match error.kind {
                tideway_core::Kind::Missing => Error::missing("the table is not there any more"),
                _ => error,
            })?;
        let rewritten = holder.rows(REWRITTEN, &[&self.oid]).await?;
        match rewritten.is_empty() {
            true => Ok(()),
            false => Err(Error::drift(
                "the table was emptied or rewritten after the snapshot was taken",
            )),
        }
    }

    /// Where the rows are: the relation, or its partitions if the role may read them one by
    /// one and that gives the same rows.
    pub async fn leaves(&self, holder: &Steady) -> Result<Option<Vec<Leaf>>> {
        if self.kind == Kind::Opaque {
            return Ok(None);
        }
        let rows = holder.rows(LEAVES, &[&self.oid]).await?;
        let mut leaves = Vec::with_capacity(rows.len());
        for row in &rows {
            let leaf = || -> Result<(bool, Leaf), tokio_postgres::Error> {
                let blocks: Option<i64> = row.try_get("blocks")?;
                let leaf = Leaf {
                    namespace: row.try_get("nspname")?,
                    name: row.try_get("relname")?,
                    blocks: blocks.and_then(|blocks| u32::try_from(blocks).ok()),
                };
                Ok((row.try_get("readable")?, leaf))
            };
            let (readable, leaf) = leaf().map_err(explain)?;
            if !readable {
                return Ok(None);
            }
            leaves.push(leaf);
        }
        Ok(Some(leaves))
    }

    /// Whether an index finds rows by the column's value.
    pub async fn is_indexed(&self, holder: &Steady, column: &Described) -> Result<bool> {
        let found = holder.rows(INDEXED, &[&self.oid, &column.number]).await?;
        Ok(!found.is_empty())
    }
}

/// Catalog tables show the snapshot, functions what is there now.
const REWRITTEN: &str = "\
WITH RECURSIVE tree (oid) AS ( \
  SELECT $1::pg_catalog.oid \
  UNION ALL SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid \
) SELECT c.oid FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid \
WHERE c.relkind IN ('r', 'm') \
  AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid) LIMIT 1";

/// Reading a partition by itself is subject to its own rights and row policies, not to
/// those of the table that it is part of.
const LEAVES: &str = "\
WITH RECURSIVE tree (oid) AS ( \
  SELECT $1::pg_catalog.oid \
  UNION ALL SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid \
) SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
  CASE WHEN c.relkind IN ('r', 'm') AND COALESCE(m.amname, 'heap') = 'heap' \
    THEN pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::pg_catalog.int8 \
  END AS blocks, \
  c.oid = $1 OR (pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
    AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
    AND NOT pg_catalog.row_security_active(c.oid) \
    AND NOT pg_catalog.row_security_active($1)) AS readable \
FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind <> 'p' \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam \
ORDER BY n.nspname, c.relname";

const INDEXED: &str = "\
SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
JOIN pg_catalog.pg_am m ON m.oid = c.relam \
WHERE i.indrelid = $1 AND i.indkey[0] = $2 AND i.indisvalid AND i.indpred IS NULL \
  AND m.amname = 'btree' LIMIT 1";
