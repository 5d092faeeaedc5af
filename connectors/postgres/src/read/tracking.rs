//! Reading by a tracking field: which rows, and where the next run may begin.
//!
//! A row that commits after the snapshot got its tracking value while its transaction was
//! open, so the value may be lower than one that the snapshot shows. Therefore a run takes
//! two views: one *before*, from which the mark is taken, then, once the transactions that
//! were open by then have ended, the snapshot that is read. Whatever is not in the snapshot
//! began after the mark, and its value is not below it. If a transaction does not end, the
//! next run begins at a mark from before that transaction.

use tideway_core::{Cursor, Error, Kind, Mark, Result, source::Tracking};

use super::{relation::Relation, snapshot::PostgresSnapshot};
use crate::{
    sql::{ident, literal},
    types::oid,
};

/// While one transaction stays open, every run adds a mark.
const MOST_MARKS: usize = 20;

/// Infinity was added to numeric then.
const NUMERIC_INFINITY: u32 = 140_000;

/// The tracking field as SQL.
struct Field<'a> {
    name: &'a str,
    oid: u32,
    /// The column where it is compared. Texts compare byte by byte, as they do everywhere
    /// else.
    compared: String,
    cast: &'static str,
}

impl Field<'_> {
    fn of<'a>(relation: &Relation, name: &'a str) -> Result<Field<'a>> {
        let pg_type = relation.column(name)?.pg_type;
        let Some(cast) = pg_type.tracking_cast() else {
            let what = format!("{name} cannot be a tracking field: its values do not grow");
            return Err(Error::config(what)
                .field("tracking_field")
                .hint("choose a time, a date, a number or a text that grows with every change"));
        };
        let compared = match pg_type.oid {
            oid::TEXT | oid::VARCHAR => format!("{} COLLATE pg_catalog.\"C\"", ident(name)),
            _ => ident(name),
        };
        Ok(Field {
            name,
            oid: pg_type.oid,
            compared,
            cast,
        })
    }

    fn value(&self, text: &str) -> String {
        format!("{}::{}", literal(text), self.cast)
    }
}

/// The condition on rows; `None` reads all.
pub fn filter(relation: &Relation, tracking: &Tracking) -> Result<Option<String>> {
    let field = Field::of(relation, &tracking.column)?;
    let from = tracking
        .cursor
        .as_ref()
        .and_then(|cursor| cursor.from.as_deref());
    Ok(from.map(|from| format!("{} >= {}", field.compared, field.value(from))))
}

/// Where the next run begins.
pub async fn next_cursor(
    snapshot: &PostgresSnapshot,
    relation: &Relation,
    tracking: &Tracking,
) -> Result<Cursor> {
    let field = Field::of(relation, &tracking.column)?;
    let prior = tracking.cursor.as_ref();
    let newest = newest(snapshot, relation, &field, prior).await;
    let newest = newest.map_err(|error| match error.kind {
        Kind::Data if prior.is_some() => Error::config(format!(
            "what was remembered of {} does not fit its type any more",
            field.name
        ))
        .field("tracking_field")
        .hint("resync the table"),
        _ => error,
    })?;
    let mark = newest.map(|value| Mark {
        at: snapshot.before.at,
        value,
    });
    Ok(advance(
        field.name,
        prior,
        mark,
        snapshot.before.oldest_open,
    ))
}

/// The highest value before the snapshot. It never falls below what an earlier run has
/// seen, even if those rows are gone.
async fn newest(
    snapshot: &PostgresSnapshot,
    relation: &Relation,
    field: &Field<'_>,
    prior: Option<&Cursor>,
) -> Result<Option<String>> {
    let last = prior
        .and_then(|cursor| cursor.marks.last())
        .map(|mark| mark.value.as_str());
    let from = prior.and_then(|cursor| cursor.from.as_deref());
    let mut values = vec![format!("pg_catalog.max({})", field.compared)];
    values.extend(
        [last, from]
            .into_iter()
            .flatten()
            .map(|text| field.value(text)),
    );
    let bound = sensible(field.oid, snapshot.holder.version)
        .map(|bound| format!(" WHERE {} {bound}", ident(field.name)));
    let statement = format!(
        "SELECT GREATEST({})::pg_catalog.text FROM {}{}",
        values.join(", "),
        relation.from,
        bound.unwrap_or_default(),
    );
    let answer = snapshot.before.view.ask(&statement).await?;
    Ok(answer.into_iter().next().flatten())
}

/// Leaves out values beyond which nothing would ever be read again: infinities, NaN and
/// times in the future.
fn sensible(oid: u32, version: u32) -> Option<&'static str> {
    Some(match oid {
        oid::TIMESTAMPTZ => "<= pg_catalog.now()",
        oid::TIMESTAMP => "<= pg_catalog.now()::pg_catalog.timestamp",
        oid::DATE => "<= pg_catalog.now()::pg_catalog.date",
        oid::FLOAT4 => "< 'Infinity'::pg_catalog.float4",
        oid::FLOAT8 => "< 'Infinity'::pg_catalog.float8",
        oid::NUMERIC if version >= NUMERIC_INFINITY => "< 'Infinity'::pg_catalog.numeric",
        oid::NUMERIC => "< 'NaN'::pg_catalog.numeric",
        _ => return None,
    })
}

/// The cursor after a run that took `mark` while the oldest open transaction had begun at
/// `oldest_open`.
fn advance(
    column: &str,
    prior: Option<&Cursor>,
    mark: Option<Mark>,
    oldest_open: Option<i64>,
) -> Cursor {
    let mut marks = prior.map(|cursor| cursor.marks.clone()).unwrap_or_default();
    marks.extend(mark);
    let safe = |mark: &Mark| oldest_open.is_none_or(|oldest| mark.at <= oldest);
    let mut from = prior.and_then(|cursor| cursor.from.clone());
    // No later run begins before this one, so older marks have served.
    if let Some(at) = marks.iter().rposition(safe) {
        marks.drain(..at);
        from = marks.first().map(|mark| mark.value.clone());
    }
    while marks.len() > MOST_MARKS {
        thin_out(&mut marks);
    }
    Cursor {
        column: column.to_owned(),
        from,
        marks,
        boundary: Vec::new(),
    }
}

/// Removes the mark that is missed least: the one between the closest neighbours. The
/// first and the last stay.
fn thin_out(marks: &mut Vec<Mark>) {
    let gaps = marks.windows(3).map(|near| match near {
        [before, _, after] => after.at.saturating_sub(before.at),
        _ => i64::MAX,
    });
    let closest = gaps.enumerate().min_by_key(|(_, gap)| *gap);
    match closest {
        Some((at, _)) => drop(marks.remove(at + 1)),
        None => drop(marks.pop()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at: i64) -> Option<Mark> {
        Some(Mark {
            at,
            value: format!("v{at}"),
        })
    }

    #[test]
    fn without_open_transactions_the_next_run_begins_at_the_newest_mark() {
        let first = advance("c", None, mark(10), None);
        assert_eq!((first.from.as_deref(), first.marks.len()), (Some("v10"), 1));
        let second = advance("c", Some(&first), mark(20), None);
        assert_eq!(
            (second.from.as_deref(), second.marks.len()),
            (Some("v20"), 1)
        );
    }

    #[test]
    fn an_open_transaction_holds_the_start_back_until_it_ends() {
        let first = advance("c", None, mark(10), Some(5));
        assert_eq!(first.from, None);
        let second = advance("c", Some(&first), mark(20), Some(15));
        assert_eq!(second.from.as_deref(), Some("v10"));
        let third = advance("c", Some(&second), mark(30), Some(15));
        assert_eq!(third.from.as_deref(), Some("v10"));
        let fourth = advance("c", Some(&third), mark(40), None);
        assert_eq!(
            (fourth.from.as_deref(), fourth.marks.len()),
            (Some("v40"), 1)
        );
    }

    #[test]
    fn the_start_never_goes_back() {
        let first = advance("c", None, mark(10), None);
        let second = advance("c", Some(&first), mark(20), Some(3));
        assert_eq!(second.from.as_deref(), Some("v10"));
    }

    #[test]
    fn an_empty_table_keeps_what_was_known() {
        assert_eq!(advance("c", None, None, None).from, None);
        let first = advance("c", None, mark(10), None);
        assert_eq!(
            advance("c", Some(&first), None, None).from.as_deref(),
            Some("v10")
        );
    }

    #[test]
    fn marks_stay_few_and_spread() {
        let mut cursor = advance("c", None, mark(0), None);
        for at in 1..500 {
            cursor = advance("c", Some(&cursor), mark(at), Some(0));
        }
        assert_eq!(cursor.marks.len(), MOST_MARKS);
        assert_eq!(
            (cursor.marks[0].at, cursor.marks[MOST_MARKS - 1].at),
            (0, 499)
        );
        let after = advance("c", Some(&cursor), mark(500), Some(250));
        assert!(
            after.marks[0].at <= 250 && after.marks[0].at > 100,
            "{:?}",
            after.marks
        );
    }
}
