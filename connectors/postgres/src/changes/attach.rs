//! Making or finding the stream's place in the log, and a verdict for each table.

use std::collections::{HashMap, HashSet};

use tideway_core::{
    Error, Result, TableId,
    changes::{Attached, Stream},
    failpoint,
};
use tokio_postgres::Row;

use super::{
    Names,
    catalog::namespace,
    pgoutput::Identity,
    position::End,
    publication::{self, Publication},
    slot::Slot,
};
use crate::connect::{Postgres, Session, explain};

pub async fn attach(postgres: &Postgres, stream: &Stream) -> Result<Attached> {
    let session = postgres.client().await?;
    check_server(&session, &postgres.config.username).await?;
    let end = End::of(&session).await?;
    let names = Names::of(postgres, stream)?;
    let mut tables = Candidate::all(&session, &stream.tables).await?;
    let mut refused = Vec::new();
    for table in &stream.tables {
        let verdict = match tables.get(table) {
            Some(candidate) => candidate.verdict(),
            None => Some(
                Error::missing("the table is not there any more")
                    .hint("restore it, or switch it off in the sync"),
            ),
        };
        if let Some(error) = verdict {
            tables.remove(table);
            refused.push((table.clone(), error));
        }
    }
    let replaced = publish(&session, &names, stream, &mut tables, &mut refused).await?;
    failpoint::reach("postgres.published");
    let (confirmed, fresh) = place(&session, &names, replaced).await?;
    if let Some(reason) = &fresh {
        failpoint::reach("postgres.slot-made");
        tracing::info!(slot = names.slot, reason, "a change stream begins");
    }
    let marks = publication::marks(&session, &names.publication, &stream.tables).await?;
    postgres.keep(session);
    let refused = refused.into_iter().map(|(table, error)| {
        let error = error.while_(&table);
        (table, error)
    });
    Ok(Attached {
        position: end.log.position(confirmed),
        fresh,
        marks,
        refused: refused.collect(),
    })
}

/// What the server and the role need for any stream.
pub async fn check_server(session: &Session, role: &str) -> Result<()> {
    const ASK: &str = "\
        SELECT pg_catalog.current_setting('wal_level'), \
          r.rolsuper OR r.rolreplication OR EXISTS ( \
            SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication' \
            AND pg_catalog.pg_has_role(g.oid, 'MEMBER')) \
        FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let row = session.query_one(ASK, &[]).await.map_err(explain)?;
    let (level, may): (&str, bool) = (
        row.try_get(0).map_err(explain)?,
        row.try_get(1).map_err(explain)?,
    );
    if level != "logical" {
        return Err(Error::config(format!(
            "the server does not write what change detection reads: wal_level is {level}"
        ))
        .field("change_detection")
        .hint("ALTER SYSTEM SET wal_level = logical and restart the server (rds.logical_replication = 1 on RDS and Aurora)"));
    }
    if !may {
        return Err(Error::permission(format!("role {role} may not replicate"))
            .field("username")
            .hint(format!(
                "ALTER ROLE \"{role}\" REPLICATION (GRANT rds_replication on RDS and Aurora)"
            )));
    }
    Ok(())
}

/// A table that may be streamed.
struct Candidate {
    kind: char,
    persistent: bool,
    has_children: bool,
    identity: Identity,
    /// Some column of the primary key is not among those told of a deleted row.
    key_uncovered: bool,
    has_key: bool,
    /// Columns that the server computes and does not tell.
    untold: Vec<String>,
}

const CANDIDATES: &str = "\
SELECT w.place, c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text, \
  c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid), \
  c.relreplident::pg_catalog.text, \
  EXISTS (SELECT FROM pg_catalog.pg_index k WHERE k.indrelid = c.oid AND k.indisprimary), \
  EXISTS (SELECT FROM pg_catalog.pg_index k, pg_catalog.unnest(k.indkey) AS a (number) \
    WHERE k.indrelid = c.oid AND k.indisprimary AND NOT EXISTS ( \
      SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident \
      AND a.number = ANY (i.indkey))), \
  ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a \
    WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attnum > 0 \
      AND COALESCE(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> '' \
      AND (pg_catalog.to_jsonb(a) ->> 'attgenerated' = 'v' \
        OR pg_catalog.current_setting('server_version_num')::pg_catalog.int4 < 180000) \
    ORDER BY a.attnum) \
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) \
  WITH ORDINALITY AS w (nspname, relname, place) \
JOIN pg_catalog.pg_namespace n ON n.nspname = w.nspname \
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.relname";

impl Candidate {
    async fn all(session: &Session, tables: &[TableId]) -> Result<HashMap<TableId, Candidate>> {
        let (namespaces, names): (Vec<&str>, Vec<&str>) = tables
            .iter()
            .map(|table| (namespace(table), table.name.as_str()))
            .unzip();
        let rows = session.query(CANDIDATES, &[&namespaces, &names]).await;
        let candidate = |row: &Row| -> Result<(i64, Candidate), tokio_postgres::Error> {
            let letter = |at: usize| -> Result<char, tokio_postgres::Error> {
                let text: &str = row.try_get(at)?;
                Ok(text.chars().next().unwrap_or(' '))
            };
            let candidate = Candidate {
                kind: letter(1)?,
                persistent: letter(2)? == 'p',
                has_children: row.try_get(3)?,
                identity: match letter(4)? {
                    'f' => Identity::Full,
                    'i' => Identity::Index,
                    'n' => Identity::Nothing,
                    _ => Identity::Default,
                },
                has_key: row.try_get(5)?,
                key_uncovered: row.try_get(6)?,
                untold: row.try_get(7)?,
            };
            Ok((row.try_get(0)?, candidate))
        };
        let mut found = HashMap::new();
        for row in rows.map_err(explain)? {
            let (place, candidate) = candidate(&row).map_err(explain)?;
            let at = usize::try_from(place - 1).unwrap_or(usize::MAX);
            if let Some(table) = tables.get(at) {
                found.insert(table.clone(), candidate);
            }
        }
        Ok(found)
    }

    /// Why the table cannot be streamed, whatever the publication.
    fn verdict(&self) -> Option<Error> {
        let unsupported = |what: &str, hint: &str| Some(Error::unsupported(what).hint(hint));
        match self.kind {
            'r' | 'p' => {}
            'v' | 'm' => {
                return unsupported(
                    "a view has no changes in the log",
                    "stream the tables that it shows, or read it in a sync without change detection",
                );
            }
            _ => {
                return unsupported(
                    "its rows are not in this server's log",
                    "read it in a sync without change detection",
                );
            }
        }
        if !self.persistent {
            return unsupported(
                "an unlogged table has no changes in the log",
                "ALTER TABLE … SET LOGGED, or read it in a sync without change detection",
            );
        }
        if self.has_children {
            return unsupported(
                "rows of tables that inherit from it are not told as its own",
                "stream the inheriting tables one by one, or use partitions",
            );
        }
        if !self.untold.is_empty() {
            let columns = self.untold.join(", ");
            return unsupported(
                &format!("the server does not tell generated columns ({columns})"),
                "read it in a sync without change detection, or make plain columns of them",
            );
        }
        let advice = "add a primary key, or ALTER TABLE … REPLICA IDENTITY FULL (or USING INDEX) and choose the sync's key";
        match self.identity {
            Identity::Full => None,
            Identity::Default if self.has_key => None,
            Identity::Default => unsupported(
                "without a primary key and with REPLICA IDENTITY DEFAULT, the log does not say which row was changed",
                advice,
            ),
            Identity::Nothing => unsupported(
                "with REPLICA IDENTITY NOTHING, the log does not say which row was changed",
                "ALTER TABLE … REPLICA IDENTITY DEFAULT (needs a primary key) or FULL",
            ),
            Identity::Index if self.key_uncovered => unsupported(
                "the index of REPLICA IDENTITY USING INDEX does not cover the primary key",
                "ALTER TABLE … REPLICA IDENTITY DEFAULT",
            ),
            Identity::Index => None,
        }
    }
}

/// Sees to it that the tables are published. Gives why the publication is another one than
/// the slot has read through, if it is.
async fn publish(
    session: &Session,
    names: &Names,
    stream: &Stream,
    tables: &mut HashMap<TableId, Candidate>,
    refused: &mut Vec<(TableId, Error)>,
) -> Result<Option<String>> {
    let name = &names.publication;
    let found = Publication::find(session, name).await?;
    if names.publication_is_the_users {
        let publication = found.ok_or_else(|| {
            Error::config(format!("publication {name} is not there"))
                .field("publication")
                .hint("CREATE PUBLICATION … FOR TABLE …, choose another one, or none: one is made then")
        })?;
        publication.check()?;
        for table in &stream.tables {
            let Some(candidate) = tables.get(table) else {
                continue;
            };
            if let Some(error) = publication.refuses(table, candidate.kind == 'p') {
                tables.remove(table);
                refused.push((table.clone(), error));
            }
        }
        return Ok(None);
    }
    let replaced = found
        .is_none()
        .then(|| format!("publication {name} was made"));
    let published: HashSet<&TableId> = match &found {
        Some(publication) => tables
            .keys()
            .filter(|table| publication.holds(table))
            .collect(),
        None => {
            Publication::create(session, name).await?;
            HashSet::new()
        }
    };
    let missing: Vec<TableId> = stream
        .tables
        .iter()
        .filter(|table| tables.contains_key(table) && !published.contains(table))
        .cloned()
        .collect();
    for table in missing {
        if let Err(error) = Publication::add(session, name, &table).await {
            tables.remove(&table);
            refused.push((table, error));
        }
    }
    Ok(replaced)
}

/// Finds or makes the slot. A slot older than its publication cannot be read through it.
async fn place(
    session: &Session,
    names: &Names,
    replaced: Option<String>,
) -> Result<(super::position::Lsn, Option<String>)> {
    let name = &names.slot;
    let fresh = match Slot::find(session, name).await? {
        None => format!("replication slot {name} was made"),
        Some(slot) => {
            slot.check_ours()?;
            match (slot.lost(), replaced) {
                (Some(reason), _) | (None, Some(reason)) => {
                    tracing::warn!(slot = name, reason, "the replication slot is made anew");
                    Slot::drop(session, name).await?;
                    format!("{reason}, and was made anew")
                }
                (None, None) => return Ok((slot.confirmed, None)),
            }
        }
    };
    Ok((Slot::create(session, name).await?, Some(fresh)))
}
