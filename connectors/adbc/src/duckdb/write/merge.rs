//! Merging by key. A row that differs is deleted and inserted anew rather than updated in
//! place: DuckDB updates column by column and keeps every old value in memory.

mod changes;

use tideway_core::{
    Result,
    destination::{CREATED_AT, DELETED_AT, Deletes, Outcome, UPDATED_AT},
};

pub use self::changes::apply;
use super::{
    Plan,
    finish::{insert, staged_as},
    stage::ROW,
    target::named,
};
use crate::{
    duckdb::{discover::Described, rows, sql},
    session::Session,
};

/// Rows of the table that give way to a staged one: `old` and `row` are the numbers of
/// the two, the other columns are values that stay.
const CHANGED: &str = "temp._tideway_changed";
/// Numbers of the staged rows whose key is new.
const FRESH: &str = "temp._tideway_fresh";

pub async fn merge(session: &Session, plan: &Plan, present: &[Described]) -> Result<Outcome> {
    let merging = Merging::new(plan, present);
    let staged = count(
        session,
        &format!("SELECT count(*)::BIGINT FROM {}", plan.stage.sql()),
    )
    .await?;
    for statement in [merging.find_changed(), merging.find_fresh()] {
        session.execute(statement).await?;
    }
    let met = format!("SELECT count(DISTINCT \"row\")::BIGINT FROM {CHANGED}");
    let met = count(session, &met).await?;
    let updated = session.execute(merging.delete_changed()).await?;
    session.execute(merging.insert_changed()).await?;
    let fresh = format!(" WHERE s.{ROW} IN (SELECT \"row\" FROM {FRESH})");
    let inserted = insert(session, plan, present, &fresh).await?;
    let deleted = merging.delete_vanished(session, "TRUE").await?;
    for table in [CHANGED, FRESH] {
        session.execute(format!("DROP TABLE {table}")).await?;
    }
    Ok(Outcome {
        inserted,
        updated,
        deleted,
        unchanged: staged.saturating_sub(inserted).saturating_sub(met),
        ..Outcome::default()
    })
}

async fn count(session: &Session, sql: &str) -> Result<u64> {
    Ok(rows::number(&session.fetch(sql).await?)?.unsigned_abs())
}

struct Merging<'a> {
    plan: &'a Plan,
    present: &'a [Described],
    target: String,
    stage: String,
    /// Joins the table `t` with the staging table `s`. Null keys match each other.
    same_key: String,
    has_deleted_at: bool,
    /// A column of the table hides DuckDB's row numbers.
    shadowed: bool,
    /// The condition on `s` that makes out the staged rows that are merged.
    which: String,
    /// For each column of the load whether some of those rows keep what is there.
    kept: Vec<bool>,
}

impl<'a> Merging<'a> {
    fn new(plan: &'a Plan, present: &'a [Described]) -> Self {
        let same_key = sql::joined(&plan.load.target.key, " AND ", |column| {
            format!(
                "t.{} IS NOT DISTINCT FROM {}",
                sql::name(column),
                staged_as(present, column)
            )
        });
        Merging {
            plan,
            present,
            target: plan.target.sql(),
            stage: plan.stage.sql(),
            same_key,
            has_deleted_at: named(present, DELETED_AT).is_some(),
            shadowed: named(present, "rowid").is_some(),
            which: "TRUE".to_owned(),
            kept: Vec::new(),
        }
    }

    /// The value that a row is to have in a column.
    fn told(&self, index: usize, column: &str) -> String {
        let staged = staged_as(self.present, column);
        match self.kept.get(index) {
            Some(true) => {
                let (kept, name) = (changes::keeps(index), sql::name(column));
                format!("CASE WHEN {kept} THEN t.{name} ELSE {staged} END")
            }
            _ => staged,
        }
    }

    /// Columns of the table whose values outlive a change of the row.
    fn staying(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .plan
            .extras(self.present)
            .into_iter()
            .filter(|column| column.name != DELETED_AT)
            .map(|column| column.name.clone())
            .collect();
        if self.plan.load.record_timestamps {
            names.push(CREATED_AT.to_owned());
        }
        names
    }

    fn keeps(&self, index: usize) -> bool {
        self.kept.get(index) == Some(&true)
    }

    fn find_changed(&self) -> String {
        let columns = &self.plan.load.target.columns;
        let mut differences: Vec<String> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !self.plan.load.target.key.contains(&column.name))
            .map(|(index, column)| {
                let told = self.told(index, &column.name);
                format!("t.{} IS DISTINCT FROM {told}", sql::name(&column.name))
            })
            .collect();
        if self.has_deleted_at {
            differences.push(format!("t.{} IS NOT NULL", sql::name(DELETED_AT)));
        }
        if differences.is_empty() {
            differences.push("FALSE".to_owned());
        }
        let staying: String = self
            .staying()
            .iter()
            .enumerate()
            .map(|(index, name)| format!(", t.{} AS kept_{index}", sql::name(name)))
            .chain(columns.iter().enumerate().filter_map(|(index, column)| {
                let told = || self.told(index, &column.name);
                self.keeps(index)
                    .then(|| format!(", {} AS told_{index}", told()))
            }))
            .collect();
        let old = if self.shadowed { "NULL" } else { "t.rowid" };
        format!(
            "CREATE TEMP TABLE {CHANGED} AS SELECT {old} AS old, s.{ROW} AS \"row\"{staying} \
             FROM {} AS t JOIN {} AS s ON {} WHERE {} AND ({})",
            self.target,
            self.stage,
            self.same_key,
            self.which,
            differences.join(" OR ")
        )
    }

    fn find_fresh(&self) -> String {
        format!(
            "CREATE TEMP TABLE {FRESH} AS SELECT s.{ROW} AS \"row\" FROM {} AS s \
             WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS t WHERE {})",
            self.stage, self.which, self.target, self.same_key
        )
    }

    fn delete_changed(&self) -> String {
        if self.shadowed {
            return format!(
                "DELETE FROM {} AS t USING {} AS s JOIN {CHANGED} AS c ON c.\"row\" = s.{ROW} WHERE {}",
                self.target, self.stage, self.same_key
            );
        }
        format!(
            "DELETE FROM {} WHERE rowid IN (SELECT old FROM {CHANGED})",
            self.target
        )
    }

    fn insert_changed(&self) -> String {
        let columns = &self.plan.load.target.columns;
        let mut names: Vec<String> = columns
            .iter()
            .map(|column| sql::name(&column.name))
            .collect();
        let mut values: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(index, column)| match self.keeps(index) {
                true => format!("c.told_{index}"),
                false => staged_as(self.present, &column.name),
            })
            .collect();
        for (index, name) in self.staying().iter().enumerate() {
            names.push(sql::name(name));
            values.push(format!("c.kept_{index}"));
        }
        if self.plan.load.record_timestamps {
            names.push(sql::name(UPDATED_AT));
            values.push("now()".to_owned());
        }
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s JOIN {CHANGED} AS c ON c.\"row\" = s.{ROW}",
            self.target,
            names.join(", "),
            values.join(", "),
            self.stage
        )
    }

    /// Handles the keys that were not staged, if the staged rows tell of all that the source
    /// holds. `rows` is the condition on `s` that makes out rows.
    async fn delete_vanished(&self, session: &Session, rows: &str) -> Result<u64> {
        let Some(deletes) = self.plan.load.vanished() else {
            return Ok(0);
        };
        let gone = format!(
            "NOT EXISTS (SELECT 1 FROM {} AS s WHERE {rows} AND {})",
            self.stage, self.same_key
        );
        let statement = match deletes {
            Deletes::Hard => format!("DELETE FROM {} AS t WHERE {gone}", self.target),
            Deletes::Soft => {
                let deleted_at = sql::name(DELETED_AT);
                format!(
                    "UPDATE {} AS t SET {deleted_at} = now() WHERE t.{deleted_at} IS NULL AND {gone}",
                    self.target
                )
            }
        };
        session.execute(statement).await
    }
}
