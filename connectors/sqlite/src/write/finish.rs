//! The last step: what was staged becomes the table or moves into it. Everything here
//! runs in one transaction, with the token that says that it was done.

use tideway_core::{
    Error, Result,
    destination::{CREATED_AT, DELETED_AT, Deletes, Disposition, Load, Outcome, UPDATED_AT, Write},
    failpoint,
};

use crate::{
    connect::Handle,
    discover::{self, Described},
    sql::{list, literal, quoted, same_name},
    types,
};

mod changes;

use super::{
    discard, evolve, existing, history, layout::Layout, ledger, now, stage_name, takes_place,
};

pub fn finish(handle: &Handle, load: &Load, layout: &Layout) -> Result<Outcome> {
    if ledger::finished(handle, &load.id)? {
        return Ok(Outcome {
            repeated: true,
            ..Outcome::default()
        });
    }
    let stage = stage_name(&load.id);
    if discover::describe(handle, &stage)?.is_none() {
        return Err(changed_meanwhile(load));
    }
    let target = existing(handle, load)?;
    if let Write::Changes { deletes, .. } = load.write {
        let target = changes::ready(handle, load, layout, target)?;
        let moving = Moving::new(handle, load, layout, &target);
        let (outcome, staged) = moving.apply_staged(load, deletes)?;
        history::keep(handle, load, layout, true)?;
        discard(handle, &load.id)?;
        ledger::record_finished(handle, load, staged)?;
        failpoint::reach("sqlite.applied");
        return Ok(outcome);
    }
    let staged = count(handle, &stage)?;
    let outcome = match &target {
        Some(target) if !takes_place(load, Some(target)) => {
            if !layout.fits(target) {
                return Err(changed_meanwhile(load));
            }
            let outcome = move_in(handle, load, layout, target, staged)?;
            history::keep(handle, load, layout, true)?;
            outcome
        }
        target => {
            take_place(handle, load, target.as_ref(), &stage)?;
            history::keep(handle, load, layout, false)?;
            Outcome {
                inserted: staged,
                ..Outcome::default()
            }
        }
    };
    discard(handle, &load.id)?;
    ledger::record_finished(handle, load, staged)?;
    failpoint::reach("sqlite.applied");
    Ok(outcome)
}

fn changed_meanwhile(load: &Load) -> Error {
    Error::drift(format!(
        "{} was changed by someone while it was loaded",
        load.target.name
    ))
}

fn count(handle: &Handle, table: &str) -> Result<u64> {
    let rows: Option<i64> =
        handle.one(&format!("SELECT count(*) FROM main.{}", quoted(table)), [])?;
    Ok(rows.unwrap_or(0).unsigned_abs())
}

/// The staging table becomes the target. Views name their tables only by name, so they
/// show the new one; unless it is rebuilt, columns that the load lacks and the indexes
/// and triggers that others made stay as well.
fn take_place(handle: &Handle, load: &Load, target: Option<&Described>, stage: &str) -> Result<()> {
    let mut dependents = Vec::new();
    if let Some(target) = target {
        if load.disposition != Disposition::Rebuild {
            dependents = evolve::dependents(handle, &target.name)?;
            keep_columns(handle, target, stage)?;
        }
        handle.run(&format!("DROP TABLE main.{}", quoted(&target.name)))?;
    }
    let (stage, name) = (quoted(stage), quoted(&load.target.name));
    handle.run(&format!("ALTER TABLE main.{stage} RENAME TO {name}"))?;
    for made in dependents {
        handle.run(&made)?;
    }
    Ok(())
}

fn keep_columns(handle: &Handle, target: &Described, stage: &str) -> Result<()> {
    let staged = discover::require(handle, stage)?;
    for column in &target.columns {
        if staged.column(&column.name).is_none() && !column.generated {
            let (name, declared) = (quoted(&column.name), types::spelled(&column.declared));
            handle.run(&format!(
                "ALTER TABLE main.{} ADD COLUMN {name} {declared}",
                quoted(stage)
            ))?;
        }
    }
    Ok(())
}

/// The statements that move staged rows (`s`) into the target (`t`).
struct Moving<'a> {
    handle: &'a Handle,
    target: &'a Described,
    layout: &'a Layout,
    stage: String,
    now: String,
    stamped: bool,
}

fn move_in(
    handle: &Handle,
    load: &Load,
    layout: &Layout,
    target: &Described,
    staged: u64,
) -> Result<Outcome> {
    let moving = Moving::new(handle, load, layout, target);
    if load.write == Write::Replace || load.disposition == Disposition::Truncate {
        handle.run(&format!("DELETE FROM {}", moving.table()))?;
    }
    let Write::Merge { .. } = load.write else {
        return Ok(Outcome {
            inserted: moving.insert("")?,
            ..Outcome::default()
        });
    };
    let updated = moving.update()?;
    let inserted = moving.insert(&format!("WHERE {}", moving.no_match("t", moving.table())))?;
    let deleted = moving.delete_vanished(load)?;
    Ok(Outcome {
        inserted,
        updated,
        deleted,
        unchanged: staged.saturating_sub(inserted).saturating_sub(updated),
        ..Outcome::default()
    })
}

impl<'a> Moving<'a> {
    fn new(
        handle: &'a Handle,
        load: &Load,
        layout: &'a Layout,
        target: &'a Described,
    ) -> Moving<'a> {
        Moving {
            handle,
            target,
            layout,
            stage: format!("main.{}", quoted(&stage_name(&load.id))),
            now: literal(&now()),
            stamped: load.record_timestamps,
        }
    }
}

impl Moving<'_> {
    fn table(&self) -> String {
        format!("main.{}", quoted(&self.target.name))
    }

    fn has(&self, system: &str) -> bool {
        self.target.column(system).is_some()
    }

    /// Columns set to the current time, of those that the target has.
    fn stamps(&self, names: &[&'static str]) -> Vec<&'static str> {
        let kept = names.iter().filter(|name| self.stamped && self.has(name));
        kept.copied().collect()
    }

    /// `t` and `s` have the same key.
    fn matched(&self) -> String {
        let pairs = self
            .layout
            .key
            .iter()
            .map(|key| format!("t.{0} = s.{0}", quoted(key)));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// No row of the other table has the key of this one.
    fn no_match(&self, other: &str, table: String) -> String {
        format!(
            "NOT EXISTS (SELECT 1 FROM {table} AS {other} WHERE {})",
            self.matched()
        )
    }

    fn insert(&self, which: &str) -> Result<u64> {
        let names: Vec<String> = self
            .layout
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let stamps = self.stamps(&[CREATED_AT, UPDATED_AT]);
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s {which}",
            self.table(),
            list(
                names
                    .iter()
                    .cloned()
                    .chain(stamps.iter().map(|name| quoted(name)))
            ),
            list(
                names
                    .iter()
                    .map(|name| format!("s.{name}"))
                    .chain(stamps.iter().map(|_| self.now.clone()))
            ),
            self.stage
        );
        self.handle.change(&sql, [])
    }

    /// Brings rows up to date that differ from what was staged, or were marked deleted.
    fn update(&self) -> Result<u64> {
        self.update_where(|_, name| format!("s.{name}"), "true")
    }

    /// The same for the staged rows for which `which` is true; `told` is the value of a
    /// column that a row is to have.
    fn update_where(&self, told: impl Fn(usize, &str) -> String, which: &str) -> Result<u64> {
        let columns = self.layout.columns.iter().enumerate();
        let data: Vec<(String, String)> = columns
            .filter(|(_, column)| !self.layout.is_key(&column.name))
            .map(|(at, column)| {
                let name = quoted(&column.name);
                let value = told(at, &name);
                (name, value)
            })
            .collect();
        let mut sets: Vec<String> = data
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let mut differs = Vec::new();
        if !data.is_empty() {
            // As one pair of rows: a long chain of ORs would be too deep for SQLite.
            differs.push(format!(
                "({}) IS NOT ({})",
                list(
                    data.iter()
                        .map(|(name, _)| format!("t.{name} COLLATE BINARY"))
                ),
                list(data.iter().map(|(_, value)| value))
            ));
        }
        if self.has(DELETED_AT) {
            let name = quoted(DELETED_AT);
            sets.push(format!("{name} = NULL"));
            differs.push(format!("t.{name} IS NOT NULL"));
        }
        if differs.is_empty() {
            return Ok(0);
        }
        sets.extend(self.sets_now(&[UPDATED_AT]));
        let sql = format!(
            "UPDATE {} AS t SET {} FROM {} AS s WHERE {} AND {which} AND ({})",
            self.table(),
            list(sets),
            self.stage,
            self.matched(),
            differs.join(" OR ")
        );
        self.handle.change(&sql, [])
    }

    fn sets_now(&self, names: &[&'static str]) -> Vec<String> {
        let names = self.stamps(names).into_iter();
        names
            .map(|name| format!("{} = {}", quoted(name), self.now))
            .collect()
    }

    /// Handles the rows whose keys the source has no more, if the load tells of all of them.
    fn delete_vanished(&self, load: &Load) -> Result<u64> {
        match load.vanished() {
            None => Ok(0),
            Some(Deletes::Soft) => self.mark_deleted(),
            Some(Deletes::Hard) => self.delete(),
        }
    }

    fn mark_deleted(&self) -> Result<u64> {
        let name = quoted(DELETED_AT);
        let mut sets = vec![format!("{name} = {}", self.now)];
        sets.extend(self.sets_now(&[UPDATED_AT]));
        let sql = format!(
            "UPDATE {} AS t SET {} WHERE t.{name} IS NULL AND {}",
            self.table(),
            list(sets),
            self.no_match("s", self.stage.clone())
        );
        self.handle.change(&sql, [])
    }

    fn delete(&self) -> Result<u64> {
        let sql = format!(
            "DELETE FROM {} AS t WHERE {}",
            self.table(),
            self.no_match("s", self.stage.clone())
        );
        self.handle.change(&sql, [])
    }
}

/// Whether an index or the primary key leads to rows by these columns.
pub fn finds_by(handle: &Handle, target: &Described, key: &[String]) -> Result<bool> {
    let covers = |names: &[String]| {
        names.len() >= key.len()
            && names
                .iter()
                .take(key.len())
                .all(|name| key.iter().any(|key| same_name(key, name)))
    };
    if covers(&target.key()) {
        return Ok(true);
    }
    let indexes: Vec<String> = handle.all(
        "SELECT name FROM pragma_index_list(?1, 'main') WHERE NOT partial",
        [&target.name],
        |row| row.get(0),
    )?;
    for index in indexes {
        let names: Vec<Option<String>> = handle.all(
            "SELECT name FROM pragma_index_info(?1, 'main') ORDER BY seqno",
            [index],
            |row| row.get(0),
        )?;
        let names: Vec<String> = names.into_iter().map_while(|name| name).collect();
        if covers(&names) {
            return Ok(true);
        }
    }
    Ok(false)
}
