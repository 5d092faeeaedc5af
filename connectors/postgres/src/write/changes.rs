//! Loads of changes: small ones come one after the other into the same table, so beginning
//! and finishing one takes few round trips, and one may be staged while another is in its
//! last step.

use std::collections::HashMap;

use futures::try_join;
use tideway_core::{
    Error, Result,
    destination::{Deletes, Disposition, Load, Outcome},
    failpoint,
};
use tokio_postgres::{GenericClient, Statement, Transaction, types::ToSql};

use crate::connect::{Session, explain};

use super::{
    Begun,
    ddl::{
        self, Described, Place, cell, declaration, describe, describe_by, describing, idents, list,
        stage_sql,
    },
    evolve,
    finish::{drop_target, ensure_shape},
    history,
    ledger::Ledger,
    lock,
    merge::{Moving, StagedPart},
    transaction,
};

/// The statements that every load of changes asks the same.
struct Asked {
    state: Statement,
    table: Statement,
    columns: Statement,
}

impl Asked {
    async fn of(session: &Session, ledger: &Ledger) -> Result<Asked> {
        let [table, columns] = describing();
        let state = ledger.state_sql();
        let (state, table, columns) = try_join!(
            session.statement(&state),
            session.statement(&table),
            session.statement(&columns),
        )?;
        Ok(Asked {
            state,
            table,
            columns,
        })
    }

    async fn describe<C: GenericClient>(
        &self,
        client: &C,
        place: &Place,
    ) -> Result<Option<Described>> {
        describe_by(client, place, &self.table, &self.columns).await
    }

    async fn state<C: GenericClient>(
        &self,
        client: &C,
        load: &Load,
        place: &Place,
    ) -> Result<State> {
        let stage = place.stage(&load.id);
        let names: [&(dyn ToSql + Sync); 3] = [&load.id, &stage.schema, &stage.name];
        let row = client.query_one(&self.state, &names).await;
        let row = row.map_err(explain)?;
        Ok(State {
            finished: cell(&row, 0)?,
            has_parts: cell(&row, 1)?,
            has_stage: cell(&row, 2)?,
        })
    }
}

/// What is known of a load.
struct State {
    finished: bool,
    has_parts: bool,
    has_stage: bool,
}

/// Begins a load that nothing is known of yet, into a table that fits it as it is. Nothing
/// where it is otherwise.
///
/// Nobody can be in the last step of such a load, so this one does not wait for whoever is
/// in that of another.
pub(super) async fn begin(session: &Session, load: &Load, place: &Place) -> Result<Option<Begun>> {
    if load.disposition != Disposition::Retain || load.target.partition_key.is_some() {
        return Ok(None);
    }
    if let Ok(Some(begun)) = try_begin(session, load, place).await {
        return Ok(Some(begun));
    }
    // What is wrong, if anything is, shows when it is begun like any other load.
    session.run("ROLLBACK").await?;
    Ok(None)
}

async fn try_begin(session: &Session, load: &Load, place: &Place) -> Result<Option<Begun>> {
    let asked = Asked::of(session, &Ledger::beside(place)).await?;
    let ((), state, target) = try_join!(
        transaction::begin_by_hand(session),
        asked.state(&**session, load, place),
        asked.describe(&**session, place),
    )?;
    let Some(target) = target.filter(|_| !state.finished && !state.has_parts && !state.has_stage)
    else {
        return Ok(None);
    };
    let evolution = evolve::evolution(&target, load)?;
    if evolution.is_needed() || !evolve::finds_by_key(&**session, &target, &load.target.key).await?
    {
        return Ok(None);
    }
    let moving = Moving::new(load, place, &target)?;
    moving.check_conversions(&**session).await?;
    // The table alone is no loss: nothing durable is in it before a commit that waits for
    // the disk, and that takes this one along.
    let make = stage_sql(load, &place.stage(&load.id));
    let sql = format!("SET LOCAL synchronous_commit = off; {make}; COMMIT");
    session.run(&sql).await?;
    Ok(Some(Begun {
        changes: evolution.changes,
        ..Begun::default()
    }))
}

/// Applies what was staged, part by part, in one transaction (invariants 3, 4).
pub async fn finish(
    session: &mut Session,
    load: &Load,
    place: &Place,
    deletes: Deletes,
    in_place: bool,
) -> Result<Outcome> {
    let ledger = Ledger::beside(place);
    let asked = Asked::of(session, &ledger).await?;
    let parts = session.statement(&ledger.parts_sql()).await?;
    let (turn, version) = (session.statement(lock::TAKE_TURN).await?, session.version);
    let mut transaction = transaction::begin(session).await?;
    let name = lock::turn(place);
    let taken = async {
        let taken = transaction.execute(&turn, &[&name]).await;
        taken.map_err(explain)
    };
    let landed = async {
        let rows = transaction.query(&parts, &[&load.id]).await;
        rows.map_err(explain)
    };
    let (_, state, landed, target) = try_join!(
        taken,
        asked.state(&transaction, load, place),
        landed,
        asked.describe(&transaction, place),
    )?;
    if state.finished {
        return Ok(Outcome {
            repeated: true,
            ..Outcome::default()
        });
    }
    if !state.has_stage {
        return Err(removed(place));
    }
    let mut tokens = Vec::new();
    for row in &landed {
        tokens.push(Token {
            part: cell(row, 0)?,
            rows: cell::<i64>(row, 1)?.unsigned_abs(),
            transaction: cell(row, 2)?,
        });
    }
    tokens.sort_by(|left, right| left.part.cmp(&right.part));
    let rows: u64 = tokens.iter().map(|token| token.rows).sum();

    let target = ready(&mut transaction, load, place, target, in_place).await?;
    let moving = Moving::new(load, place, &target)?;
    if load.disposition == Disposition::Truncate {
        lock::lock_table(&mut transaction, place).await?;
        moving.empty(&transaction).await?;
    }
    if rows > LARGE {
        transaction.batch_execute(ROOM).await.map_err(explain)?;
    }
    let ranged = tokens.len() > 1 && version >= RANGES_SINCE;
    let staged = moving
        .staged_parts(&transaction, tokens.len() > 1, ranged)
        .await?;
    let mut outcome = Outcome {
        deleted: moving.delete_vanished(&transaction).await?,
        ..Outcome::default()
    };
    for part in in_order(place, tokens, staged)? {
        let done = moving.apply(&transaction, &part, deletes).await?;
        outcome.inserted += done.inserted;
        outcome.updated += done.updated;
        outcome.deleted += done.deleted;
        outcome.unchanged += done.unchanged;
        add_notes(&mut outcome, done);
    }
    history::keep(&mut transaction, load, place, Some(&moving)).await?;
    let drop = format!("DROP TABLE {}", place.stage(&load.id).sql());
    let close = ledger.close_sql(load, rows);
    let end = format!("{drop}; {close}");
    transaction.batch_execute(&end).await.map_err(explain)?;
    failpoint::reach("postgres.applied");
    transaction.commit().await.map_err(explain)?;
    failpoint::reach("postgres.committed");
    Ok(outcome)
}

/// From this many rows on, joins are given more room than servers usually give.
const LARGE: u64 = 10_000;
const ROOM: &str = "SELECT pg_catalog.set_config('work_mem', '64MB', true) \
    WHERE pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) < 67108864";

/// Servers read a range of a table's rows by their places since this version.
const RANGES_SINCE: u32 = 140_000;

/// A part that has landed, by its token in the ledger.
struct Token {
    part: String,
    rows: u64,
    transaction: String,
}

fn removed(place: &Place) -> Error {
    Error::drift(format!(
        "what was staged for {place} was removed by someone"
    ))
}

/// The staged parts in the order of their ids. A part and its token came in the same
/// transaction, which is how they are found to belong together.
fn in_order(place: &Place, tokens: Vec<Token>, staged: Vec<StagedPart>) -> Result<Vec<StagedPart>> {
    let count = staged.len();
    let alone = tokens.len() == 1;
    let mut staged: HashMap<String, StagedPart> = staged
        .into_iter()
        .map(|part| (part.transaction.clone(), part))
        .collect();
    let mut parts = Vec::with_capacity(count);
    for token in tokens {
        let found = match alone {
            true => staged.drain().map(|(_, part)| part).next(),
            false => staged.remove(&token.transaction),
        };
        if found.as_ref().map_or(0, StagedPart::rows) != token.rows {
            return Err(removed(place));
        }
        parts.extend(found);
    }
    match staged.is_empty() {
        true => Ok(parts),
        false => Err(Error::bug(format!(
            "rows of no part are staged for {place}"
        ))),
    }
}

fn add_notes(outcome: &mut Outcome, done: Outcome) {
    for note in done.notes {
        let mut same = outcome.notes.iter_mut();
        match same.find(|known| known.column == note.column && known.what == note.what) {
            Some(known) => known.rows += note.rows,
            None => outcome.notes.push(note),
        }
    }
}

/// The target as the load needs it. `begin` has seen to that already, unless it came, went
/// or changed meanwhile, or is to be made anew.
async fn ready(
    transaction: &mut Transaction<'_>,
    load: &Load,
    place: &Place,
    target: Option<Described>,
    in_place: bool,
) -> Result<Described> {
    let rebuilds = load.disposition == Disposition::Rebuild;
    match target {
        None => create(transaction, load, place).await?,
        Some(target) if !rebuilds => return ensure_shape(transaction, load, place, target).await,
        Some(target) => {
            lock::lock_table(transaction, place).await?;
            if !in_place && drop_target(transaction, place).await? {
                create(transaction, load, place).await?;
            } else {
                let target = ensure_shape(transaction, load, place, target).await?;
                Moving::new(load, place, &target)?
                    .empty(transaction)
                    .await?;
            }
        }
    }
    let made = describe(transaction, place).await?;
    made.ok_or_else(|| Error::bug(format!("{place} is not there right after it was made")))
}

async fn create(transaction: &Transaction<'_>, load: &Load, place: &Place) -> Result<()> {
    let data = load.target.columns.iter().map(declaration);
    let system = load.system_columns();
    let system = system
        .iter()
        .map(|name| format!("{} timestamptz", crate::sql::ident(name)));
    let key = format!("PRIMARY KEY ({})", idents(ddl::key(load)));
    let columns = list(data.chain(system).chain([key]));
    let sql = format!("CREATE TABLE {} ({columns})", place.sql());
    transaction.batch_execute(&sql).await.map_err(explain)
}
