//! The history of a table, brought up to what the table shows ([`tideway_core::history`]).

use tideway_core::{
    Error, Result,
    destination::{DELETED_AT, Load},
    history::{Following, Staged, VALID_FROM, VALID_TO},
};

use crate::{
    connect::Handle,
    discover::{self, Described, DescribedColumn, OWN_PREFIX},
    sql::{list, literal, quoted},
    types,
};

use super::{
    layout::{Layout, system_column},
    now, stage_name,
};

/// Where a history is while it is made anew.
const ANEW: &str = "_tideway_history";

/// Keeps the history of the table, if it has one, in the transaction that puts the load in
/// place and before what was staged is gone; `moved` says that it has not become the table.
pub fn keep(handle: &Handle, load: &Load, layout: &Layout, moved: bool) -> Result<()> {
    let Some(history) = &load.target.history else {
        return Ok(());
    };
    let target = discover::require(handle, &load.target.name)?;
    let columns: Vec<&DescribedColumn> = layout
        .columns
        .iter()
        .filter_map(|column| target.column(&column.name))
        .collect();
    let found = discover::describe(handle, history)?;
    match &found {
        None => create(handle, history, &columns, layout)?,
        Some(found) => evolve(handle, found, &columns, layout)?,
    }
    // A history that begins takes in all that is there.
    let partial = moved && load.touches_staged_rows_only() && found.is_some();
    let following = following(load, history, &target, &columns, layout, partial);
    handle.run(&following.end())?;
    handle.run(&following.begin())
}

fn create(
    handle: &Handle,
    history: &str,
    columns: &[&DescribedColumn],
    layout: &Layout,
) -> Result<()> {
    let data = columns.iter().map(|column| {
        let declared = types::spelled(&column.declared);
        format!("{} {declared}", quoted(&column.name))
    });
    let system = [VALID_FROM, VALID_TO].map(system_column);
    let (table, columns) = (quoted(history), list(data.chain(system)));
    handle.run(&format!("CREATE TABLE main.{table} ({columns})"))?;
    // One present version per row, found by its key.
    handle.run(&format!(
        "CREATE UNIQUE INDEX main.{} ON {table} ({}) WHERE {} IS NULL",
        quoted(&format!("{OWN_PREFIX}present_{history}")),
        list(layout.key.iter().map(|name| quoted(name))),
        quoted(VALID_TO)
    ))
}

/// Columns come and change as those of the table do; none goes. A column that changes makes
/// the history be made anew and its rows carried over.
fn evolve(
    handle: &Handle,
    found: &Described,
    columns: &[&DescribedColumn],
    layout: &Layout,
) -> Result<()> {
    if found.column(VALID_FROM).is_none() || found.column(VALID_TO).is_none() {
        return Err(Error::conflict(format!(
            "{} is there already and holds no history",
            found.name
        ))
        .hint("rename or drop that table, or give the synced table another output name"));
    }
    let same = |column: &&DescribedColumn| {
        let kept = found.column(&column.name);
        kept.is_some_and(|kept| kept.declared == column.declared)
    };
    if columns.iter().all(same) {
        return Ok(());
    }
    let gone = found.columns.iter().filter(|kept| {
        let system = [VALID_FROM, VALID_TO].contains(&kept.name.as_str());
        let mut columns = columns.iter();
        !system && !columns.any(|column| crate::sql::same_name(&column.name, &kept.name))
    });
    let columns: Vec<&DescribedColumn> = columns.iter().copied().chain(gone).collect();
    let (table, anew) = (quoted(&found.name), quoted(ANEW));
    handle.run(&format!("ALTER TABLE main.{table} RENAME TO {anew}"))?;
    let index = quoted(&format!("{OWN_PREFIX}present_{}", found.name));
    handle.run(&format!("DROP INDEX IF EXISTS main.{index}"))?;
    create(handle, &found.name, &columns, layout)?;
    let names = list(found.columns.iter().map(|column| quoted(&column.name)));
    handle.run(&format!(
        "INSERT INTO main.{table} ({names}) SELECT {names} FROM main.{anew}"
    ))?;
    handle.run(&format!("DROP TABLE main.{anew}"))
}

fn following(
    load: &Load,
    history: &str,
    target: &Described,
    columns: &[&DescribedColumn],
    layout: &Layout,
    partial: bool,
) -> Following {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    let values: Vec<String> = names.iter().map(|name| format!("t.{name}")).collect();
    let key: Vec<String> = layout.key.iter().map(|name| quoted(name)).collect();
    let of = |row: &str| list(key.iter().map(|name| format!("{row}.{name}")));
    let staged = format!("main.{}", quoted(&stage_name(&load.id)));
    // Looked up by the key's index, rather than once for each row.
    let is_staged = |row: &str| {
        let keys = of("s");
        format!("({}) IN (SELECT {keys} FROM {staged} AS s)", of(row))
    };
    let pairs = key.iter().map(|name| format!("t.{name} = h.{name}"));
    let deleted_at = target.column(DELETED_AT);
    Following {
        table: format!("main.{}", quoted(&target.name)),
        history: format!("main.{}", quoted(history)),
        same_key: pairs.collect::<Vec<_>>().join(" AND "),
        same_values: format!(
            "({}) IS ({})",
            list(values.iter().map(|value| format!("{value} COLLATE BINARY"))),
            list(names.iter().map(|name| format!("h.{name}")))
        ),
        columns: names,
        values,
        alive: deleted_at.map(|_| format!("t.{} IS NULL", quoted(DELETED_AT))),
        now: literal(&now()),
        valid_from: quoted(VALID_FROM),
        valid_to: quoted(VALID_TO),
        staged: partial.then(|| Staged {
            of_history: is_staged("h"),
            of_table: is_staged("t"),
        }),
    }
}
