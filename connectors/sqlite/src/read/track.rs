//! Reading by a tracking field.
//!
//! SQLite lets one program write at a time, and a writer's values are taken while it
//! holds the lock: whatever commits after our snapshot began to be written after
//! everything in it was there. So no late row can slip below the newest value seen, and
//! the next run may go on right there, that value included. The exception is a program
//! that takes its timestamps before it gets hold of the lock.
//!
//! Rows are compared as values, not as SQLite orders them: texts of timestamps may stand
//! in several forms. SQL only sorts out early what cannot pass.

use std::{
    cmp::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::types::{Value, ValueRef};
use tideway_core::{
    Column, Cursor, Error, LogicalType, Mark, Result, Table, TableId,
    types::{DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::{
    moment::{self, DAY, Moment},
    number, value,
};

/// The tracking field of a read and where to begin.
pub struct Track {
    table: TableId,
    column: String,
    logical: LogicalType,
    before: Option<Cursor>,
    from: Option<Point>,
}

/// A value of a tracking field, to be compared with others of its column.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    Whole(i128),
    Float(f64),
    Text(String),
}

/// A condition in SQL; `?1` stands for the bound value.
pub struct Filter {
    pub sql: String,
    pub bound: Value,
}

impl Filter {
    pub fn all() -> Filter {
        Filter {
            sql: "?1 IS NULL".to_owned(),
            bound: Value::Null,
        }
    }
}

impl Track {
    pub fn new(table: &Table, column: &Column, cursor: Option<Cursor>) -> Result<Track> {
        let name = &column.name;
        let wrong =
            |what: String| Error::config(format!("{}: {what}", table.id)).field("tracking_field");
        if !orderable(column.logical) {
            return Err(wrong(format!("{name} has no order that grows with time"))
                .hint("choose a number, a date or a timestamp"));
        }
        let from = match cursor.as_ref().and_then(|cursor| cursor.from.as_ref()) {
            None => None,
            Some(text) => Some(Point::parse(column.logical, text).ok_or_else(|| {
                wrong(format!("{name} has changed its type since the last run"))
                    .hint("run the sync once with a resync")
            })?),
        };
        Ok(Track {
            table: table.id.clone(),
            column: name.clone(),
            logical: column.logical,
            before: cursor,
            from,
        })
    }

    /// What can be sorted out in SQL: lets through all that [`Track::passes`], and more.
    pub fn filter(&self, column: &str) -> Filter {
        self.narrow(column).unwrap_or_else(Filter::all)
    }

    fn narrow(&self, column: &str) -> Option<Filter> {
        let (sql, bound) = match (self.from.as_ref()?, self.logical) {
            (
                Point::Whole(number),
                LogicalType::Int16 | LogicalType::Int32 | LogicalType::Int64,
            ) => {
                let number = i64::try_from(*number).ok()?;
                (format!("{column} >= ?1"), Value::Integer(number))
            }
            (Point::Float(number), _) => (format!("{column} >= ?1"), Value::Real(*number)),
            (Point::Text(text), _) => (
                format!("(typeof({column}) <> 'text' OR {column} COLLATE BINARY >= ?1)"),
                Value::Text(text.clone()),
            ),
            (
                Point::Whole(_),
                LogicalType::Date | LogicalType::Timestamp | LogicalType::TimestampTz,
            ) => {
                // A zone moves the date in the text by less than a day. Signed years
                // begin with + or -, which sort before /.
                let mut eve = String::new();
                moment::write_date(self.first_day()?.checked_sub(1)?, &mut eve);
                if eve.len() != "2000-01-01".len() {
                    return None;
                }
                (
                    format!("({column} COLLATE BINARY >= ?1 OR {column} COLLATE BINARY < '/')"),
                    Value::Text(eve),
                )
            }
            _ => return None,
        };
        Some(Filter { sql, bound })
    }

    fn first_day(&self) -> Option<i32> {
        let Some(Point::Whole(from)) = self.from else {
            return None;
        };
        let days = match self.logical {
            LogicalType::Date => from,
            _ => from.div_euclid(i128::from(DAY)),
        };
        i32::try_from(days).ok()
    }

    /// Whether a row is to be read. Rows without a value come along only in a run that
    /// reads everything.
    pub fn passes(&self, value: ValueRef<'_>) -> Result<bool> {
        let Some(from) = &self.from else {
            return Ok(true);
        };
        if matches!(value, ValueRef::Null) {
            return Ok(false);
        }
        Ok(self.point(value)?.order(from) != Ordering::Less)
    }

    /// The newer of the two. Infinity is no time at which a run could go on.
    pub fn newer(&self, newest: Option<Point>, value: ValueRef<'_>) -> Result<Option<Point>> {
        if matches!(value, ValueRef::Null) {
            return Ok(newest);
        }
        let point = self.point(value)?;
        if point.infinite(self.logical) {
            return Ok(newest);
        }
        Ok(Some(match newest {
            Some(newest) if newest.order(&point) != Ordering::Less => newest,
            _ => point,
        }))
    }

    fn point(&self, value: ValueRef<'_>) -> Result<Point> {
        Point::of(self.logical, value).ok_or_else(|| {
            let (column, table) = (&self.column, &self.table);
            Error::data(format!(
                "column {column} of table {table} holds a value that is no {}",
                self.logical.spec()
            ))
            .field(column.clone())
            .hint("refresh the schema of the connection")
        })
    }

    /// The cursor after a run that saw `newest`.
    pub fn cursor(&self, newest: Option<Point>) -> Cursor {
        let before = self.before.clone();
        let newest = match (newest, &self.from) {
            (Some(newest), Some(from)) if newest.order(from) == Ordering::Less => None,
            (newest, _) => newest,
        };
        let from = newest.map(|point| point.text(self.logical));
        let from = from.or_else(|| before.and_then(|cursor| cursor.from));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mark = |value: String| Mark {
            at: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            value,
        };
        Cursor {
            column: self.column.clone(),
            marks: from.clone().map(mark).into_iter().collect(),
            from,
            boundary: Vec::new(),
        }
    }
}

fn orderable(logical: LogicalType) -> bool {
    match logical {
        LogicalType::Decimal { precision, .. } => precision <= 38,
        LogicalType::Boolean
        | LogicalType::Numeric
        | LogicalType::Json
        | LogicalType::Uuid
        | LogicalType::Binary
        | LogicalType::Interval => false,
        _ => true,
    }
}

impl Point {
    fn of(logical: LogicalType, value: ValueRef<'_>) -> Option<Point> {
        use LogicalType::*;
        Some(match logical {
            Int16 | Int32 | Int64 => Point::Whole(value::integer(value)?.into()),
            UInt64 => Point::Whole(value::unsigned(value)?.into()),
            Float32 | Float64 => Point::Float(value::float(value)?),
            Decimal { precision, scale } => {
                Point::Whole(value::decimal(value, precision, scale)?.to_i128()?)
            }
            Text => Point::Text(value::text(value)?.into_owned()),
            Date => Point::Whole(value::date(value)?.into()),
            Time => Point::Whole(value::time(value)?.into()),
            Timestamp => Point::Whole(value::timestamp(value, false)?.into()),
            TimestampTz => Point::Whole(value::timestamp(value, true)?.into()),
            _ => return None,
        })
    }

    /// The way back from [`Point::text`].
    fn parse(logical: LogicalType, text: &str) -> Option<Point> {
        use LogicalType::*;
        match logical {
            Int16 | Int32 | Int64 => Some(Point::Whole(text.parse::<i64>().ok()?.into())),
            Float32 | Float64 => Some(Point::Float(text.parse().ok()?)),
            _ => Point::of(logical, ValueRef::Text(text.as_bytes())),
        }
    }

    fn text(&self, logical: LogicalType) -> String {
        use LogicalType::*;
        let mut text = String::new();
        match (self, logical) {
            (Point::Text(value), _) => return value.clone(),
            (Point::Float(value), _) => return value::real_digits(*value),
            (Point::Whole(value), Decimal { scale, .. }) => {
                number::write(&value.to_string(), scale, &mut text);
            }
            (Point::Whole(value), Date) => {
                moment::write_date(i32::try_from(*value).unwrap_or(DATE_INFINITY), &mut text);
            }
            (Point::Whole(value), Time | Timestamp | TimestampTz) => {
                let micros = i64::try_from(*value).unwrap_or(TIMESTAMP_INFINITY);
                let zoned = logical == TimestampTz;
                match logical {
                    Time => moment::write_time(micros, &mut text),
                    _ => moment::write_moment(Moment { micros, zoned }, &mut text),
                }
            }
            (Point::Whole(value), _) => return value.to_string(),
        }
        text
    }

    fn infinite(&self, logical: LogicalType) -> bool {
        match (self, logical) {
            (Point::Whole(value), LogicalType::Date) => [DATE_INFINITY, DATE_MINUS_INFINITY]
                .iter()
                .any(|end| i128::from(*end) == *value),
            (Point::Whole(value), LogicalType::Timestamp | LogicalType::TimestampTz) => {
                [TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY]
                    .iter()
                    .any(|end| i128::from(*end) == *value)
            }
            (Point::Float(value), _) => value.is_infinite(),
            _ => false,
        }
    }

    fn order(&self, other: &Point) -> Ordering {
        match (self, other) {
            (Point::Whole(a), Point::Whole(b)) => a.cmp(b),
            (Point::Float(a), Point::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Point::Text(a), Point::Text(b)) => a.cmp(b),
            // Points of one column are of one kind.
            _ => Ordering::Equal,
        }
    }
}
