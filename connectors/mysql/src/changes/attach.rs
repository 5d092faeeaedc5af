//! Whether the server is set up for it, and a verdict for each table.

use std::collections::HashMap;

use tideway_core::{
    Error, Result, TableId,
    changes::{Attached, Stream},
};

use super::{
    position::{FILE_START, Place},
    server::{End, Variables, files, gtid_at},
};
use crate::{
    connect::{Flavor, MySql, Session},
    discover::text,
    sql::{list, literal},
};

pub async fn attach(mysql: &MySql, stream: &Stream) -> Result<Attached> {
    let mut session = mysql.session().await?;
    let variables = Variables::of(&mut session).await?;
    variables.check(session.server.flavor)?;
    let end = End::of(&mut session).await?;
    let oldest = files(&mut session).await?.into_iter().next();
    let oldest = oldest.map_or(end.place.clone(), |oldest| Place {
        at: FILE_START,
        ..oldest
    });
    let gtid = match variables.get("gtid_mode") {
        Some("ON") => variables
            .get("gtid_purged")
            .map(|text| text.replace('\n', "")),
        _ => gtid_at(&mut session, &oldest).await?,
    };
    let verdicts = Verdicts::of(&mut session, &variables, &stream.tables).await?;
    mysql.keep(session);
    let mut refused = Vec::new();
    for table in &stream.tables {
        let logged = end.tells_of(database(table));
        if let Some(error) = verdicts.verdict(table, logged) {
            refused.push((table.clone(), error.while_(table)));
        }
    }
    Ok(Attached {
        position: variables.log().position(&oldest, gtid),
        fresh: None,
        marks: HashMap::new(),
        refused,
    })
}

pub fn database(table: &TableId) -> &str {
    table.namespace.as_deref().unwrap_or_default()
}

struct Verdicts {
    /// What kind of table each one is, and whether its engine has transactions.
    kinds: HashMap<TableId, (String, String, bool)>,
    /// A reference by which the server changes rows of the table without logging it.
    cascades: HashMap<TableId, String>,
}

impl Verdicts {
    async fn of(
        session: &mut Session,
        variables: &Variables,
        tables: &[TableId],
    ) -> Result<Verdicts> {
        let named = |schema: &str, name: &str| {
            let pairs = tables
                .iter()
                .map(|table| format!("({}, {})", literal(database(table)), literal(&table.name)));
            match tables.is_empty() {
                true => "1 = 0".to_owned(),
                false => format!("({schema}, {name}) IN ({})", list(pairs)),
            }
        };
        let sql = format!(
            "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.TABLE_TYPE, t.ENGINE, e.TRANSACTIONS \
             FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e \
             ON e.ENGINE = t.ENGINE WHERE {}",
            named("t.TABLE_SCHEMA", "t.TABLE_NAME")
        );
        let kinds = session.rows(&sql).await?.into_iter().map(|row| {
            let table = TableId::new(Some(&text(&row, 0)), &text(&row, 1));
            (
                table,
                (text(&row, 2), text(&row, 3), text(&row, 4) == "YES"),
            )
        });
        let kinds = kinds.collect();
        let mut cascades = HashMap::new();
        if !logs_cascades(session, variables) {
            let sql = format!(
                "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME \
                 FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE {} \
                 AND (DELETE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT') \
                 OR UPDATE_RULE IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))",
                named("CONSTRAINT_SCHEMA", "TABLE_NAME")
            );
            for row in session.rows(&sql).await? {
                let table = TableId::new(Some(&text(&row, 0)), &text(&row, 1));
                cascades.insert(table, text(&row, 2));
            }
        }
        Ok(Verdicts { kinds, cascades })
    }

    fn verdict(&self, table: &TableId, logged: bool) -> Option<Error> {
        let Some((kind, engine, transactions)) = self.kinds.get(table) else {
            return Some(
                Error::missing("the table is not there any more")
                    .hint("restore it, or switch it off in the sync"),
            );
        };
        if kind.contains("VIEW") {
            return Some(
                Error::unsupported("the log does not tell of views")
                    .hint("sync the tables behind it, or switch change_detection off"),
            );
        }
        if !logged {
            return Some(
                Error::config("the server leaves the table's database out of its binary log")
                    .hint("change binlog_do_db or binlog_ignore_db at the server"),
            );
        }
        if !transactions {
            return Some(
                Error::unsupported(format!("tables of {engine} have no snapshot to begin from"))
                    .hint("ALTER TABLE … ENGINE = InnoDB"),
            );
        }
        if let Some(constraint) = self.cascades.get(table) {
            return Some(
                Error::unsupported(format!(
                    "foreign key {constraint} changes rows of the table without logging it"
                ))
                .hint("give it no action (RESTRICT), or read the table by a tracking field"),
            );
        }
        None
    }
}

/// Since 9.6 MySQL looks after foreign keys where it logs, and not in the storage engine.
fn logs_cascades(session: &Session, variables: &Variables) -> bool {
    session.server.flavor == Flavor::MySql
        && session.server.version >= (9, 6, 0)
        && variables.get("innodb_native_foreign_keys") != Some("ON")
}
