//! The statements that apply staged changes, part by part.

use tideway_core::{
    Error, Note, Op, Result,
    destination::{DELETED_AT, Deletes, Outcome, UPDATED_AT},
};

use super::{
    super::ddl::{KEPT, OP, PART, PART_END},
    Moving,
};
use crate::{
    connect::{Session, TextRow},
    discover::{number, text},
    sql::{ident, list},
};

/// Rows that were staged together, of which no two have the same key.
struct StagedPart {
    id: String,
    inserts: u64,
    updates: u64,
    deletes: u64,
    /// Indexes of the columns of which some row keeps what is there.
    kept: Vec<usize>,
    /// The condition on `s` that makes out its rows.
    which: String,
}

impl StagedPart {
    fn of(row: &TextRow) -> Option<StagedPart> {
        let part = number(row, 0)?;
        Some(StagedPart {
            inserts: number(row, 1)?,
            updates: number(row, 2)?,
            deletes: number(row, 3)?,
            id: row.get(4).cloned().flatten()?,
            kept: Vec::new(),
            which: format!("s.{PART} = {part}"),
        })
    }

    fn rows(&self) -> u64 {
        self.inserts
            .saturating_add(self.updates)
            .saturating_add(self.deletes)
    }

    /// The condition on `s` that makes out the rows that are there afterwards.
    fn lives(&self) -> String {
        let (insert, update) = (Op::Insert as u8, Op::Update as u8);
        format!("{} AND s.{OP} IN ({insert}, {update})", self.which)
    }

    fn dies(&self) -> String {
        format!("{} AND s.{OP} = {}", self.which, Op::Delete as u8)
    }
}

impl Moving<'_> {
    /// Applies all parts in the order of their ids; `staged` is how many rows there have to be.
    pub(super) async fn apply_staged(
        &self,
        session: &mut Session,
        staged: u64,
        deletes: Deletes,
    ) -> Result<Outcome> {
        let parts = self.parts(session).await?;
        let found = parts.iter().map(StagedPart::rows);
        if found.fold(0, u64::saturating_add) != staged {
            return Err(Error::drift("what was staged was changed by someone"));
        }
        let mut outcome = Outcome {
            deleted: self.delete_vanished(session).await?,
            ..Outcome::default()
        };
        for part in &parts {
            self.apply(session, part, deletes, &mut outcome).await?;
        }
        Ok(outcome)
    }

    async fn parts(&self, session: &mut Session) -> Result<Vec<StagedPart>> {
        let count = |op: Op| format!("COUNT(IF(s.{OP} = {}, 1, NULL))", op as u8);
        let sql = format!(
            "SELECT s.{PART}, {}, MAX(IF(s.{OP} = {PART_END}, s.{KEPT}, NULL)), \
             COUNT(IF(s.{OP} <> {PART_END}, s.{KEPT}, NULL)) FROM {} AS s GROUP BY s.{PART}",
            list([Op::Insert, Op::Update, Op::Delete].map(count)),
            self.stage
        );
        let mut parts = Vec::new();
        for row in session.rows(&sql).await? {
            let part = StagedPart::of(&row);
            let mut part = part.ok_or_else(|| Error::drift("a part that was staged has no end"))?;
            if number(&row, 5) != Some(0) {
                part.kept = self.kept_by(session, &part).await?;
            }
            parts.push(part);
        }
        parts.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(parts)
    }

    async fn kept_by(&self, session: &mut Session, part: &StagedPart) -> Result<Vec<usize>> {
        let sql = format!(
            "SELECT DISTINCT s.{KEPT} FROM {} AS s WHERE {} AND s.{KEPT} IS NOT NULL",
            self.stage,
            part.lives()
        );
        let masks = session.rows(&sql).await?;
        let masks: Vec<String> = masks.iter().map(|row| text(row, 0)).collect();
        let keeps = |at: &usize| {
            let mut masks = masks.iter();
            masks.any(|mask| mask.as_bytes().get(*at) == Some(&b'1'))
        };
        Ok((0..self.landings.len()).filter(keeps).collect())
    }

    async fn apply(
        &self,
        session: &mut Session,
        part: &StagedPart,
        deletes: Deletes,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if part.deletes > 0 {
            let sql = self.delete_staged(part, deletes);
            outcome.deleted += session.run(&sql).await?.rows;
        }
        let upserts = part.inserts.saturating_add(part.updates);
        if upserts == 0 {
            return Ok(());
        }
        let (mut inserted, mut updated) = (0, 0);
        // Most often none of what was inserted is there.
        let inserts_only = part.updates == 0 && part.kept.is_empty();
        if inserts_only {
            inserted = session.run(&self.insert_staged(part)).await?.rows;
        }
        if inserted < upserts
            && let Some(sql) = self.update_staged(part)
        {
            updated = session.run(&sql).await?.rows;
        }
        // Otherwise each row has met another one.
        let all_met = self.key_is_unique() && updated == upserts;
        if !inserts_only && !all_met {
            self.tell_lost(session, part, outcome).await?;
            inserted = session.run(&self.insert_staged(part)).await?.rows;
        }
        outcome.inserted += inserted;
        outcome.updated += updated;
        outcome.unchanged += upserts.saturating_sub(inserted).saturating_sub(updated);
        Ok(())
    }

    /// Staged rows first, each of which leads to the target's by its key, whatever the server
    /// knows of a table that it has seen for an instant only.
    fn joined(&self, target: &str, called: &str) -> String {
        format!(
            "{} AS s STRAIGHT_JOIN {target} ON {}",
            self.stage,
            self.same_key(called)
        )
    }

    fn delete_staged(&self, part: &StagedPart, deletes: Deletes) -> String {
        let (table, dies) = (&self.table, part.dies());
        match deletes {
            Deletes::Hard => {
                let joined = self.joined(table, table);
                format!("DELETE {table} FROM {joined} WHERE {dies}")
            }
            Deletes::Soft => {
                let joined = self.joined(&format!("{table} AS t"), "t");
                let name = ident(DELETED_AT);
                let mut sets = vec![format!("t.{name} = {}", self.now)];
                sets.extend(self.set_now(&[UPDATED_AT]));
                let sets = list(sets);
                format!("UPDATE {joined} SET {sets} WHERE {dies} AND t.{name} IS NULL")
            }
        }
    }

    fn update_staged(&self, part: &StagedPart) -> Option<String> {
        let joined = self.joined(&format!("{} AS t", self.table), "t");
        let keeps = |at: usize| part.kept.contains(&at).then(|| keeps(at));
        self.update_of(&joined, keeps, &part.lives())
    }

    fn insert_staged(&self, part: &StagedPart) -> String {
        self.insert(&self.absent(part))
    }

    fn absent(&self, part: &StagedPart) -> String {
        let (met, lives, not_met) = (self.met(), part.lives(), self.not_met());
        format!("{met} WHERE {lives} AND {not_met}")
    }

    /// What rows that are not there keep: there is nothing to be kept.
    async fn tell_lost(
        &self,
        session: &mut Session,
        part: &StagedPart,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if part.kept.is_empty() {
            return Ok(());
        }
        let counts = part
            .kept
            .iter()
            .map(|at| format!("COUNT(IF({}, 1, NULL))", keeps(*at)));
        let sql = format!(
            "SELECT {} FROM {} AS s {} AND s.{KEPT} IS NOT NULL",
            list(counts),
            self.stage,
            self.absent(part)
        );
        let counted = session.rows(&sql).await?;
        let counted = counted.first().cloned().unwrap_or_default();
        for (at, column) in part.kept.iter().enumerate() {
            let rows = number(&counted, at).unwrap_or(0);
            let column = self.load.target.columns.get(*column);
            let column = column.ok_or_else(|| Error::bug("a column that is not there is kept"))?;
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
    fn key_is_unique(&self) -> bool {
        let primary = &self.target.key;
        let mut named = primary.iter().map(|name| {
            let mut key = self.load.target.key.iter();
            key.any(|key| key.eq_ignore_ascii_case(name))
        });
        !primary.is_empty() && named.all(|within| within)
    }
}

/// Whether a staged row keeps what the target has in this column.
fn keeps(column: usize) -> String {
    format!(
        "COALESCE(SUBSTRING(s.{KEPT}, {}, 1), '0') = '1'",
        column + 1
    )
}
