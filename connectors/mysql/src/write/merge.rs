//! The statements that move staged rows (`s`) into the target (`t`).

use tideway_core::{
    Column, Error, Result,
    destination::{CREATED_AT, DELETED_AT, Deletes, Disposition, Load, Outcome, UPDATED_AT, Write},
};

mod changes;

use super::ddl::{Place, in_key, length_of};
use crate::{
    connect::{ServerInfo, Session},
    discover::{Described, DescribedColumn},
    sql::{ident, list, literal, qualified},
    types::{collation, made},
};

/// A column on its way from the staging table into the target.
struct Landing {
    name: String,
    in_key: bool,
    /// The target's and the staged value, equal where nothing would change.
    same: (String, String),
    /// The target's value where it may be chosen instead of the staged one.
    stays: String,
    /// The staged value as a key of the target.
    key: String,
}

impl Landing {
    fn new(load: &Load, column: &Column, found: &DescribedColumn, ours: &str) -> Landing {
        let name = ident(&column.name);
        let (there, here) = (format!("t.{name}"), format!("s.{name}"));
        let made = made(column.logical, length_of(load, column));
        let textual = (found.server_type.textual(), made.textual);
        let text = |value: &str| text(value, ours);
        let plain = || (there.clone(), here.clone());
        let (same, key) = match textual {
            (true, true) if found.collation.as_deref() == Some(ours) => (plain(), here.clone()),
            // The target's own key decides which rows are the same.
            (true, true) => {
                let key = match (&found.charset, &found.collation) {
                    (Some(charset), Some(collation)) => {
                        format!("CONVERT({here} USING {charset}) COLLATE {collation}")
                    }
                    _ => here.clone(),
                };
                ((text(&there), text(&here)), key)
            }
            (false, false) if found.server_type.name != "json" => (plain(), here.clone()),
            _ => ((text(&there), text(&here)), here.clone()),
        };
        // Not every two sets of characters can stand in one choice.
        let stays = match textual {
            (true, true) => same.0.clone(),
            _ => there.clone(),
        };
        Landing {
            in_key: in_key(load, &column.name),
            name,
            same,
            stays,
            key,
        }
    }
}

/// A value as text that is compared byte by byte; `ours` is the collation of the columns that we
/// make.
pub fn text(value: &str, ours: &str) -> String {
    format!("CAST({value} AS CHAR CHARACTER SET utf8mb4) COLLATE {ours}")
}

/// A staged load on its way into an existing target.
pub struct Moving<'a> {
    load: &'a Load,
    target: &'a Described,
    table: String,
    stage: String,
    landings: Vec<Landing>,
    /// The time of all stamps.
    now: String,
}

impl<'a> Moving<'a> {
    /// # Errors
    /// `Drift` where the target lacks a column of the load.
    pub fn new(
        load: &'a Load,
        place: &Place,
        target: &'a Described,
        server: &ServerInfo,
        now: &str,
    ) -> Result<Moving<'a>> {
        let ours = collation(server.flavor, server.version);
        let landing = |column: &Column| match target.column(&column.name) {
            Some(found) => Ok(Landing::new(load, column, found, ours)),
            None => Err(Error::drift(format!(
                "{place} has lost its column {}",
                column.name
            ))),
        };
        let landings = load.target.columns.iter().map(landing);
        Ok(Moving {
            load,
            target,
            table: qualified(&target.database, &target.name),
            stage: place.stage(&load.id).sql(),
            landings: landings.collect::<Result<_>>()?,
            now: literal(now),
        })
    }

    /// Moves the rows, of which there are `staged`, as the load asks for.
    pub async fn run(&self, session: &mut Session, staged: u64) -> Result<Outcome> {
        let load = self.load;
        // A table that was to be made anew comes here where something depends on it.
        if load.write == Write::Replace || load.disposition != Disposition::Retain {
            // TRUNCATE would show everybody an empty table.
            session.run(&format!("DELETE FROM {}", self.table)).await?;
        }
        match load.write {
            Write::Merge { .. } => {}
            Write::Changes { deletes, .. } => {
                return self.apply_staged(session, staged, deletes).await;
            }
            Write::Append | Write::Replace => {
                let done = session.run(&self.insert("")).await?;
                return Ok(Outcome {
                    inserted: done.rows,
                    ..Outcome::default()
                });
            }
        }
        let updated = match self.update() {
            Some(sql) => session.run(&sql).await?.rows,
            None => 0,
        };
        let absent = format!("{} WHERE {}", self.met(), self.not_met());
        let inserted = session.run(&self.insert(&absent)).await?.rows;
        let deleted = self.delete_vanished(session).await?;
        Ok(Outcome {
            inserted,
            updated,
            deleted,
            unchanged: staged.saturating_sub(inserted).saturating_sub(updated),
            ..Outcome::default()
        })
    }

    fn insert(&self, join: &str) -> String {
        let names = self.landings.iter().map(|landing| landing.name.clone());
        let values = self
            .landings
            .iter()
            .map(|landing| format!("s.{}", landing.name));
        let stamps = self.stamps(&[CREATED_AT, UPDATED_AT]);
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s {join}",
            self.table,
            list(names.chain(stamps.iter().map(|name| ident(name)))),
            list(values.chain(stamps.iter().map(|_| self.now.clone()))),
            self.stage
        )
    }

    /// Brings rows up to date that differ from what was staged, or were marked deleted.
    fn update(&self) -> Option<String> {
        let joined = format!(
            "{} AS t JOIN {} AS s ON {}",
            self.table,
            self.stage,
            self.same_key("t")
        );
        self.update_of(&joined, |_| None, "TRUE")
    }

    /// The same for the staged rows for which `which` is true. `keeps` is the condition on
    /// which a row keeps what it has in a column, if any may.
    fn update_of(
        &self,
        joined: &str,
        keeps: impl Fn(usize) -> Option<String>,
        which: &str,
    ) -> Option<String> {
        let (mut sets, mut differs) = (Vec::new(), Vec::new());
        for (at, landing) in self.landings.iter().enumerate() {
            if landing.in_key {
                continue;
            }
            let (name, (there, here)) = (&landing.name, &landing.same);
            match keeps(at) {
                Some(keeps) => {
                    let stays = &landing.stays;
                    sets.push(format!("t.{name} = IF({keeps}, {stays}, s.{name})"));
                    differs.push(format!("(NOT ({keeps}) AND NOT ({there} <=> {here}))"));
                }
                None => {
                    sets.push(format!("t.{name} = s.{name}"));
                    differs.push(format!("NOT ({there} <=> {here})"));
                }
            }
        }
        if self.target.column(DELETED_AT).is_some() {
            let name = ident(DELETED_AT);
            sets.push(format!("t.{name} = NULL"));
            differs.push(format!("t.{name} IS NOT NULL"));
        }
        if differs.is_empty() {
            return None;
        }
        sets.extend(self.set_now(&[UPDATED_AT]));
        Some(format!(
            "UPDATE {joined} SET {} WHERE {which} AND ({})",
            list(sets),
            differs.join(" OR ")
        ))
    }

    /// Joins the target's rows that staged ones meet, if they do.
    fn met(&self) -> String {
        format!("LEFT JOIN {} AS t ON {}", self.table, self.same_key("t"))
    }

    fn not_met(&self) -> String {
        format!("{} IS NULL", self.key_of("t"))
    }

    /// Handles the rows whose keys the source has no more, if the load tells of all of them.
    async fn delete_vanished(&self, session: &mut Session) -> Result<u64> {
        match self.load.vanished() {
            Some(deletes) => Ok(session.run(&self.delete(deletes)).await?.rows),
            None => Ok(0),
        }
    }

    fn delete(&self, deletes: Deletes) -> String {
        let join =
            |table: &str| format!("LEFT JOIN {} AS s ON {}", self.stage, self.same_key(table));
        let gone = format!("{} IS NULL", self.key_of("s"));
        let table = &self.table;
        match deletes {
            // MySQL looks for an alias to delete from in the session's database, and there
            // may be none.
            Deletes::Hard => {
                format!("DELETE {table} FROM {table} {} WHERE {gone}", join(table))
            }
            Deletes::Soft => {
                let name = ident(DELETED_AT);
                let mut sets = vec![format!("t.{name} = {}", self.now)];
                sets.extend(self.set_now(&[UPDATED_AT]));
                format!(
                    "UPDATE {table} AS t {} SET {} WHERE t.{name} IS NULL AND {gone}",
                    join("t"),
                    list(sets)
                )
            }
        }
    }

    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// A staged row has the key of the one that goes by this name.
    pub fn same_key(&self, table: &str) -> String {
        let of_key = self.landings.iter().filter(|landing| landing.in_key);
        let pairs = of_key.map(|landing| format!("{table}.{} = {}", landing.name, landing.key));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// A key column of one side, null where that side has no such row.
    fn key_of(&self, side: &str) -> String {
        let first = self.landings.iter().find(|landing| landing.in_key);
        first.map_or_else(
            || "NULL".to_owned(),
            |landing| format!("{side}.{}", landing.name),
        )
    }

    /// Columns set to the current time, of those that the target has.
    fn stamps(&self, names: &[&'static str]) -> Vec<&'static str> {
        let kept = |name: &&&str| self.load.record_timestamps && self.target.column(name).is_some();
        names.iter().filter(kept).copied().collect()
    }

    fn set_now(&self, names: &[&'static str]) -> Vec<String> {
        let stamps = self.stamps(names).into_iter();
        stamps
            .map(|name| format!("t.{} = {}", ident(name), self.now))
            .collect()
    }
}
