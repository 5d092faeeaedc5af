//! The history of a table, brought up to what the table shows ([`tideway_core::history`]).

use tideway_core::{
    Error, Result,
    destination::{DELETED_AT, Load},
    history::{Following, VALID_FROM, VALID_TO},
};

use super::{
    ddl::Place,
    evolve::{key_columns, nullable_sql, stamp_sql},
    lock,
    merge::{Moving, text},
};
use crate::{
    connect::Session,
    discover::{Described, DescribedColumn, OWN_PREFIX, describe},
    sql::{ident, list},
    types::collation,
};

/// A history that is ready to be kept.
pub struct History {
    place: Place,
    kept: Described,
    /// Nothing is in it yet, and it takes in all that is in the table.
    begins: bool,
}

impl History {
    /// Makes the history of the table, if one is kept, with the columns that the table has.
    /// Comes before the transaction that it would end.
    pub async fn prepare(
        session: &mut Session,
        load: &Load,
        place: &Place,
        target: &Described,
    ) -> Result<Option<History>> {
        let Some(name) = &load.target.history else {
            return Ok(None);
        };
        let place = place.beside(name);
        match describe(session, &place.database, &place.name).await? {
            None => create(session, load, &place, target).await?,
            Some(found) => evolve(session, load, &place, target, &found).await?,
        }
        let kept = describe(session, &place.database, &place.name).await?;
        let kept = kept.ok_or_else(|| Error::bug(format!("{place} is gone right after")))?;
        let sql = format!("SELECT 1 FROM {} LIMIT 1", place.sql());
        let begins = session.value(&sql).await?.is_none();
        Ok(Some(History {
            place,
            kept,
            begins,
        }))
    }

    /// Within the transaction that puts the load in place. With `moving`, rows were moved into
    /// the table, and those that were staged are all that may have changed unless the load says
    /// otherwise.
    pub async fn keep(
        &self,
        session: &mut Session,
        load: &Load,
        target: &Described,
        now: &str,
        moving: Option<&Moving<'_>>,
    ) -> Result<()> {
        let ours = collation(session.server.flavor, session.server.version);
        let following = self.following(load, target, now, ours);
        let moving = moving.filter(|_| load.touches_staged_rows_only() && !self.begins);
        let [end, begin] = match moving {
            None => [following.end(), following.begin()],
            Some(moving) => of_staged(&following, load, moving),
        };
        for sql in [end, begin] {
            let done = session.run(&sql).await;
            done.map_err(|error| error.while_(format!("keeping {}", self.place)))?;
        }
        Ok(())
    }

    fn following(&self, load: &Load, target: &Described, now: &str, ours: &str) -> Following {
        let found: Vec<&DescribedColumn> = of_load(load, target).collect();
        let columns: Vec<String> = found.iter().map(|column| ident(&column.name)).collect();
        let values: Vec<String> = columns.iter().map(|name| format!("t.{name}")).collect();
        let same = found.iter().zip(&columns).map(|(column, name)| {
            let kept = self.kept.column(&column.name);
            let exact = |column: &DescribedColumn| {
                let kind = &column.server_type;
                match kind.textual() {
                    true => column.collation.as_deref() == Some(ours),
                    false => kind.name != "json",
                }
            };
            match exact(column) && kept.is_some_and(exact) {
                true => format!("t.{name} <=> h.{name}"),
                false => {
                    let (there, here) = (format!("t.{name}"), format!("h.{name}"));
                    format!("{} <=> {}", text(&there, ours), text(&here, ours))
                }
            }
        });
        let key = load.target.key.iter().map(|name| ident(name));
        let pairs = key.map(|name| format!("t.{name} = h.{name}"));
        let deleted_at = target.column(DELETED_AT);
        Following {
            table: crate::sql::qualified(&target.database, &target.name),
            history: self.place.sql(),
            same_key: pairs.collect::<Vec<_>>().join(" AND "),
            same_values: same.collect::<Vec<_>>().join(" AND "),
            columns,
            values,
            alive: deleted_at.map(|_| format!("t.{} IS NULL", ident(DELETED_AT))),
            now: now.to_owned(),
            valid_from: ident(VALID_FROM),
            valid_to: ident(VALID_TO),
            staged: None,
        }
    }
}

/// The two statements for rows that were staged, which lead from the staged keys to the others:
/// MariaDB would look at all rows of the history otherwise, and at all staged ones for each.
fn of_staged(following: &Following, load: &Load, moving: &Moving<'_>) -> [String; 2] {
    let key = list(
        load.target
            .key
            .iter()
            .map(|name| format!("s.{}", ident(name))),
    );
    let staged = format!("(SELECT DISTINCT {key} FROM {} AS s) AS s", moving.stage());
    let Following {
        table,
        history,
        same_key,
        same_values,
        now,
        valid_from,
        valid_to,
        ..
    } = following;
    let alive = following.alive.as_deref().unwrap_or("TRUE");
    let (of_history, of_table) = (moving.same_key("h"), moving.same_key("t"));
    let (columns, values) = (list(&following.columns), list(&following.values));
    let end = format!(
        "UPDATE {staged} STRAIGHT_JOIN {history} AS h ON {of_history} SET h.{valid_to} = {now} \
         WHERE h.{valid_to} IS NULL AND NOT EXISTS \
         (SELECT 1 FROM {table} AS t WHERE {same_key} AND {alive} AND {same_values})"
    );
    let begin = format!(
        "INSERT INTO {history} ({columns}, {valid_from}) SELECT {values}, {now} \
         FROM {staged} STRAIGHT_JOIN {table} AS t ON {of_table} WHERE {alive} AND NOT EXISTS \
         (SELECT 1 FROM {history} AS h WHERE h.{valid_to} IS NULL AND {same_key})"
    );
    [end, begin]
}

fn of_load<'a>(load: &'a Load, target: &'a Described) -> impl Iterator<Item = &'a DescribedColumn> {
    let columns = load.target.columns.iter();
    columns.filter_map(|column| target.column(&column.name))
}

fn declaration(column: &DescribedColumn) -> String {
    format!("{} {}", ident(&column.name), nullable_sql(column))
}

async fn create(
    session: &mut Session,
    load: &Load,
    place: &Place,
    target: &Described,
) -> Result<()> {
    let stamp = stamp_sql(&session.server);
    let data = of_load(load, target).map(declaration);
    let system = [VALID_FROM, VALID_TO].map(|name| format!("{} {stamp}", ident(name)));
    let index = format!(
        "INDEX {} ({})",
        ident(&format!("{OWN_PREFIX}key")),
        list(key_columns(load, target))
    );
    let sql = format!(
        "CREATE TABLE {} ({}) ENGINE = InnoDB ROW_FORMAT = DYNAMIC \
         DEFAULT CHARACTER SET utf8mb4 COLLATE {}",
        place.sql(),
        list(data.chain(system).chain([index])),
        collation(session.server.flavor, session.server.version)
    );
    session.run(&sql).await.map(|_| ())
}

/// Columns come and widen as those of the table do; none goes.
async fn evolve(
    session: &mut Session,
    load: &Load,
    place: &Place,
    target: &Described,
    found: &Described,
) -> Result<()> {
    if found.column(VALID_FROM).is_none() || found.column(VALID_TO).is_none() {
        return Err(
            Error::conflict(format!("{place} is there already and holds no history"))
                .hint("rename or drop that table, or give the synced table another output name"),
        );
    }
    let mut actions = Vec::new();
    for column in of_load(load, target) {
        let (here, wanted) = (column.reading().logical, declaration(column));
        match found.column(&column.name) {
            None => actions.push(format!("ADD COLUMN {wanted}")),
            Some(kept) if declaration(kept) == wanted && !kept.not_null => {}
            Some(kept) if kept.reading().logical.widest(here) == here => {
                actions.push(format!("MODIFY COLUMN {wanted}"));
            }
            // It holds what it can.
            Some(_) => {}
        }
    }
    if actions.is_empty() {
        return Ok(());
    }
    let sql = format!("ALTER TABLE {} {}", place.sql(), list(actions));
    lock::alone(session, place, &sql).await
}
