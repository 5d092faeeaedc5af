//! Operations on bulk syncs.

use std::collections::BTreeSet;

use axum::{Json, extract::State, routing};
use tideway_store::{PageRequest, SyncFilter, SyncSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    draft::{self, Draft},
    view::{self, shown},
    wire::{
        ActivateBulkSync, BulkSync, BulkSyncActivation, BulkSyncListQuery, ErrorHandling,
        PatchBulkSync, RefreshSchemasQuery, SaveBulkSync, UpdateErrorHandling,
    },
};
use crate::{
    auth::Caller,
    body::{Body, PathId, Query},
    bulk::{
        executions::wire::CancelAccepted,
        plainly_bad,
        schedules::draft::{Setting, required},
        schedules::spellings::ScheduleFields,
        schemas::configure,
    },
    envelope::{ApiError, Data, IdempotencyHeader, Page, page_size},
    failures::{ChangeFailures, ReadFailures},
    problem::{Answer, Problem},
    state::ApiState,
    version::ApiVersion,
};

const PAGE: u32 = 50;

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(activate))
        .routes(routes!(cancel))
        .routes(routes!(error_handling, update_error_handling))
        // The update of versions up to 2023-04-25.
        .route("/api/bulk/syncs/{id}", routing::patch(patch))
}

/// Lists bulk syncs, the last changed first. Versions up to 2024-02-08 get all of them.
#[utoipa::path(
    get, path = "/api/bulk/syncs", operation_id = "bulk_sync.list", tag = "Bulk syncs",
    params(BulkSyncListQuery),
    responses(
        (status = 200, description = "a page of syncs", body = Page<BulkSync>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    Query(query): Query<BulkSyncListQuery>,
) -> Answer<Json<Page<BulkSync>>> {
    let organization = caller.organization()?;
    let filter = SyncFilter {
        active: query.active,
        ..SyncFilter::default()
    };
    let whole = version.has_single_schedule();
    let limit = if whole {
        PAGE
    } else {
        page_size(query.limit, PAGE, PAGE)
    };
    let mut request = PageRequest::new(limit, query.page_token.as_deref().filter(|_| !whole));
    let mut syncs = Vec::new();
    loop {
        let page = state
            .store()
            .bulk_syncs()
            .list(organization, filter, &request)
            .await?;
        for sync in page.items {
            syncs.push(shown(&state, sync, version).await?);
        }
        if !whole || page.next.is_none() {
            return Ok(Json(Page::new(syncs, page.next)));
        }
        request.token = page.next;
    }
}

/// Creates a bulk sync.
#[utoipa::path(
    post, path = "/api/bulk/syncs", operation_id = "bulk_sync.create", tag = "Bulk syncs",
    params(IdempotencyHeader), request_body = SaveBulkSync,
    responses(
        (status = 200, description = "the new sync", body = Data<BulkSync>),
        (status = 400, description = "malformed, or the source does not answer", body = ApiError),
        ChangeFailures,
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    Body(request): Body<SaveBulkSync>,
) -> Answer<Json<Data<BulkSync>>> {
    caller.check_organization(request.organization_id)?;
    let organization = caller.organization()?;
    let requested = required(request.schedule_fields())?;
    let Draft {
        sync,
        source,
        destination,
    } = draft::whole(&state, organization, &request).await?;
    let asked = request.schemas.unwrap_or_default();
    let catalog = configure::catalog(&state, &source, &configure::named(&asked)).await?;
    let schemas = configure::chosen(&catalog, Vec::new(), asked)?;
    configure::check_history(&schemas, sync.mode, destination)?;
    let ids = ids(&schemas);
    let setting = Setting {
        state: &state,
        organization,
        sync: None,
        schemas: &ids,
    };
    let schedules = setting.drafts(&requested, &[]).await?;
    let author = caller.author();
    let created = state
        .store()
        .bulk_syncs()
        .create(organization, &author, &sync, &schemas, &schedules)
        .await?;
    Ok(Json(Data::new(shown(&state, created, version).await?)))
}

/// One bulk sync.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}", operation_id = "bulk_sync.get", tag = "Bulk syncs",
    params(("id" = Uuid, Path), RefreshSchemasQuery),
    responses(
        (status = 200, description = "the sync", body = Data<BulkSync>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    PathId(id): PathId,
    Query(query): Query<RefreshSchemasQuery>,
) -> Answer<Json<Data<BulkSync>>> {
    let organization = caller.organization()?;
    let sync = state.store().bulk_syncs().get(organization, id).await?;
    if query.refresh_schemas {
        let source = state
            .store()
            .connections()
            .get(organization, sync.source_connection_id)
            .await?;
        // A failure stands in the status of the connection's schemas; the sync is what it is.
        if let Err(error) = state.work.refresh_catalog(&source).await {
            tracing::debug!(sync = %id, %error, "the source was not inspected");
        }
    }
    Ok(Json(Data::new(shown(&state, sync, version).await?)))
}

/// Replaces the configuration of a bulk sync.
#[utoipa::path(
    put, path = "/api/bulk/syncs/{id}", operation_id = "bulk_sync.update", tag = "Bulk syncs",
    params(("id" = Uuid, Path), IdempotencyHeader), request_body = SaveBulkSync,
    responses(
        (status = 200, description = "the sync as it is now", body = Data<BulkSync>),
        (status = 400, description = "a value does not fit, or the source does not answer", body = ApiError),
        ChangeFailures,
    )
)]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    PathId(id): PathId,
    Body(request): Body<SaveBulkSync>,
) -> Answer<Json<Data<BulkSync>>> {
    caller.check_organization(request.organization_id)?;
    let organization = caller.organization()?;
    let before = state
        .store()
        .sync_schemas()
        .list(organization, id, None)
        .await?;
    let draft = draft::whole(&state, organization, &request)
        .await
        .map_err(plainly_bad)?;
    let schemas = match request.schemas.as_deref().unwrap_or_default() {
        [] => None,
        asked => {
            let named = configure::named(asked);
            let catalog = configure::catalog(&state, &draft.source, &named).await?;
            let chosen = configure::chosen(&catalog, before.clone(), asked.to_vec());
            Some(chosen.map_err(plainly_bad)?)
        }
    };
    required(request.schedule_fields()).map_err(plainly_bad)?;
    let change = Save {
        id,
        draft,
        before,
        schemas,
        schedules: request.schedule_fields(),
    };
    change.save(&state, &caller, version).await
}

/// Changes what the request names.
async fn patch(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    PathId(id): PathId,
    Body(request): Body<PatchBulkSync>,
) -> Answer<Json<Data<BulkSync>>> {
    caller.check_organization(request.organization_id)?;
    let organization = caller.organization()?;
    let stored = state.store().bulk_syncs().get(organization, id).await?;
    let before = state
        .store()
        .sync_schemas()
        .list(organization, id, None)
        .await?;
    let draft = draft::patched(&state, organization, stored, &request)
        .await
        .map_err(plainly_bad)?;
    let schedules = ScheduleFields {
        default_schedule: None,
        additional_schedules: None,
        schedule: request.schedule.as_ref(),
        schedules: None,
    };
    let change = Save {
        id,
        draft,
        before,
        schemas: None,
        schedules,
    };
    change.save(&state, &caller, version).await
}

/// A checked change of a sync; what is `None` stays.
struct Save<'a> {
    id: Uuid,
    draft: Draft,
    before: Vec<SyncSchema>,
    schemas: Option<Vec<SyncSchema>>,
    schedules: ScheduleFields<'a>,
}

impl Save<'_> {
    async fn save(
        self,
        state: &ApiState,
        caller: &Caller,
        version: ApiVersion,
    ) -> Answer<Json<Data<BulkSync>>> {
        let organization = caller.organization()?;
        let Draft {
            sync, destination, ..
        } = &self.draft;
        let schemas = self.schemas.as_ref().unwrap_or(&self.before);
        configure::check_history(schemas, sync.mode, destination).map_err(plainly_bad)?;
        let requested = self
            .schedules
            .read()
            .map_err(|wrong| Problem::bad_request(wrong.message).with("field", wrong.field))?;
        let schedules = match requested {
            None => None,
            Some(requested) => {
                let existing = state
                    .store()
                    .schedules()
                    .list(organization, self.id)
                    .await?;
                let ids = ids(self.schemas.as_ref().unwrap_or(&self.before));
                let setting = Setting {
                    state,
                    organization,
                    sync: Some(self.id),
                    schemas: &ids,
                };
                Some(
                    setting
                        .drafts(&requested, &existing)
                        .await
                        .map_err(plainly_bad)?,
                )
            }
        };
        let updated = state
            .store()
            .bulk_syncs()
            .update(
                organization,
                self.id,
                &caller.author(),
                sync,
                self.schemas.as_deref(),
                schedules.as_deref(),
            )
            .await?;
        Ok(Json(Data::new(shown(state, updated, version).await?)))
    }
}

/// Deletes a bulk sync with its history. What it has written stays at the destination.
#[utoipa::path(
    delete, path = "/api/bulk/syncs/{id}", operation_id = "bulk_sync.delete", tag = "Bulk syncs",
    params(("id" = Uuid, Path), RefreshSchemasQuery, IdempotencyHeader),
    responses(
        (status = 200, description = "it is deleted"),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    _: Query<RefreshSchemasQuery>,
) -> Answer<()> {
    let organization = caller.organization()?;
    state
        .store()
        .executions()
        .cancel_sync(organization, id)
        .await?;
    state.store().bulk_syncs().delete(organization, id).await?;
    Ok(())
}

/// Switches the schedules of a sync on or off; off also cancels a running execution.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{id}/activate", operation_id = "bulk_sync.activate",
    tag = "Bulk syncs", params(("id" = Uuid, Path), IdempotencyHeader),
    request_body = ActivateBulkSync,
    responses(
        (status = 200, description = "whether it is active now", body = Data<BulkSyncActivation>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn activate(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Body(request): Body<ActivateBulkSync>,
) -> Answer<Json<Data<BulkSyncActivation>>> {
    let organization = caller.organization()?;
    let syncs = state.store().bulk_syncs();
    let sync = syncs
        .set_active(organization, id, &caller.author(), request.active)
        .await?;
    if !sync.active {
        state
            .store()
            .executions()
            .cancel_sync(organization, id)
            .await?;
    }
    Ok(Json(Data::new(BulkSyncActivation {
        active: sync.active,
        id,
    })))
}

/// Asks the running execution of a sync to stop.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{id}/cancel", operation_id = "bulk_sync.cancel",
    tag = "Bulk syncs", params(("id" = Uuid, Path), IdempotencyHeader),
    responses(
        (status = 200, description = "the wish is noted", body = Data<CancelAccepted>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<CancelAccepted>>> {
    let execution = state
        .store()
        .executions()
        .cancel_sync(caller.organization()?, id)
        .await?;
    Ok(Json(Data::new(CancelAccepted::of(execution.as_ref()))))
}

/// Who hears of failures of a sync.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}/error-handling",
    operation_id = "bulk_sync.error_handling.get", tag = "Bulk syncs",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "its error handling", body = Data<ErrorHandling>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn error_handling(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<ErrorHandling>>> {
    let sync = state
        .store()
        .bulk_syncs()
        .get(caller.organization()?, id)
        .await?;
    Ok(Json(Data::new(view::error_handling(sync.error_handling))))
}

/// Changes who hears of failures of a sync; what is left out stays.
#[utoipa::path(
    put, path = "/api/bulk/syncs/{id}/error-handling",
    operation_id = "bulk_sync.error_handling.update", tag = "Bulk syncs",
    params(("id" = Uuid, Path), IdempotencyHeader), request_body = UpdateErrorHandling,
    responses(
        (status = 200, description = "its error handling now", body = Data<ErrorHandling>),
        (status = 400, description = "an address is none", body = ApiError),
        ChangeFailures,
    )
)]
async fn update_error_handling(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Body(request): Body<UpdateErrorHandling>,
) -> Answer<Json<Data<ErrorHandling>>> {
    let organization = caller.organization()?;
    let syncs = state.store().bulk_syncs();
    let mut handling = syncs.get(organization, id).await?.error_handling;
    if let Some(threshold) = request.ingestion_failure_threshold {
        handling.ingestion_failure_threshold = (threshold > 0).then_some(i64::from(threshold));
    }
    if let Some(subscribers) = request.subscribers {
        handling.subscribers = draft::checked_subscribers(subscribers)?;
    }
    syncs
        .set_error_handling(organization, id, &handling)
        .await?;
    Ok(Json(Data::new(view::error_handling(handling))))
}

fn ids(schemas: &[SyncSchema]) -> BTreeSet<String> {
    schemas
        .iter()
        .map(|schema| schema.schema_id.clone())
        .collect()
}
