//! The last step: what was staged becomes the table or moves into it (invariants 3, 4).
//!
//! Rows that move do so in one transaction, together with the token that says that it was done.
//! A table that takes the place of another does so by one `RENAME TABLE`, which the server
//! carries out whole or not at all and which no transaction can include. So there the token is
//! part of the table itself: the staging table's comment names its load, and goes with it. A
//! target with that comment is what this load has made; whatever is left to do then is done by
//! whoever comes by.

use tideway_core::{
    Error, Kind, Result,
    destination::{CREATED_AT, Disposition, Load, Outcome, UPDATED_AT, Write},
    failpoint,
};

use super::{
    ddl::{Place, create_target, drop_tables, has_changes, idents, is_keyed, token_of},
    evolve,
    history::History,
    lane::BEGIN,
    ledger::Ledger,
    lock,
    merge::Moving,
};
use crate::{
    connect::Session,
    discover::{Described, Fills, describe, number, text},
    sql::{ident, list, literal},
};

/// Whether the staged rows become the table, rather than move into the one that is there.
pub fn takes_place(load: &Load, exists: bool) -> bool {
    let refill = load.truncate_existing || load.disposition == Disposition::Truncate;
    !exists || load.disposition == Disposition::Rebuild || (load.write == Write::Replace && !refill)
}

/// Whether an earlier attempt has carried the load through.
pub async fn is_finished(session: &mut Session, load: &Load, place: &Place) -> Result<bool> {
    if Ledger::beside(place).finished(session, &load.id).await? {
        return Ok(true);
    }
    let target = describe(session, &place.database, &place.name).await?;
    Ok(target.is_some_and(|target| is_made_by(&target, load)))
}

/// Whether this very load has made the table.
pub fn is_made_by(target: &Described, load: &Load) -> bool {
    target.comment.starts_with(&token_of(&load.id))
}

/// What is left to do once the rows are where they belong. May be repeated.
pub async fn settle(session: &mut Session, load: &Load, place: &Place, rows: u64) -> Result<()> {
    let ledger = Ledger::beside(place);
    if !ledger.finished(session, &load.id).await? {
        // The table has changed hands, and its history follows with the token.
        let found = describe(session, &place.database, &place.name).await?;
        if let Some(target) = found
            && let Some(history) = History::prepare(session, load, place, &target).await?
        {
            let now = literal(&now(session).await?);
            for sql in BEGIN {
                session.run(sql).await?;
            }
            history.keep(session, load, &target, &now, None).await?;
        }
        ledger.record_finished(session, load, rows).await?;
        session.run("COMMIT").await?;
    }
    drop_tables(session, &place.all_of(&load.id)).await
}

/// Finishes the load. With `in_place`, a table that is there is kept whatever the load says,
/// for something depends on it.
pub async fn finish(
    session: &mut Session,
    load: &Load,
    place: &Place,
    in_place: bool,
) -> Result<Outcome> {
    lock::take_turn(session, place).await?;
    let outcome = attempt(session, load, place, in_place).await;
    if session.settled() {
        // Nothing, if there is no transaction.
        session.run("ROLLBACK").await?;
        lock::give_up_turn(session, place).await?;
    }
    Ok(Outcome {
        place: place.to_string(),
        ..outcome?
    })
}

async fn attempt(
    session: &mut Session,
    load: &Load,
    place: &Place,
    in_place: bool,
) -> Result<Outcome> {
    let target = describe(session, &place.database, &place.name).await?;
    let made = target
        .as_ref()
        .is_some_and(|target| is_made_by(target, load));
    if made || Ledger::beside(place).finished(session, &load.id).await? {
        settle(session, load, place, 0).await?;
        return Ok(Outcome {
            repeated: true,
            ..Outcome::default()
        });
    }
    let stage = place.stage(&load.id);
    let Some(staged) = describe(session, &stage.database, &stage.name).await? else {
        return Err(Error::drift(format!(
            "what was staged for {place} was removed by someone"
        )));
    };
    let rows = count(session, load, place).await?;
    let outcome = match target {
        Some(target) if in_place || !takes_place(load, true) => {
            move_in(session, load, place, target, rows).await?
        }
        target if has_changes(load) => {
            make_anew(session, load, place, target.is_some(), rows).await?
        }
        target => {
            take_place(session, load, place, &staged, target.as_ref()).await?;
            Outcome {
                inserted: rows,
                ..Outcome::default()
            }
        }
    };
    settle(session, load, place, rows).await?;
    Ok(outcome)
}

/// The rows that are staged. Where there is a key, rows of the same key are one.
async fn count(session: &mut Session, load: &Load, place: &Place) -> Result<u64> {
    let (_, landed) = Ledger::beside(place).landed(session, &load.id).await?;
    if !is_keyed(load) || has_changes(load) {
        return Ok(landed);
    }
    let sql = format!("SELECT COUNT(*) FROM {}", place.stage(&load.id).sql());
    let rows = session.rows(&sql).await?;
    let rows = rows.first().and_then(|row| number(row, 0)).unwrap_or(0);
    if rows < landed {
        let repeated = landed - rows;
        tracing::warn!(table = %place, key = load.target.key.join(", "), rows = repeated, "key repeated, the last row kept");
    }
    Ok(rows)
}

/// The staging table becomes the target. Columns that the load lacks stay, but for a table
/// that is made anew.
async fn take_place(
    session: &mut Session,
    load: &Load,
    place: &Place,
    staged: &Described,
    target: Option<&Described>,
) -> Result<()> {
    let stage = place.stage(&load.id);
    if load.write == Write::Replace && !load.target.key.is_empty() && staged.key.is_empty() {
        key_stage(session, load, place).await?;
    }
    let now = now(session).await?;
    let mut additions = Vec::new();
    let mut defaults = Vec::new();
    for name in load.system_columns() {
        if staged.column(name).is_some() {
            continue;
        }
        let (name, kind) = (ident(name), evolve::stamp_sql(&session.server));
        if [CREATED_AT, UPDATED_AT].map(ident).contains(&name) {
            // As the default of a new column it costs nothing, however many rows there are.
            additions.push(format!(
                "ADD COLUMN {name} {kind} DEFAULT {}",
                literal(&now)
            ));
            defaults.push(format!("ALTER COLUMN {name} SET DEFAULT NULL"));
        } else {
            additions.push(format!("ADD COLUMN {name} {kind}"));
        }
    }
    if let Some(target) = target.filter(|_| load.disposition != Disposition::Rebuild) {
        additions.extend(kept_columns(staged, load, target));
    }
    for actions in [additions, defaults] {
        if !actions.is_empty() {
            let sql = format!("ALTER TABLE {} {}", stage.sql(), list(actions));
            session.run(&sql).await?;
        }
    }
    swap(session, load, place, &stage, target.is_some()).await
}

/// A table becomes the target, and the one that is there goes out of its way.
async fn swap(
    session: &mut Session,
    load: &Load,
    place: &Place,
    made: &Place,
    exists: bool,
) -> Result<()> {
    let mut moves = Vec::new();
    if exists {
        moves.push(format!("{} TO {}", place.sql(), place.old(&load.id).sql()));
    }
    moves.push(format!("{} TO {}", made.sql(), place.sql()));
    lock::alone(session, place, &format!("RENAME TABLE {}", list(moves))).await?;
    failpoint::reach("mysql.renamed");
    Ok(())
}

/// Changes of a table that is not there, or is to be made anew, are put in place elsewhere
/// first: nobody sees the table before its rows.
async fn make_anew(
    session: &mut Session,
    load: &Load,
    place: &Place,
    exists: bool,
    rows: u64,
) -> Result<Outcome> {
    let made = place.made(&load.id);
    drop_tables(session, std::slice::from_ref(&made)).await?;
    create_target(session, load, &made).await?;
    let target = describe(session, &made.database, &made.name).await?;
    let target = target.ok_or_else(|| Error::bug("a table is gone right after it was made"))?;
    let outcome = fill(session, load, place, &target, rows, None).await?;
    session.run("COMMIT").await?;
    failpoint::reach("mysql.made");
    swap(session, load, place, &made, exists).await?;
    Ok(outcome)
}

/// Columns of the target that neither the load nor the staging table has.
fn kept_columns(staged: &Described, load: &Load, target: &Described) -> Vec<String> {
    let system = load.system_columns();
    let kept = target.columns.iter().filter(|column| {
        staged.column(&column.name).is_none()
            && !system.contains(&column.name.as_str())
            && column.fills != Fills::Computed
    });
    kept.map(|column| {
        format!(
            "ADD COLUMN {} {}",
            ident(&column.name),
            evolve::nullable_sql(column)
        )
    })
    .collect()
}

/// Tries to give a staging table whose key may be null its primary key.
async fn key_stage(session: &mut Session, load: &Load, place: &Place) -> Result<()> {
    let sql = format!(
        "ALTER TABLE {} ADD PRIMARY KEY ({})",
        place.stage(&load.id).sql(),
        idents(&load.target.key)
    );
    match session.run(&sql).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind, Kind::Data | Kind::Unsupported) => {
            let key = load.target.key.join(", ");
            tracing::warn!(table = %place, key, %error, "no primary key: some rows have none, or the same");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn move_in(
    session: &mut Session,
    load: &Load,
    place: &Place,
    mut target: Described,
    rows: u64,
) -> Result<Outcome> {
    let missing = || {
        Error::drift(format!(
            "{place} was dropped by someone while it was loaded"
        ))
    };
    // `begin` has done this already, unless the table came or changed meanwhile. It would end
    // a transaction, so it comes before.
    let evolution = evolve::evolution(&target, load, &session.server)?;
    if evolution.is_needed() {
        evolve::apply(session, place, &evolution).await?;
        let found = describe(session, &place.database, &place.name).await?;
        target = found.ok_or_else(missing)?;
    }
    let history = History::prepare(session, load, place, &target).await?;
    let outcome = fill(session, load, place, &target, rows, history.as_ref()).await?;
    Ledger::beside(place)
        .record_finished(session, load, rows)
        .await?;
    failpoint::reach("mysql.applied");
    session.run("COMMIT").await?;
    failpoint::reach("mysql.committed");
    Ok(outcome)
}

/// Begins a transaction and moves the rows, of which there are so many, into the table.
async fn fill(
    session: &mut Session,
    load: &Load,
    place: &Place,
    target: &Described,
    rows: u64,
    history: Option<&History>,
) -> Result<Outcome> {
    let (server, now) = (session.server.clone(), now(session).await?);
    let moving = Moving::new(load, place, target, &server, &now)?;
    for sql in BEGIN {
        session.run(sql).await?;
    }
    let outcome = moving.run(session, rows).await;
    let outcome = outcome.map_err(|error| error.while_(place))?;
    if let Some(history) = history {
        let now = literal(&now);
        history
            .keep(session, load, target, &now, Some(&moving))
            .await?;
    }
    Ok(outcome)
}

async fn now(session: &mut Session) -> Result<String> {
    let rows = session.rows("SELECT UTC_TIMESTAMP(6)").await?;
    Ok(rows.first().map(|row| text(row, 0)).unwrap_or_default())
}
