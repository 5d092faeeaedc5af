use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::Value;
use tideway_work::connect::connector;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::Caller,
    body::{Body, Path},
    connection_types::{
        choices,
        view::connection_type,
        wire::{ConnectionType, ParameterValuesByField, ParameterValuesRequest},
    },
    connections::settings,
    envelope::{ApiError, Data, IdempotencyHeader},
    failures::{ChangeFailures, ReadFailures},
    problem::{Answer, Problem},
    state::ApiState,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(form))
        .routes(routes!(parameter_values))
}

/// Lists the connection types of this deployment, each with the form that configures it.
#[utoipa::path(
    get, path = "/api/connection_types", operation_id = "connections.get_types",
    tag = "Connections",
    responses(
        (status = 200, description = "the connection types", body = Data<Vec<ConnectionType>>),
        (status = 400, description = "an unknown API version", body = ApiError),
        ReadFailures,
    )
)]
async fn list(State(state): State<ApiState>) -> Json<Data<Vec<ConnectionType>>> {
    let types = tideway_registry::all()
        .iter()
        .map(|connector| connection_type(*connector, &state.settings.public_url))
        .collect();
    Json(Data::new(types))
}

/// Gives the JSON Schema of a connection type's configuration, without an envelope.
#[utoipa::path(
    get, path = "/api/connection_types/{id}",
    operation_id = "connections.get_connection_type_schema",
    tag = "Connections",
    params(("id" = String, Path, description = "the id of a connection type")),
    responses(
        (status = 200, description = "a JSON Schema", body = Value),
        (status = 400, description = "an unknown API version", body = ApiError),
        ReadFailures,
    )
)]
async fn form(Path(id): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(connector(&id)?.forms().connection.json_schema.clone()))
}

/// Lists the values that a field can take, for a connection that is being set up.
#[utoipa::path(
    post, path = "/api/connection_types/{type}/parameter_values",
    operation_id = "connections.get_type_parameter_values",
    tag = "Connections",
    params(("type" = String, Path, description = "the id of a connection type"), IdempotencyHeader),
    request_body = ParameterValuesRequest,
    responses(
        (status = 200, description = "the values, by field", body = Data<ParameterValuesByField>),
        (status = 400, description = "the body cannot be read, the field has no list of values, or the system cannot be asked for it", body = ApiError),
        ChangeFailures,
    )
)]
async fn parameter_values(
    State(state): State<ApiState>,
    caller: Caller,
    Path(kind): Path<String>,
    Body(request): Body<ParameterValuesRequest>,
) -> Answer<Json<Data<ParameterValuesByField>>> {
    let connector = connector(&kind)?;
    let stored = settings::beneath(&state, &caller, request.connection_id, &kind).await?;
    let written = request.parameters.unwrap_or_default();
    let form = &connector.forms().connection;
    let configuration = settings::merged(form, stored.as_ref(), &written);
    let query = request.query.as_deref();
    let values = choices::of_field(&state, connector, &request.field, &configuration, query)
        .await
        .map_err(|error| Problem::upstream(StatusCode::BAD_REQUEST, &error))?;
    let by_field = BTreeMap::from([(request.field, values)]);
    Ok(Json(Data::new(ParameterValuesByField(by_field))))
}
