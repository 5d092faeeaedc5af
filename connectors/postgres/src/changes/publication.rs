//! Which tables the log is read for: a publication, the user's or one that we make.

use std::collections::HashMap;

use tideway_core::{Error, Kind, Result, TableId};
use tokio_postgres::Row;

use super::catalog::namespace;
use crate::{
    connect::{Session, explain},
    sql::{ident, literal, qualified},
};

/// Partitions can be published as their table from this version on.
const ROOTS: u32 = 130_000;
/// Generated columns can be published from this version on.
const GENERATED: u32 = 180_000;

/// Schemas can be published as a whole from this version on.
const SCHEMAS: u32 = 150_000;

/// A publication as the server shows it.
pub struct Publication {
    pub name: String,
    /// Changes of partitions are told as those of their table.
    via_root: bool,
    actions: Actions,
    members: HashMap<TableId, Member>,
}

struct Actions {
    changes: bool,
    truncate: bool,
}

/// A table of a publication.
struct Member {
    filtered: bool,
    /// Not all of its columns are published.
    narrowed: bool,
}

impl Publication {
    pub async fn find(session: &Session, name: &str) -> Result<Option<Publication>> {
        const FIND: &str = "\
            SELECT p.pubinsert AND p.pubupdate AND p.pubdelete, \
              COALESCE((pg_catalog.to_jsonb(p) ->> 'pubtruncate')::pg_catalog.bool, true), \
              COALESCE((pg_catalog.to_jsonb(p) ->> 'pubviaroot')::pg_catalog.bool, false) \
            FROM pg_catalog.pg_publication p WHERE p.pubname = $1";
        // Row filters and column lists exist since 15.
        const MEMBERS: &str = "\
            SELECT t.schemaname::pg_catalog.text, t.tablename::pg_catalog.text, \
              pg_catalog.to_jsonb(t) ->> 'rowfilter' IS NOT NULL, \
              COALESCE(pg_catalog.jsonb_array_length(NULLIF(pg_catalog.to_jsonb(t) -> 'attnames', 'null')) < ( \
                SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a \
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                  AND COALESCE(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') = ''), false) \
            FROM pg_catalog.pg_publication_tables t \
            JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname \
            JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
            WHERE t.pubname = $1";
        let row = session.query_opt(FIND, &[&name]).await.map_err(explain)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let members = session.query(MEMBERS, &[&name]).await.map_err(explain)?;
        let member = |row: &Row| -> Result<(TableId, Member), tokio_postgres::Error> {
            let (namespace, table): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let member = Member {
                filtered: row.try_get(2)?,
                narrowed: row.try_get(3)?,
            };
            Ok((TableId::new(Some(namespace), table), member))
        };
        let members: Result<HashMap<TableId, Member>, _> = members.iter().map(member).collect();
        let publication = || -> Result<Publication, tokio_postgres::Error> {
            Ok(Publication {
                name: name.to_owned(),
                via_root: row.try_get(2)?,
                actions: Actions {
                    changes: row.try_get(0)?,
                    truncate: row.try_get(1)?,
                },
                members: members?,
            })
        };
        publication().map(Some).map_err(explain)
    }

    /// Refuses a publication that leaves kinds of changes out.
    pub fn check(&self) -> Result<()> {
        let name = &self.name;
        if !self.actions.changes {
            return Err(Error::config(format!(
                "publication {name} does not publish inserts, updates and deletes alike"
            ))
            .field("publication")
            .hint(format!(
                "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate')",
                ident(name)
            )));
        }
        if !self.actions.truncate {
            tracing::warn!(
                publication = name,
                "the publication leaves TRUNCATE out: emptied tables stay full at the destination"
            );
        }
        Ok(())
    }

    pub fn holds(&self, table: &TableId) -> bool {
        self.members.contains_key(&published(table))
    }

    /// Why a table of a user's publication cannot be streamed through it.
    pub fn refuses(&self, table: &TableId, partitioned: bool) -> Option<Error> {
        let (name, quoted) = (&self.name, ident(&self.name));
        let place = qualified(namespace(table), &table.name);
        if partitioned && !self.via_root {
            return Some(
                Error::config(format!(
                    "publication {name} tells changes of partitions as those of the partitions"
                ))
                .field("publication")
                .hint(format!(
                    "ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true)"
                )),
            );
        }
        let Some(member) = self.members.get(&published(table)) else {
            return Some(
                Error::config(format!("the table is not in publication {name}"))
                    .field("publication")
                    .hint(format!("ALTER PUBLICATION {quoted} ADD TABLE {place}")),
            );
        };
        let what = match member {
            Member { filtered: true, .. } => "some of the table's rows",
            Member { narrowed: true, .. } => "some of the table's columns",
            _ => return None,
        };
        Some(
            Error::config(format!("publication {name} leaves out {what}"))
                .field("publication")
                .hint("publish the whole table, and filter rows or leave fields out in the sync"),
        )
    }

    /// Makes an empty one.
    pub async fn create(session: &Session, name: &str) -> Result<()> {
        let options = match session.version {
            GENERATED.. => {
                " WITH (publish_via_partition_root = true, publish_generated_columns = stored)"
            }
            ROOTS.. => " WITH (publish_via_partition_root = true)",
            _ => "",
        };
        let made = session
            .run(&format!("CREATE PUBLICATION {}{options}", ident(name)))
            .await;
        made.map_err(|error| match error.kind {
            Kind::Permission => error
                .field("publication")
                .hint("GRANT CREATE ON DATABASE … to the role, or have the tables' owner make a publication and name it in the connection"),
            _ => error,
        })
    }

    /// Adds a table to one that we made.
    pub async fn add(session: &Session, name: &str, table: &TableId) -> Result<()> {
        let place = qualified(namespace(table), &table.name);
        // Waiting would hold up everyone who comes after us to the table.
        let added = session
            .run(&format!(
                "SET lock_timeout = '10s'; ALTER PUBLICATION {} ADD TABLE {place}; SET lock_timeout = 0",
                ident(name)
            ))
            .await;
        if added.is_err() {
            session.run("SET lock_timeout = 0").await?;
        }
        added.map_err(|error| match error.kind {
            Kind::Permission => error
                .field("publication")
                .hint("only a table's owner may publish it: have the owner make a publication and name it in the connection"),
            _ => error,
        })
    }

    pub async fn drop(session: &Session, name: &str) -> Result<()> {
        session
            .run(&format!("DROP PUBLICATION IF EXISTS {}", ident(name)))
            .await
    }
}

/// What tables are published by: the publication and the table's place in it, each with the
/// transaction that wrote it last. The log does not tell of a table that leaves and returns.
pub async fn marks(
    session: &Session,
    name: &str,
    tables: &[TableId],
) -> Result<HashMap<TableId, String>> {
    let by_schema = match session.version {
        SCHEMAS.. => {
            "UNION ALL SELECT 's' || s.oid FROM pg_catalog.pg_publication_namespace s \
             WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace"
        }
        _ => "",
    };
    let sql = format!(
        "SELECT w.place, p.oid || '/' || p.xmin || COALESCE((SELECT \
           pg_catalog.string_agg('/' || m.mark, '' ORDER BY m.mark) FROM ( \
             SELECT r.oid || '.' || r.xmin AS mark FROM pg_catalog.pg_publication_rel r \
             WHERE r.prpubid = p.oid AND r.prrelid = c.oid {by_schema}) m), '') \
         FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), \
           pg_catalog.unnest($3::pg_catalog.text[])) \
           WITH ORDINALITY AS w (nspname, relname, place) \
         JOIN pg_catalog.pg_namespace n ON n.nspname = w.nspname \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname \
         JOIN pg_catalog.pg_publication p ON p.pubname = $1"
    );
    let (namespaces, names): (Vec<&str>, Vec<&str>) = tables
        .iter()
        .map(|table| (namespace(table), table.name.as_str()))
        .unzip();
    let rows = session.query(&sql, &[&name, &namespaces, &names]).await;
    let mut marks = HashMap::new();
    for row in rows.map_err(explain)? {
        let place: i64 = row.try_get(0).map_err(explain)?;
        let at = usize::try_from(place - 1).unwrap_or(usize::MAX);
        if let Some(table) = tables.get(at) {
            marks.insert(table.clone(), row.try_get(1).map_err(explain)?);
        }
    }
    Ok(marks)
}

/// The id under which a publication lists a table.
fn published(table: &TableId) -> TableId {
    TableId::new(Some(namespace(table)), &table.name)
}

/// The option of START_REPLICATION that names it: a list of quoted identifiers.
pub fn option(name: &str) -> String {
    literal(&ident(name))
}
