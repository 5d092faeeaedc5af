//! Finding the schemas that a connection holds: from the cache, which is filled first if
//! it is empty.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use tideway_core::{Catalog, Error, Table};
use tideway_store::Connection as Stored;
use tideway_work::connect::connector;
use uuid::Uuid;

use crate::{
    auth::Caller,
    problem::{Answer, Problem},
    schemas::view::Remarks,
    state::ApiState,
};

/// The caller's connection, which must be able to be a source.
pub async fn source(state: &ApiState, caller: &Caller, id: Uuid) -> Answer<Stored> {
    let stored = state
        .store()
        .connections()
        .get(caller.organization()?, id)
        .await?;
    if !connector(&stored.kind)?.about().source {
        let message = format!(
            "a connection of the type {} cannot be a source",
            stored.kind
        );
        return Err(Problem::bad_request(message));
    }
    Ok(stored)
}

/// An error of the connected system.
pub fn upstream(error: Error) -> Problem {
    Problem::upstream(StatusCode::BAD_REQUEST, &error)
}

pub async fn catalog(state: &ApiState, stored: &Stored) -> Answer<Catalog> {
    state.work.catalog(stored).await.map_err(upstream)
}

pub async fn table(state: &ApiState, stored: &Stored, schema_id: &str) -> Answer<Table> {
    let catalogs = state.store().catalogs();
    let cached = catalogs
        .table(stored.organization_id, stored.id, schema_id)
        .await?;
    if let Some(table) = cached {
        return Ok(table);
    }
    let catalog = catalog(state, stored).await?;
    catalog.table(schema_id).cloned().ok_or_else(|| {
        Problem::not_found(format!(
            "the connection has no schema {schema_id:?}; refresh its schemas if it is new"
        ))
    })
}

/// What users said about the connection's tables, by schema id.
pub async fn all_remarks(state: &ApiState, stored: &Stored) -> Answer<BTreeMap<String, Remarks>> {
    let (organization, id) = (stored.organization_id, stored.id);
    let mut remarks: BTreeMap<String, Remarks> = BTreeMap::new();
    for (schema, keys) in state
        .store()
        .catalogs()
        .key_overrides(organization, id)
        .await?
    {
        remarks.entry(schema).or_default().keys = keys;
    }
    for (schema, fields) in state
        .store()
        .catalogs()
        .user_fields(organization, id)
        .await?
    {
        remarks.entry(schema).or_default().fields = fields;
    }
    Ok(remarks)
}

pub async fn remarks(state: &ApiState, stored: &Stored, schema_id: &str) -> Answer<Remarks> {
    Ok(all_remarks(state, stored)
        .await?
        .remove(schema_id)
        .unwrap_or_default())
}
