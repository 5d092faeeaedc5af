//! How a table is cut into parts, and where a read by a tracking field begins.

use serde::{Deserialize, Serialize};
use tideway_core::{
    Column, Cursor, Error, LogicalType, Mark, Part, Result, Table,
    schema::TableKind,
    source::{Read, Scan, Tracking},
};

use crate::{
    duckdb::{
        rows::{self, Text},
        sql::{self, Place},
        types,
    },
    session::Session,
};

/// Rows that DuckDB keeps together; a part that begins and ends with them is read without
/// looking at any others.
const ROW_GROUP: i64 = 122_880;
/// Parts per lane, so that lanes which are done early find more to do.
const PARTS_PER_LANE: i64 = 4;
const NAMESPACE: &str = "main";

/// Which rows belong to a part: all, or those with row numbers from `from` to below `to`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

impl Spec {
    pub fn of(part: &Part) -> Result<Spec> {
        serde_json::from_value(part.spec.clone())
            .map_err(|error| Error::bug(format!("part {} is not one of ours: {error}", part.id)))
    }

    /// What a row of the part meets.
    pub fn conditions(&self) -> Vec<String> {
        let from = self.from.map(|row| format!("rowid >= {row}"));
        let to = self.to.map(|row| format!("rowid < {row}"));
        from.into_iter().chain(to).collect()
    }

    fn part(&self, row_estimate: Option<u64>) -> Result<Part> {
        let end = |row: Option<i64>| row.map_or_else(String::new, |row| row.to_string());
        Ok(Part {
            id: match (self.from, self.to) {
                (None, None) => "all".to_owned(),
                (from, to) => format!("{}-{}", end(from), end(to)),
            },
            spec: serde_json::to_value(self).map_err(|error| Error::bug(error.to_string()))?,
            row_estimate,
        })
    }
}

pub fn place(catalog: &str, table: &Table) -> Place {
    Place {
        catalog: catalog.to_owned(),
        namespace: table
            .id
            .namespace
            .as_deref()
            .unwrap_or(NAMESPACE)
            .to_owned(),
        table: table.id.name.clone(),
    }
}

pub async fn plan(session: &Session, catalog: &str, read: &Read, taken_at: i64) -> Result<Scan> {
    let cursor = match &read.tracking {
        Some(tracking) => Some(next_cursor(session, catalog, read, tracking, taken_at).await?),
        None => None,
    };
    // Counting the rows of a view would mean to compute it once more.
    let counted = read.table.kind != TableKind::View;
    let from = place(catalog, &read.table).sql();
    let rows = match counted {
        true => {
            let conditions = conditions(read, &Spec::default())?;
            let count = format!("SELECT count(*)::BIGINT FROM {from}{conditions}");
            Some(rows::number(&session.fetch(count).await?)?)
        }
        false => None,
    };
    let estimate = rows.map(i64::unsigned_abs);
    let whole = !counted || read.limit.is_some() || shadowed(&read.table.columns);
    let parts = match rows {
        Some(rows) if !whole => pieces(session, &from, rows, read.lanes).await?,
        _ => vec![Spec::default().part(estimate)?],
    };
    Ok(Scan {
        parts,
        row_estimate: estimate,
        byte_estimate: None,
        cursor,
    })
}

/// Parts of a table whose row numbers are not hidden.
pub async fn pieces(session: &Session, from: &str, rows: i64, lanes: usize) -> Result<Vec<Part>> {
    if lanes <= 1 || rows <= ROW_GROUP {
        return Ok(vec![Spec::default().part(Some(rows.unsigned_abs()))?]);
    }
    let last = format!("SELECT max(rowid)::BIGINT FROM {from}");
    let last = rows::number(&session.fetch(last).await?)?;
    cut(last.saturating_add(1), rows, lanes)
}

/// A column of that name hides DuckDB's row numbers.
pub fn shadowed(columns: &[Column]) -> bool {
    let hides = |column: &Column| column.name.eq_ignore_ascii_case("rowid");
    columns.iter().any(hides)
}

/// Parts over the row numbers below `end`. All are about as large, the last may be less.
fn cut(end: i64, rows: i64, lanes: usize) -> Result<Vec<Part>> {
    let lanes = i64::try_from(lanes).unwrap_or(1);
    let groups = (end - 1) / ROW_GROUP + 1;
    let parts = groups.min(lanes.saturating_mul(PARTS_PER_LANE)).max(1);
    let step = (groups - 1) / parts + 1;
    let count = (groups - 1) / step + 1;
    (0..count)
        .map(|index| {
            let from = index * step * ROW_GROUP;
            let next = (index + 1 < count).then_some(from + step * ROW_GROUP);
            let spec = Spec {
                from: Some(from),
                to: next,
            };
            spec.part(Some((rows / count).unsigned_abs()))
        })
        .collect()
}

/// The rows of a part, as a WHERE clause with a space before it, or nothing.
pub fn conditions(read: &Read, spec: &Spec) -> Result<String> {
    let mut all = spec.conditions();
    if let Some(tracking) = &read.tracking
        && let Some(from) = tracking
            .cursor
            .as_ref()
            .and_then(|cursor| cursor.from.as_deref())
    {
        let column = tracked(&read.table, &tracking.column)?;
        all.push(format!(
            "{} >= CAST({} AS {})",
            sql::name(&tracking.column),
            sql::text(from),
            column.remote_type
        ));
    }
    Ok(clause(&all))
}

/// A WHERE clause with a space before it, or nothing.
pub fn clause(conditions: &[String]) -> String {
    match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    }
}

fn tracked<'a>(table: &'a Table, name: &str) -> Result<&'a Column> {
    let column = table.column(name).ok_or_else(|| {
        Error::missing(format!("{}: there is no field {name}", table.id)).field("tracking_field")
    })?;
    // What has no order in the file cannot be compared there.
    let ordered = types::stored(column.logical, &column.remote_type)
        .mark
        .is_none()
        && !matches!(column.logical, LogicalType::Json);
    if !ordered {
        return Err(Error::config(format!(
            "{}: the field {name} has no order that could be tracked",
            table.id
        ))
        .field("tracking_field")
        .hint("track a field of a numeric type, a date or a timestamp"));
    }
    Ok(column)
}

/// The highest value now. One process writes to a file at a time and a snapshot is not
/// taken while it commits, so no row can turn up later with a lower value that was
/// given to it earlier: one mark is enough.
async fn next_cursor(
    session: &Session,
    catalog: &str,
    read: &Read,
    tracking: &Tracking,
    taken_at: i64,
) -> Result<Cursor> {
    let column = tracked(&read.table, &tracking.column)?;
    let name = sql::name(&column.name);
    // A value beyond all others would be the last that is ever read.
    let finite = match column.logical {
        LogicalType::Float32
        | LogicalType::Float64
        | LogicalType::Date
        | LogicalType::Timestamp
        | LogicalType::TimestampTz => format!(" FILTER (WHERE isfinite({name}))"),
        _ => String::new(),
    };
    let highest = session
        .fetch(format!(
            "SELECT CAST(max({name}){finite} AS VARCHAR) FROM {}{}",
            place(catalog, &read.table).sql(),
            conditions(read, &Spec::default())?
        ))
        .await?;
    let highest = Text::column(&highest, 0)?.into_iter().flatten().next();
    let before = tracking.cursor.as_ref();
    Ok(match highest {
        Some(value) => Cursor {
            column: tracking.column.clone(),
            from: Some(value.clone()),
            marks: vec![Mark {
                at: taken_at,
                value,
            }],
            boundary: Vec::new(),
        },
        None => Cursor {
            column: tracking.column.clone(),
            from: before.and_then(|cursor| cursor.from.clone()),
            marks: before
                .map(|cursor| cursor.marks.clone())
                .unwrap_or_default(),
            boundary: Vec::new(),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_cover_every_row_once(end in 1_i64..1_000_000_000, lanes in 1_usize..40) {
            let parts = cut(end, end, lanes).unwrap();
            prop_assert!(parts.len() <= lanes * PARTS_PER_LANE as usize);
            let mut next = Some(0);
            for part in &parts {
                let spec = Spec::of(part).unwrap();
                prop_assert_eq!(spec.from, next);
                prop_assert!(spec.to.is_none_or(|to| to > spec.from.unwrap() && to < end));
                next = spec.to;
            }
            prop_assert_eq!(next, None);
        }
    }
}
