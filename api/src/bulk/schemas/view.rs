//! Schemas of a sync as they are shown, with the names that they will have.

use std::collections::BTreeMap;

use serde_json::Value;
use tideway_core::{
    Catalog, Error, Table,
    destination::SYSTEM_COLUMNS,
    history::HISTORY_SUFFIX,
    naming::{self, NamePolicy, Normalize},
};
use tideway_store::{BulkSync, FieldSelection, NormalizeNames, RowFilter, SyncSchema};

use super::wire::{BulkField, BulkFilter, BulkSchema, BulkSchemaSummary};
use crate::problem::Answer;

/// What most SQL destinations hold. Only a live destination could tell its own limits,
/// so a name that is longer than this may turn out otherwise.
const POLICY: NamePolicy = NamePolicy::new(63, false);

/// The sync whose schemas are shown.
pub struct Shown<'a> {
    normalize: Normalize,
    catalog: &'a Catalog,
    /// By schema id.
    output_names: BTreeMap<String, OutputNames>,
}

impl<'a> Shown<'a> {
    /// `schemas` are all of the sync, for names must differ.
    pub fn new(sync: &BulkSync, schemas: &[SyncSchema], catalog: &'a Catalog) -> Self {
        let normalize = match sync.settings.normalize_names {
            NormalizeNames::Enabled => Normalize::Enabled,
            NormalizeNames::Disabled => Normalize::Disabled,
            NormalizeNames::Legacy => Normalize::Legacy,
        };
        let settings = &sync.settings.destination_configuration;
        Shown {
            normalize,
            catalog,
            output_names: output_names(normalize, settings, schemas, catalog),
        }
    }

    pub fn summary(&self, schema: SyncSchema) -> BulkSchemaSummary {
        BulkSchemaSummary {
            output_name: self.output_name(&schema),
            data_cutoff_timestamp: schema.data_cutoff_timestamp,
            destination_history_output_name: self.history_name(&schema),
            disable_data_cutoff: schema.disable_data_cutoff,
            enabled: schema.enabled,
            history_enabled: schema.history_enabled,
            id: schema.schema_id,
            partition_key: schema.partition_key.unwrap_or_default(),
            tracking_field: schema.tracking_field.unwrap_or_default(),
            user_output_name: schema.user_output_name.unwrap_or_default(),
        }
    }

    pub fn whole(&self, schema: SyncSchema) -> Answer<BulkSchema> {
        let table = self.catalog.table(&schema.schema_id);
        let filters = schema.filters.iter().map(filter).collect::<Answer<_>>()?;
        let fields = self.fields(table, schema.fields.as_deref());
        let summary = self.summary(schema);
        Ok(BulkSchema {
            data_cutoff_timestamp: summary.data_cutoff_timestamp,
            destination_history_output_name: summary.destination_history_output_name,
            disable_data_cutoff: summary.disable_data_cutoff,
            enabled: summary.enabled,
            fields,
            filters,
            history_enabled: summary.history_enabled,
            id: summary.id,
            output_name: summary.output_name,
            partition_key: summary.partition_key,
            tracking_field: summary.tracking_field,
            user_output_name: summary.user_output_name,
        })
    }

    fn output_name(&self, schema: &SyncSchema) -> String {
        let assigned = self.output_names.get(&schema.schema_id);
        let worked_out = schema.output_name.as_ref();
        worked_out
            .or_else(|| assigned.map(|names| &names.table))
            .cloned()
            .unwrap_or_default()
    }

    fn history_name(&self, schema: &SyncSchema) -> Option<String> {
        let names = self.output_names.get(&schema.schema_id)?;
        schema.history_enabled.then(|| names.history.clone())
    }

    fn fields(&self, table: Option<&Table>, chosen: Option<&[FieldSelection]>) -> Vec<BulkField> {
        let plain = |id: &str, enabled| BulkField {
            enabled,
            id: id.to_owned(),
            obfuscated: false,
            output_name: String::new(),
            user_output_name: String::new(),
        };
        let columns = table
            .map(|table| table.columns.as_slice())
            .unwrap_or_default();
        let mut fields: Vec<BulkField> = columns
            .iter()
            .map(|column| plain(&column.name, chosen.is_none()))
            .collect();
        for field in chosen.unwrap_or_default() {
            let shown = BulkField {
                obfuscated: field.obfuscated,
                user_output_name: field.user_output_name.clone().unwrap_or_default(),
                ..plain(&field.id, field.enabled)
            };
            match fields.iter_mut().find(|known| known.id == field.id) {
                Some(known) => *known = shown,
                // A column that has gone is worth showing only where nothing is known
                // of the table.
                None if table.is_none() => fields.push(shown),
                None => {}
            }
        }
        self.name(&mut fields);
        fields
    }

    /// Names as a run gives them: the enabled fields first, after the system columns.
    fn name(&self, fields: &mut [BulkField]) {
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.sort_by_key(|&at| !fields[at].enabled);
        let wanted = order.iter().map(|&at| match &fields[at] {
            BulkField {
                user_output_name,
                id,
                ..
            } if user_output_name.is_empty() => id.as_str(),
            field => field.user_output_name.as_str(),
        });
        let names = naming::assign(
            SYSTEM_COLUMNS.into_iter().chain(wanted),
            self.normalize,
            POLICY,
        );
        for (at, name) in order
            .into_iter()
            .zip(names.into_iter().skip(SYSTEM_COLUMNS.len()))
        {
            fields[at].output_name = name;
        }
    }
}

/// What a table and its history are called.
struct OutputNames {
    table: String,
    history: String,
}

/// Names of tables as a run gives them: unique per namespace, the enabled ones first.
fn output_names(
    normalize: Normalize,
    settings: &Value,
    schemas: &[SyncSchema],
    catalog: &Catalog,
) -> BTreeMap<String, OutputNames> {
    let mirrored = settings["mirror_schemas"].as_bool() == Some(true);
    let prefix = settings["advanced"]["table_prefix"]
        .as_str()
        .unwrap_or_default();
    let mut namespaces: BTreeMap<Option<&str>, Vec<(&str, String)>> = BTreeMap::new();
    let (enabled, disabled): (Vec<_>, Vec<_>) = schemas.iter().partition(|schema| schema.enabled);
    for schema in enabled.into_iter().chain(disabled) {
        let table = catalog.table(&schema.schema_id);
        let namespace = table
            .filter(|_| mirrored)
            .and_then(|t| t.id.namespace.as_deref());
        let name = match (&schema.user_output_name, table) {
            (Some(chosen), _) => chosen.clone(),
            (None, Some(table)) => format!("{prefix}{}", table.id.name),
            (None, None) => format!("{prefix}{}", schema.schema_id),
        };
        namespaces
            .entry(namespace)
            .or_default()
            .push((&schema.schema_id, name));
    }
    let mut names = BTreeMap::new();
    for wanted in namespaces.into_values() {
        let assigned = naming::assign(
            wanted.iter().map(|(_, name)| name.as_str()),
            normalize,
            POLICY,
        );
        let histories = naming::companions(&assigned, HISTORY_SUFFIX, POLICY);
        let named = assigned.into_iter().zip(histories);
        let named = named.map(|(table, history)| OutputNames { table, history });
        names.extend(wanted.iter().map(|(id, _)| (*id).to_owned()).zip(named));
    }
    names
}

fn filter(stored: &RowFilter) -> Answer<BulkFilter> {
    let function = serde_json::from_value(Value::from(stored.function.as_str()))
        .map_err(|error| Error::bug("a stored filter has an unknown function").because(error))?;
    Ok(BulkFilter {
        field_id: stored.field_id.clone(),
        function,
        value: stored.value.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tideway_core::{Column, LogicalType, TableId, schema::TableKind};

    use super::*;

    fn catalog() -> Catalog {
        let table = |namespace, name| Table {
            id: TableId::new(Some(namespace), name),
            columns: ["Id", "E-Mail"]
                .map(|name| Column::new(name, LogicalType::Text))
                .to_vec(),
            primary_key: vec![],
            row_estimate: None,
            byte_estimate: None,
            kind: TableKind::Table,
        };
        Catalog {
            tables: vec![table("a", "Orders"), table("b", "Orders")],
        }
    }

    fn names(settings: Value) -> Vec<String> {
        let schemas = ["a.Orders", "b.Orders"].map(SyncSchema::new);
        output_names(Normalize::Enabled, &settings, &schemas, &catalog())
            .into_values()
            .map(|names| names.table)
            .collect()
    }

    #[test]
    fn tables_of_one_name_stay_apart_unless_their_schemas_are_mirrored() {
        let together = names(json!({}));
        assert_eq!(together[0], "orders");
        assert_ne!(together[0], together[1]);
        assert_eq!(names(json!({"mirror_schemas": true})), ["orders", "orders"]);
        assert_eq!(
            names(json!({"advanced": {"table_prefix": "x_"}}))[0],
            "x_orders"
        );
    }

    #[test]
    fn fields_carry_their_names_at_the_destination() {
        let catalog = catalog();
        let shown = Shown {
            normalize: Normalize::Enabled,
            catalog: &catalog,
            output_names: BTreeMap::new(),
        };
        let fields = shown.fields(catalog.table("a.Orders"), None);
        let names: Vec<_> = fields
            .iter()
            .map(|field| field.output_name.as_str())
            .collect();
        assert_eq!(names, ["id", "e_mail"]);
    }
}
