//! The last step of a load, in one transaction that ends with the token of the whole.

use tideway_core::{
    Error, Result,
    destination::{CREATED_AT, Disposition, Outcome, UPDATED_AT, Write},
    failpoint,
};

use super::{
    Plan,
    history::History,
    merge,
    stage::ROW,
    target::{self, named},
    tokens,
};
use crate::{
    duckdb::{
        discover::{self, Described, Found},
        rows,
        sql::{self, Place},
    },
    session::Session,
};

/// Repeatable: after a crash at any point it does what is left, or finds it done.
pub async fn finish(session: &Session, plan: &Plan) -> Result<Outcome> {
    let outcome = Outcome {
        place: plan.target.shown(),
        ..Outcome::default()
    };
    if tokens::is_there(session, &plan.tokens, &plan.load.id, "").await? {
        return Ok(Outcome {
            repeated: true,
            ..outcome
        });
    }
    let staged = columns(session, &plan.stage).await?.ok_or_else(|| {
        Error::missing(format!("the staging table {} is gone", plan.stage.shown()))
            .hint("start the sync again; it stages everything anew")
    })?;
    if plan.merges() {
        without_duplicates(session, plan).await?;
    }
    let mut present = columns(session, &plan.target).await?;
    let swaps = !plan.takes_changes()
        && is_whole(plan, &staged)
        && (present.is_none() || !plan.keeps_table());
    let renews = plan.takes_changes() && !plan.keeps_table();
    if swaps {
        fit(session, plan, &staged, present.as_deref()).await?;
    } else if present.is_none() {
        // The table was dropped since `begin`, or a stream begins with an empty one.
        target::create(session, plan).await?;
        present = columns(session, &plan.target).await?;
    }

    let shape = match swaps || renews {
        true => columns(session, &plan.stage).await?,
        false => present.clone(),
    };
    let history = History::prepare(session, plan, &shape.unwrap_or_default()).await?;

    session.execute("BEGIN TRANSACTION").await?;
    if renews && present.is_some() {
        present = match renew(session, plan).await {
            Ok(present) => present,
            Err(error) => {
                let _ = session.execute("ROLLBACK").await;
                return Err(error.while_(format!("finishing {}", plan.target.shown())));
            }
        };
    }
    let done = match (&present, swaps) {
        (_, true) => swap(session, plan, &staged, history.as_ref()).await,
        (Some(present), false) => fill(session, plan, present, history.as_ref()).await,
        (None, false) => Err(Error::conflict(format!("{} is gone", plan.target.shown()))),
    };
    let ended = match done {
        Ok(counts) => end(session, plan).await.map(|()| counts),
        Err(error) => Err(error),
    };
    match ended {
        Ok(counts) => Ok(Outcome {
            place: outcome.place,
            ..counts
        }),
        Err(error) => {
            let _ = session.execute("ROLLBACK").await;
            Err(error.while_(format!("finishing {}", plan.target.shown())))
        }
    }
}

pub async fn columns(session: &Session, place: &Place) -> Result<Option<Vec<Described>>> {
    match discover::find(session, place).await? {
        Found::Table(columns) => Ok(Some(columns)),
        Found::Nothing => Ok(None),
        Found::View => Err(Error::conflict(format!("{} is a view", place.shown()))),
    }
}

/// The staging table has every column that the table is to have.
fn is_whole(plan: &Plan, staged: &[Described]) -> bool {
    plan.load
        .system_columns()
        .iter()
        .all(|name| named(staged, name).is_some())
}

/// Of several rows with one key, the last stays. A transaction of its own, as DuckDB
/// cannot delete from a table and alter it in the same one; doing it twice is harmless.
async fn without_duplicates(session: &Session, plan: &Plan) -> Result<()> {
    let stage = plan.stage.sql();
    let key = sql::list(&plan.load.target.key, |column| sql::name(column));
    let doubled = session
        .execute(format!(
            "DELETE FROM {stage} WHERE {ROW} NOT IN (SELECT max({ROW}) FROM {stage} GROUP BY {key})"
        ))
        .await?;
    if doubled > 0 {
        tracing::warn!(
            table = plan.target.shown(),
            rows = doubled,
            "rows with a key that came again later were left out"
        );
    }
    Ok(())
}

/// Widens staged columns to what the table that they replace has.
async fn fit(
    session: &Session,
    plan: &Plan,
    staged: &[Described],
    present: Option<&[Described]>,
) -> Result<()> {
    if plan.load.disposition == Disposition::Rebuild {
        return Ok(());
    }
    let stage = plan.stage.sql();
    for old in present.unwrap_or_default() {
        let Some(new) = named(staged, &old.name).filter(|new| new.data_type != old.data_type)
        else {
            continue;
        };
        let name = sql::name(&new.name);
        session
            .execute(format!(
                "ALTER TABLE {stage} ALTER COLUMN {name} SET DATA TYPE {}",
                old.data_type
            ))
            .await?;
        let (is, should) = (new.comment.as_deref(), old.comment.as_deref());
        if let Some(statement) = target::comment_on(&stage, &new.name, is, should) {
            session.execute(statement).await?;
        }
    }
    Ok(())
}

/// The staging table becomes the table.
async fn swap(
    session: &Session,
    plan: &Plan,
    staged: &[Described],
    history: Option<&History>,
) -> Result<Outcome> {
    let (stage, target) = (plan.stage.sql(), plan.target.sql());
    let count = format!("SELECT count(*)::BIGINT FROM {stage}");
    let inserted = rows::number(&session.fetch(count).await?)?.unsigned_abs();
    if named(staged, ROW).is_some() {
        session
            .execute(format!("ALTER TABLE {stage} DROP COLUMN {ROW}"))
            .await?;
    }
    session
        .execute(format!("DROP TABLE IF EXISTS {target}"))
        .await?;
    session
        .execute(format!(
            "ALTER TABLE {stage} RENAME TO {}",
            sql::name(&plan.target.table)
        ))
        .await?;
    if let Some(history) = history {
        history.keep(session, plan, false).await?;
    }
    Ok(Outcome {
        inserted,
        ..Outcome::default()
    })
}

/// The table is made anew, without rows.
async fn renew(session: &Session, plan: &Plan) -> Result<Option<Vec<Described>>> {
    let drop = format!("DROP TABLE {}", plan.target.sql());
    session.execute(drop).await?;
    target::create(session, plan).await?;
    columns(session, &plan.target).await
}

/// The staged rows go into the table.
async fn fill(
    session: &Session,
    plan: &Plan,
    present: &[Described],
    history: Option<&History>,
) -> Result<Outcome> {
    let empties = plan.empties_table();
    if empties {
        session
            .execute(format!("DELETE FROM {}", plan.target.sql()))
            .await?;
    }
    let outcome = match plan.load.write {
        Write::Changes { deletes, .. } => merge::apply(session, plan, present, deletes).await?,
        Write::Merge { .. } if !empties => merge::merge(session, plan, present).await?,
        _ => Outcome {
            inserted: insert(session, plan, present, "").await?,
            ..Outcome::default()
        },
    };
    if let Some(history) = history {
        history.keep(session, plan, true).await?;
    }
    session
        .execute(format!("DROP TABLE {}", plan.stage.sql()))
        .await?;
    Ok(outcome)
}

/// Adds staged rows that are new; `condition` is a WHERE clause over them, or nothing.
pub async fn insert(
    session: &Session,
    plan: &Plan,
    present: &[Described],
    condition: &str,
) -> Result<u64> {
    let columns = &plan.load.target.columns;
    let mut names: Vec<String> = columns
        .iter()
        .map(|column| sql::name(&column.name))
        .collect();
    let mut values: Vec<String> = columns
        .iter()
        .map(|column| staged_as(present, &column.name))
        .collect();
    for stamp in [CREATED_AT, UPDATED_AT] {
        if plan.load.record_timestamps && named(present, stamp).is_some() {
            names.push(sql::name(stamp));
            values.push("now()".to_owned());
        }
    }
    session
        .execute(format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} AS s{condition}",
            plan.target.sql(),
            names.join(", "),
            values.join(", "),
            plan.stage.sql()
        ))
        .await
}

/// A staged value in the type that the table has for it.
pub fn staged_as(present: &[Described], column: &str) -> String {
    let value = format!("s.{}", sql::name(column));
    match named(present, column) {
        Some(found) => format!("CAST({value} AS {})", found.data_type),
        None => value,
    }
}

async fn end(session: &Session, plan: &Plan) -> Result<()> {
    session.execute(tokens::removal(plan)).await?;
    let token = tokens::insertion(&plan.tokens, &plan.load.id, "", 0);
    session.execute(token).await?;
    failpoint::reach("duckdb.applied");
    session.execute("COMMIT").await?;
    failpoint::reach("duckdb.committed");
    Ok(())
}
