//! Operations on executions, and on the running one of a sync.

use axum::{Json, extract::State};
use chrono::Utc;
use tideway_store::{ExecutionDraft, ExecutionFilter, Latest, PageRequest};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    console,
    files::LogFile,
    overview, view,
    wire::{
        BulkSyncOverview, BulkSyncStatus, CancelAccepted, Execution, ExecutionListQuery,
        LogExportQuery, LogExportStarted, LogFiles, OverviewQuery, ResyncMode, StartExecution,
    },
};
use crate::{
    auth::Caller,
    body::{Body, Path, PathId, Query},
    bulk::plainly_bad,
    envelope::{ApiError, Data, IdempotencyHeader, Page, page_size},
    failures::{ChangeFailures, ReadFailures},
    jobs::{routes::shown as shown_job, wire::JobKind},
    problem::{Answer, Problem},
    state::ApiState,
    version::ApiVersion,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, start))
        .routes(routes!(get))
        .routes(routes!(cancel))
        .routes(routes!(cancel_schema))
        .routes(routes!(status))
        .routes(routes!(list_status))
        .routes(routes!(logs))
        .routes(routes!(export_logs))
        .merge(console::routes())
}

/// Lists the executions of a sync, the newest first.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}/executions", operation_id = "bulk_sync.executions.list",
    tag = "Bulk syncs", params(("id" = Uuid, Path), ExecutionListQuery),
    responses(
        (status = 200, description = "a page of executions", body = Page<Execution>),
        (status = 400, description = "the page token is none of this list", body = ApiError),
        ReadFailures,
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    PathId(sync): PathId,
    Query(query): Query<ExecutionListQuery>,
) -> Answer<Json<Page<Execution>>> {
    let organization = caller.organization()?;
    let filter = ExecutionFilter {
        only_terminal: query.only_terminal,
        ascending: query.ascending,
    };
    let whole = version.has_single_schedule();
    let limit = if whole {
        100
    } else {
        page_size(query.limit, 50, 100)
    };
    let mut request = PageRequest::new(limit, query.page_token.as_deref().filter(|_| !whole));
    let mut executions = Vec::new();
    loop {
        let page = state
            .store()
            .executions()
            .list(organization, sync, filter, &request)
            .await?;
        executions.extend(page.items.into_iter().map(view::execution));
        if !whole || page.next.is_none() {
            return Ok(Json(Page::new(executions, page.next)));
        }
        request.token = page.next;
    }
}

/// Starts an execution.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{id}/executions", operation_id = "bulk_sync.start",
    tag = "Bulk syncs", params(("id" = Uuid, Path), IdempotencyHeader),
    request_body = Option<StartExecution>,
    responses(
        (status = 200, description = "the new execution", body = Data<Execution>),
        (status = 400, description = "a value does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn start(
    State(state): State<ApiState>,
    caller: Caller,
    version: ApiVersion,
    PathId(sync): PathId,
    Body(request): Body<Option<StartExecution>>,
) -> Answer<Json<Data<Execution>>> {
    let organization = caller.organization()?;
    let request = request.unwrap_or_default();
    let enabled = state
        .store()
        .sync_schemas()
        .list(organization, sync, Some(true))
        .await?;
    let enabled: Vec<&str> = enabled
        .iter()
        .map(|schema| schema.schema_id.as_str())
        .collect();
    let draft = ExecutionDraft {
        resync_mode: resync_mode(&request, version)?.map(Into::into),
        fetch_mode: request.fetch_mode.unwrap_or_default().into(),
        test: request.test.unwrap_or_default(),
        only_schemas: only_schemas(request.schemas.unwrap_or_default(), &enabled)?,
        ..ExecutionDraft::manual(caller.author())
    };
    let execution = state
        .store()
        .executions()
        .create(organization, sync, &draft)
        .await?;
    Ok(Json(Data::new(view::execution(execution))))
}

fn resync_mode(request: &StartExecution, version: ApiVersion) -> Answer<Option<ResyncMode>> {
    let wrong =
        |field: &str, message: &str| Err(Problem::bad_request(message).with("field", field));
    let mode = match (request.resync, request.resync_mode) {
        (None, mode) => mode,
        (Some(_), _) if !version.has_single_schedule() => {
            return wrong(
                "resync",
                "resync is of older versions; use resync_mode, such as rebuild",
            );
        }
        (Some(_), Some(_)) => {
            return wrong(
                "resync",
                "resync is the older way to write resync_mode: give one of them only",
            );
        }
        (Some(resync), None) => resync.then_some(ResyncMode::Rebuild),
    };
    if mode.is_some() && request.test == Some(true) {
        return wrong(
            "test",
            "a test moves a few records only and cannot resync: leave out one of them",
        );
    }
    Ok(mode)
}

/// Each once; all of them enabled.
fn only_schemas(asked: Vec<String>, enabled: &[&str]) -> Answer<Vec<String>> {
    let mut only: Vec<String> = Vec::new();
    for id in asked {
        if !enabled.contains(&id.as_str()) {
            return Err(Problem::bad_request(format!(
                "schemas: {id} is no enabled schema of the sync"
            ))
            .with("field", "schemas"));
        }
        if !only.contains(&id) {
            only.push(id);
        }
    }
    Ok(only)
}

/// One execution.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}/executions/{exec_id}",
    operation_id = "bulk_sync.executions.get", tag = "Bulk syncs",
    params(("id" = Uuid, Path), ("exec_id" = Uuid, Path)),
    responses(
        (status = 200, description = "the execution", body = Data<Execution>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, id)): Path<(Uuid, Uuid)>,
) -> Answer<Json<Data<Execution>>> {
    let execution = state
        .store()
        .executions()
        .get(caller.organization()?, sync, id)
        .await?;
    Ok(Json(Data::new(view::execution(execution))))
}

/// Asks an execution to stop.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{id}/executions/{exec_id}/cancel",
    operation_id = "bulk_sync.executions.cancel", tag = "Bulk syncs",
    params(("id" = Uuid, Path), ("exec_id" = Uuid, Path), IdempotencyHeader),
    responses(
        (status = 200, description = "the wish is noted", body = Data<CancelAccepted>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, id)): Path<(Uuid, Uuid)>,
) -> Answer<Json<Data<CancelAccepted>>> {
    let execution = state
        .store()
        .executions()
        .cancel(caller.organization()?, sync, id)
        .await?;
    Ok(Json(Data::new(CancelAccepted::of(Some(&execution)))))
}

/// Asks the running execution of a sync to leave a schema out; the others go on.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{id}/schemas/{schema_id}/cancel",
    operation_id = "bulk_sync.schemas.cancel", tag = "Bulk syncs",
    params(("id" = Uuid, Path), ("schema_id" = String, Path), IdempotencyHeader),
    responses(
        (status = 200, description = "the wish is noted", body = Data<CancelAccepted>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn cancel_schema(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, schema)): Path<(Uuid, String)>,
) -> Answer<Json<Data<CancelAccepted>>> {
    let organization = caller.organization()?;
    let schemas = state
        .store()
        .sync_schemas()
        .list(organization, sync, None)
        .await?;
    if schemas.iter().all(|known| known.schema_id != schema) {
        return Err(Problem::not_found(format!(
            "the sync has no schema {schema}"
        )));
    }
    let execution = state
        .store()
        .executions()
        .cancel_schema(organization, sync, &schema)
        .await?;
    let message = match execution {
        Some(_) => format!("{schema} will be canceled"),
        None => "nothing is running".to_owned(),
    };
    Ok(Json(Data::new(CancelAccepted { message })))
}

/// Where a sync stands now.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{id}/status", operation_id = "bulk_sync.get_status",
    tag = "Bulk syncs", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "what runs, ran last and runs next", body = Data<BulkSyncStatus>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn status(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(sync): PathId,
) -> Answer<Json<Data<BulkSyncStatus>>> {
    let organization = caller.organization()?;
    state.store().bulk_syncs().get(organization, sync).await?;
    let mut latest = state
        .store()
        .executions()
        .latest(organization, &[sync])
        .await?;
    let next = state
        .store()
        .schedules()
        .next_fire(organization, &[sync])
        .await?;
    let Latest { current, last } = latest.remove(&sync).unwrap_or_default();
    let stream = state.store().streams().of_sync(organization, sync).await?;
    let running = current.is_some();
    Ok(Json(Data::new(BulkSyncStatus {
        current_execution: current.map(view::execution),
        ingestion_status: stream.map(|stream| view::ingestion(stream, running, Utc::now())),
        last_execution: last.map(view::execution),
        next_execution_time: next.get(&sync).copied(),
    })))
}

/// Where many syncs stand now, schema by schema.
#[utoipa::path(
    get, path = "/api/bulk/syncs/status", operation_id = "bulk_sync.executions.list_status",
    tag = "Bulk syncs", params(OverviewQuery),
    responses(
        (status = 200, description = "each sync once", body = Data<Vec<BulkSyncOverview>>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn list_status(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<OverviewQuery>,
) -> Answer<Json<Data<Vec<BulkSyncOverview>>>> {
    let syncs = overview::overview(&state, caller.organization()?, query).await?;
    Ok(Json(Data::new(syncs)))
}

/// Links to the log files of an execution, which work for an hour without a key.
#[utoipa::path(
    get, path = "/api/bulk/syncs/{sync_id}/executions/{execution_id}/logs",
    operation_id = "bulk_sync.executions.get_logs", tag = "Bulk syncs",
    params(("sync_id" = Uuid, Path), ("execution_id" = Uuid, Path)),
    responses(
        (status = 200, description = "links to files of lines of JSON", body = Data<LogFiles>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn logs(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, execution)): Path<(Uuid, Uuid)>,
) -> Answer<Json<Data<LogFiles>>> {
    let organization = caller.organization()?;
    let logs = state.store().logs();
    let some = logs
        .list(organization, sync, execution, None, None, 1)
        .await?;
    let (url, expires) = LogFile {
        organization,
        sync,
        execution,
    }
    .link(&state, Utc::now())
    .await?;
    let urls = if some.is_empty() {
        Vec::new()
    } else {
        vec![url]
    };
    Ok(Json(Data::new(LogFiles { expires, urls })))
}

/// Makes a file of an execution's log; the result of the job is a link to it.
#[utoipa::path(
    post, path = "/api/bulk/syncs/{sync_id}/executions/{execution_id}/logs/export",
    operation_id = "bulk_sync.executions.export_logs", tag = "Bulk syncs",
    params(
        ("sync_id" = Uuid, Path), ("execution_id" = Uuid, Path), LogExportQuery,
        IdempotencyHeader,
    ),
    responses(
        (status = 200, description = "the job that does it", body = LogExportStarted),
        (status = 400, description = "the request does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn export_logs(
    State(state): State<ApiState>,
    caller: Caller,
    Path((sync, execution)): Path<(Uuid, Uuid)>,
    Query(query): Query<LogExportQuery>,
) -> Answer<Json<LogExportStarted>> {
    let organization = caller.organization()?;
    state
        .store()
        .executions()
        .get(organization, sync, execution)
        .await?;
    if query.notify {
        return Err(plainly_bad(Problem::not_yet(
            "notify",
            "mail about exports is not built yet; leave notify out",
        )));
    }
    // The file is written while it is read, so the job has nothing left to wait for.
    let (url, _) = LogFile {
        organization,
        sync,
        execution,
    }
    .link(&state, Utc::now())
    .await?;
    let jobs = state.store().jobs();
    let kind = JobKind::ExportLogs.word();
    let job = jobs.create(organization, kind).await?;
    jobs.start(job.id).await?;
    jobs.finish(job.id, Ok(serde_json::json!({ "url": url })))
        .await?;
    let job = shown_job(
        jobs.get(organization, kind, job.id).await?,
        JobKind::ExportLogs,
    );
    Ok(Json(LogExportStarted {
        data: None,
        job: Some(job),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: ApiVersion = ApiVersion::V2025_09_18;
    const OLD: ApiVersion = ApiVersion::V2024_02_08;

    #[test]
    fn the_older_flag_means_rebuild_in_older_versions_only() {
        let asked = |resync| StartExecution {
            resync: Some(resync),
            ..StartExecution::default()
        };
        assert_eq!(
            resync_mode(&asked(true), OLD).unwrap(),
            Some(ResyncMode::Rebuild)
        );
        assert_eq!(resync_mode(&asked(false), OLD).unwrap(), None);
        assert!(resync_mode(&asked(false), NEW).is_err());
    }

    #[test]
    fn a_test_cannot_resync() {
        let request = StartExecution {
            test: Some(true),
            resync_mode: Some(ResyncMode::Refetch),
            ..StartExecution::default()
        };
        assert!(resync_mode(&request, NEW).is_err());
        let request = StartExecution {
            test: Some(false),
            ..request
        };
        assert_eq!(
            resync_mode(&request, NEW).unwrap(),
            Some(ResyncMode::Refetch)
        );
    }

    #[test]
    fn only_enabled_schemas_can_be_chosen() {
        let enabled = ["public.a", "public.b"];
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            only_schemas(ids(&["public.b", "public.b"]), &enabled).unwrap(),
            ids(&["public.b"])
        );
        assert!(only_schemas(ids(&["public.c"]), &enabled).is_err());
    }
}
