use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
    routing,
};
use tideway_work::health::HEALTHY;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    auth::Caller,
    body::{self, Body, Path, PathId},
    envelope::{ApiError, Data, IdempotencyHeader},
    failures::{ChangeFailures, ReadFailures},
    problem::{Answer, Problem},
    schemas::{
        document::JsonPath,
        fields, held, view,
        wire::{
            CacheStatus, PatchField, Record, Schema, SchemaCacheStatus, SchemaField,
            SetPrimaryKeys, UpsertFields,
        },
    },
    state::ApiState,
    wire::JsonObject,
};

/// Records that a sample has at most.
const SAMPLE: u64 = 10;

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(refresh))
        .routes(routes!(status))
        .routes(routes!(get))
        .routes(routes!(records))
        .routes(routes!(set_primary_keys, reset_primary_keys))
        .routes(routes!(upsert_fields))
        .routes(routes!(patch_field, delete_field))
        // Versions up to 2023-04-25.
        .route(
            "/api/bulk/source/{id}/schema/{schema_id}",
            routing::get(get),
        )
        .route("/api/bulk/source/{id}/status", routing::get(status))
        .route(
            "/api/connections/{id}/{schema_id}/records",
            routing::get(records),
        )
}

/// The path of one schema.
struct SchemaPath {
    connection: Uuid,
    schema: String,
}

impl TryFrom<(String, String)> for SchemaPath {
    type Error = Problem;

    fn try_from((connection, schema): (String, String)) -> Answer<Self> {
        Ok(SchemaPath {
            connection: body::id(&connection)?,
            schema,
        })
    }
}

/// Begins a new inspection of the connection, which goes on after the answer.
#[utoipa::path(
    post, path = "/api/connections/{id}/schemas/refresh", operation_id = "schemas.refresh",
    tag = "Schemas",
    params(("id" = String, Path, description = "the id of a connection"), IdempotencyHeader),
    responses(
        (status = 200, description = "the inspection goes on", headers(
            ("Location" = String, description = "where its status is told"),
        )),
        (status = 400, description = "the connection is not healthy, or cannot be a source", body = ApiError),
        ChangeFailures,
    )
)]
async fn refresh(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<[(HeaderName, String); 1]> {
    let stored = held::source(&state, &caller, id).await?;
    if stored.status != HEALTHY {
        let health = state.work.check_health(&stored).await?;
        if let Some(trouble) = health.error {
            let message = format!("the connection is not healthy: {trouble}");
            return Err(Problem::bad_request(message));
        }
    }
    // A second request joins the refresh that is under way.
    state.work.refresh_in_background(&stored).await?;
    Ok([(
        header::LOCATION,
        format!("/api/connections/{id}/schemas/status"),
    )])
}

/// Tells how far the inspection of a connection has come.
#[utoipa::path(
    get, path = "/api/connections/{id}/schemas/status", operation_id = "schemas.get_status",
    tag = "Schemas",
    params(("id" = String, Path, description = "the id of a connection")),
    responses(
        (status = 200, description = "the state of the cache", body = Data<SchemaCacheStatus>),
        (status = 400, description = "the connection cannot be a source", body = ApiError),
        ReadFailures,
    )
)]
async fn status(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<SchemaCacheStatus>>> {
    let stored = held::source(&state, &caller, id).await?;
    let cache = state
        .store()
        .catalogs()
        .state(stored.organization_id, id)
        .await?;
    let cache_status = match cache.refreshing {
        true => CacheStatus::Refreshing,
        false => CacheStatus::Fresh,
    };
    Ok(Json(Data::new(SchemaCacheStatus {
        cache_status,
        last_refresh_finished: cache.refresh_finished_at,
        last_refresh_started: cache.refresh_started_at,
    })))
}

/// Gives one schema with its fields, as last inspected.
#[utoipa::path(
    get, path = "/api/connections/{id}/schemas/{schema_id}", operation_id = "schemas.get",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
    ),
    responses(
        (status = 200, description = "the schema", body = Data<Schema>),
        (status = 400, description = "the connection cannot be a source, or not be inspected", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Answer<Json<Data<Schema>>> {
    let path = SchemaPath::try_from(path)?;
    let stored = held::source(&state, &caller, path.connection).await?;
    let table = held::table(&state, &stored, &path.schema).await?;
    let remarks = held::remarks(&state, &stored, &path.schema).await?;
    let fields = view::fields(&table, &remarks);
    Ok(Json(Data::new(view::schema(&table, Some(fields)))))
}

/// Reads a few records of a schema.
#[utoipa::path(
    get, path = "/api/connections/{id}/schemas/{schema_id}/records",
    operation_id = "schemas.get_records",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
    ),
    responses(
        (status = 200, description = "the records", body = Data<Vec<Record>>),
        (status = 400, description = "the connection cannot be a source, or not be read", body = ApiError),
        ReadFailures,
    )
)]
async fn records(
    State(state): State<ApiState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Answer<Json<Data<Vec<Record>>>> {
    let path = SchemaPath::try_from(path)?;
    let stored = held::source(&state, &caller, path.connection).await?;
    // A schema that is not there is not found, rather than an error of the source.
    held::table(&state, &stored, &path.schema).await?;
    let remarks = held::remarks(&state, &stored, &path.schema).await?;
    let mut records = state
        .work
        .sample(&stored, &path.schema, SAMPLE)
        .await
        .map_err(held::upstream)?;
    for field in &remarks.fields {
        let found = field.path.as_deref().map(JsonPath::parse);
        if let Some(Ok(place)) = found {
            records
                .iter_mut()
                .for_each(|record| set_found(record, &field.field_id, &place));
        }
    }
    Ok(Json(Data::new(records.into_iter().map(Record).collect())))
}

fn set_found(record: &mut JsonObject, field_id: &str, place: &JsonPath) {
    let value = place.find(record);
    record.insert(field_id.to_owned(), value);
}

/// Replaces what was said about the primary key of a schema; no fields take it back.
#[utoipa::path(
    put, path = "/api/connections/{id}/schemas/{schema_id}/primary_keys",
    operation_id = "schemas.set_primary_keys",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
        IdempotencyHeader,
    ),
    request_body = SetPrimaryKeys,
    responses(
        (status = 200, description = "it is stored"),
        (status = 400, description = "the body cannot be read, or names an unknown field", body = ApiError),
        ChangeFailures,
    )
)]
async fn set_primary_keys(
    State(state): State<ApiState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Body(request): Body<SetPrimaryKeys>,
) -> Answer<()> {
    let path = SchemaPath::try_from(path)?;
    let stored = held::source(&state, &caller, path.connection).await?;
    let table = held::table(&state, &stored, &path.schema).await?;
    let keys = fields::keys(&table, request.fields.unwrap_or_default())?;
    let catalogs = state.store().catalogs();
    let (organization, id) = (stored.organization_id, stored.id);
    if keys.is_empty() {
        catalogs
            .reset_key_override(organization, id, &path.schema)
            .await?;
    } else {
        catalogs
            .set_key_override(organization, id, &path.schema, &keys)
            .await?;
    }
    Ok(())
}

/// Goes back to the primary key that the source reports.
#[utoipa::path(
    delete, path = "/api/connections/{id}/schemas/{schema_id}/primary_keys",
    operation_id = "schemas.reset_primary_keys",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, description = "it is taken back"),
        (status = 400, description = "the connection cannot be a source, or not be inspected", body = ApiError),
        ChangeFailures,
    )
)]
async fn reset_primary_keys(
    State(state): State<ApiState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Answer<()> {
    let path = SchemaPath::try_from(path)?;
    let stored = held::source(&state, &caller, path.connection).await?;
    held::table(&state, &stored, &path.schema).await?;
    let catalogs = state.store().catalogs();
    Ok(catalogs
        .reset_key_override(stored.organization_id, stored.id, &path.schema)
        .await?)
}

/// Defines fields that the source does not report, or redefines fields. All or none.
#[utoipa::path(
    post, path = "/api/connections/{id}/schemas/{schema_id}/fields",
    operation_id = "schemas.upsert_field",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
        IdempotencyHeader,
    ),
    request_body = UpsertFields,
    responses(
        (status = 200, description = "they are stored"),
        (status = 400, description = "the body cannot be read, or a field in it does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn upsert_fields(
    State(state): State<ApiState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Body(request): Body<UpsertFields>,
) -> Answer<()> {
    let path = SchemaPath::try_from(path)?;
    let stored = held::source(&state, &caller, path.connection).await?;
    held::table(&state, &stored, &path.schema).await?;
    let fields = fields::defined(request.fields.unwrap_or_default())?;
    let (organization, id) = (stored.organization_id, stored.id);
    let catalogs = state.store().catalogs();
    Ok(catalogs
        .upsert_user_fields(organization, id, &path.schema, &fields)
        .await?)
}

/// Changes parts of a field. One that the source reports gets an override.
#[utoipa::path(
    patch, path = "/api/connections/{id}/schemas/{schema_id}/fields/{field_id}",
    operation_id = "schemas.patch_field",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
        ("field_id" = String, Path, description = "the id of a field"),
        IdempotencyHeader,
    ),
    request_body = PatchField,
    responses(
        (status = 200, description = "the field", body = Data<SchemaField>),
        (status = 400, description = "the body cannot be read, or a value in it does not fit", body = ApiError),
        ChangeFailures,
    )
)]
async fn patch_field(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, schema, field_id)): Path<(String, String, String)>,
    Body(request): Body<PatchField>,
) -> Answer<Json<Data<SchemaField>>> {
    let path = SchemaPath::try_from((id, schema))?;
    let stored = held::source(&state, &caller, path.connection).await?;
    let table = held::table(&state, &stored, &path.schema).await?;
    let remarks = held::remarks(&state, &stored, &path.schema).await?;
    let field = fields::patched(&table, &remarks, &field_id, request)?;
    let (organization, id) = (stored.organization_id, stored.id);
    let catalogs = state.store().catalogs();
    catalogs
        .upsert_user_fields(organization, id, &path.schema, &[field])
        .await?;
    let remarks = held::remarks(&state, &stored, &path.schema).await?;
    view::fields(&table, &remarks)
        .into_iter()
        .find(|field| field.id == field_id)
        .map(|field| Json(Data::new(field)))
        .ok_or_else(|| fields::unknown(&field_id))
}

/// Deletes a field that a user defined; a field that the source reports becomes again as
/// it is reported.
#[utoipa::path(
    delete, path = "/api/connections/{id}/schemas/{schema_id}/fields/{field_id}",
    operation_id = "schemas.delete_field",
    tag = "Schemas",
    params(
        ("id" = String, Path, description = "the id of a connection"),
        ("schema_id" = String, Path, description = "the id of a schema"),
        ("field_id" = String, Path, description = "the id of a field"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, description = "it is deleted"),
        (status = 400, description = "the field is the source's own", body = ApiError),
        ChangeFailures,
    )
)]
async fn delete_field(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, schema, field_id)): Path<(String, String, String)>,
) -> Answer<()> {
    let path = SchemaPath::try_from((id, schema))?;
    let stored = held::source(&state, &caller, path.connection).await?;
    let table = held::table(&state, &stored, &path.schema).await?;
    let remarks = held::remarks(&state, &stored, &path.schema).await?;
    if remarks.field(&field_id).is_none() {
        return Err(match table.column(&field_id) {
            Some(_) => Problem::bad_request("the field is the source's own; it cannot be deleted"),
            None => fields::unknown(&field_id),
        });
    }
    let (organization, id) = (stored.organization_id, stored.id);
    let catalogs = state.store().catalogs();
    Ok(catalogs
        .delete_user_field(organization, id, &path.schema, &field_id)
        .await?)
}
