//! The history of a table, brought up to what the table shows ([`tideway_core::history`]).

use tideway_core::{
    Error, Result,
    destination::{DELETED_AT, Load},
    history::{Following, Staged, VALID_FROM, VALID_TO},
};
use tokio_postgres::Transaction;

use crate::{connect::explain, sql::ident};

use super::{
    ddl::{Described, DescribedColumn, OWN_PREFIX, Place, describe, idents, list},
    lock,
    merge::Moving,
};

/// Keeps the history of the table, if it has one, in the transaction that puts the load in
/// place. With `moving`, rows were moved into the table, and those that were staged are all
/// that may have changed unless the load says otherwise.
pub async fn keep(
    transaction: &mut Transaction<'_>,
    load: &Load,
    place: &Place,
    moving: Option<&Moving<'_>>,
) -> Result<()> {
    let Some(name) = &load.target.history else {
        return Ok(());
    };
    let history = place.beside(name);
    let target = describe(transaction, place).await?;
    let target = target.ok_or_else(|| Error::bug(format!("{place} is gone after its load")))?;
    let found = describe(transaction, &history).await?;
    match &found {
        None => create(transaction, load, &history, &target).await?,
        Some(found) => evolve(transaction, load, &history, &target, found).await?,
    }
    let kept = describe(transaction, &history).await?;
    let kept = kept.ok_or_else(|| Error::bug(format!("{history} is gone right after")))?;
    // A history that begins takes in all that is there.
    let moving = moving.filter(|_| load.touches_staged_rows_only() && found.is_some());
    let following = following(load, place, &history, &target, &kept, moving);
    let sql = format!("{}; {}", following.end(), following.begin());
    let done = transaction.batch_execute(&sql).await;
    done.map_err(|error| explain(error).while_(format!("keeping {history}")))
}

fn of_load<'a>(load: &'a Load, target: &'a Described) -> impl Iterator<Item = &'a DescribedColumn> {
    let columns = load.target.columns.iter();
    columns.filter_map(|column| target.column(&column.name))
}

async fn create(
    transaction: &Transaction<'_>,
    load: &Load,
    history: &Place,
    target: &Described,
) -> Result<()> {
    let data = of_load(load, target).map(declaration);
    let system = [
        format!("{} timestamptz NOT NULL", ident(VALID_FROM)),
        format!("{} timestamptz", ident(VALID_TO)),
    ];
    let (table, columns) = (history.sql(), list(data.chain(system)));
    let sql = format!("CREATE TABLE {table} ({columns})");
    transaction.batch_execute(&sql).await.map_err(explain)?;
    let Some(made) = describe(transaction, history).await? else {
        return Ok(());
    };
    // One present version per row, found by its key.
    let sql = format!(
        "CREATE UNIQUE INDEX {} ON {table} ({}) WHERE {} IS NULL",
        ident(&format!("{OWN_PREFIX}present_{}", made.oid)),
        idents(&load.target.key),
        ident(VALID_TO)
    );
    transaction.batch_execute(&sql).await.map_err(explain)
}

fn declaration(column: &DescribedColumn) -> String {
    format!("{} {}", ident(&column.name), column.declared)
}

/// Columns come and widen as those of the table do; none goes.
async fn evolve(
    transaction: &mut Transaction<'_>,
    load: &Load,
    history: &Place,
    target: &Described,
    found: &Described,
) -> Result<()> {
    if found.column(VALID_FROM).is_none() || found.column(VALID_TO).is_none() {
        return Err(
            Error::conflict(format!("{history} is there already and holds no history"))
                .hint("rename or drop that table, or give the synced table another output name"),
        );
    }
    let mut actions = Vec::new();
    for column in of_load(load, target) {
        let Some(kept) = found.column(&column.name) else {
            actions.push(format!("ADD COLUMN {}", declaration(column)));
            continue;
        };
        let name = ident(&column.name);
        if kept.declared != column.declared && kept.logical.widest(column.logical) == column.logical
        {
            let declared = &column.declared;
            actions.push(format!(
                "ALTER COLUMN {name} TYPE {declared} USING {name}::{declared}"
            ));
        }
        if kept.not_null {
            actions.push(format!("ALTER COLUMN {name} DROP NOT NULL"));
        }
    }
    if actions.is_empty() {
        return Ok(());
    }
    lock::lock_table(transaction, history).await?;
    let sql = format!("ALTER TABLE {} {}", history.sql(), list(actions));
    let altered = transaction.batch_execute(&sql).await;
    altered.map_err(|error| explain(error).while_(format!("altering {history}")))
}

fn following(
    load: &Load,
    place: &Place,
    history: &Place,
    target: &Described,
    kept: &Described,
    moving: Option<&Moving<'_>>,
) -> Following {
    let columns: Vec<String> = of_load(load, target)
        .map(|column| ident(&column.name))
        .collect();
    // A history that could not follow a change of type holds what it can.
    let values: Vec<String> = of_load(load, target)
        .map(|column| {
            let value = format!("t.{}", ident(&column.name));
            match kept.column(&column.name) {
                Some(kept) if kept.declared != column.declared => {
                    format!("{value}::{}", kept.declared)
                }
                _ => value,
            }
        })
        .collect();
    let key = load.target.key.iter().map(|name| ident(name));
    let pairs = key.map(|name| format!("t.{name} = h.{name}"));
    let there = list(columns.iter().map(|name| format!("h.{name}")));
    let deleted_at = target.column(DELETED_AT);
    Following {
        table: place.sql(),
        history: history.sql(),
        same_key: pairs.collect::<Vec<_>>().join(" AND "),
        // By their stored image, as in a merge: no change is too small.
        same_values: format!(
            "ROW({})::record *= ROW({there})::record",
            list(values.iter().cloned())
        ),
        columns,
        values,
        alive: deleted_at.map(|_| format!("t.{} IS NULL", ident(DELETED_AT))),
        now: "now()".to_owned(),
        valid_from: ident(VALID_FROM),
        valid_to: ident(VALID_TO),
        staged: moving.map(|moving| Staged {
            of_history: moving.is_staged("h"),
            of_table: moving.is_staged("t"),
        }),
    }
}
