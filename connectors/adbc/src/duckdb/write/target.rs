//! Brings the table that rows are written to up to date: missing columns are added,
//! narrow ones widened, vanished ones kept.

use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::{CREATED_AT, DELETED_AT, SchemaChange, UPDATED_AT},
};

use super::Plan;
use crate::{
    duckdb::{
        discover::{self, Described, Found},
        sql,
        types::{self, Stored},
    },
    session::Session,
};

/// Each change is a transaction of its own: DuckDB cannot put several to one table in one
/// together with what follows, and every one of them may be repeated.
pub async fn evolve(
    session: &Session,
    plan: &Plan,
    present: Vec<Described>,
    changes: &mut Vec<SchemaChange>,
) -> Result<Vec<Described>> {
    let mut statements = Vec::new();
    for column in &plan.load.target.columns {
        match named(&present, &column.name) {
            None => statements.extend(addition(plan, column, changes)),
            Some(found) => statements.extend(widening(plan, found, column, changes)),
        }
    }
    for name in plan.load.system_columns() {
        if named(&present, name).is_none() {
            statements.extend(addition(plan, &system_column(name), &mut Vec::new()));
        }
    }
    for extra in plan.extras(&present) {
        statements.extend(relaxing(plan, extra, changes));
    }
    if statements.is_empty() {
        return Ok(present);
    }
    for statement in statements {
        session
            .execute(statement)
            .await
            .map_err(|error| error.while_(format!("changing {}", plan.target.shown())))?;
    }
    match discover::find(session, &plan.target).await? {
        Found::Table(columns) => Ok(columns),
        _ => Err(Error::conflict(format!(
            "{} was dropped meanwhile",
            plan.target.shown()
        ))),
    }
}

pub fn named<'a>(columns: &'a [Described], name: &str) -> Option<&'a Described> {
    columns
        .iter()
        .find(|column| column.name.eq_ignore_ascii_case(name))
}

pub fn system_column(name: &str) -> Column {
    debug_assert!([DELETED_AT, CREATED_AT, UPDATED_AT].contains(&name));
    Column::new(name, LogicalType::TimestampTz)
}

fn addition(plan: &Plan, column: &Column, changes: &mut Vec<SchemaChange>) -> Vec<String> {
    let stored = types::stored(column.logical, &column.remote_type);
    changes.push(SchemaChange(format!(
        "added column {} ({})",
        column.name, stored.sql
    )));
    changes.extend(text_remark(column, &stored));
    let mut statements = vec![format!(
        "ALTER TABLE {} ADD COLUMN {} {}",
        plan.target.sql(),
        sql::name(&column.name),
        stored.sql
    )];
    statements.extend(mark(&plan.target.sql(), &column.name, None, &stored));
    statements
}

/// What the log says of a column that DuckDB has no type for.
pub fn text_remark(column: &Column, stored: &Stored) -> Option<SchemaChange> {
    let mark = stored.mark.as_deref()?;
    Some(SchemaChange(format!(
        "column {} keeps its {mark} values as text: DuckDB's decimals end at 38 digits",
        column.name
    )))
}

fn widening(
    plan: &Plan,
    found: &Described,
    wanted: &Column,
    changes: &mut Vec<SchemaChange>,
) -> Vec<String> {
    let wide = found.column().logical.widest(wanted.logical);
    let mut statements = Vec::new();
    let (target, name) = (plan.target.sql(), sql::name(&found.name));
    if !types::holds(&found.data_type, wide) {
        let stored = types::stored(wide, &wanted.remote_type);
        changes.push(SchemaChange(format!(
            "column {} became {} (was {})",
            found.name, stored.sql, found.data_type
        )));
        changes.extend(text_remark(wanted, &stored));
        let using = match stored.sql.as_str() {
            "JSON" if found.data_type != "VARCHAR" => format!(" USING to_json({name})"),
            _ => String::new(),
        };
        statements.push(format!(
            "ALTER TABLE {target} ALTER COLUMN {name} SET DATA TYPE {}{using}",
            stored.sql
        ));
        statements.extend(mark(
            &target,
            &found.name,
            found.comment.as_deref(),
            &stored,
        ));
    } else if types::stored(wide, "").mark != types::stored(found.column().logical, "").mark {
        // Both are text, but it no longer means the same.
        let stored = types::stored(wide, "");
        statements.extend(mark(
            &target,
            &found.name,
            found.comment.as_deref(),
            &stored,
        ));
    }
    let is_key = plan.load.target.key.contains(&wanted.name);
    if wanted.nullable && !is_key {
        statements.extend(relaxing(plan, found, changes));
    }
    statements
}

fn relaxing(plan: &Plan, column: &Described, changes: &mut Vec<SchemaChange>) -> Option<String> {
    if column.nullable {
        return None;
    }
    changes.push(SchemaChange(format!(
        "column {} may be null now",
        column.name
    )));
    Some(format!(
        "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL",
        plan.target.sql(),
        sql::name(&column.name)
    ))
}

/// The statement that makes a column's comment what it should be, if it is not.
pub fn comment_on(
    table: &str,
    column: &str,
    present: Option<&str>,
    wanted: Option<&str>,
) -> Option<String> {
    if present == wanted {
        return None;
    }
    let words = wanted.map_or_else(|| "NULL".to_owned(), sql::text);
    Some(format!(
        "COMMENT ON COLUMN {table}.{} IS {words}",
        sql::name(column)
    ))
}

fn mark(table: &str, column: &str, present: Option<&str>, stored: &Stored) -> Option<String> {
    let wanted = types::comment(present, stored.mark.as_deref());
    comment_on(table, column, present, wanted.as_deref())
}

/// Makes an empty table for the load, as `begin` would have wanted it.
pub async fn create(session: &Session, plan: &Plan) -> Result<()> {
    let system = plan.load.system_columns().into_iter().map(system_column);
    let columns: Vec<Column> = plan
        .load
        .target
        .columns
        .iter()
        .cloned()
        .chain(system)
        .collect();
    let stored = |column: &Column| types::stored(column.logical, &column.remote_type);
    let definition = sql::list(&columns, |column| {
        format!("{} {}", sql::name(&column.name), stored(column).sql)
    });
    let table = plan.target.sql();
    session
        .execute(format!("CREATE TABLE {table} ({definition})"))
        .await?;
    for column in &columns {
        if let Some(statement) = mark(&table, &column.name, None, &stored(column)) {
            session.execute(statement).await?;
        }
    }
    Ok(())
}
