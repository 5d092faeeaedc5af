//! Reading by a tracking field: which rows, and where the next run may begin.
//!
//! A row that commits after the snapshot got its tracking value while its transaction was
//! open, so the value may be lower than one that the snapshot shows. Therefore a run takes
//! two views: one *before*, from which the mark is taken, then, once the transactions that
//! were open by then have ended, the snapshot that is read. Whatever is not in the snapshot
//! began after the mark, and its value is not below it. If a transaction does not end, the
//! next run begins at a mark from before that transaction.

use tideway_core::{Cursor, Error, Kind, Mark, Result, source::Tracking};

use super::{keys::spelled, plan::column_of, snapshot::MySqlSnapshot};
use crate::{
    discover::{Described, DescribedColumn},
    sql::{ident, qualified},
    types::Literal,
};

/// While one transaction stays open, every run adds a mark.
const MOST_MARKS: usize = 20;

fn literal_of(column: &DescribedColumn) -> Result<Literal> {
    column.server_type.trackable().ok_or_else(|| {
        let name = &column.name;
        Error::config(format!(
            "{name} cannot be a tracking field: its values do not grow"
        ))
        .field("tracking_field")
        .hint("choose a time, a date, a number or a text that grows with every change")
    })
}

/// The column where it is compared. Texts compare byte by byte, as they do everywhere else.
fn compared(column: &DescribedColumn) -> String {
    let name = ident(&column.name);
    if column.server_type.textual() {
        format!("CONVERT({name} USING utf8mb4) COLLATE utf8mb4_bin")
    } else {
        name
    }
}

fn at_least(column: &DescribedColumn, value: &str) -> Result<String> {
    let literal = literal_of(column)?;
    let value = spelled(literal, value).map_err(|_| forgotten(&column.name))?;
    Ok(format!("{} >= {value}", compared(column)))
}

fn forgotten(name: &str) -> Error {
    Error::config(format!(
        "what was remembered of {name} does not fit its type any more"
    ))
    .field("tracking_field")
    .hint("resync the table")
}

/// The condition on rows; `None` reads all.
pub fn filter(table: &Described, tracking: &Tracking) -> Result<Option<String>> {
    let column = column_of(table, &tracking.column)?;
    literal_of(column)?;
    let from = tracking
        .cursor
        .as_ref()
        .and_then(|cursor| cursor.from.as_deref());
    from.map(|from| at_least(column, from)).transpose()
}

/// Where the next run begins.
pub async fn next_cursor(
    snapshot: &MySqlSnapshot,
    table: &Described,
    tracking: &Tracking,
) -> Result<Cursor> {
    let column = column_of(table, &tracking.column)?;
    let prior = tracking.cursor.as_ref();
    let newest = newest(snapshot, table, column, prior).await;
    let newest = newest.map_err(|error| match error.kind {
        Kind::Data if prior.is_some() => forgotten(&column.name),
        _ => error,
    })?;
    let before = &snapshot.before;
    let mark = newest.map(|value| Mark {
        at: before.at,
        value,
    });
    Ok(advance(&tracking.column, prior, mark, before.oldest_open))
}

/// The highest value before the snapshot. It never falls below what an earlier run has
/// seen, even if those rows are gone.
async fn newest(
    snapshot: &MySqlSnapshot,
    table: &Described,
    column: &DescribedColumn,
    prior: Option<&Cursor>,
) -> Result<Option<String>> {
    let last = prior.and_then(|cursor| {
        let mark = cursor.marks.last().map(|mark| mark.value.clone());
        mark.or_else(|| cursor.from.clone())
    });
    let mut conditions = Vec::new();
    if let Some(last) = &last {
        conditions.push(at_least(column, last)?);
    }
    // Beyond times in the future nothing would ever be read again.
    let name = ident(&column.name);
    match column.server_type.name.as_str() {
        "datetime" | "timestamp" => conditions.push(format!("{name} <= UTC_TIMESTAMP(6)")),
        "date" => conditions.push(format!("{name} <= UTC_DATE()")),
        _ => {}
    }
    let condition = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    let sql = format!(
        "SELECT CAST(MAX({}) AS CHAR) FROM {}{condition}",
        compared(column),
        qualified(&table.database, &table.name),
    );
    let mut view = snapshot.before.view.lock().await;
    let found = view.value(&sql).await?;
    // A date of zeros is none.
    Ok(found
        .filter(|value| !value.starts_with("0000-00-00"))
        .or(last))
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
