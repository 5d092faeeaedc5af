//! The history of a table, brought up to what the table shows ([`tideway_core::history`]).

use tideway_core::{
    Error, Result,
    destination::DELETED_AT,
    history::{Following, Staged, VALID_FROM, VALID_TO},
};

use super::{
    Plan,
    finish::{columns, staged_as},
    target::{comment_on, named},
};
use crate::{
    duckdb::{
        discover::Described,
        rows,
        sql::{self, Place},
    },
    session::Session,
};

/// A history that is ready to be kept.
pub struct History {
    place: Place,
    /// Nothing is in it yet, and it takes in all that is in the table.
    begins: bool,
}

impl History {
    /// Makes the history of the table, if one is kept, and gives it the columns that the table
    /// is going to have, as `shape` tells. Statements on their own: DuckDB cannot change a table
    /// and its rows in one transaction.
    pub async fn prepare(
        session: &Session,
        plan: &Plan,
        shape: &[Described],
    ) -> Result<Option<History>> {
        let Some(name) = &plan.load.target.history else {
            return Ok(None);
        };
        let place = plan.target.beside(name);
        match columns(session, &place).await? {
            None => create(session, plan, &place, shape).await?,
            Some(found) => evolve(session, plan, &place, shape, &found).await?,
        }
        let some = format!(
            "SELECT count(*)::BIGINT FROM (FROM {} LIMIT 1)",
            place.sql()
        );
        let begins = rows::number(&session.fetch(some).await?)? == 0;
        Ok(Some(History { place, begins }))
    }

    /// Within the transaction that puts the load in place, before what was staged is gone;
    /// `moved` says that it has not become the table.
    pub async fn keep(&self, session: &Session, plan: &Plan, moved: bool) -> Result<()> {
        let gone = |place: &Place| Error::bug(format!("{} is gone", place.shown()));
        let present = columns(session, &plan.target).await?;
        let present = present.ok_or_else(|| gone(&plan.target))?;
        let kept = columns(session, &self.place).await?;
        let kept = kept.ok_or_else(|| gone(&self.place))?;
        let partial = moved && !self.begins && plan.load.touches_staged_rows_only();
        let following = self.following(plan, &present, &kept, partial);
        session.execute(following.end()).await?;
        session.execute(following.begin()).await?;
        Ok(())
    }

    fn following(
        &self,
        plan: &Plan,
        present: &[Described],
        kept: &[Described],
        partial: bool,
    ) -> Following {
        let names = || plan.load.target.columns.iter().map(|column| &column.name);
        let columns: Vec<String> = names().map(|name| sql::name(name)).collect();
        // A history that could not follow a change of type holds what it can.
        let values: Vec<String> = names()
            .map(|name| {
                let value = format!("t.{}", sql::name(name));
                match (named(kept, name), named(present, name)) {
                    (Some(kept), Some(there)) if kept.data_type != there.data_type => {
                        format!("CAST({value} AS {})", kept.data_type)
                    }
                    _ => value,
                }
            })
            .collect();
        let same = columns.iter().zip(&values);
        let key = &plan.load.target.key;
        // Null keys match each other, as in a merge.
        let same_key = sql::joined(key, " AND ", |name| {
            format!("t.{0} IS NOT DISTINCT FROM h.{0}", sql::name(name))
        });
        let stage = plan.stage.sql();
        let is_staged = |row: &str| {
            let same_key = sql::joined(key, " AND ", |name| {
                let staged = staged_as(present, name);
                format!("{row}.{} IS NOT DISTINCT FROM {staged}", sql::name(name))
            });
            format!("EXISTS (SELECT 1 FROM {stage} AS s WHERE {same_key})")
        };
        let deleted_at = named(present, DELETED_AT);
        Following {
            table: plan.target.sql(),
            history: self.place.sql(),
            same_key,
            same_values: sql::joined(same, " AND ", |(name, value)| {
                format!("{value} IS NOT DISTINCT FROM h.{name}")
            }),
            alive: deleted_at.map(|_| format!("t.{} IS NULL", sql::name(DELETED_AT))),
            now: "now()".to_owned(),
            valid_from: sql::name(VALID_FROM),
            valid_to: sql::name(VALID_TO),
            staged: partial.then(|| Staged {
                of_history: is_staged("h"),
                of_table: is_staged("t"),
            }),
            columns,
            values,
        }
    }
}

/// The columns of the load as the table has them.
fn of_load<'a>(plan: &'a Plan, shape: &'a [Described]) -> impl Iterator<Item = &'a Described> {
    let columns = plan.load.target.columns.iter();
    columns.filter_map(|column| named(shape, &column.name))
}

async fn create(session: &Session, plan: &Plan, place: &Place, shape: &[Described]) -> Result<()> {
    let data = of_load(plan, shape);
    let data = data.map(|column| format!("{} {}", sql::name(&column.name), column.data_type));
    let system = [VALID_FROM, VALID_TO];
    let system = system.map(|name| format!("{} TIMESTAMPTZ", sql::name(name)));
    let (table, columns) = (place.sql(), sql::list(data.chain(system), |column| column));
    session
        .execute(format!("CREATE TABLE {table} ({columns})"))
        .await?;
    for column in of_load(plan, shape) {
        remark(session, place, column, None).await?;
    }
    Ok(())
}

/// Columns come and change as those of the table do; none goes.
async fn evolve(
    session: &Session,
    plan: &Plan,
    place: &Place,
    shape: &[Described],
    found: &[Described],
) -> Result<()> {
    if [VALID_FROM, VALID_TO]
        .iter()
        .any(|name| named(found, name).is_none())
    {
        return Err(Error::conflict(format!(
            "{} is there already and holds no history",
            place.shown()
        ))
        .hint("rename or drop that table, or give the synced table another output name"));
    }
    for column in of_load(plan, shape) {
        let (name, wanted) = (sql::name(&column.name), &column.data_type);
        let kept = named(found, &column.name);
        let action = match kept {
            None => format!("ADD COLUMN {name} {wanted}"),
            Some(kept) if kept.data_type == *wanted => continue,
            Some(kept) => {
                let wide = kept.column().logical.widest(column.column().logical);
                if wide != column.column().logical {
                    continue;
                }
                format!("ALTER COLUMN {name} SET DATA TYPE {wanted}")
            }
        };
        session
            .execute(format!("ALTER TABLE {} {action}", place.sql()))
            .await
            .map_err(|error| error.while_(format!("changing {}", place.shown())))?;
        remark(session, place, column, kept).await?;
    }
    Ok(())
}

/// What a column's values mean stands in its comment.
async fn remark(
    session: &Session,
    place: &Place,
    column: &Described,
    kept: Option<&Described>,
) -> Result<()> {
    let present = kept.and_then(|kept| kept.comment.as_deref());
    let wanted = column.comment.as_deref();
    if let Some(statement) = comment_on(&place.sql(), &column.name, present, wanted) {
        session.execute(statement).await?;
    }
    Ok(())
}
