//! From changes as told to changes as written: what leaves the filters is deleted, the
//! columns are cut, renamed and obfuscated as those of a scan.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt8Array};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::{
    filter::{filter, filter_record_batch},
    nullif::nullif,
};
use tideway_core::{Batch, Error, Note, Op, Ops, Result};

use super::collapse::{mask_of, ops_of};
use crate::{plan::TablePlan, shape::Shaper};

/// Shapes the changes of one table.
pub struct ChangeShaper {
    shaper: Shaper,
    /// Indexes of the key among the target's columns.
    pub key: Vec<usize>,
    /// Of a deleted row only the key has values, so nothing else can be required.
    schema: SchemaRef,
}

impl ChangeShaper {
    pub fn new(plan: &TablePlan, shaper: Shaper) -> Self {
        let columns = &plan.target.columns;
        let key = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| plan.target.key.contains(&column.name))
            .map(|(index, _)| index)
            .collect();
        let fields: Vec<_> = shaper
            .schema()
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        ChangeShaper {
            shaper,
            key,
            schema: Arc::new(Schema::new(fields)),
        }
    }

    /// The changes in the target's columns, each with its operation.
    pub fn changes(&self, batch: Batch) -> Result<Batch> {
        let batch = self.judged(batch, false)?;
        nothing_kept_by_inserts(&batch)?;
        let columns = self.shaper.columns(&batch)?;
        let mut kept = batch.kept;
        kept.retain(|(column, _)| *column < self.shaper.width());
        Ok(Batch {
            rows: RecordBatch::try_new(self.schema.clone(), columns).map_err(bug)?,
            kept,
            ..batch
        })
    }

    /// The rows that were inserted, and updated rows as they became; deletes are left out.
    pub fn rows(&self, batch: Batch) -> Result<Batch> {
        let batch = self.judged(batch, true)?;
        let mut columns = self.shaper.columns(&batch)?;
        let mut notes = batch.notes;
        for (index, mask) in &batch.kept {
            let Some(column) = columns.get_mut(*index) else {
                continue;
            };
            let field = self.shaper.schema().field(*index);
            if !field.is_nullable() {
                return Err(Error::data(format!(
                    "an update does not tell the value of {}, which it left as it was",
                    field.name()
                ))
                .hint("have the source tell whole rows (ALTER TABLE … REPLICA IDENTITY FULL)"));
            }
            *column = nullif(&*column, mask).map_err(bug)?;
            notes.push(Note {
                column: field.name().clone(),
                what: "a value that an update left as it was is not told, stored as null".into(),
                rows: mask.true_count() as u64,
            });
        }
        Ok(Batch {
            rows: RecordBatch::try_new(self.shaper.schema().clone(), columns).map_err(bug)?,
            ops: Ops::Rows,
            kept: Vec::new(),
            notes,
        })
    }

    /// Rows that do not pass are left out, or told as deleted where they may have passed
    /// before.
    fn judged(&self, batch: Batch, append: bool) -> Result<Batch> {
        let ops = ops_of(&batch)?;
        let filters = self.shaper.judged(&batch);
        if filters.is_empty() && !append {
            return Ok(batch);
        }
        self.all_told(&batch, &filters)?;
        let (passes, recent) = self.shaper.judge(&batch)?;
        let mut codes = Vec::with_capacity(batch.row_count());
        let mut keep = Vec::with_capacity(batch.row_count());
        for (row, code) in ops.values().iter().enumerate() {
            let op =
                Op::of(*code).ok_or_else(|| Error::bug("a change has an unknown operation"))?;
            let (op, stays) = match op {
                Op::Delete => (op, !append),
                _ if !recent.value(row) => (op, false),
                _ if passes.value(row) => (op, true),
                // It was not there before, so there is nothing to take away.
                Op::Insert => (op, false),
                Op::Update => (Op::Delete, !append),
            };
            codes.push(op as u8);
            keep.push(stays);
        }
        let keep = BooleanArray::from(keep);
        let codes: ArrayRef = Arc::new(UInt8Array::from(codes));
        let codes = filter(&codes, &keep).map_err(bug)?;
        let codes = codes
            .as_any()
            .downcast_ref::<UInt8Array>()
            .ok_or_else(|| Error::bug("operations are not bytes"))?
            .clone();
        let mut kept = Vec::new();
        for (column, mask) in &batch.kept {
            let mask = filter(mask, &keep).map_err(bug)?;
            if let Some(mask) = mask.as_any().downcast_ref::<BooleanArray>()
                && mask.true_count() > 0
            {
                kept.push((*column, mask.clone()));
            }
        }
        Ok(Batch {
            rows: filter_record_batch(&batch.rows, &keep).map_err(bug)?,
            ops: Ops::Each(codes),
            kept,
            notes: batch.notes,
        })
    }

    /// Without the value nobody can say whether the row passes.
    fn all_told(&self, batch: &Batch, filters: &[usize]) -> Result<()> {
        let unknown = filters
            .iter()
            .find(|&&column| mask_of(batch, column).is_some_and(|mask| mask.true_count() > 0));
        match unknown {
            None => Ok(()),
            Some(&column) => Err(Error::data(format!(
                "an update does not tell the value of {}, by which rows are filtered",
                batch.rows.schema().field(column).name()
            ))
            .hint("have the source tell whole rows (ALTER TABLE … REPLICA IDENTITY FULL), or filter by another field")),
        }
    }
}

/// A row that is new has nothing to keep: its key was changed by an update that did not
/// tell all of it. The table has to be read anew, which failing brings about.
fn nothing_kept_by_inserts(batch: &Batch) -> Result<()> {
    let ops = ops_of(batch)?;
    for (column, mask) in &batch.kept {
        let mut rows = ops.values().iter().zip(mask.values().iter());
        if rows.any(|(op, kept)| kept && *op == Op::Insert as u8) {
            return Err(Error::data(format!(
                "an update that changed the key does not tell the value of {}",
                batch.rows.schema().field(*column).name()
            ))
            .hint("the next run reads the table anew; have the source tell whole rows to avoid it (ALTER TABLE … REPLICA IDENTITY FULL)"));
        }
    }
    Ok(())
}

fn bug(error: arrow_schema::ArrowError) -> Error {
    Error::bug(format!("shaping changes: {error}"))
}
