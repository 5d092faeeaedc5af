//! Operations on the schemas of a sync.

use axum::{Json, extract::State, routing};
use tideway_core::Catalog;
use tideway_store::{BulkSync, SyncSchema};
use tideway_work::connect::connector;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    configure::{self, Change},
    view::Shown,
    wire::{
        BulkSchema, BulkSchemaListQuery, BulkSchemaSummary, PatchBulkSchemas, UpdateBulkSchema,
    },
};
use crate::{
    auth::Caller,
    body::{Body, Path, PathId, Query},
    bulk::plainly_bad,
    envelope::{ApiError, Data, IdempotencyHeader},
    failures::{ChangeFailures, ReadFailures},
    problem::{Answer, Problem},
    state::ApiState,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, patch))
        .routes(routes!(get, update))
        // The update of versions up to 2023-04-25.
        .route(
            "/api/bulk/syncs/{id}/schemas/{schema_id}",
            routing::patch(update_in_part),
        )
}

/// Lists the schemas of a sync.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}/schemas", operation_id = "bulk_sync.schemas.list",
    tag = "Bulk syncs", params(("id" = Uuid, Path), BulkSchemaListQuery),
    responses(
        (status = 200, description = "its schemas, without fields", body = Data<Vec<BulkSchemaSummary>>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Query(query): Query<BulkSchemaListQuery>,
) -> Answer<Json<Data<Vec<BulkSchemaSummary>>>> {
    let configured = Configured::load(&state, caller.organization()?, id).await?;
    let shown = configured.shown();
    let wanted = |schema: &&SyncSchema| {
        query
            .enabled
            .is_none_or(|enabled| schema.enabled == enabled)
    };
    let schemas = configured
        .schemas
        .iter()
        .filter(wanted)
        .cloned()
        .map(|schema| shown.summary(schema));
    Ok(Json(Data::new(schemas.collect())))
}

/// Changes some schemas of a sync; the others stay as they are.
#[utoipa::path(
    patch, path = "/api/bulk/syncs/{id}/schemas", operation_id = "bulk_sync.schemas.patch",
    tag = "Bulk syncs", params(("id" = Uuid, Path), IdempotencyHeader),
    request_body = PatchBulkSchemas,
    responses(
        (status = 200, description = "the changed schemas", body = Data<Vec<BulkSchema>>),
        (status = 400, description = "a value does not fit, or the source does not answer", body = ApiError),
        ChangeFailures,
    )
)]
async fn patch(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Body(request): Body<PatchBulkSchemas>,
) -> Answer<Json<Data<Vec<BulkSchema>>>> {
    let organization = caller.organization()?;
    let asked = request.schemas.unwrap_or_default();
    let before = Configured::load(&state, organization, id).await?;
    let catalog = before
        .fresh_catalog(&state, &configure::named(&asked))
        .await?;
    let patched = configure::patched(&catalog, &before.schemas, asked).map_err(plainly_bad)?;
    before.check_history(&state, &patched).await?;
    if !patched.is_empty() {
        state
            .store()
            .sync_schemas()
            .put(organization, id, &caller.author(), &patched)
            .await?;
    }
    let after = Configured::load(&state, organization, id).await?;
    let changed = patched.iter().map(|schema| after.whole(&schema.schema_id));
    Ok(Json(Data::new(changed.collect::<Answer<_>>()?)))
}

/// One schema of a sync, with its fields and filters.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}/schemas/{schema_id}", operation_id = "bulk_sync.schemas.get",
    tag = "Bulk syncs", params(("id" = Uuid, Path), ("schema_id" = String, Path)),
    responses(
        (status = 200, description = "the schema", body = Data<BulkSchema>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, schema_id)): Path<(Uuid, String)>,
) -> Answer<Json<Data<BulkSchema>>> {
    let configured = Configured::load(&state, caller.organization()?, id).await?;
    Ok(Json(Data::new(configured.whole(&schema_id)?)))
}

/// Replaces the configuration of one schema.
#[utoipa::path(
    put, path = "/api/bulk/syncs/{id}/schemas/{schema_id}",
    operation_id = "bulk_sync.schemas.update", tag = "Bulk syncs",
    params(("id" = Uuid, Path), ("schema_id" = String, Path), IdempotencyHeader),
    request_body = UpdateBulkSchema,
    responses(
        (status = 200, description = "the schema as it is now", body = Data<BulkSchema>),
        (status = 400, description = "a value does not fit, or the source does not answer", body = ApiError),
        ChangeFailures,
    )
)]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, schema_id)): Path<(Uuid, String)>,
    Body(request): Body<UpdateBulkSchema>,
) -> Answer<Json<Data<BulkSchema>>> {
    change(&state, &caller, id, &schema_id, |before| {
        let anew = SyncSchema {
            fields: None,
            ..before
        };
        (anew, Change::replacement(request))
    })
    .await
}

async fn update_in_part(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, schema_id)): Path<(Uuid, String)>,
    Body(request): Body<UpdateBulkSchema>,
) -> Answer<Json<Data<BulkSchema>>> {
    change(&state, &caller, id, &schema_id, |before| {
        (before, Change::patch(request))
    })
    .await
}

async fn change(
    state: &ApiState,
    caller: &Caller,
    id: Uuid,
    schema_id: &str,
    change: impl FnOnce(SyncSchema) -> (SyncSchema, Change),
) -> Answer<Json<Data<BulkSchema>>> {
    let organization = caller.organization()?;
    let before = Configured::load(state, organization, id).await?;
    let schema = before.schema(schema_id)?.clone();
    let catalog = before.fresh_catalog(state, &[schema_id]).await?;
    let (schema, change) = change(schema);
    let after = change
        .apply(schema, catalog.table(schema_id))
        .map_err(plainly_bad)?;
    before
        .check_history(state, std::slice::from_ref(&after))
        .await?;
    state
        .store()
        .sync_schemas()
        .put(organization, id, &caller.author(), &[after])
        .await?;
    let configured = Configured::load(state, organization, id).await?;
    Ok(Json(Data::new(configured.whole(schema_id)?)))
}

/// A sync with its schemas and what is known of its source.
struct Configured {
    sync: BulkSync,
    schemas: Vec<SyncSchema>,
    catalog: Catalog,
}

impl Configured {
    async fn load(state: &ApiState, organization: Uuid, id: Uuid) -> Answer<Self> {
        let store = state.store();
        let sync = store.bulk_syncs().get(organization, id).await?;
        let schemas = store.sync_schemas().list(organization, id, None).await?;
        let catalog = store
            .catalogs()
            .get(organization, sync.source_connection_id)
            .await?;
        Ok(Configured {
            sync,
            schemas,
            catalog: catalog.unwrap_or_default(),
        })
    }

    /// Reaches out to the source only if the cached catalog lacks one of `ids`.
    async fn fresh_catalog(&self, state: &ApiState, ids: &[&str]) -> Answer<Catalog> {
        let connections = state.store().connections();
        let source = connections
            .get(self.sync.organization_id, self.sync.source_connection_id)
            .await?;
        configure::catalog(state, &source, ids).await
    }

    async fn check_history(&self, state: &ApiState, schemas: &[SyncSchema]) -> Answer<()> {
        let connections = state.store().connections();
        let destination = connections
            .get(
                self.sync.organization_id,
                self.sync.destination_connection_id,
            )
            .await?;
        let about = connector(&destination.kind)?.about();
        configure::check_history(schemas, self.sync.mode, about).map_err(plainly_bad)
    }

    fn shown(&self) -> Shown<'_> {
        Shown::new(&self.sync, &self.schemas, &self.catalog)
    }

    fn schema(&self, id: &str) -> Answer<&SyncSchema> {
        self.schemas
            .iter()
            .find(|schema| schema.schema_id == id)
            .ok_or_else(|| Problem::not_found(format!("the sync has no schema {id}")))
    }

    fn whole(&self, id: &str) -> Answer<BulkSchema> {
        self.shown().whole(self.schema(id)?.clone())
    }
}
