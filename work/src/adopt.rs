//! Takes in what has appeared at the source since the sync looked last.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tideway_core::{Catalog, Result};
use tideway_engine::{
    Level, Observer,
    evolve::{AddPolicy, Known, drift},
};
use tideway_store::{Author, BulkSync, Discover, FieldSelection, SyncSchema};

use crate::{Work, observe::StoreObserver};

impl Work {
    /// Takes new tables and fields in as the sync's policies say, and tells of those that
    /// have gone. Vanished columns are kept at the destination.
    pub(crate) async fn adopt(
        &self,
        sync: &BulkSync,
        catalog: &Catalog,
        streams: bool,
        observer: &StoreObserver,
    ) -> Result<Vec<SyncSchema>> {
        let mut schemas = self
            .store
            .sync_schemas()
            .list(sync.organization_id, sync.id, None)
            .await?;
        let known: BTreeMap<String, Known> = schemas
            .iter()
            .map(|schema| (schema.schema_id.clone(), known(schema, catalog, streams)))
            .collect();
        let found = drift(
            catalog,
            &known,
            policy(sync.settings.automatically_add_new_objects),
            policy(sync.settings.automatically_add_new_fields),
        );
        let mut changed = BTreeSet::new();
        for (id, taken_in) in found.new_tables {
            if taken_in {
                observer.log(Level::Info, &id, "new object, taken in".into(), json!({}));
                changed.insert(id.clone());
                schemas.push(SyncSchema {
                    enabled: true,
                    ..SyncSchema::new(&id)
                });
            }
        }
        for (id, field, taken_in) in found.new_fields {
            let message = if taken_in { "taken in" } else { "left out" };
            observer.log(
                Level::Info,
                &id,
                format!("new field {field}, {message}"),
                json!({}),
            );
            let schema = schemas.iter_mut().find(|schema| schema.schema_id == id);
            if let Some(fields) = schema.and_then(|schema| schema.fields.as_mut()) {
                fields.push(field_selection(field, taken_in));
                changed.insert(id);
            }
        }
        for (id, field) in found.vanished_fields {
            let message = format!("field {field} is gone at the source; its column is kept");
            observer.log(Level::Warn, &id, message, json!({}));
        }
        let news: Vec<SyncSchema> = schemas
            .iter()
            .filter(|schema| changed.contains(&schema.schema_id))
            .cloned()
            .collect();
        if !news.is_empty() {
            let author = Author::system();
            self.store
                .sync_schemas()
                .put(sync.organization_id, sync.id, &author, &news)
                .await?;
        }
        Ok(schemas)
    }
}

fn field_selection(id: String, enabled: bool) -> FieldSelection {
    FieldSelection {
        id,
        enabled,
        obfuscated: false,
        user_output_name: None,
        output_name: None,
    }
}

/// What the sync knew of a table. Without a list of fields it takes all there are.
fn known(schema: &SyncSchema, catalog: &Catalog, streams: bool) -> Known {
    let fields = match (&schema.fields, catalog.table(&schema.schema_id)) {
        (Some(fields), _) => fields.iter().map(|field| field.id.clone()).collect(),
        (None, Some(table)) => table
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect(),
        (None, None) => BTreeSet::new(),
    };
    Known {
        enabled: schema.enabled,
        incremental: streams || schema.tracking_field.is_some(),
        fields,
    }
}

pub fn policy(discover: Discover) -> AddPolicy {
    match discover {
        Discover::All => AddPolicy::All,
        Discover::OnlyIncremental => AddPolicy::OnlyIncremental,
        Discover::OnlyNonIncremental => AddPolicy::OnlyNonIncremental,
        Discover::None => AddPolicy::None,
    }
}
