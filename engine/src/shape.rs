//! From rows as read to rows as written: filtered, cut to the chosen columns, renamed,
//! obfuscated. Without filters and obfuscation no value is touched or copied.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray,
    builder::StringBuilder, cast::AsArray,
};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use arrow_select::filter::filter_record_batch;
use base64::Engine as _;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use tideway_core::{Batch, Error, LogicalType, Result, schema::arrow_schema, types::decimal_nans};

use crate::{
    filter,
    plan::{FilterSpec, TablePlan},
};

/// Shapes the batches of one table.
pub struct Shaper {
    filters: Vec<(FilterSpec, LogicalType)>,
    /// How many of the filters, from the end, stand for the data cutoff.
    cutoffs: usize,
    width: usize,
    obfuscated: Vec<bool>,
    logical: Vec<LogicalType>,
    schema: SchemaRef,
    key: Vec<u8>,
    now: DateTime<Utc>,
}

impl Shaper {
    pub fn new(plan: &TablePlan, obfuscation_key: &[u8], now: DateTime<Utc>) -> Result<Self> {
        let mut filters = Vec::new();
        let cutoff = plan
            .cutoff
            .iter()
            .zip(&plan.tracking)
            .map(|(at, field)| FilterSpec {
                field_id: field.clone(),
                function: "OnOrAfter".to_owned(),
                value: Value::String(at.clone()),
            });
        for filter in plan.filters.iter().cloned().chain(cutoff) {
            let column = plan
                .read
                .iter()
                .find(|column| column.name == filter.field_id)
                .ok_or_else(|| Error::bug("a filter's field is not among the columns read"))?;
            filters.push((filter, column.logical));
        }
        let width = plan.target.columns.len();
        Ok(Shaper {
            cutoffs: filters.len() - plan.filters.len(),
            filters,
            width,
            obfuscated: plan.obfuscated.clone(),
            logical: plan
                .read
                .iter()
                .take(width)
                .map(|column| column.logical)
                .collect(),
            schema: arrow_schema(&plan.target.columns),
            key: obfuscation_key.to_vec(),
            now,
        })
    }

    /// The rows that pass all filters, still with every column that was read.
    pub fn filter(&self, batch: Batch) -> Result<Batch> {
        if self.filters.is_empty() {
            return Ok(batch);
        }
        let keep = self.passing(&batch, &self.filters)?;
        if filter::passed(&keep) == batch.row_count() {
            return Ok(batch);
        }
        let rows = filter_record_batch(&batch.rows, &keep).map_err(bug)?;
        Ok(Batch { rows, ..batch })
    }

    fn passing(
        &self,
        batch: &Batch,
        filters: &[(FilterSpec, LogicalType)],
    ) -> Result<BooleanArray> {
        let mut keep = BooleanArray::from(vec![true; batch.row_count()]);
        for (spec, logical) in filters {
            let mask = filter::mask(&batch.rows, *logical, spec, self.now)?;
            keep = filter::and(&keep, &mask);
        }
        Ok(keep)
    }

    /// What of each change passes all filters, and which are older than the cutoff.
    pub(crate) fn judge(&self, batch: &Batch) -> Result<(BooleanArray, BooleanArray)> {
        let (filters, cutoffs) = self.filters.split_at(self.filters.len() - self.cutoffs);
        Ok((self.passing(batch, filters)?, self.passing(batch, cutoffs)?))
    }

    /// The columns that filters look at, among those that are read.
    pub(crate) fn judged(&self, batch: &Batch) -> Vec<usize> {
        let schema = batch.rows.schema();
        self.filters
            .iter()
            .filter_map(|(spec, _)| schema.index_of(&spec.field_id).ok())
            .collect()
    }

    /// The rows in the target's columns.
    pub fn project(&self, batch: Batch) -> Result<Batch> {
        let columns = self.columns(&batch)?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(bug)?;
        Ok(Batch { rows, ..batch })
    }

    /// Number of the target's columns.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn columns(&self, batch: &Batch) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<ArrayRef> = batch
            .rows
            .columns()
            .iter()
            .take(self.width)
            .cloned()
            .collect();
        for (index, column) in columns.iter_mut().enumerate() {
            if self.obfuscated.get(index).copied().unwrap_or(false) {
                *column = self.obfuscate(column, self.logical[index])?;
            }
        }
        Ok(columns)
    }

    /// HMAC-SHA-256 of the value's text, in hex: equal values stay equal, so joins
    /// still work, and without the key nobody can try values out.
    fn obfuscate(&self, column: &ArrayRef, logical: LogicalType) -> Result<ArrayRef> {
        let texts = text_of(column, logical)?;
        let mac = Hmac::<Sha256>::new_from_slice(&self.key)
            .map_err(|_| Error::bug("the obfuscation key has no usable length"))?;
        let mut hashed = StringBuilder::with_capacity(texts.len(), texts.len() * 64);
        for text in texts.iter() {
            hashed.append_option(text.map(|text| {
                hex::encode(
                    mac.clone()
                        .chain_update(text.as_bytes())
                        .finalize()
                        .into_bytes(),
                )
            }));
        }
        Ok(Arc::new(hashed.finish()))
    }
}

/// Each value as text: numbers and times in ISO forms, UUIDs hyphenated, bytes in base64.
pub fn text_of(column: &ArrayRef, logical: LogicalType) -> Result<StringArray> {
    if logical == LogicalType::Uuid
        && let Some(ids) = column.as_any().downcast_ref::<FixedSizeBinaryArray>()
    {
        return Ok(ids.iter().map(|id| id.map(hyphenated)).collect());
    }
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        let base64 = base64::engine::general_purpose::STANDARD;
        return Ok(bytes
            .iter()
            .map(|value| value.map(|value| base64.encode(value)))
            .collect());
    }
    let texts = cast(column, &DataType::Utf8).map_err(bug)?;
    let texts = texts.as_string::<i32>();
    Ok(match decimal_nans(column) {
        None => texts.clone(),
        Some(nans) => {
            let text = |(text, is_nan)| {
                if is_nan == Some(true) {
                    Some("NaN")
                } else {
                    text
                }
            };
            texts.iter().zip(&nans).map(text).collect()
        }
    })
}

fn hyphenated(id: &[u8]) -> String {
    let hex = hex::encode(id);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

fn bug(error: arrow_schema::ArrowError) -> Error {
    Error::bug(format!("shaping a batch: {error}"))
}
