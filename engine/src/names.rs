//! What tables and columns are called at the destination.

use tideway_core::{Catalog, Column, destination::SYSTEM_COLUMNS, history::HISTORY_SUFFIX, naming};

use crate::plan::{FieldSpec, SyncSpec, TargetSettings};

/// Where a table goes.
pub struct TableNames {
    pub namespace: Option<String>,
    pub name: String,
    /// The name that its history has, if one is kept.
    pub history: String,
}

/// The names of each table of the run, unlike those of all others.
pub fn of_tables(spec: &SyncSpec, catalog: &Catalog, settings: &TargetSettings) -> Vec<TableNames> {
    let capabilities = spec.destination.capabilities();
    let (namespaces, policy) = (capabilities.namespaces, capabilities.names);
    let prefix = settings
        .advanced
        .table_prefix
        .as_deref()
        .unwrap_or_default();
    let places: Vec<(Option<String>, String)> =
        spec.tables
            .iter()
            .map(|table| {
                let found = catalog.table(&table.schema_id);
                let namespace = match (settings.mirror_schemas && namespaces, found) {
                    (true, Some(found)) => found.id.namespace.as_deref().map(|original| {
                        naming::assign([original], spec.normalize, policy).remove(0)
                    }),
                    _ => settings.schema.clone().filter(|schema| !schema.is_empty()),
                };
                let name = match (&table.output_name, found) {
                    (Some(chosen), _) if !chosen.is_empty() => chosen.clone(),
                    (_, Some(found)) => format!("{prefix}{}", found.id.name),
                    (_, None) => format!("{prefix}{}", table.schema_id),
                };
                (namespace, name)
            })
            .collect();
    // Names are made unique per namespace, in the order of the tables.
    let mut assigned: Vec<Option<(String, String)>> = vec![None; places.len()];
    for index in 0..places.len() {
        if assigned[index].is_some() {
            continue;
        }
        let same: Vec<usize> = (index..places.len())
            .filter(|&other| places[other].0 == places[index].0)
            .collect();
        let unique = naming::assign(
            same.iter().map(|&i| places[i].1.as_str()),
            spec.normalize,
            policy,
        );
        let histories = naming::companions(&unique, HISTORY_SUFFIX, policy);
        for ((place, name), history) in same.into_iter().zip(unique).zip(histories) {
            assigned[place] = Some((name, history));
        }
    }
    places
        .into_iter()
        .zip(assigned)
        .map(|((namespace, original), assigned)| {
            let (name, history) = assigned.unwrap_or_else(|| (original.clone(), original));
            TableNames {
                namespace,
                name,
                history,
            }
        })
        .collect()
}

/// Destination names of the columns. The system columns claim theirs first.
pub fn of_columns(spec: &SyncSpec, selected: &[(Column, FieldSpec)]) -> Vec<String> {
    let wanted = selected
        .iter()
        .map(|(column, field)| match &field.output_name {
            Some(name) if !name.is_empty() => name.as_str(),
            _ => column.name.as_str(),
        });
    let system = SYSTEM_COLUMNS;
    let names = naming::assign(
        system.into_iter().chain(wanted),
        spec.normalize,
        spec.destination.capabilities().names,
    );
    names.into_iter().skip(system.len()).collect()
}
