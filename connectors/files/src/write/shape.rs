//! The columns that a table has after a load, and how the rows that come become rows of
//! that table.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int16Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    builder::StringBuilder,
    cast::AsArray,
    new_null_array,
    types::{Date32Type, TimestampMicrosecondType},
};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use arrow_select::{filter::filter_record_batch, nullif::nullif};
use tideway_core::{
    Batch, Column, Error, LogicalType, Note, Ops, Result,
    destination::{CREATED_AT, DELETED_AT, Disposition, Load, SchemaChange, UPDATED_AT, Write},
    operations::Operations,
    schema::arrow_schema,
    types::{
        DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY,
        decimal_nans,
    },
};

use super::merge::{KEPT, OP, change_columns};
use crate::{
    format::{Format, json::one_line},
    manifest::Manifest,
    types::widen,
};

const SYSTEM: [&str; 3] = [DELETED_AT, CREATED_AT, UPDATED_AT];

/// The columns of the table: those it has, widened where the load needs it, then new
/// ones, then system columns. Nothing is dropped unless the table is made anew.
pub fn evolve(existing: Option<&Manifest>, load: &Load) -> (Vec<Column>, Vec<SchemaChange>) {
    let mut changes = Vec::new();
    let existing = existing.filter(|_| load.disposition != Disposition::Rebuild);
    let before: &[Column] = existing.map_or(&[], |manifest| &manifest.columns);
    let is_system = |column: &&Column| SYSTEM.contains(&column.name.as_str());
    let mut columns: Vec<Column> = before.iter().filter(|c| !is_system(c)).cloned().collect();
    for wanted in &load.target.columns {
        match columns.iter_mut().find(|column| column.name == wanted.name) {
            Some(column) => {
                let wide = column.logical.widest(wanted.logical);
                if wide != column.logical {
                    changes.push(SchemaChange(format!(
                        "column {} is {wide:?} now, it was {:?}",
                        column.name, column.logical
                    )));
                    column.logical = wide;
                }
            }
            None => {
                if existing.is_some() {
                    changes.push(SchemaChange(format!("column {} was added", wanted.name)));
                }
                // A file that is older or comes later may lack the column.
                columns.push(Column {
                    nullable: true,
                    ..wanted.clone()
                });
            }
        }
    }
    let system = load.system_columns();
    for name in SYSTEM {
        if system.contains(&name) || before.iter().any(|column| column.name == name) {
            columns.push(Column::new(name, LogicalType::TimestampTz));
        }
    }
    (columns, changes)
}

/// Where a column of the table gets its values.
enum From {
    Load(usize, LogicalType),
    Now,
    Nowhere,
}

/// Turns batches of a load into rows of the table.
pub struct Shaper {
    columns: Vec<(Column, From)>,
    schema: SchemaRef,
    /// Places of the key columns among those of the load, if rows are told apart by them.
    key: Vec<usize>,
    changes: bool,
    one_line: bool,
    /// Microseconds since 1970.
    now: i64,
}

impl Shaper {
    pub fn new(columns: &[Column], load: &Load, format: Format, now: i64) -> Result<Self> {
        let place = |name: &str| load.target.columns.iter().position(|c| c.name == name);
        let stamped =
            |name: &str| load.record_timestamps && [CREATED_AT, UPDATED_AT].contains(&name);
        // Behind the columns of the load stand what changes have besides.
        let brought = load.target.columns.len();
        let sources = columns.iter().map(|column| {
            let from = match place(&column.name) {
                None if column.name == OP => From::Load(brought, LogicalType::Int16),
                None if column.name == KEPT => From::Load(brought + 1, LogicalType::Text),
                Some(index) => From::Load(index, load.target.columns[index].logical),
                None if stamped(&column.name) => From::Now,
                None => From::Nowhere,
            };
            (column.clone(), from)
        });
        let key = match load.write {
            Write::Merge { .. } | Write::Changes { .. } => key_places(load)?,
            _ => Vec::new(),
        };
        let changes = matches!(load.write, Write::Changes { .. });
        Ok(Shaper {
            columns: sources.collect(),
            schema: arrow_schema(columns),
            key,
            changes,
            one_line: format == Format::Json,
            now,
        })
    }

    pub fn shape(&self, batch: &Batch) -> Result<(RecordBatch, Vec<Note>)> {
        let mut notes = Vec::new();
        let rows = match (self.changes, &batch.ops) {
            (true, _) => self.with_operations(batch)?,
            (false, Ops::Rows) => batch.rows.clone(),
            (false, Ops::Each(_)) => {
                return Err(Error::bug("changes arrived for a load of whole rows"));
            }
        };
        let rows = self.with_keys(&rows, &mut notes)?;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, from) in &self.columns {
            arrays.push(match from {
                From::Nowhere => new_null_array(&column.logical.arrow(), rows.num_rows()),
                From::Now => {
                    let times = TimestampMicrosecondArray::from(vec![self.now; rows.num_rows()]);
                    Arc::new(times.with_timezone("UTC"))
                }
                From::Load(index, logical) => {
                    let array = rows.columns().get(*index).ok_or_else(|| {
                        Error::bug(format!("a batch lacks column {}", column.name))
                    })?;
                    let finite = finite(array, *logical, &column.name, &mut notes)?;
                    let settled = match logical {
                        LogicalType::Json if self.one_line => {
                            on_lines(&finite, &column.name, &mut notes)
                        }
                        _ => finite,
                    };
                    widen(&settled, *logical, column.logical, &column.name)?
                }
            });
        }
        let rows = RecordBatch::try_new(self.schema.clone(), arrays).map_err(bug)?;
        Ok((rows, notes))
    }

    /// Changes with their operations in columns, and without the values that they do not
    /// tell.
    fn with_operations(&self, batch: &Batch) -> Result<RecordBatch> {
        let operations = Operations::of(batch, &self.key)?;
        let numbers = || 0..batch.row_count();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(batch.rows.num_columns() + 2);
        for (index, array) in batch.rows.columns().iter().enumerate() {
            let lacks = |row| Some(operations.lacks(row, index));
            let lacking: BooleanArray = numbers().map(lacks).collect();
            arrays.push(match lacking.true_count() {
                0 => array.clone(),
                _ => nullif(array, &lacking).map_err(bug)?,
            });
        }
        let codes = numbers().map(|row| i16::from(operations.code(row)));
        arrays.push(Arc::new(Int16Array::from_iter_values(codes)));
        let kept = numbers().map(|row| operations.kept(row));
        arrays.push(Arc::new(kept.collect::<StringArray>()));
        let schema = batch.rows.schema();
        let mut fields: Vec<Field> = schema
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let more = change_columns();
        fields.extend(more.map(|column| Field::new(column.name, column.logical.arrow(), true)));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(bug)
    }

    /// Rows without a key cannot be merged: nothing tells them from others.
    fn with_keys(&self, rows: &RecordBatch, notes: &mut Vec<Note>) -> Result<RecordBatch> {
        let column_of = |place: &&usize| rows.columns().get(**place);
        let nullable = self
            .key
            .iter()
            .filter(|place| column_of(place).is_some_and(|c| c.null_count() > 0));
        let Some(first) = nullable.clone().next() else {
            return Ok(rows.clone());
        };
        let nullable: Vec<&ArrayRef> = nullable.filter_map(|place| column_of(&place)).collect();
        let keep: BooleanArray = (0..rows.num_rows())
            .map(|row| Some(nullable.iter().all(|column| column.is_valid(row))))
            .collect();
        let left_out = keep.len() - keep.true_count();
        notes.push(Note {
            column: rows.schema().field(*first).name().clone(),
            what: "row without a key left out".to_owned(),
            rows: left_out as u64,
        });
        filter_record_batch(rows, &keep).map_err(bug)
    }
}

/// Places of the key among the load's columns.
pub fn key_places(load: &Load) -> Result<Vec<usize>> {
    let target = &load.target;
    if target.key.is_empty() {
        return Err(
            Error::config(format!("{} has no key to merge by", target.name))
                .field("primary_keys")
                .hint("name the key fields, or use mode snapshot"),
        );
    }
    let place = |name: &String| {
        target
            .columns
            .iter()
            .position(|column| column.name == *name)
    };
    let places = target.key.iter().map(|name| {
        place(name).ok_or_else(|| Error::bug(format!("key column {name} is not among the columns")))
    });
    places.collect()
}

fn bug(error: ArrowError) -> Error {
    Error::bug(format!("shaping rows for a file: {error}"))
}

/// No format has infinite dates or decimals that are NaN: they become null, and that is told.
fn finite(
    array: &ArrayRef,
    logical: LogicalType,
    column: &str,
    notes: &mut Vec<Note>,
) -> Result<ArrayRef> {
    let lost: BooleanArray = match logical {
        LogicalType::Date => {
            let days = array.as_primitive_opt::<Date32Type>();
            let days = days.ok_or_else(|| Error::bug(format!("{column} is no array of dates")))?;
            if !days
                .values()
                .iter()
                .any(|day| matches!(*day, DATE_INFINITY | DATE_MINUS_INFINITY))
            {
                return Ok(array.clone());
            }
            let is = |day| matches!(day, DATE_INFINITY | DATE_MINUS_INFINITY);
            days.iter().map(|day| Some(day.is_some_and(is))).collect()
        }
        LogicalType::Timestamp | LogicalType::TimestampTz => {
            let times = array.as_primitive_opt::<TimestampMicrosecondType>();
            let times =
                times.ok_or_else(|| Error::bug(format!("{column} is no array of times")))?;
            let is = |time| matches!(time, TIMESTAMP_INFINITY | TIMESTAMP_MINUS_INFINITY);
            if !times.values().iter().any(|time| is(*time)) {
                return Ok(array.clone());
            }
            times
                .iter()
                .map(|time| Some(time.is_some_and(is)))
                .collect()
        }
        LogicalType::Decimal { .. } => match decimal_nans(array) {
            Some(nans) => nans,
            None => return Ok(array.clone()),
        },
        _ => return Ok(array.clone()),
    };
    let rows = lost.true_count() as u64;
    if rows > 0 {
        let what = match logical {
            LogicalType::Decimal { .. } => "NaN stored as null",
            _ => "infinity stored as null",
        };
        notes.push(Note {
            column: column.to_owned(),
            what: what.to_owned(),
            rows,
        });
    }
    nullif(array, &lost).map_err(bug)
}

/// JSON documents as they go into a file of lines.
fn on_lines(array: &ArrayRef, column: &str, notes: &mut Vec<Note>) -> ArrayRef {
    let Some(texts) = array.as_string_opt::<i32>() else {
        return array.clone();
    };
    let mut invalid = 0;
    let mut changed: Option<StringBuilder> = None;
    for (row, text) in texts.iter().enumerate() {
        let (line, valid) = text.map_or((None, true), one_line);
        invalid += u64::from(!valid);
        if line.is_some() && changed.is_none() {
            let mut builder = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
            (0..row).for_each(|row| builder.append_option(value(texts, row)));
            changed = Some(builder);
        }
        if let Some(builder) = &mut changed {
            builder.append_option(line.as_deref().or(text));
        }
    }
    if invalid > 0 {
        notes.push(Note {
            column: column.to_owned(),
            what: "invalid JSON stored as a JSON string".to_owned(),
            rows: invalid,
        });
    }
    match changed {
        Some(mut builder) => Arc::new(builder.finish()),
        None => array.clone(),
    }
}

fn value(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}
