//! What users say about discovered tables: which columns are the key, and fields that
//! discovery does not know.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tideway_core::Result;
use uuid::Uuid;

use crate::{catalogs::Catalogs, clock, connections, db::values};

/// Whether a field belongs to the key, by the user's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyField {
    pub field_id: String,
    pub is_primary_key: bool,
}

/// A field that a user has defined.
#[derive(Debug, Clone, PartialEq)]
pub struct UserField {
    pub field_id: String,
    pub label: String,
    /// The HTTP API says `type`.
    pub kind: String,
    /// A JSONPath.
    pub path: Option<String>,
    pub definition: Option<Json>,
    pub example: Option<Json>,
    /// Set by the store.
    pub created_at: DateTime<Utc>,
    /// Set by the store.
    pub updated_at: DateTime<Utc>,
}

impl UserField {
    pub fn new(field_id: &str, label: &str, kind: &str) -> Self {
        UserField {
            field_id: field_id.to_owned(),
            label: label.to_owned(),
            kind: kind.to_owned(),
            path: None,
            definition: None,
            example: None,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        }
    }
}

impl Catalogs<'_> {
    /// The overrides of all tables of a connection, by schema id.
    pub async fn key_overrides(
        &self,
        organization: Uuid,
        connection: Uuid,
    ) -> Result<BTreeMap<String, Vec<KeyField>>> {
        let rows = self
            .0
            .db()
            .all(
                "SELECT schema_id, fields FROM key_overrides
                 JOIN connections ON connections.id = connection_id
                 WHERE organization_id = $1 AND connection_id = $2",
                values![organization, connection],
            )
            .await?;
        rows.iter()
            .map(|row| Ok((row.text("schema_id")?, row.json("fields")?)))
            .collect()
    }

    /// Takes the place of an earlier override of the table.
    pub async fn set_key_override(
        &self,
        organization: Uuid,
        connection: Uuid,
        schema_id: &str,
        fields: &[KeyField],
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        connections::require(&mut tx, organization, connection).await?;
        tx.execute(
            "INSERT INTO key_overrides (connection_id, schema_id, fields) VALUES ($1, $2, $3)
             ON CONFLICT (connection_id, schema_id) DO UPDATE SET fields = excluded.fields",
            values![connection, schema_id, crate::json(&fields)?],
        )
        .await?;
        tx.commit().await
    }

    /// Back to the source's own key. Not an error where there is no override.
    pub async fn reset_key_override(
        &self,
        organization: Uuid,
        connection: Uuid,
        schema_id: &str,
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        connections::require(&mut tx, organization, connection).await?;
        let sql = "DELETE FROM key_overrides WHERE connection_id = $1 AND schema_id = $2";
        tx.execute(sql, values![connection, schema_id]).await?;
        tx.commit().await
    }

    /// The user-defined fields of all tables of a connection, by schema id.
    pub async fn user_fields(
        &self,
        organization: Uuid,
        connection: Uuid,
    ) -> Result<BTreeMap<String, Vec<UserField>>> {
        let rows = self
            .0
            .db()
            .all(
                "SELECT user_fields.* FROM user_fields
                 JOIN connections ON connections.id = connection_id
                 WHERE organization_id = $1 AND connection_id = $2
                 ORDER BY schema_id, field_id",
                values![organization, connection],
            )
            .await?;
        let mut fields: BTreeMap<String, Vec<UserField>> = BTreeMap::new();
        for row in rows {
            fields
                .entry(row.text("schema_id")?)
                .or_default()
                .push(UserField {
                    field_id: row.text("field_id")?,
                    label: row.text("label")?,
                    kind: row.text("type")?,
                    path: row.maybe_text("path")?,
                    definition: row.maybe_json("definition")?,
                    example: row.maybe_json("example")?,
                    created_at: row.time("created_at")?,
                    updated_at: row.time("updated_at")?,
                });
        }
        Ok(fields)
    }

    /// Adds fields, or changes those of the same id.
    pub async fn upsert_user_fields(
        &self,
        organization: Uuid,
        connection: Uuid,
        schema_id: &str,
        fields: &[UserField],
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        connections::require(&mut tx, organization, connection).await?;
        for field in fields {
            tx.execute(
                "INSERT INTO user_fields (connection_id, schema_id, field_id, label, type, path,
                   definition, example, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
                 ON CONFLICT (connection_id, schema_id, field_id) DO UPDATE SET
                   label = excluded.label, type = excluded.type, path = excluded.path,
                   definition = excluded.definition, example = excluded.example,
                   updated_at = excluded.updated_at",
                values![
                    connection,
                    schema_id,
                    &field.field_id,
                    &field.label,
                    &field.kind,
                    &field.path,
                    field.definition.as_ref().map(Json::to_string),
                    field.example.as_ref().map(Json::to_string),
                    clock::now()
                ],
            )
            .await?;
        }
        tx.commit().await
    }

    pub async fn delete_user_field(
        &self,
        organization: Uuid,
        connection: Uuid,
        schema_id: &str,
        field_id: &str,
    ) -> Result<()> {
        let mut tx = self.0.db().begin().await?;
        connections::require(&mut tx, organization, connection).await?;
        let sql = "DELETE FROM user_fields
                   WHERE connection_id = $1 AND schema_id = $2 AND field_id = $3";
        if tx
            .execute(sql, values![connection, schema_id, field_id])
            .await?
            == 0
        {
            return Err(crate::db::missing("field"));
        }
        tx.commit().await
    }
}
