//! Applying staged changes, part by part.

use tideway_core::{
    Note, Op, Result,
    destination::{DELETED_AT, Deletes, Outcome},
};

use super::{
    super::{
        Plan,
        finish::insert,
        stage::{KEPT, OP, PART_END, ROW},
    },
    CHANGED, FRESH, Merging, count,
};
use crate::{
    duckdb::{
        discover::Described,
        rows::{self, Text},
        sql,
    },
    session::Session,
};

/// Rows that were staged together, of which no two have the same key.
struct Part {
    id: String,
    /// The condition on `s` that makes out its rows.
    which: String,
}

/// Applies the parts in the order of their ids.
pub async fn apply(
    session: &Session,
    plan: &Plan,
    present: &[Described],
    deletes: Deletes,
) -> Result<Outcome> {
    // The rows that end parts have no key, and neither has a key of nulls.
    let rows = format!("s.{OP} <> {PART_END}");
    let merging = Merging::new(plan, present);
    let mut outcome = Outcome {
        deleted: merging.delete_vanished(session, &rows).await?,
        ..Outcome::default()
    };
    for part in parts(session, plan).await? {
        let kept = kept(session, plan, &part).await?;
        let merging = Merging {
            which: format!("{} AND s.{OP} <> {}", part.which, Op::Delete as u8),
            kept,
            ..Merging::new(plan, present)
        };
        outcome.deleted += delete(session, &merging, &part, deletes).await?;
        upsert(session, &merging, &mut outcome).await?;
    }
    Ok(outcome)
}

async fn parts(session: &Session, plan: &Plan) -> Result<Vec<Part>> {
    let ends = session
        .fetch(format!(
            "SELECT {KEPT}, CAST({ROW} AS VARCHAR) FROM {} WHERE {OP} = {PART_END} ORDER BY {ROW}",
            plan.stage.sql()
        ))
        .await?;
    let (ids, ends) = (Text::column(&ends, 0)?, Text::column(&ends, 1)?);
    let mut parts = Vec::with_capacity(ids.len());
    let mut before = "-1".to_owned();
    for (id, end) in ids.into_iter().flatten().zip(ends.into_iter().flatten()) {
        let which = format!("s.{ROW} > {before} AND s.{ROW} < {end}");
        before = end;
        parts.push(Part { id, which });
    }
    parts.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(parts)
}

/// For each column whether some row of the part keeps what is there.
async fn kept(session: &Session, plan: &Plan, part: &Part) -> Result<Vec<bool>> {
    let masks = session
        .fetch(format!(
            "SELECT DISTINCT {KEPT} FROM {} AS s WHERE {} AND {KEPT} IS NOT NULL",
            plan.stage.sql(),
            part.which
        ))
        .await?;
    let masks: Vec<String> = Text::column(&masks, 0)?.into_iter().flatten().collect();
    let keeps = |at: usize| {
        masks
            .iter()
            .any(|mask| mask.as_bytes().get(at) == Some(&b'1'))
    };
    Ok((0..plan.load.target.columns.len()).map(keeps).collect())
}

async fn delete(
    session: &Session,
    merging: &Merging<'_>,
    part: &Part,
    deletes: Deletes,
) -> Result<u64> {
    let gone = format!(
        "{} AND {} AND s.{OP} = {}",
        merging.same_key,
        part.which,
        Op::Delete as u8
    );
    let (target, stage) = (&merging.target, &merging.stage);
    let statement = match deletes {
        Deletes::Hard => format!("DELETE FROM {target} AS t USING {stage} AS s WHERE {gone}"),
        Deletes::Soft => {
            let name = sql::name(DELETED_AT);
            format!(
                "UPDATE {target} AS t SET {name} = now() FROM {stage} AS s \
                 WHERE t.{name} IS NULL AND {gone}"
            )
        }
    };
    session.execute(statement).await
}

async fn upsert(session: &Session, merging: &Merging<'_>, outcome: &mut Outcome) -> Result<()> {
    let upserts = format!(
        "SELECT count(*)::BIGINT FROM {} AS s WHERE {}",
        merging.stage, merging.which
    );
    let upserts = count(session, &upserts).await?;
    if upserts == 0 {
        return Ok(());
    }
    session.execute(merging.find_changed()).await?;
    session.execute(merging.find_fresh()).await?;
    tell_lost(session, merging, outcome).await?;
    let updated = session.execute(merging.delete_changed()).await?;
    session.execute(merging.insert_changed()).await?;
    let fresh = format!(" WHERE s.{ROW} IN (SELECT \"row\" FROM {FRESH})");
    let inserted = insert(session, merging.plan, merging.present, &fresh).await?;
    for table in [CHANGED, FRESH] {
        session.execute(format!("DROP TABLE {table}")).await?;
    }
    outcome.updated += updated;
    outcome.inserted += inserted;
    outcome.unchanged += upserts.saturating_sub(updated).saturating_sub(inserted);
    Ok(())
}

/// What rows that are not there keep: there is nothing to be kept.
async fn tell_lost(session: &Session, merging: &Merging<'_>, outcome: &mut Outcome) -> Result<()> {
    for (index, column) in merging.plan.load.target.columns.iter().enumerate() {
        if !merging.keeps(index) {
            continue;
        }
        let lost = format!(
            "SELECT count(*)::BIGINT FROM {} AS s WHERE {} AND s.{ROW} IN (SELECT \"row\" FROM {FRESH})",
            merging.stage,
            keeps(index)
        );
        let lost = rows::number(&session.fetch(lost).await?)?.unsigned_abs();
        let mut known = outcome.notes.iter_mut();
        match known.find(|note| note.column == column.name) {
            _ if lost == 0 => {}
            Some(note) => note.rows += lost,
            None => outcome.notes.push(Note {
                column: column.name.clone(),
                what: "value kept by a row that is not there stored as null".to_owned(),
                rows: lost,
            }),
        }
    }
    Ok(())
}

/// The condition on `s` that a row keeps what is there in the column of that index.
pub fn keeps(index: usize) -> String {
    format!("coalesce(substr(s.{KEPT}, {}, 1), '0') = '1'", index + 1)
}
