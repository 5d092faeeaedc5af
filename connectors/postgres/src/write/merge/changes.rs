//! The statements that apply staged changes.

use tideway_core::{
    Column, Error, Note, Op, Result,
    destination::{DELETED_AT, Deletes, Outcome, UPDATED_AT},
};
use tokio_postgres::{Row, Transaction};

use crate::{connect::explain, sql::ident};

use super::{
    super::ddl::{KEPT, OP, cell, list},
    Landing, Moving, execute,
};

/// Rows that were staged together, of which no two have the same key.
pub struct StagedPart {
    /// That brought the rows.
    pub transaction: String,
    inserts: u64,
    updates: u64,
    deletes: u64,
    /// Indexes of the columns of which a row keeps what is there.
    kept: Vec<usize>,
    /// The condition on `s` that makes out its rows, with an `AND` before it.
    which: String,
}

impl StagedPart {
    pub fn rows(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    fn of(row: &Row, several: bool, ranged: bool) -> Result<StagedPart> {
        let count = |at| cell::<i64>(row, at).map(i64::unsigned_abs);
        let kept: Option<String> = cell(row, 3)?;
        let kept = kept.unwrap_or_default();
        let kept = kept.bytes().enumerate().filter(|(_, bit)| *bit == b'1');
        let transaction: String = cell(row, 4)?;
        let mut which = String::new();
        if several {
            which = format!(" AND s.xmin = '{transaction}'::xid");
        }
        if ranged {
            let (first, last): (String, String) = (cell(row, 5)?, cell(row, 6)?);
            which += &format!(" AND s.ctid BETWEEN '{first}'::tid AND '{last}'::tid");
        }
        Ok(StagedPart {
            transaction,
            inserts: count(0)?,
            updates: count(1)?,
            deletes: count(2)?,
            kept: kept.map(|(at, _)| at).collect(),
            which,
        })
    }
}

impl Moving<'_> {
    /// What is staged, by the transactions that brought it if there are `several`; with
    /// their places, where the server finds rows by them.
    pub async fn staged_parts(
        &self,
        transaction: &Transaction<'_>,
        several: bool,
        ranged: bool,
    ) -> Result<Vec<StagedPart>> {
        let count = |op: Op| format!("count(*) FILTER (WHERE s.{OP} = {})", op as u8);
        let mut wanted = vec![
            count(Op::Insert),
            count(Op::Update),
            count(Op::Delete),
            format!("bit_or(s.{KEPT})::text"),
        ];
        wanted.push(match several {
            true => "s.xmin::text".to_owned(),
            false => "''".to_owned(),
        });
        if ranged {
            wanted.extend(["min(s.ctid)::text", "max(s.ctid)::text"].map(str::to_owned));
        }
        let (wanted, stage) = (list(wanted), &self.stage);
        let grouped = if several { " GROUP BY s.xmin" } else { "" };
        let sql = format!("SELECT {wanted} FROM {stage} s{grouped}");
        let rows = transaction.query(&sql, &[]).await.map_err(explain)?;
        let mut parts = Vec::with_capacity(rows.len());
        for row in &rows {
            let part = StagedPart::of(row, several, ranged)?;
            parts.extend((part.rows() > 0).then_some(part));
        }
        Ok(parts)
    }

    /// Applies one part.
    pub async fn apply(
        &self,
        transaction: &Transaction<'_>,
        part: &StagedPart,
        deletes: Deletes,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        if part.deletes > 0 {
            let sql = self.delete_staged(part, deletes);
            outcome.deleted = execute(transaction, &sql).await?;
        }
        let upserts = part.inserts + part.updates;
        if upserts == 0 {
            return Ok(outcome);
        }
        let update = async || match self.update_staged(part) {
            Some(sql) => execute(transaction, &sql).await,
            None => Ok(0),
        };
        let insert = async || execute(transaction, &self.insert_staged(part)).await;
        if part.updates == 0 && part.kept.is_empty() {
            // Most often none of them is there.
            outcome.inserted = insert().await?;
            if outcome.inserted < upserts {
                outcome.updated = update().await?;
            }
        } else {
            outcome.updated = update().await?;
            // Each row has met another one.
            let all_met = self.target.in_key(&self.load.target.key) && outcome.updated == upserts;
            if !all_met {
                outcome.notes = self.lost(transaction, part).await?;
                outcome.inserted = insert().await?;
            }
        }
        let touched = outcome.inserted + outcome.updated;
        outcome.unchanged = upserts.saturating_sub(touched);
        Ok(outcome)
    }

    fn delete_staged(&self, part: &StagedPart, deletes: Deletes) -> String {
        let (table, stage) = (&self.table, &self.stage);
        let (same_key, which, code) = (self.same_key(), &part.which, Op::Delete as u8);
        let gone = format!("{same_key} AND s.{OP} = {code}{which}");
        match deletes {
            Deletes::Hard => format!("DELETE FROM {table} t USING {stage} s WHERE {gone}"),
            Deletes::Soft => {
                let name = ident(DELETED_AT);
                let mut sets = vec![format!("{name} = now()")];
                sets.extend(self.set_now(&[UPDATED_AT]));
                let sets = list(sets);
                format!(
                    "UPDATE {table} t SET {sets} FROM {stage} s WHERE t.{name} IS NULL AND {gone}"
                )
            }
        }
    }

    /// The condition on `s` that makes out the rows of a part that are there afterwards.
    fn lives(part: &StagedPart) -> String {
        match part.deletes {
            0 => format!("true{}", part.which),
            _ => format!("s.{OP} <> {}{}", Op::Delete as u8, part.which),
        }
    }

    fn absent(&self, part: &StagedPart) -> String {
        let matches = self.matches(&self.table, "t");
        format!("WHERE {} AND NOT EXISTS ({matches})", Self::lives(part))
    }

    fn insert_staged(&self, part: &StagedPart) -> String {
        self.insert(&self.absent(part))
    }

    fn update_staged(&self, part: &StagedPart) -> Option<String> {
        let set = |at: usize, landing: &Landing| match part.kept.contains(&at) {
            true => format!(
                "{0} = CASE WHEN {1} THEN t.{0} ELSE {2} END",
                landing.name,
                keeps(at),
                landing.put
            ),
            false => format!("{} = {}", landing.name, landing.put),
        };
        // A value that is kept is not looked at: it may be large.
        let told = |at: usize, value: &str| match part.kept.contains(&at) {
            true => format!("CASE WHEN {} THEN NULL ELSE {value} END", keeps(at)),
            false => value.to_owned(),
        };
        self.update_where(set, told, &Self::lives(part))
    }

    /// What rows that are not there keep: there is nothing to be kept.
    async fn lost(&self, transaction: &Transaction<'_>, part: &StagedPart) -> Result<Vec<Note>> {
        if part.kept.is_empty() {
            return Ok(Vec::new());
        }
        let counts = part
            .kept
            .iter()
            .map(|at| format!("count(*) FILTER (WHERE {})", keeps(*at)));
        let sql = format!(
            "SELECT {} FROM {} s {} AND s.{KEPT} IS NOT NULL",
            list(counts),
            self.stage,
            self.absent(part)
        );
        let row = transaction.query_one(&sql, &[]).await.map_err(explain)?;
        let mut notes = Vec::new();
        for (at, column) in part.kept.iter().enumerate() {
            let rows = cell::<i64>(&row, at)?.unsigned_abs();
            let column: Option<&Column> = self.load.target.columns.get(*column);
            let column = column.ok_or_else(|| Error::bug("a column that is not there is kept"))?;
            if rows > 0 {
                notes.push(Note {
                    column: column.name.clone(),
                    what: "value kept by a row that is not there stored as null".to_owned(),
                    rows,
                });
            }
        }
        Ok(notes)
    }
}

fn keeps(column: usize) -> String {
    format!("get_bit(s.{KEPT}, {column}) = 1")
}
