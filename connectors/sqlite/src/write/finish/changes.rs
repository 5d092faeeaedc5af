//! The statements that apply staged changes, part by part.

use tideway_core::{
    Note, Op, Result,
    destination::{DELETED_AT, Deletes, Disposition, Load, Outcome, UPDATED_AT},
};

use crate::{
    connect::Handle,
    discover::{self, Described},
    sql::{list, quoted, same_name},
};

use super::{
    super::layout::{KEPT, Layout, OP, PART_END, ROW},
    Moving, changed_meanwhile, finds_by,
};

/// The target as the load needs it; made where it is missing or to be made anew.
pub fn ready(
    handle: &Handle,
    load: &Load,
    layout: &Layout,
    target: Option<Described>,
) -> Result<Described> {
    match target {
        Some(target) if load.disposition == Disposition::Rebuild => {
            handle.run(&format!("DROP TABLE main.{}", quoted(&target.name)))?;
        }
        Some(target) if layout.fits(&target) => return Ok(target),
        Some(_) => return Err(changed_meanwhile(load)),
        None => {}
    }
    handle.run(&layout.create_table(&load.target.name))?;
    discover::require(handle, &load.target.name)
}

/// Rows that were staged together, of which no two have the same key.
struct Part {
    id: String,
    inserts: u64,
    updates: u64,
    deletes: u64,
    /// For each column whether some row keeps what it has there.
    kept: Vec<bool>,
    /// The condition on `s` that makes out its rows.
    which: String,
}

impl Moving<'_> {
    /// Applies all parts in the order of their ids. Also tells how many rows there were.
    pub fn apply_staged(&self, load: &Load, deletes: Deletes) -> Result<(Outcome, u64)> {
        if load.disposition == Disposition::Truncate {
            self.handle.run(&format!("DELETE FROM {}", self.table()))?;
        }
        let unique = self.key_is_unique()?;
        let mut outcome = Outcome {
            deleted: self.delete_vanished(load)?,
            ..Outcome::default()
        };
        let mut rows = 0;
        for part in self.parts()? {
            rows += part.inserts + part.updates + part.deletes;
            self.apply(&part, deletes, unique, &mut outcome)?;
        }
        Ok((outcome, rows))
    }

    fn parts(&self) -> Result<Vec<Part>> {
        let sql = format!(
            "SELECT {ROW}, {KEPT} FROM {} WHERE {OP} = {PART_END} ORDER BY {ROW}",
            self.stage
        );
        let ends: Vec<(i64, String)> = self
            .handle
            .all(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut parts = Vec::with_capacity(ends.len());
        let mut first = i64::MIN;
        for (end, id) in ends {
            let which = format!("s.{ROW} > {first} AND s.{ROW} < {end}");
            parts.push(self.part(id, which)?);
            first = end;
        }
        parts.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(parts)
    }

    fn part(&self, id: String, which: String) -> Result<Part> {
        let count = |op: Op| format!("count(*) FILTER (WHERE {OP} = {})", op as u8);
        let counts = list([Op::Insert, Op::Update, Op::Delete].map(count));
        let sql = format!("SELECT {counts} FROM {} AS s WHERE {which}", self.stage);
        let counts: Vec<[i64; 3]> = self
            .handle
            .all(&sql, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
        let [inserts, updates, deletes] = counts.first().copied().unwrap_or_default();
        let sql = format!(
            "SELECT DISTINCT {KEPT} FROM {} AS s WHERE {which} AND {KEPT} IS NOT NULL",
            self.stage
        );
        let masks: Vec<String> = self.handle.all(&sql, [], |row| row.get(0))?;
        let keeps = |at: usize| {
            masks
                .iter()
                .any(|mask| mask.as_bytes().get(at) == Some(&b'1'))
        };
        Ok(Part {
            id,
            inserts: inserts.unsigned_abs(),
            updates: updates.unsigned_abs(),
            deletes: deletes.unsigned_abs(),
            kept: (0..self.layout.columns.len()).map(keeps).collect(),
            which,
        })
    }

    fn apply(
        &self,
        part: &Part,
        deletes: Deletes,
        unique: bool,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if part.deletes > 0 {
            outcome.deleted += self.delete_staged(part, deletes)?;
        }
        let upserts = part.inserts + part.updates;
        if upserts == 0 {
            return Ok(());
        }
        let keeps = |at: usize| part.kept.get(at) == Some(&true);
        let told = |at: usize, name: &str| match keeps(at) {
            true => format!("CASE WHEN {} THEN t.{name} ELSE s.{name} END", kept(at)),
            false => format!("s.{name}"),
        };
        let lives = format!("s.{OP} <> {} AND {}", Op::Delete as u8, part.which);
        let updated = self.update_where(told, &lives)?;
        let mut inserted = 0;
        // Otherwise each row has met another one.
        if !unique || updated < upserts {
            let absent = format!("{lives} AND {}", self.no_match("t", self.table()));
            self.tell_lost(part, &absent, outcome)?;
            inserted = self.insert(&format!("WHERE {absent}"))?;
        }
        outcome.updated += updated;
        outcome.inserted += inserted;
        outcome.unchanged += upserts.saturating_sub(updated).saturating_sub(inserted);
        Ok(())
    }

    fn delete_staged(&self, part: &Part, deletes: Deletes) -> Result<u64> {
        let met = format!(
            "EXISTS (SELECT 1 FROM {} AS s WHERE {} AND s.{OP} = {} AND {})",
            self.stage,
            self.matched(),
            Op::Delete as u8,
            part.which
        );
        // Found by key, whatever the size of the target.
        let row = match self.target.row_number() {
            Some(row) => {
                let row = format!("t.{row}");
                format!(
                    "{row} IN (SELECT {row} FROM {} AS s CROSS JOIN {} AS t ON {} WHERE s.{OP} = {} AND {})",
                    self.stage,
                    self.table(),
                    self.matched(),
                    Op::Delete as u8,
                    part.which
                )
            }
            None => met,
        };
        let sql = match deletes {
            Deletes::Hard => format!("DELETE FROM {} AS t WHERE {row}", self.table()),
            Deletes::Soft => {
                let name = quoted(DELETED_AT);
                let mut sets = vec![format!("{name} = {}", self.now)];
                sets.extend(self.sets_now(&[UPDATED_AT]));
                let (table, sets) = (self.table(), list(sets));
                format!("UPDATE {table} AS t SET {sets} WHERE t.{name} IS NULL AND {row}")
            }
        };
        self.handle.change(&sql, [])
    }

    /// What rows that are not there keep: there is nothing to be kept.
    fn tell_lost(&self, part: &Part, absent: &str, outcome: &mut Outcome) -> Result<()> {
        for (at, column) in self.layout.columns.iter().enumerate() {
            if part.kept.get(at) != Some(&true) {
                continue;
            }
            let sql = format!(
                "SELECT count(*) FROM {} AS s WHERE {} AND {absent}",
                self.stage,
                kept(at)
            );
            let rows: Option<i64> = self.handle.one(&sql, [])?;
            let rows = rows.unwrap_or(0).unsigned_abs();
            let mut known = outcome.notes.iter_mut();
            match known.find(|note| note.column == column.name) {
                _ if rows == 0 => {}
                Some(note) => note.rows += rows,
                None => outcome.notes.push(Note {
                    column: column.name.clone(),
                    what: "value kept by a row that is not there stored as null".to_owned(),
                    rows,
                }),
            }
        }
        Ok(())
    }

    /// Whether the target holds no key twice.
    fn key_is_unique(&self) -> Result<bool> {
        let primary = self.target.key();
        let within = |name: &String| self.layout.key.iter().any(|key| same_name(key, name));
        let unique = !primary.is_empty() && primary.iter().all(within);
        Ok(unique && finds_by(self.handle, self.target, &self.layout.key)?)
    }
}

fn kept(column: usize) -> String {
    format!("substr(s.{KEPT}, {}, 1) = '1'", column + 1)
}
