//! Fields that users define, and their words about fields that the source reports.

use serde_json::{Value, json};
use tideway_core::{Column, Table};
use tideway_store::{KeyField, UserField as Stored};

use crate::{
    problem::{Answer, Problem},
    schemas::{
        document::JsonPath,
        view::Remarks,
        wire::{PatchField, PrimaryKeyOverride, UserField},
    },
};

/// Checks all of the fields before any is stored.
pub fn defined(fields: Vec<UserField>) -> Answer<Vec<Stored>> {
    let mut checked: Vec<Stored> = Vec::with_capacity(fields.len());
    for (index, field) in fields.into_iter().enumerate() {
        let at = |name: &str| format!("fields[{index}].{name}");
        if field.field_id.trim().is_empty() {
            return Err(refused(at("field_id"), "must not be empty"));
        }
        if field.label.trim().is_empty() {
            return Err(refused(at("label"), "must not be empty"));
        }
        if checked.iter().any(|other| other.field_id == field.field_id) {
            return Err(refused(at("field_id"), "is given twice"));
        }
        let mut stored = Stored::new(&field.field_id, &field.label, &word(&field.kind));
        stored.path = path(field.path, &at("path"))?;
        stored.definition = field.definition.map(|definition| json!(definition));
        stored.example = field.example;
        checked.push(stored);
    }
    Ok(checked)
}

/// The field as it is after the patch: a user's own, or an override of a detected one.
pub fn patched(
    table: &Table,
    remarks: &Remarks,
    field_id: &str,
    patch: PatchField,
) -> Answer<Stored> {
    let column = table.column(field_id).map(overriding);
    let mut field = remarks
        .field(field_id)
        .cloned()
        .or(column)
        .ok_or_else(|| unknown(field_id))?;
    if let Some(label) = patch.label {
        if label.trim().is_empty() {
            return Err(refused("label".into(), "must not be empty"));
        }
        field.label = label;
    }
    if let Some(kind) = patch.kind {
        field.kind = word(&kind);
        field.definition = None;
    }
    if let Some(definition) = patch.definition {
        field.definition = Some(json!(definition));
    }
    if let Some(example) = patch.example {
        field.example = example;
    }
    if patch.path.is_some() {
        field.path = path(patch.path, "path")?;
    }
    Ok(field)
}

fn overriding(column: &Column) -> Stored {
    let mut field = Stored::new(&column.name, &column.name, column.logical.coarse());
    field.definition = Some(column.logical.spec());
    field
}

/// The overrides of the key. Fields that users defined are not read, so cannot be part of it.
pub fn keys(table: &Table, overrides: Vec<PrimaryKeyOverride>) -> Answer<Vec<KeyField>> {
    let mut keys: Vec<KeyField> = Vec::with_capacity(overrides.len());
    for (index, key) in overrides.into_iter().enumerate() {
        let at = format!("fields[{index}].field_id");
        if table.column(&key.field_id).is_none() {
            return Err(refused(at, "is no field that the source reports"));
        }
        if keys.iter().any(|other| other.field_id == key.field_id) {
            return Err(refused(at, "is given twice"));
        }
        keys.push(KeyField {
            field_id: key.field_id,
            is_primary_key: key.is_primary_key,
        });
    }
    Ok(keys)
}

pub fn unknown(field_id: &str) -> Problem {
    Problem::not_found(format!("the schema has no field {field_id:?}"))
}

/// The empty string is no path.
fn path(written: Option<String>, at: &str) -> Answer<Option<String>> {
    let Some(text) = written.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match JsonPath::parse(&text) {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(refused(
            at.to_owned(),
            &format!("{}: {}", error.what(), error.advice()),
        )),
    }
}

fn refused(field: String, trouble: &str) -> Problem {
    Problem::bad_request(format!("{field}: {trouble}")).with("field", field)
}

/// The name of a type as the wire spells it.
fn word(kind: &crate::schemas::wire::UserFieldType) -> String {
    match json!(kind) {
        Value::String(word) => word,
        _ => String::new(),
    }
}
