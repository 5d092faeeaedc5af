//! A few records of a table, for looking at.

use std::sync::Arc;

use arrow_array::Array;
use futures::StreamExt;
use serde_json::{Map, Value};
use tideway_core::{
    Error, LogicalType, Result, WriteMode,
    source::{Read, Scope},
};
use tideway_store::Connection as StoredConnection;

use crate::Work;

impl Work {
    /// At most `limit` records of the table, as JSON objects: numbers that JSON cannot
    /// hold exactly, times and bytes come as text.
    pub async fn sample(
        &self,
        stored: &StoredConnection,
        schema_id: &str,
        limit: u64,
    ) -> Result<Vec<Map<String, Value>>> {
        let connection = self
            .open(&stored.kind, stored.configuration.expose(), "sample")
            .await?;
        let source = connection.roles().need_source(&stored.kind)?;
        let scope = Scope {
            namespaces: None,
            tables: Some(vec![schema_id.to_owned()]),
        };
        let catalog = source.discover(&scope).await?;
        let table = catalog
            .table(schema_id)
            .cloned()
            .ok_or_else(|| Error::missing(format!("the connection has no schema {schema_id}")))?;
        let read = Arc::new(Read {
            columns: table.columns.clone(),
            table,
            tracking: None,
            mode: WriteMode::Snapshot,
            limit: Some(limit),
            batch_bytes: 1 << 20,
            lanes: 1,
        });
        let snapshot = source.open(&Value::Object(Map::new())).await?;
        let scan = snapshot.plan(&read).await?;
        let mut records = Vec::new();
        for part in scan.parts {
            let mut batches = snapshot.clone().read(read.clone(), part);
            while let Some(batch) = batches.next().await {
                append(&mut records, &read, &batch?.rows)?;
                if records.len() as u64 >= limit {
                    records.truncate(limit as usize);
                    return Ok(records);
                }
            }
        }
        self.count_call(stored.id, None, "records").await;
        Ok(records)
    }
}

fn append(
    records: &mut Vec<Map<String, Value>>,
    read: &Read,
    rows: &arrow_array::RecordBatch,
) -> Result<()> {
    let first = records.len();
    records.resize_with(first + rows.num_rows(), Map::new);
    for (column, values) in read.columns.iter().zip(rows.columns()) {
        let texts = tideway_engine::shape::text_of(values, column.logical)?;
        for row in 0..rows.num_rows() {
            let value = if texts.is_null(row) {
                Value::Null
            } else {
                json_value(column.logical, texts.value(row))
            };
            records[first + row].insert(column.name.clone(), value);
        }
    }
    Ok(())
}

fn json_value(logical: LogicalType, text: &str) -> Value {
    let parsed = match logical {
        LogicalType::Boolean
        | LogicalType::Int16
        | LogicalType::Int32
        | LogicalType::Int64
        | LogicalType::Float32
        | LogicalType::Float64
        | LogicalType::Json => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}
