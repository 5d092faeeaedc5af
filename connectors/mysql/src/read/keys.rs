//! Ranges of a table's primary key that cover every row exactly once.
//!
//! Where the key is one integer, its span is halved again and again, and the server's index
//! says how many rows lie in each half: some hundred questions of a fraction of a millisecond
//! whatever the table's size. Keys of other types are walked along in the index, so many rows
//! at a time. Either way the boundaries are compared by the server alone, in its own order of
//! the key, so that no row is on both sides or on none.

use serde::{Deserialize, Serialize};
use tideway_core::{Error, Result};

use crate::{
    connect::Session,
    discover::{Described, DescribedColumn},
    sql::{binary, ident, list, literal, qualified, text},
    types::Literal,
};

/// What a part's `spec` holds: values of the first key columns, as text. `from` belongs to the
/// range, `to` to the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
}

impl Range {
    /// The conditions that a row of this range meets.
    pub fn conditions(&self, table: &Described) -> Result<Vec<String>> {
        let key = cuttable_key(table);
        let mut conditions = Vec::new();
        if let Some(from) = &self.from {
            conditions.push(ordered(&key, from, (">", ">="))?);
        }
        if let Some(to) = &self.to {
            conditions.push(ordered(&key, to, ("<", "<"))?);
        }
        Ok(conditions)
    }
}

struct KeyColumn<'a> {
    column: &'a DescribedColumn,
    literal: Literal,
}

/// The key's first columns, as far as ranges of them can be told.
fn cuttable_key(table: &Described) -> Vec<KeyColumn<'_>> {
    let columns = table.key.iter().map_while(|name| {
        let column = table.column(name)?;
        let literal = column.server_type.cuttable()?;
        Some(KeyColumn { column, literal })
    });
    columns.collect()
}

/// Whether the table can be read in ranges at all.
pub fn has_ranges(table: &Described) -> bool {
    !cuttable_key(table).is_empty()
}

/// `(a, b) > (1, 2)` in a form that servers find in an index; `relations` are that of all
/// columns but the last and that of the last.
fn ordered(key: &[KeyColumn<'_>], values: &[String], relations: (&str, &str)) -> Result<String> {
    let mut alternatives = Vec::new();
    let mut equal = String::new();
    for (at, (column, value)) in key.iter().zip(values).enumerate() {
        let name = ident(&column.column.name);
        let value = spelled(column.literal, value)?;
        let last = at + 1 == values.len().min(key.len());
        let relation = if last { relations.1 } else { relations.0 };
        alternatives.push(format!("{equal}{name} {relation} {value}"));
        equal.push_str(&format!("{name} = {value} AND "));
    }
    Ok(format!("({})", alternatives.join(" OR ")))
}

/// A value as SQL writes it.
///
/// # Errors
/// `Data` where the text is none of the type.
pub fn spelled(kind: Literal, value: &str) -> Result<String> {
    let damaged = || Error::data("a value that was written down does not fit its type any more");
    match kind {
        Literal::Integer => {
            let number: i128 = value.parse().map_err(|_| damaged())?;
            Ok(number.to_string())
        }
        Literal::Number => {
            let plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
            if value.is_empty() || !value.chars().all(plain) {
                return Err(damaged());
            }
            Ok(value.to_owned())
        }
        Literal::Text => Ok(text(value)),
        Literal::Quoted => Ok(literal(value)),
        Literal::Binary => {
            let digits = value.as_bytes().chunks(2).map(|pair| {
                let digits = std::str::from_utf8(pair).ok()?;
                u8::from_str_radix(digits, 16).ok()
            });
            let bytes: Option<Vec<u8>> = digits.collect();
            Ok(binary(&bytes.ok_or_else(damaged)?))
        }
    }
}

/// Cuts the table into about `count` ranges of about as many rows.
pub async fn cut(
    session: &mut Session,
    table: &Described,
    rows: u64,
    count: u64,
) -> Result<Vec<Range>> {
    let key = cuttable_key(table);
    let boundaries = match key.as_slice() {
        _ if count < 2 => Vec::new(),
        [] => Vec::new(),
        [one] if one.literal == Literal::Integer && table.key.len() == 1 => {
            by_halves(session, table, &one.column.name, rows, count).await?
        }
        key => by_steps(session, table, key, (rows / count).max(1), count).await?,
    };
    Ok(ranges(boundaries))
}

/// The ranges between boundaries that ascend; the first and the last are open.
fn ranges(boundaries: Vec<Vec<String>>) -> Vec<Range> {
    let mut ranges = Vec::with_capacity(boundaries.len() + 1);
    let mut from = None;
    for boundary in boundaries {
        ranges.push(Range {
            from: from.replace(boundary.clone()),
            to: Some(boundary),
        });
    }
    ranges.push(Range { from, to: None });
    ranges
}

/// Part of an integer key's span, both ends included. Unsigned 64-bit numbers and their
/// differences need more than 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    low: i128,
    high: i128,
    rows: u64,
}

async fn by_halves(
    session: &mut Session,
    table: &Described,
    key: &str,
    rows: u64,
    count: u64,
) -> Result<Vec<Vec<String>>> {
    let (name, place) = (ident(key), qualified(&table.database, &table.name));
    let ends = session
        .rows(&format!("SELECT MIN({name}), MAX({name}) FROM {place}"))
        .await?;
    let end = |at: usize| -> Option<i128> { ends.first()?.get(at)?.as_deref()?.parse().ok() };
    let (Some(low), Some(high)) = (end(0), end(1)) else {
        return Ok(Vec::new());
    };
    let target = (rows / count).max(1);
    let mut intervals = vec![Interval { low, high, rows }];
    let most_questions = 4 * count + 128;
    for _ in 0..most_questions {
        let Some((at, (left, right))) = next_split(&intervals, target) else {
            break;
        };
        let mut halves = [left, right];
        for half in &mut halves {
            let range = format!("{name} >= {} AND {name} <= {}", half.low, half.high);
            half.rows = explained_rows(session, &place, &range).await?;
        }
        intervals.splice(at..=at, halves);
    }
    Ok(merged(&intervals, target)
        .into_iter()
        .map(|boundary| vec![boundary.to_string()])
        .collect())
}

/// The fullest interval that holds too many rows, with its halves.
fn next_split(intervals: &[Interval], target: u64) -> Option<(usize, (Interval, Interval))> {
    let candidates = intervals
        .iter()
        .enumerate()
        .filter(|(_, interval)| interval.rows > target && interval.low < interval.high);
    let (at, interval) = candidates.max_by_key(|(_, interval)| interval.rows)?;
    let middle = interval.low + (interval.high - interval.low) / 2;
    let left = Interval {
        high: middle,
        ..*interval
    };
    let right = Interval {
        low: middle + 1,
        ..*interval
    };
    Some((at, (left, right)))
}

/// Where ranges end that hold about `target` rows each, of intervals in ascending order.
fn merged(intervals: &[Interval], target: u64) -> Vec<i128> {
    let mut boundaries = Vec::new();
    let mut rows = 0_u64;
    for interval in intervals {
        // What would make the range too large begins a new one.
        if rows > 0 && rows.saturating_add(interval.rows) > target.saturating_mul(5) / 4 {
            boundaries.push(interval.low);
            rows = 0;
        }
        rows = rows.saturating_add(interval.rows);
    }
    boundaries
}

/// How many rows the server expects to meet the condition.
pub async fn explained_rows(session: &mut Session, place: &str, condition: &str) -> Result<u64> {
    let sql = format!("EXPLAIN FORMAT=JSON SELECT 1 FROM {place} WHERE {condition}");
    let answer = session.value(&sql).await?.unwrap_or_default();
    let plan: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    Ok(scanned(&plan).unwrap_or(0.0).max(0.0) as u64)
}

/// The two relatives, and versions of each, call the figure and its place differently.
fn scanned(plan: &serde_json::Value) -> Option<f64> {
    let names = ["rows_examined_per_scan", "estimated_rows", "rows"];
    match plan {
        serde_json::Value::Object(fields) => {
            let here = names.iter().find_map(|name| fields.get(*name)?.as_f64());
            here.or_else(|| fields.values().find_map(scanned))
        }
        serde_json::Value::Array(items) => items.iter().find_map(scanned),
        _ => None,
    }
}

async fn by_steps(
    session: &mut Session,
    table: &Described,
    key: &[KeyColumn<'_>],
    step: u64,
    count: u64,
) -> Result<Vec<Vec<String>>> {
    let names = key.iter().map(|key| ident(&key.column.name));
    let order = list(names);
    let shown = key.iter().map(|key| {
        let name = ident(&key.column.name);
        match key.literal {
            Literal::Binary => format!("HEX({name})"),
            _ => name,
        }
    });
    let shown = list(shown);
    let place = qualified(&table.database, &table.name);
    let mut boundaries: Vec<Vec<String>> = Vec::new();
    while (boundaries.len() as u64) < 2 * count {
        let behind = match boundaries.last() {
            Some(last) => format!(" WHERE {}", ordered(key, last, (">", ">"))?),
            None => String::new(),
        };
        let sql = format!(
            "SELECT {shown} FROM {place} FORCE INDEX (PRIMARY){behind} ORDER BY {order} \
             LIMIT 1 OFFSET {step}"
        );
        let rows = session.rows(&sql).await?;
        let Some(row) = rows.into_iter().next() else {
            break;
        };
        let values: Option<Vec<String>> = row.into_iter().collect();
        boundaries.push(values.ok_or_else(|| Error::bug("a primary key holds a null"))?);
    }
    Ok(boundaries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Halves as the real one does, with a count of true rows instead of questions.
    fn halved(keys: &[i128], count: u64) -> Vec<i128> {
        let rows_in = |interval: &Interval| {
            let inside = keys
                .iter()
                .filter(|key| (interval.low..=interval.high).contains(*key));
            inside.count() as u64
        };
        let (low, high) = (keys[0], keys[keys.len() - 1]);
        let rows = keys.len() as u64;
        let target = (rows / count).max(1);
        let mut intervals = vec![Interval { low, high, rows }];
        for _ in 0..4 * count + 128 {
            let Some((at, (left, right))) = next_split(&intervals, target) else {
                break;
            };
            let halves = [left, right].map(|half| Interval {
                rows: rows_in(&half),
                ..half
            });
            intervals.splice(at..=at, halves);
        }
        merged(&intervals, target)
    }

    proptest! {
        #[test]
        fn every_key_is_in_exactly_one_range_and_ranges_are_even(
            keys in prop::collection::btree_set(
                prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from), (0_i128..500)],
                1..300,
            ),
            count in 2_u64..20,
        ) {
            let keys: Vec<i128> = keys.into_iter().collect();
            let boundaries = halved(&keys, count);
            prop_assert!(boundaries.is_sorted());
            let as_text = boundaries.iter().map(|at| vec![at.to_string()]).collect();
            let ranges = ranges(as_text);
            let mut met = 0;
            for range in &ranges {
                let end = |end: &Option<Vec<String>>, open| end.as_ref().map_or(open, |v| v[0].parse::<i128>().unwrap());
                let (from, to) = (end(&range.from, i128::MIN), end(&range.to, i128::MAX));
                let inside = keys.iter().filter(|key| (from..to).contains(*key)).count();
                prop_assert!(inside as u64 <= (keys.len() as u64 / count).max(1) * 2 + 1, "{} rows", inside);
                met += inside;
            }
            prop_assert_eq!(met, keys.len());
        }
    }

    #[test]
    fn the_whole_span_of_unsigned_numbers_is_halved_without_overflow() {
        let whole = Interval {
            low: i64::MIN.into(),
            high: u64::MAX.into(),
            rows: 10,
        };
        let (_, (left, right)) = next_split(&[whole], 1).unwrap();
        assert_eq!((left.low, right.high), (whole.low, whole.high));
        assert_eq!(left.high + 1, right.low);
    }

    #[test]
    fn values_that_do_not_fit_are_refused_before_they_are_sql() {
        assert!(spelled(Literal::Integer, "1 OR 1=1").is_err());
        assert!(spelled(Literal::Number, "1e3; DROP").is_err());
        assert!(spelled(Literal::Binary, "zz").is_err());
        assert_eq!(spelled(Literal::Binary, "00FF").unwrap(), "X'00ff'");
        assert_eq!(spelled(Literal::Quoted, "a'b").unwrap(), "'a''b'");
    }
}
