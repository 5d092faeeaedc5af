//! Discovered tables as the API shows them, with what users said about them.

use serde_json::Value;
use tideway_core::{Column, Table};
use tideway_store::{KeyField, UserField};

use crate::schemas::wire::{FieldType, Schema, SchemaField, TypeDefinition};

/// What users said about one table.
#[derive(Debug, Clone, Default)]
pub struct Remarks {
    pub keys: Vec<KeyField>,
    pub fields: Vec<UserField>,
}

impl Remarks {
    fn key(&self, field_id: &str) -> Option<bool> {
        self.keys
            .iter()
            .find(|key| key.field_id == field_id)
            .map(|key| key.is_primary_key)
    }

    pub fn field(&self, field_id: &str) -> Option<&UserField> {
        self.fields.iter().find(|field| field.field_id == field_id)
    }
}

pub fn schema(table: &Table, fields: Option<Vec<SchemaField>>) -> Schema {
    Schema {
        fields,
        id: table.id.to_string(),
        name: table.id.name.clone(),
    }
}

/// The columns in the order of the source, then the fields that only users know.
pub fn fields(table: &Table, remarks: &Remarks) -> Vec<SchemaField> {
    let detected = table
        .columns
        .iter()
        .map(|column| detected(table, column, remarks));
    let defined = remarks
        .fields
        .iter()
        .filter(|field| table.column(&field.field_id).is_none());
    detected.chain(defined.map(defined_field)).collect()
}

fn detected(table: &Table, column: &Column, remarks: &Remarks) -> SchemaField {
    let source_primary_key = table.primary_key.contains(&column.name);
    let primary_key_override = remarks.key(&column.name);
    let mut field = SchemaField {
        association: None,
        id: column.name.clone(),
        is_primary_key: primary_key_override.unwrap_or(source_primary_key),
        name: column.name.clone(),
        path: None,
        primary_key_override,
        remote_type: Some(column.remote_type.clone()).filter(|kind| !kind.is_empty()),
        source_primary_key,
        kind: kind(column.logical.coarse()),
        type_spec: definition(column.logical.spec()),
        user_managed: false,
        values: None,
    };
    if let Some(user) = remarks.field(&column.name) {
        set(&mut field, user);
    }
    field
}

fn defined_field(user: &UserField) -> SchemaField {
    let mut field = SchemaField {
        association: None,
        id: user.field_id.clone(),
        is_primary_key: false,
        name: String::new(),
        path: None,
        primary_key_override: None,
        remote_type: None,
        source_primary_key: false,
        kind: FieldType::Unknown,
        type_spec: None,
        user_managed: true,
        values: None,
    };
    set(&mut field, user);
    field
}

fn set(field: &mut SchemaField, user: &UserField) {
    field.name = user.label.clone();
    field.kind = kind(&user.kind);
    field.type_spec = user.definition.clone().and_then(definition);
    field.path = user.path.clone();
    field.user_managed = true;
}

fn kind(word: &str) -> FieldType {
    serde_json::from_value(word.into()).unwrap_or(FieldType::Unknown)
}

fn definition(spec: Value) -> Option<TypeDefinition> {
    serde_json::from_value(spec).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tideway_core::{LogicalType, TableId, schema::TableKind};

    use super::*;

    fn orders() -> Table {
        Table {
            id: TableId::new(Some("public"), "orders"),
            columns: vec![
                Column::new("id", LogicalType::Int64),
                Column::new(
                    "total",
                    LogicalType::Decimal {
                        precision: 12,
                        scale: 2,
                    },
                ),
            ],
            primary_key: vec!["id".into()],
            row_estimate: None,
            byte_estimate: None,
            kind: TableKind::Table,
        }
    }

    #[test]
    fn an_override_of_the_key_stands_beside_what_the_source_says() {
        let keys = vec![
            KeyField {
                field_id: "id".into(),
                is_primary_key: false,
            },
            KeyField {
                field_id: "total".into(),
                is_primary_key: true,
            },
        ];
        let shown = fields(
            &orders(),
            &Remarks {
                keys,
                fields: Vec::new(),
            },
        );
        let keys: Vec<_> = shown
            .iter()
            .map(|f| {
                (
                    f.is_primary_key,
                    f.source_primary_key,
                    f.primary_key_override,
                )
            })
            .collect();
        assert_eq!(
            keys,
            [(false, true, Some(false)), (true, false, Some(true))]
        );
    }

    #[test]
    fn types_are_shown_coarse_and_in_detail() {
        let shown = json!(fields(&orders(), &Remarks::default()));
        assert_eq!(shown[0]["type"], "number");
        assert_eq!(shown[0]["type_spec"], "bigint");
        assert_eq!(shown[1]["type_spec"], json!(["decimal", 12, 2]));
        assert!(shown[0].get("primary_key_override").is_none());
    }

    #[test]
    fn users_fields_come_behind_those_of_the_source_and_override_them() {
        let mut city = UserField::new("city", "City", "string");
        city.path = Some("$.address.city".into());
        let total = UserField::new("total", "Total", "string");
        let shown = fields(
            &orders(),
            &Remarks {
                keys: Vec::new(),
                fields: vec![city, total],
            },
        );
        let names: Vec<_> = shown
            .iter()
            .map(|f| (f.name.as_str(), f.user_managed))
            .collect();
        assert_eq!(names, [("id", false), ("Total", true), ("City", true)]);
        assert_eq!(shown[1].kind, FieldType::String);
        assert_eq!(shown[1].type_spec, None);
    }
}
