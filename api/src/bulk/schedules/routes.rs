//! Operations on the schedules of a sync.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use tideway_store::{Frequency, ScheduleDraft, Timing};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    draft::Setting,
    view,
    wire::{SaveSchedule, Schedule},
};
use crate::{
    auth::Caller,
    body::{Body, Path, PathId},
    bulk::plainly_bad,
    envelope::{ApiError, Data, IdempotencyHeader},
    failures::{ChangeFailures, ReadFailures},
    problem::Answer,
    state::ApiState,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
}

/// Lists the schedules of a sync, the default one first.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{sync_id}/schedules", operation_id = "bulk_sync.schedules.list",
    tag = "Bulk syncs", params(("sync_id" = Uuid, Path)),
    responses(
        (status = 200, description = "its schedules", body = Data<Vec<Schedule>>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(sync): PathId,
) -> Answer<Json<Data<Vec<Schedule>>>> {
    let schedules = state
        .store()
        .schedules()
        .list(caller.organization()?, sync)
        .await?;
    Ok(Json(Data::new(
        schedules.into_iter().map(view::schedule).collect(),
    )))
}

/// Adds a schedule to a sync.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{sync_id}/schedules", operation_id = "bulk_sync.schedules.create",
    tag = "Bulk syncs", params(("sync_id" = Uuid, Path), IdempotencyHeader),
    request_body = SaveSchedule,
    responses(
        (status = 200, description = "the new schedule", body = Data<Schedule>),
        (status = 400, description = "the schedule does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(sync): PathId,
    Body(request): Body<SaveSchedule>,
) -> Answer<Json<Data<Schedule>>> {
    let organization = caller.organization()?;
    let schemas = schema_ids(&state, organization, sync).await?;
    let setting = Setting {
        state: &state,
        organization,
        sync: Some(sync),
        schemas: &schemas,
    };
    let draft = setting
        .draft(request.schedule, None)
        .await
        .map_err(plainly_bad)?;
    let created = state
        .store()
        .schedules()
        .create(organization, sync, &caller.author(), &draft)
        .await?;
    Ok(Json(Data::new(view::schedule(created))))
}

/// One schedule of a sync.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{sync_id}/schedules/{schedule_id}",
    operation_id = "bulk_sync.schedules.get", tag = "Bulk syncs",
    params(("sync_id" = Uuid, Path), ("schedule_id" = Uuid, Path)),
    responses(
        (status = 200, description = "the schedule", body = Data<Schedule>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, id)): Path<(Uuid, Uuid)>,
) -> Answer<Json<Data<Schedule>>> {
    let schedule = state
        .store()
        .schedules()
        .get(caller.organization()?, sync, id)
        .await?;
    Ok(Json(Data::new(view::schedule(schedule))))
}

/// Replaces a schedule.
#[utoipa::path(
    put, path = "/api/bulk/syncs/{sync_id}/schedules/{schedule_id}",
    operation_id = "bulk_sync.schedules.update", tag = "Bulk syncs",
    params(("sync_id" = Uuid, Path), ("schedule_id" = Uuid, Path), IdempotencyHeader),
    request_body = SaveSchedule,
    responses(
        (status = 200, description = "the schedule as it is now", body = Data<Schedule>),
        (status = 400, description = "the schedule does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, id)): Path<(Uuid, Uuid)>,
    Body(request): Body<SaveSchedule>,
) -> Answer<Json<Data<Schedule>>> {
    let organization = caller.organization()?;
    let schedules = state.store().schedules();
    let stored = schedules.get(organization, sync, id).await?;
    let schemas = schema_ids(&state, organization, sync).await?;
    let setting = Setting {
        state: &state,
        organization,
        sync: Some(sync),
        schemas: &schemas,
    };
    let draft = setting
        .draft(request.schedule, Some(&stored))
        .await
        .map_err(plainly_bad)?;
    let updated = schedules
        .update(organization, sync, id, &caller.author(), &draft)
        .await?;
    Ok(Json(Data::new(view::schedule(updated))))
}

/// Removes a schedule. A running execution goes on. The default schedule becomes manual
/// instead, since a sync always has one.
#[utoipa::path(
    delete, path = "/api/bulk/syncs/{sync_id}/schedules/{schedule_id}",
    operation_id = "bulk_sync.schedules.delete", tag = "Bulk syncs",
    params(("sync_id" = Uuid, Path), ("schedule_id" = Uuid, Path), IdempotencyHeader),
    responses(
        (status = 200, description = "it is removed"),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, id)): Path<(Uuid, Uuid)>,
) -> Answer<()> {
    let organization = caller.organization()?;
    let schedules = state.store().schedules();
    let stored = schedules.get(organization, sync, id).await?;
    if stored.default {
        let manual = ScheduleDraft {
            default: true,
            ..ScheduleDraft::new(Timing::new(Frequency::Manual))
        };
        schedules
            .update(organization, sync, id, &caller.author(), &manual)
            .await?;
    } else {
        schedules.delete(organization, sync, id).await?;
    }
    Ok(())
}

async fn schema_ids(state: &ApiState, organization: Uuid, sync: Uuid) -> Answer<BTreeSet<String>> {
    let schemas = state
        .store()
        .sync_schemas()
        .list(organization, sync, None)
        .await?;
    Ok(schemas.into_iter().map(|schema| schema.schema_id).collect())
}
