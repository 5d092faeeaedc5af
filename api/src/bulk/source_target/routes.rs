use axum::{Json, extract::State, routing};
use serde::Deserialize;
use tideway_core::{WriteMode, connector::Forms, form::Form};
use tideway_store::Connection as Stored;
use tideway_work::connect::connector;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::Caller,
    body::{PathId, Query},
    bulk::{
        executions::wire::ResyncMode,
        source_target::wire::{
            BulkSource, BulkSourceCapabilities, BulkSourceQuery, BulkTarget, SupportedBulkMode,
        },
        syncs::wire::BulkMode,
    },
    connection_types::view::object,
    envelope::{ApiError, Data},
    failures::ReadFailures,
    problem::{Answer, Problem},
    schemas::{
        held,
        view::{self, Remarks},
        wire::Schema,
    },
    state::ApiState,
    wire::JsonObject,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(source))
        .routes(routes!(target))
        // Versions up to 2023-04-25.
        .route("/api/bulk/source/{id}", routing::get(older_source))
        .route("/api/bulk/dest/{id}", routing::get(target))
}

/// Tells what a connection offers as a bulk sync's source, its schemas as last inspected.
#[utoipa::path(
    get, path = "/api/connections/{id}/bulksync/source", operation_id = "bulk_sync.get_source",
    tag = "Bulk syncs",
    params(("id" = String, Path, description = "the id of a connection"), BulkSourceQuery),
    responses(
        (status = 200, description = "the source", body = Data<BulkSource>),
        (status = 400, description = "the connection cannot be a source, or not be reached", body = ApiError),
        ReadFailures,
    )
)]
async fn source(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Query(query): Query<BulkSourceQuery>,
) -> Answer<Json<Data<BulkSource>>> {
    let stored = held::source(&state, &caller, id).await?;
    offered(&state, &stored, query.include_fields).await
}

#[derive(Default, Deserialize)]
struct OlderSourceQuery {
    #[serde(default)]
    include_fields: bool,
    #[serde(default)]
    refresh_schemas: bool,
}

/// The same, after another inspection if it is asked for.
async fn older_source(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Query(query): Query<OlderSourceQuery>,
) -> Answer<Json<Data<BulkSource>>> {
    let stored = held::source(&state, &caller, id).await?;
    if query.refresh_schemas {
        state
            .work
            .refresh_catalog(&stored)
            .await
            .map_err(held::upstream)?;
    }
    offered(&state, &stored, query.include_fields).await
}

async fn offered(
    state: &ApiState,
    stored: &Stored,
    include_fields: bool,
) -> Answer<Json<Data<BulkSource>>> {
    let catalog = held::catalog(state, stored).await?;
    let mut remarks = match include_fields {
        true => held::all_remarks(state, stored).await?,
        false => Default::default(),
    };
    let schemas: Vec<Schema> = catalog
        .tables
        .iter()
        .map(|table| {
            let fields = include_fields.then(|| {
                let remarks: Remarks = remarks.remove(&table.id.to_string()).unwrap_or_default();
                view::fields(table, &remarks)
            });
            view::schema(table, fields)
        })
        .collect();
    let live = open(state, stored).await?;
    let capabilities = live.capabilities();
    Ok(Json(Data::new(BulkSource {
        capabilities: BulkSourceCapabilities {
            supports_namespaces: capabilities.namespaces,
            supports_tracking_fields: capabilities.incremental,
        },
        configuration: Some(schema_of(&forms(stored)?.source)),
        schemas,
    })))
}

/// Tells what a connection offers as a bulk sync's destination.
#[utoipa::path(
    get, path = "/api/connections/{id}/bulksync/target",
    operation_id = "bulk_sync.get_destination",
    tag = "Bulk syncs",
    params(("id" = String, Path, description = "the id of a connection")),
    responses(
        (status = 200, description = "the destination", body = Data<BulkTarget>),
        (status = 400, description = "the connection cannot be a destination, or not be reached", body = ApiError),
        ReadFailures,
    )
)]
async fn target(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<BulkTarget>>> {
    let stored = state
        .store()
        .connections()
        .get(caller.organization()?, id)
        .await?;
    if !connector(&stored.kind)?.about().destination {
        let message = format!(
            "a connection of the type {} cannot be a destination",
            stored.kind
        );
        return Err(Problem::bad_request(message));
    }
    let live = open(&state, &stored).await?;
    Ok(Json(Data::new(BulkTarget {
        configuration: schema_of(&forms(&stored)?.destination),
        modes: live
            .capabilities()
            .modes
            .iter()
            .copied()
            .map(supported)
            .collect(),
        supported_resync_modes: vec![ResyncMode::Refetch, ResyncMode::Resync, ResyncMode::Rebuild],
        supports_history_mode: live.capabilities().history,
    })))
}

async fn open(
    state: &ApiState,
    stored: &Stored,
) -> Answer<std::sync::Arc<dyn tideway_core::Connection>> {
    let configuration = stored.configuration.expose();
    state
        .work
        .open(&stored.kind, configuration, "capabilities")
        .await
        .map_err(held::upstream)
}

fn forms(stored: &Stored) -> Answer<&'static Forms> {
    Ok(connector(&stored.kind)?.forms())
}

fn schema_of(form: &Form) -> JsonObject {
    object(form.json_schema.clone())
}

fn supported(mode: WriteMode) -> SupportedBulkMode {
    let (id, label, description) = match mode {
        WriteMode::Replicate => (
            BulkMode::Replicate,
            "Replicate",
            "merge changes in by primary key; records that are gone at the source are marked as deleted",
        ),
        WriteMode::Snapshot => (
            BulkMode::Snapshot,
            "Replace",
            "replace all records with every run",
        ),
        WriteMode::Append => (
            BulkMode::Append,
            "Append",
            "add new records; those that are there stay",
        ),
    };
    SupportedBulkMode {
        description: description.to_owned(),
        id,
        label: label.to_owned(),
        requires_identity: false,
        supports_field_sync_mode: false,
        supports_target_filters: false,
    }
}
