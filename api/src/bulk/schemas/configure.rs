//! From the schemas of a request to what is stored, checked against the catalog of the
//! source.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tideway_core::{Catalog, Kind, Table, WriteMode, connector::About};
use tideway_store::{Connection, RowFilter, SyncSchema};

use super::{
    fields::{all_fields, chosen_fields},
    wire::{BulkFilter, FieldConfiguration, FilterFunction, SchemaConfiguration, UpdateBulkSchema},
};
use crate::{
    problem::{Answer, Problem},
    state::ApiState,
    wire::IdOr,
};

/// What is said of one schema. `None` keeps what there is, save for `fields`, where it
/// stands for all of them.
#[derive(Default)]
pub struct Change {
    enabled: Option<bool>,
    fields: Option<Vec<IdOr<FieldConfiguration>>>,
    filters: Option<Vec<BulkFilter>>,
    history_enabled: Option<bool>,
    partition_key: Option<Option<String>>,
    tracking_field: Option<Option<String>>,
    user_output_name: Option<Option<String>>,
    data_cutoff_timestamp: Option<Option<DateTime<Utc>>>,
    disable_data_cutoff: Option<bool>,
}

impl Change {
    /// Takes the schema in, with all its fields.
    fn enable() -> Self {
        Change {
            enabled: Some(true),
            ..Change::default()
        }
    }

    pub fn patch(update: UpdateBulkSchema) -> Self {
        Change {
            enabled: update.enabled,
            fields: update.fields,
            filters: update.filters,
            history_enabled: update.history_enabled,
            partition_key: update.partition_key.map(Some),
            tracking_field: update.tracking_field.map(Some),
            user_output_name: update.user_output_name.map(Some),
            data_cutoff_timestamp: update.data_cutoff_timestamp.map(Some),
            disable_data_cutoff: update.disable_data_cutoff,
        }
    }

    /// What is left out gets its default.
    pub fn replacement(update: UpdateBulkSchema) -> Self {
        Change {
            enabled: Some(update.enabled.unwrap_or(true)),
            fields: update.fields,
            filters: Some(update.filters.unwrap_or_default()),
            history_enabled: update.history_enabled,
            partition_key: Some(update.partition_key),
            tracking_field: Some(update.tracking_field),
            user_output_name: Some(update.user_output_name),
            data_cutoff_timestamp: Some(update.data_cutoff_timestamp),
            disable_data_cutoff: Some(update.disable_data_cutoff.unwrap_or_default()),
        }
    }

    /// The schema with the change. Without a `table` the source has it no more.
    pub fn apply(self, before: SyncSchema, table: Option<&Table>) -> Answer<SyncSchema> {
        let id = before.schema_id.clone();
        let column = |field: &str, name: Option<String>| match blank_is_none(name) {
            Some(name) if table.is_none_or(|table| table.column(&name).is_none()) => {
                Err(unknown_field(field, &id, &name))
            }
            name => Ok(name),
        };
        let mut after = before;
        if let Some(name) = self.tracking_field {
            after.tracking_field = column("tracking_field", name)?;
        }
        if let Some(name) = self.partition_key {
            after.partition_key = column("partition_key", name)?;
        }
        if let Some(filters) = self.filters {
            after.filters = filters
                .into_iter()
                .map(|filter| row_filter(filter, &id, table))
                .collect::<Answer<_>>()?;
        }
        if let Some(name) = self.user_output_name {
            after.user_output_name = blank_is_none(name);
            after.output_name = None;
        }
        after.fields = match self.fields.filter(|fields| !fields.is_empty()) {
            Some(asked) => Some(chosen_fields(&id, table, after.fields.take(), asked)?),
            None => all_fields(table, after.fields.take()),
        };
        after.enabled = self.enabled.unwrap_or(after.enabled);
        after.history_enabled = self.history_enabled.unwrap_or(after.history_enabled);
        after.disable_data_cutoff = self
            .disable_data_cutoff
            .unwrap_or(after.disable_data_cutoff);
        after.data_cutoff_timestamp = self
            .data_cutoff_timestamp
            .unwrap_or(after.data_cutoff_timestamp);
        Ok(after)
    }
}

impl From<SchemaConfiguration> for Change {
    fn from(configuration: SchemaConfiguration) -> Self {
        Change {
            enabled: configuration.enabled,
            fields: configuration.fields,
            filters: configuration.filters,
            history_enabled: configuration.history_enabled,
            partition_key: configuration.partition_key,
            tracking_field: configuration.tracking_field,
            user_output_name: configuration.user_output_name.map(Some),
            data_cutoff_timestamp: configuration.data_cutoff_timestamp,
            disable_data_cutoff: configuration.disable_data_cutoff,
        }
    }
}

fn split(asked: IdOr<SchemaConfiguration>) -> (String, Change) {
    match asked {
        IdOr::Id(id) => (id, Change::enable()),
        IdOr::Object(configuration) => (configuration.id.clone(), configuration.into()),
    }
}

/// The ids that a request names.
pub fn named(asked: &[IdOr<SchemaConfiguration>]) -> Vec<&str> {
    asked
        .iter()
        .map(|one| match one {
            IdOr::Id(id) => id.as_str(),
            IdOr::Object(configuration) => configuration.id.as_str(),
        })
        .collect()
}

/// All schemas of a sync: those asked for, the others of the source disabled. With none
/// asked for, all are enabled.
pub fn chosen(
    catalog: &Catalog,
    existing: Vec<SyncSchema>,
    asked: Vec<IdOr<SchemaConfiguration>>,
) -> Answer<Vec<SyncSchema>> {
    let all = asked.is_empty();
    let mut schemas: BTreeMap<String, SyncSchema> = existing
        .into_iter()
        .map(|schema| {
            (
                schema.schema_id.clone(),
                SyncSchema {
                    enabled: all,
                    ..schema
                },
            )
        })
        .collect();
    for table in &catalog.tables {
        let id = table.id.to_string();
        schemas.entry(id.clone()).or_insert_with(|| SyncSchema {
            enabled: all,
            ..SyncSchema::new(&id)
        });
    }
    for (id, change) in asked.into_iter().map(split) {
        let Some(before) = schemas.get(&id).cloned() else {
            return Err(Problem::unprocessable(
                "schemas",
                format!("the source has no schema {id}"),
            ));
        };
        let change = Change {
            enabled: change.enabled.or(Some(true)),
            ..change
        };
        schemas.insert(id.clone(), change.apply(before, catalog.table(&id))?);
    }
    Ok(schemas.into_values().collect())
}

/// The schemas asked for, changed.
pub fn patched(
    catalog: &Catalog,
    existing: &[SyncSchema],
    asked: Vec<IdOr<SchemaConfiguration>>,
) -> Answer<Vec<SyncSchema>> {
    let mut patched: BTreeMap<String, SyncSchema> = BTreeMap::new();
    for (id, change) in asked.into_iter().map(split) {
        let table = catalog.table(&id);
        let before = patched
            .remove(&id)
            .or_else(|| {
                existing
                    .iter()
                    .find(|schema| schema.schema_id == id)
                    .cloned()
            })
            .or_else(|| table.map(|_| SyncSchema::new(&id)))
            .ok_or_else(|| Problem::not_found(format!("the sync has no schema {id}")))?;
        patched.insert(id, change.apply(before, table)?);
    }
    Ok(patched.into_values().collect())
}

/// Whether the histories that are asked for can be kept.
pub fn check_history(schemas: &[SyncSchema], mode: WriteMode, destination: &About) -> Answer<()> {
    let mut schemas = schemas.iter();
    let Some(schema) = schemas.find(|schema| schema.enabled && schema.history_enabled) else {
        return Ok(());
    };
    let id = &schema.schema_id;
    let problem = match (destination.history, mode) {
        (true, WriteMode::Replicate) => return Ok(()),
        (false, _) => format!(
            "{id}: {} keeps no history; switch it off, or choose a database as the destination",
            destination.name
        ),
        (true, _) => format!(
            "{id}: history is kept in mode replicate only; switch it off, or change the mode"
        ),
    };
    Err(Problem::unprocessable("history_enabled", problem))
}

/// The catalog of the source; looked up anew if the cached one lacks one of `ids`.
pub async fn catalog(state: &ApiState, source: &Connection, ids: &[&str]) -> Answer<Catalog> {
    let upstream = |error| Problem::upstream(axum::http::StatusCode::BAD_REQUEST, &error);
    let cached = state.work.catalog(source).await.map_err(upstream)?;
    if ids.iter().all(|id| cached.table(id).is_some()) {
        return Ok(cached);
    }
    match state.work.refresh_catalog(source).await {
        Ok(fresh) => Ok(fresh),
        Err(error) if error.kind == Kind::Conflict => Ok(cached),
        Err(error) => Err(upstream(error)),
    }
}

pub fn unknown_field(field: &str, schema: &str, name: &str) -> Problem {
    Problem::unprocessable(field, format!("{field}: {schema} has no field {name}"))
}

pub fn blank_is_none(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn row_filter(filter: BulkFilter, schema: &str, table: Option<&Table>) -> Answer<RowFilter> {
    let Some(field) = blank_is_none(filter.field_id) else {
        return Err(Problem::unprocessable(
            "filters",
            format!("filters: a filter of {schema} has no field_id"),
        ));
    };
    if table.is_none_or(|table| table.column(&field).is_none()) {
        return Err(unknown_field("filters", schema, &field));
    }
    Ok(RowFilter {
        field_id: Some(field),
        function: function_word(filter.function),
        value: filter.value,
    })
}

fn function_word(function: FilterFunction) -> String {
    let word = serde_json::to_value(function).ok();
    word.and_then(|word| word.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tideway_core::{Column, LogicalType, TableId, schema::TableKind};

    use super::*;

    fn catalog() -> Catalog {
        let table = |name: &str| Table {
            id: TableId::new(Some("public"), name),
            columns: ["id", "email", "changed"]
                .map(|column| Column::new(column, LogicalType::Text))
                .to_vec(),
            primary_key: vec!["id".into()],
            row_estimate: None,
            byte_estimate: None,
            kind: TableKind::Table,
        };
        Catalog {
            tables: vec![table("orders"), table("users")],
        }
    }

    fn asked(json: serde_json::Value) -> Vec<IdOr<SchemaConfiguration>> {
        serde_json::from_value(json).unwrap()
    }

    fn enabled(schemas: &[SyncSchema]) -> Vec<&str> {
        schemas
            .iter()
            .filter(|one| one.enabled)
            .map(|one| one.schema_id.as_str())
            .collect()
    }

    #[test]
    fn with_nothing_asked_for_everything_is_enabled() {
        let schemas = chosen(&catalog(), vec![], vec![]).unwrap();
        assert_eq!(enabled(&schemas), ["public.orders", "public.users"]);
        assert!(schemas.iter().all(|schema| schema.fields.is_none()));
    }

    #[test]
    fn schemas_that_are_not_named_are_known_but_disabled() {
        let schemas = chosen(&catalog(), vec![], asked(json!(["public.users"]))).unwrap();
        assert_eq!(schemas.len(), 2);
        assert_eq!(enabled(&schemas), ["public.users"]);
    }

    #[test]
    fn unknown_schemas_and_fields_are_refused_by_name() {
        let cases = [
            (json!(["public.ghosts"]), "schemas", "public.ghosts"),
            (
                json!([{"id": "public.users", "fields": ["phone"]}]),
                "fields",
                "phone",
            ),
            (
                json!([{"id": "public.users", "tracking_field": "seen"}]),
                "tracking_field",
                "seen",
            ),
            (
                json!([{"id": "public.users", "filters": [{"field_id": "age", "function": "IsNull"}]}]),
                "filters",
                "age",
            ),
            (
                json!([{"id": "public.users", "filters": [{"function": "IsNull"}]}]),
                "filters",
                "field_id",
            ),
        ];
        for (request, field, word) in cases {
            let problem = chosen(&catalog(), vec![], asked(request)).unwrap_err();
            assert_eq!(problem.metadata["field"], field);
            assert!(problem.message.contains(word), "{}", problem.message);
        }
    }

    #[test]
    fn fields_that_are_not_named_are_disabled() {
        let request = asked(json!([{"id": "public.users", "fields": [
            "id", {"id": "email", "obfuscate": true, "user_output_name": "mail"}
        ]}]));
        let schemas = patched(&catalog(), &[], request).unwrap();
        let fields: Vec<_> = schemas[0]
            .fields
            .iter()
            .flatten()
            .map(|f| {
                (
                    f.id.as_str(),
                    f.enabled,
                    f.obfuscated,
                    f.user_output_name.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            fields,
            [
                ("id", true, false, None),
                ("email", true, true, Some("mail")),
                ("changed", false, false, None)
            ]
        );
    }

    #[test]
    fn a_patch_without_fields_enables_all_but_shows_no_hidden_value() {
        let first = asked(json!([{"id": "public.users", "tracking_field": "changed",
            "fields": ["id", {"id": "email", "obfuscate": true}]}]));
        let before = patched(&catalog(), &[], first).unwrap();
        let after = patched(&catalog(), &before, asked(json!([{"id": "public.users"}]))).unwrap();
        let fields = after[0].fields.as_ref().unwrap();
        assert!(fields.iter().all(|field| field.enabled));
        assert!(fields[1].obfuscated);
        assert_eq!(after[0].tracking_field.as_deref(), Some("changed"));
        let cleared = asked(json!([{"id": "public.users", "tracking_field": null}]));
        assert_eq!(
            patched(&catalog(), &after, cleared).unwrap()[0].tracking_field,
            None
        );
    }

    #[test]
    fn a_replacement_forgets_what_it_does_not_name() {
        let first = asked(
            json!([{"id": "public.users", "enabled": false, "tracking_field": "changed",
            "user_output_name": "people", "disable_data_cutoff": true}]),
        );
        let before = patched(&catalog(), &[], first).unwrap().remove(0);
        let catalog = catalog();
        let after = Change::replacement(UpdateBulkSchema::default())
            .apply(before, catalog.table("public.users"))
            .unwrap();
        assert_eq!(after, SyncSchema::new("public.users"));
    }
}
