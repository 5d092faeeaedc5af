//! The last step: what was staged becomes the table or moves into it. Everything here
//! runs in one transaction, with the token that says that it was done (invariants 3, 4).

use std::collections::HashSet;

use tideway_core::{
    Error, Kind, Result,
    destination::{CREATED_AT, Disposition, Load, Outcome, UPDATED_AT, Write},
    failpoint,
};
use tokio_postgres::{Transaction, error::SqlState};

use crate::{
    connect::{Session, explain},
    sql::ident,
};

use super::{
    changes,
    ddl::{self, Described, Fills, OWN_PREFIX, Place, describe, idents, is_taken, list},
    evolve, history,
    ledger::Ledger,
    lock,
    merge::Moving,
    transaction,
};

/// Names are cut by the server behind this many bytes.
const MOST_NAME_BYTES: usize = 63;

/// Whether the staged rows become the table, rather than move into the one that is there.
pub fn takes_place(load: &Load, exists: bool) -> bool {
    let refill = load.truncate_existing || load.disposition == Disposition::Truncate;
    !exists || load.disposition == Disposition::Rebuild || (load.write == Write::Replace && !refill)
}

/// Finishes the load. With `in_place`, a table that is there is kept whatever the load
/// says, for something depends on it.
pub async fn finish(
    session: &mut Session,
    load: &Load,
    place: &Place,
    in_place: bool,
) -> Result<Outcome> {
    let attempt = match load.write {
        Write::Changes { deletes, .. } => {
            changes::finish(session, load, place, deletes, in_place).await
        }
        _ => attempt(session, load, place, in_place).await,
    };
    let error = match attempt {
        Ok(outcome) => {
            return Ok(Outcome {
                place: place.to_string(),
                ..outcome
            });
        }
        Err(error) => error,
    };
    Err(match error.kind {
        Kind::Data => name_column(session, load, place, error).await,
        _ => error,
    })
}

async fn attempt(
    session: &mut Session,
    load: &Load,
    place: &Place,
    in_place: bool,
) -> Result<Outcome> {
    let ledger = Ledger::beside(place);
    let mut transaction = transaction::begin(session).await?;
    lock::take_turn(&transaction, place).await?;
    if ledger.finished(&transaction, &load.id).await? {
        return Ok(Outcome {
            repeated: true,
            ..Outcome::default()
        });
    }
    let stage = place.stage(&load.id);
    if describe(&transaction, &stage).await?.is_none() {
        return Err(Error::drift(format!(
            "what was staged for {place} was removed by someone"
        )));
    }
    let (_, landed) = ledger.landed(&transaction, &load.id).await?;
    let staged = landed.saturating_sub(key_stage(&mut transaction, load, place).await?);
    let target = describe(&transaction, place).await?;
    let swap = takes_place(load, target.is_some()) && !(in_place && target.is_some());
    let outcome = if swap && take_place(&mut transaction, load, place, target.as_ref()).await? {
        Outcome {
            inserted: staged,
            ..Outcome::default()
        }
    } else {
        move_in(&mut transaction, load, place, staged).await?
    };
    let close = ledger.close_sql(load, staged);
    transaction.batch_execute(&close).await.map_err(explain)?;
    failpoint::reach("postgres.applied");
    transaction.commit().await.map_err(explain)?;
    failpoint::reach("postgres.committed");
    Ok(outcome)
}

/// Gives the staging table its primary key, and says how many rows had to go for it.
async fn key_stage(transaction: &mut Transaction<'_>, load: &Load, place: &Place) -> Result<u64> {
    let key = ddl::key(load);
    if key.is_empty() || add_key(transaction, load, place).await? {
        return Ok(0);
    }
    let (stage, columns) = (place.stage(&load.id).sql(), idents(key));
    let merged = matches!(load.write, Write::Merge { .. });
    let nulls: Vec<String> = key
        .iter()
        .map(|name| format!("{} IS NULL", ident(name)))
        .collect();
    let nulls = nulls.join(" OR ");
    let execute = async |sql: String| transaction.execute(&sql, &[]).await.map_err(explain);
    // Merging finds rows by their keys. The lane has told of the rows without one.
    let keyless = match merged {
        true => execute(format!("DELETE FROM {stage} WHERE {nulls}")).await?,
        false => 0,
    };
    let repeated = execute(format!(
        "DELETE FROM {stage} s USING (SELECT ctid AS row, row_number() OVER \
         (PARTITION BY {columns} ORDER BY ctid DESC) AS rank FROM {stage} WHERE NOT ({nulls})) d \
         WHERE s.ctid = d.row AND d.rank > 1"
    ))
    .await?;
    if repeated > 0 {
        tracing::warn!(table = %place, key = columns, rows = repeated, "key repeated, the last row kept");
    }
    if !add_key(transaction, load, place).await? {
        if merged {
            return Err(Error::bug(format!(
                "the rows staged for {place} cannot be told apart"
            )));
        }
        tracing::warn!(table = %place, key = columns, "no primary key: some rows have none");
    }
    Ok(keyless + repeated)
}

fn stage_key_name(load: &Load) -> String {
    format!("{OWN_PREFIX}stage_{}_pkey", load.id)
}

/// Tries to add the primary key; fails where keys are missing or repeated.
async fn add_key(transaction: &mut Transaction<'_>, load: &Load, place: &Place) -> Result<bool> {
    let attempt = transaction.transaction().await.map_err(explain)?;
    let sql = format!(
        "ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})",
        place.stage(&load.id).sql(),
        ident(&stage_key_name(load)),
        idents(ddl::key(load))
    );
    match attempt.batch_execute(&sql).await {
        Ok(()) => attempt.commit().await.map(|()| true).map_err(explain),
        Err(error) if matches!(error.code().map(SqlState::code), Some("23502" | "23505")) => {
            attempt.rollback().await.map(|()| false).map_err(explain)
        }
        Err(error) => Err(explain(error)),
    }
}

/// The staging table becomes the target, unless something depends on the one that is
/// there. Columns that the load lacks stay, but for a table that is made anew.
async fn take_place(
    transaction: &mut Transaction<'_>,
    load: &Load,
    place: &Place,
    target: Option<&Described>,
) -> Result<bool> {
    let stage = place.stage(&load.id);
    let mut additions = Vec::new();
    if let Some(target) = target {
        lock::lock_table(transaction, place).await?;
        if !drop_target(transaction, place).await? {
            tracing::warn!(table = %place, "emptied and refilled: something depends on it");
            return Ok(false);
        }
        if load.disposition != Disposition::Rebuild {
            additions = kept_columns(load, target);
        }
    }
    let system = load.system_columns();
    // A default that is the same for all rows is stored once, not in every row.
    additions.extend(system.iter().map(|name| {
        let default = if is_stamp(name) { " DEFAULT now()" } else { "" };
        format!("ADD COLUMN {} timestamptz{default}", ident(name))
    }));
    let drops = system
        .iter()
        .filter(|name| is_stamp(name))
        .map(|name| format!("ALTER COLUMN {} DROP DEFAULT", ident(name)));
    let (from, to) = (stage.sql(), place.sql());
    let mut sql = String::new();
    for actions in [list(additions), list(drops)] {
        if !actions.is_empty() {
            sql += &format!("ALTER TABLE {from} {actions}; ");
        }
    }
    sql += &format!("ALTER TABLE {from} RENAME TO {}; ", ident(&place.name));
    sql += &format!("COMMENT ON TABLE {to} IS NULL");
    transaction.batch_execute(&sql).await.map_err(explain)?;
    rename_key(transaction, load, place).await?;
    history::keep(transaction, load, place, None).await?;
    Ok(true)
}

fn is_stamp(name: &str) -> bool {
    name == CREATED_AT || name == UPDATED_AT
}

/// Tries to drop the target; fails where views or foreign keys depend on it.
pub async fn drop_target(transaction: &mut Transaction<'_>, place: &Place) -> Result<bool> {
    let attempt = transaction.transaction().await.map_err(explain)?;
    match attempt
        .batch_execute(&format!("DROP TABLE {}", place.sql()))
        .await
    {
        Ok(()) => attempt.commit().await.map(|()| true).map_err(explain),
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            attempt.rollback().await.map(|()| false).map_err(explain)
        }
        Err(error) => Err(explain(error)),
    }
}

fn kept_columns(load: &Load, target: &Described) -> Vec<String> {
    let system = load.system_columns();
    let is_new = |name: &str| {
        let mut columns = load.target.columns.iter();
        !columns.any(|column| column.name == name) && !system.contains(&name)
    };
    let kept = target
        .columns
        .iter()
        .filter(|column| is_new(&column.name) && column.fills != Fills::Computed);
    kept.map(|column| format!("ADD COLUMN {} {}", ident(&column.name), column.declared))
        .collect()
}

/// A name that ends in a suffix, cut to what the server keeps of it.
fn suffixed(name: &str, suffix: &str) -> String {
    let mut end = name.len().min(MOST_NAME_BYTES.saturating_sub(suffix.len()));
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", name.get(..end).unwrap_or_default())
}

/// Calls the primary key, and since version 18 what keeps columns from being null, as
/// PostgreSQL would have, if those names are free.
async fn rename_key(transaction: &Transaction<'_>, load: &Load, place: &Place) -> Result<()> {
    const REQUIRED: &str = "SELECT k.conname::text, a.attname::text \
        FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a \
        ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] \
        WHERE k.conrelid = $1 AND k.contype = 'n'";
    let name = suffixed(&place.name, "_pkey");
    let Some(made) = describe(transaction, place).await? else {
        return Ok(());
    };
    let required = transaction.query(REQUIRED, &[&made.oid]).await;
    let mut names = HashSet::new();
    for row in required.map_err(explain)? {
        let (called, column): (String, String) = (ddl::cell(&row, 0)?, ddl::cell(&row, 1)?);
        let wanted = suffixed(&format!("{}_{column}", place.name), "_not_null");
        // Of two long names that are cut alike the second keeps its own.
        if !called.starts_with(OWN_PREFIX) || !names.insert(wanted.clone()) {
            continue;
        }
        let sql = format!(
            "ALTER TABLE {} RENAME CONSTRAINT {} TO {}",
            place.sql(),
            ident(&called),
            ident(&wanted)
        );
        transaction.batch_execute(&sql).await.map_err(explain)?;
    }
    let taken = is_taken(transaction, &place.beside(&name)).await?;
    if made.key_name != Some(stage_key_name(load)) || taken {
        return Ok(());
    }
    let sql = format!(
        "ALTER TABLE {} RENAME CONSTRAINT {} TO {}",
        place.sql(),
        ident(&stage_key_name(load)),
        ident(&name)
    );
    transaction.batch_execute(&sql).await.map_err(explain)
}

/// The target with everything that the load needs. `begin` has done this already, unless
/// the table came or changed meanwhile.
pub async fn ensure_shape(
    transaction: &mut Transaction<'_>,
    load: &Load,
    place: &Place,
    target: Described,
) -> Result<Described> {
    let evolution = evolve::evolution(&target, load)?;
    if !evolution.is_needed() {
        return Ok(target);
    }
    evolve::apply(transaction, place, &evolution).await?;
    let made = describe(transaction, place).await?;
    made.ok_or_else(|| {
        Error::drift(format!(
            "{place} was dropped by someone while it was loaded"
        ))
    })
}

async fn move_in(
    transaction: &mut Transaction<'_>,
    load: &Load,
    place: &Place,
    staged: u64,
) -> Result<Outcome> {
    let missing = || {
        Error::drift(format!(
            "{place} was dropped by someone while it was loaded"
        ))
    };
    let target = describe(transaction, place).await?.ok_or_else(missing)?;
    let target = ensure_shape(transaction, load, place, target).await?;
    let moving = Moving::new(load, place, &target)?;
    let stage = place.stage(&load.id).sql();
    if matches!(load.write, Write::Merge { .. }) {
        let sql = format!("ANALYZE {stage}");
        transaction.batch_execute(&sql).await.map_err(explain)?;
    }
    if load.write == Write::Replace || load.disposition == Disposition::Truncate {
        lock::lock_table(transaction, place).await?;
    }
    let outcome = moving.run(transaction, staged).await?;
    history::keep(transaction, load, place, Some(&moving)).await?;
    let sql = format!("DROP TABLE {stage}");
    transaction.batch_execute(&sql).await.map_err(explain)?;
    Ok(outcome)
}

async fn name_column(session: &mut Session, load: &Load, place: &Place, error: Error) -> Error {
    let Ok(Some(target)) = describe(&**session, place).await else {
        return error.while_(place);
    };
    match Moving::new(load, place, &target) {
        Ok(moving) => moving.name_column(session, error).await,
        Err(_) => error.while_(place),
    }
}
