//! The schemas (tables) of a sync: which are carried, which fields, under what names.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Author, Store,
    db::{Tx, Value, rows_of_placeholders, values},
    row::Row,
    syncs,
};

/// Rows that one statement inserts; each has [`COLUMNS`] values.
const ROWS_PER_INSERT: usize = 100;
const COLUMNS: usize = 12;

/// One schema of a sync.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncSchema {
    /// The text of a [`tideway_core::TableId`].
    pub schema_id: String,
    pub enabled: bool,
    /// The name that a user has given it at the destination.
    pub user_output_name: Option<String>,
    /// Its name at the destination, once a run has worked it out.
    pub output_name: Option<String>,
    pub tracking_field: Option<String>,
    pub partition_key: Option<String>,
    pub data_cutoff_timestamp: Option<DateTime<Utc>>,
    pub disable_data_cutoff: bool,
    pub history_enabled: bool,
    /// None carries every field.
    pub fields: Option<Vec<FieldSelection>>,
    /// Rows must pass all of them.
    pub filters: Vec<RowFilter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSelection {
    pub id: String,
    pub enabled: bool,
    #[serde(default)]
    pub obfuscated: bool,
    #[serde(default)]
    pub user_output_name: Option<String>,
    #[serde(default)]
    pub output_name: Option<String>,
}

/// A condition on rows, as the HTTP contract writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowFilter {
    #[serde(default)]
    pub field_id: Option<String>,
    /// One of the contract's function names (`Equality`, `InTheLast`).
    pub function: String,
    #[serde(default)]
    pub value: Option<Json>,
}

impl SyncSchema {
    /// Enabled, with every field and no conditions.
    pub fn new(schema_id: &str) -> Self {
        SyncSchema {
            schema_id: schema_id.to_owned(),
            enabled: true,
            user_output_name: None,
            output_name: None,
            tracking_field: None,
            partition_key: None,
            data_cutoff_timestamp: None,
            disable_data_cutoff: false,
            history_enabled: false,
            fields: None,
            filters: Vec::new(),
        }
    }
}

pub struct SyncSchemas<'a>(pub(crate) &'a Store);

impl SyncSchemas<'_> {
    /// By schema id; only the enabled or disabled ones if asked for.
    pub async fn list(
        &self,
        organization: Uuid,
        sync: Uuid,
        enabled: Option<bool>,
    ) -> Result<Vec<SyncSchema>> {
        self.0.bulk_syncs().get(organization, sync).await?;
        let mut sql = "SELECT * FROM sync_schemas WHERE sync_id = $1".to_owned();
        let mut values = values![sync];
        if let Some(enabled) = enabled {
            sql += " AND enabled = $2";
            values.push(enabled.into());
        }
        sql += " ORDER BY schema_id";
        self.0
            .db()
            .all(&sql, values)
            .await?
            .iter()
            .map(schema_of)
            .collect()
    }

    pub async fn get(&self, organization: Uuid, sync: Uuid, schema_id: &str) -> Result<SyncSchema> {
        let row = self
            .0
            .db()
            .one(
                "schema",
                "SELECT sync_schemas.* FROM sync_schemas
                 JOIN bulk_syncs ON bulk_syncs.id = sync_id
                 WHERE organization_id = $1 AND sync_id = $2 AND schema_id = $3",
                values![organization, sync, schema_id],
            )
            .await?;
        schema_of(&row)
    }

    /// Adds the schemas, or changes those of the same id; others stay.
    pub async fn put(
        &self,
        organization: Uuid,
        sync: Uuid,
        author: &Author,
        schemas: &[SyncSchema],
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        syncs::require(&mut tx, organization, sync).await?;
        put(&mut tx, sync, schemas).await?;
        syncs::touch(&mut tx, sync, author).await?;
        tx.commit().await
    }

    /// The schemas are all that the sync has from now on.
    pub async fn replace(
        &self,
        organization: Uuid,
        sync: Uuid,
        author: &Author,
        schemas: &[SyncSchema],
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        syncs::require(&mut tx, organization, sync).await?;
        replace(&mut tx, sync, schemas).await?;
        syncs::touch(&mut tx, sync, author).await?;
        tx.commit().await
    }
}

pub(crate) async fn replace(tx: &mut Tx, sync: Uuid, schemas: &[SyncSchema]) -> Result<()> {
    tx.execute("DELETE FROM sync_schemas WHERE sync_id = $1", values![sync])
        .await?;
    put(tx, sync, schemas).await
}

pub(crate) async fn put(tx: &mut Tx, sync: Uuid, schemas: &[SyncSchema]) -> Result<()> {
    // A statement may touch a row once only; the last mention of a schema counts.
    let mut last: std::collections::BTreeMap<&str, &SyncSchema> = Default::default();
    for schema in schemas {
        last.insert(&schema.schema_id, schema);
    }
    let schemas: Vec<_> = last.into_values().collect();
    for schemas in schemas.chunks(ROWS_PER_INSERT) {
        let mut values: Vec<Value> = Vec::with_capacity(schemas.len() * COLUMNS);
        for schema in schemas {
            values.extend(values_of(sync, schema)?);
        }
        let sql = format!(
            "INSERT INTO sync_schemas (sync_id, schema_id, enabled, user_output_name, output_name,
               tracking_field, partition_key, data_cutoff_timestamp, disable_data_cutoff,
               history_enabled, fields, filters)
             VALUES {}
             ON CONFLICT (sync_id, schema_id) DO UPDATE SET enabled = excluded.enabled,
               user_output_name = excluded.user_output_name, output_name = excluded.output_name,
               tracking_field = excluded.tracking_field, partition_key = excluded.partition_key,
               data_cutoff_timestamp = excluded.data_cutoff_timestamp,
               disable_data_cutoff = excluded.disable_data_cutoff,
               history_enabled = excluded.history_enabled, fields = excluded.fields,
               filters = excluded.filters",
            rows_of_placeholders(schemas.len(), COLUMNS)
        );
        tx.execute(&sql, values).await?;
    }
    Ok(())
}

fn values_of(sync: Uuid, schema: &SyncSchema) -> Result<Vec<Value>> {
    Ok(values![
        sync,
        &schema.schema_id,
        schema.enabled,
        &schema.user_output_name,
        &schema.output_name,
        &schema.tracking_field,
        &schema.partition_key,
        schema.data_cutoff_timestamp,
        schema.disable_data_cutoff,
        schema.history_enabled,
        schema.fields.as_ref().map(crate::json).transpose()?,
        crate::json(&schema.filters)?
    ])
}

fn schema_of(row: &Row) -> Result<SyncSchema> {
    Ok(SyncSchema {
        schema_id: row.text("schema_id")?,
        enabled: row.flag("enabled")?,
        user_output_name: row.maybe_text("user_output_name")?,
        output_name: row.maybe_text("output_name")?,
        tracking_field: row.maybe_text("tracking_field")?,
        partition_key: row.maybe_text("partition_key")?,
        data_cutoff_timestamp: row.maybe_time("data_cutoff_timestamp")?,
        disable_data_cutoff: row.flag("disable_data_cutoff")?,
        history_enabled: row.flag("history_enabled")?,
        fields: row.maybe_json("fields")?,
        filters: row.json("filters")?,
    })
}
