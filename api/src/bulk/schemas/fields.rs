//! Which fields of a schema are carried, and how.

use std::collections::BTreeMap;

use tideway_core::Table;
use tideway_store::FieldSelection;

use super::{
    configure::{blank_is_none, unknown_field},
    wire::FieldConfiguration,
};
use crate::{problem::Answer, wire::IdOr};

/// What is said of one field.
#[derive(Default)]
struct FieldChange {
    enabled: Option<bool>,
    obfuscated: Option<bool>,
    user_output_name: Option<String>,
}

/// The fields asked for; those that are not, are disabled.
pub fn chosen_fields(
    schema: &str,
    table: Option<&Table>,
    before: Option<Vec<FieldSelection>>,
    asked: Vec<IdOr<FieldConfiguration>>,
) -> Answer<Vec<FieldSelection>> {
    let mut asked: BTreeMap<String, FieldChange> = asked
        .into_iter()
        .map(|field| match field {
            IdOr::Id(id) => (id, FieldChange::default()),
            IdOr::Object(field) => {
                let change = FieldChange {
                    enabled: field.enabled,
                    obfuscated: field.obfuscation(),
                    user_output_name: field.user_output_name,
                };
                (field.id, change)
            }
        })
        .collect();
    let known = every_field(table, before);
    if let Some(id) = asked
        .keys()
        .find(|id| known.iter().all(|field| field.id != **id))
    {
        return Err(unknown_field("fields", schema, id));
    }
    Ok(known
        .into_iter()
        .map(|field| match asked.remove(&field.id) {
            None => FieldSelection {
                enabled: false,
                ..field
            },
            Some(change) => FieldSelection {
                enabled: change.enabled.unwrap_or(true),
                obfuscated: change.obfuscated.unwrap_or(field.obfuscated),
                user_output_name: match change.user_output_name {
                    Some(name) => blank_is_none(Some(name)),
                    None => field.user_output_name.clone(),
                },
                ..field
            },
        })
        .collect())
}

/// Every field enabled. A list remains only where it says more than that: fields that
/// were obfuscated or renamed stay so.
pub fn all_fields(
    table: Option<&Table>,
    before: Option<Vec<FieldSelection>>,
) -> Option<Vec<FieldSelection>> {
    let says_more = |field: &FieldSelection| field.obfuscated || field.user_output_name.is_some();
    let before = before.filter(|fields| fields.iter().any(says_more))?;
    let enabled = |field| FieldSelection {
        enabled: true,
        ..field
    };
    Some(
        every_field(table, Some(before))
            .into_iter()
            .map(enabled)
            .collect(),
    )
}

/// The fields of the table in its order, as they were configured, then those that are
/// configured but gone.
fn every_field(table: Option<&Table>, before: Option<Vec<FieldSelection>>) -> Vec<FieldSelection> {
    let mut before = before.unwrap_or_default();
    let columns = table
        .map(|table| table.columns.as_slice())
        .unwrap_or_default();
    let mut fields: Vec<FieldSelection> = columns
        .iter()
        .map(
            |column| match before.iter().position(|field| field.id == column.name) {
                Some(at) => before.remove(at),
                None => FieldSelection {
                    id: column.name.clone(),
                    enabled: true,
                    obfuscated: false,
                    user_output_name: None,
                    output_name: None,
                },
            },
        )
        .collect();
    fields.extend(before);
    fields
}
