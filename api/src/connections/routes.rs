use axum::{Json, extract::State, http::StatusCode, routing};
use serde_json::json;
use tideway_core::Kind;
use tideway_store::{PageRequest, SyncName};
use tideway_work::connect::connector;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::Caller,
    body::{Body, PathId, Query},
    connection_types::{choices, wire::ParameterValuesByField},
    connections::{
        save, settings, view,
        wire::{
            Connection, ConnectionUsage, CreateConnection, DeleteConnectionQuery, PatchConnection,
            SavedConnection, TestConnection, UpdateConnection,
        },
    },
    envelope::{ApiError, Data, IdempotencyHeader},
    failures::{ChangeFailures, ReadFailures},
    problem::{Answer, Problem},
    state::ApiState,
};

/// Connections that one question to the store fetches.
const AT_ONCE: u32 = 200;

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(test))
        .routes(routes!(get, update, delete))
        .routes(routes!(parameter_values))
        .routes(routes!(usage))
        // The update of versions up to 2023-04-25.
        .route("/api/connections/{id}", routing::patch(patch))
}

/// Lists all connections of the organization, the last changed first.
#[utoipa::path(
    get, path = "/api/connections", operation_id = "connections.list",
    tag = "Connections",
    responses(
        (status = 200, description = "the connections", body = Data<Vec<Connection>>),
        (status = 400, description = "an unknown API version", body = ApiError),
        ReadFailures,
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
) -> Answer<Json<Data<Vec<Connection>>>> {
    let organization = caller.organization()?;
    let mut connections = Vec::new();
    let mut page = PageRequest::new(AT_ONCE, None);
    loop {
        let part = state
            .store()
            .connections()
            .list(organization, &page)
            .await?;
        let shown = part
            .items
            .iter()
            .map(|c| view::connection(c, &state.settings.public_url));
        connections.extend(shown);
        match part.next {
            Some(next) => page = PageRequest::new(AT_ONCE, Some(&next)),
            None => return Ok(Json(Data::new(connections))),
        }
    }
}

/// Creates a connection, after connecting with it unless `validate` is false.
#[utoipa::path(
    post, path = "/api/connections", operation_id = "connections.create",
    tag = "Connections",
    params(IdempotencyHeader),
    request_body = CreateConnection,
    responses(
        (status = 200, description = "the connection", body = Data<SavedConnection>),
        (status = 400, description = "the body cannot be read, or connecting failed; `metadata.probes` lists what was tried", body = ApiError),
        ChangeFailures,
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<CreateConnection>,
) -> Answer<Json<Data<SavedConnection>>> {
    let stored = save::create(&state, &caller, request).await?;
    Ok(Json(Data::new(view::saved(
        &stored,
        &state.settings.public_url,
    ))))
}

/// Tries a configuration out; nothing is saved.
#[utoipa::path(
    post, path = "/api/connections/test", operation_id = "connections.test_connection",
    tag = "Connections",
    params(IdempotencyHeader),
    request_body = TestConnection,
    responses(
        (status = 200, description = "connecting succeeded"),
        (status = 400, description = "the body cannot be read, or connecting failed; `metadata.probes` lists what was tried", body = ApiError),
        ChangeFailures,
    )
)]
async fn test(
    State(state): State<ApiState>,
    caller: Caller,
    Body(request): Body<TestConnection>,
) -> Answer<()> {
    let connector = connector(&request.kind)?;
    let stored = settings::beneath(&state, &caller, request.connection_id, &request.kind).await?;
    let form = &connector.forms().connection;
    let configuration = settings::merged(form, stored.as_ref(), &request.configuration);
    settings::check_form(connector, &configuration)?;
    settings::probe(&state, &request.kind, &configuration).await
}

/// Gives one connection.
#[utoipa::path(
    get, path = "/api/connections/{id}", operation_id = "connections.get",
    tag = "Connections",
    params(("id" = String, Path, description = "the id of a connection")),
    responses(
        (status = 200, description = "the connection", body = Data<Connection>),
        (status = 400, description = "an unknown API version", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<Connection>>> {
    let stored = state
        .store()
        .connections()
        .get(caller.organization()?, id)
        .await?;
    Ok(Json(Data::new(view::connection(
        &stored,
        &state.settings.public_url,
    ))))
}

/// Replaces a connection's name and configuration. Syncs use it from their next execution on.
#[utoipa::path(
    put, path = "/api/connections/{id}", operation_id = "connections.update",
    tag = "Connections",
    params(("id" = String, Path, description = "the id of a connection"), IdempotencyHeader),
    request_body = UpdateConnection,
    responses(
        (status = 200, description = "the connection", body = Data<SavedConnection>),
        (status = 400, description = "the body cannot be read, or connecting failed; `metadata.probes` lists what was tried", body = ApiError),
        ChangeFailures,
    )
)]
async fn update(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Body(request): Body<UpdateConnection>,
) -> Answer<Json<Data<SavedConnection>>> {
    let stored = save::update(&state, &caller, id, request.into()).await?;
    Ok(Json(Data::new(view::saved(
        &stored,
        &state.settings.public_url,
    ))))
}

async fn patch(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Body(request): Body<PatchConnection>,
) -> Answer<Json<Data<SavedConnection>>> {
    let stored = save::update(&state, &caller, id, request.into()).await?;
    Ok(Json(Data::new(view::saved(
        &stored,
        &state.settings.public_url,
    ))))
}

/// Deletes a connection; with `force` also the syncs that use it.
#[utoipa::path(
    delete, path = "/api/connections/{id}", operation_id = "connections.delete",
    tag = "Connections",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        DeleteConnectionQuery,
        IdempotencyHeader,
    ),
    responses(
        (status = 200, description = "it is deleted"),
        (status = 400, description = "the query string cannot be read", body = ApiError),
        ChangeFailures,
    )
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
    Query(query): Query<DeleteConnectionQuery>,
) -> Answer<()> {
    let organization = caller.organization()?;
    let connections = state.store().connections();
    let users = connections.used_by(organization, id).await?;
    match connections.delete(organization, id, query.force).await {
        Err(error) if error.kind == Kind::Conflict => {
            Err(in_use(format!("{error}: {}", error.advice()), &users))
        }
        done => Ok(done?),
    }
}

fn in_use(message: String, users: &[SyncName]) -> Problem {
    let users: Vec<_> = users
        .iter()
        .map(|sync| json!({"id": sync.id, "name": sync.name, "type": "bulk_sync"}))
        .collect();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "in_use", message).with("used_by", users)
}

/// Lists the values that the fields of the connection's form can take.
#[utoipa::path(
    get, path = "/api/connections/{id}/parameter_values",
    operation_id = "connections.get_parameter_values",
    tag = "Connections",
    params(("id" = String, Path, description = "the id of a connection")),
    responses(
        (status = 200, description = "the values, by field", body = Data<ParameterValuesByField>),
        (status = 400, description = "the system cannot be asked", body = ApiError),
        ReadFailures,
    )
)]
async fn parameter_values(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<ParameterValuesByField>>> {
    let stored = state
        .store()
        .connections()
        .get(caller.organization()?, id)
        .await?;
    let connector = connector(&stored.kind)?;
    choices::of_all_fields(&state, connector, stored.configuration.expose())
        .await
        .map(|values| Json(Data::new(values)))
        .map_err(|error| Problem::upstream(StatusCode::BAD_REQUEST, &error))
}

/// Counts the calls made through a connection in the last 24 hours.
#[utoipa::path(
    get, path = "/api/connections/{id}/usage", operation_id = "connections.get_usage",
    tag = "Connections",
    params(("id" = String, Path, description = "the id of a connection")),
    responses(
        (status = 200, description = "the calls", body = Data<ConnectionUsage>),
        (status = 400, description = "an unknown API version", body = ApiError),
        ReadFailures,
    )
)]
async fn usage(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<ConnectionUsage>>> {
    let usage = state
        .store()
        .connections()
        .usage(caller.organization()?, id)
        .await?;
    Ok(Json(Data::new(view::usage(id, usage))))
}
