//! The router with everything that each request passes through, and the OpenAPI document
//! that is made from the same routes.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderName, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    auth, bulk, connection_types, connections, entities, events, headers, idempotency, jobs, me,
    not_built, problem::Problem, schemas, state::ApiState, unread, version,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tideway",
        description = "Moves data between databases, files and apps. Wire-compatible with Polytomic's API.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Keys),
)]
struct Document;

/// The two ways to authenticate.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        for (name, scheme) in [
            ("bearer", HttpAuthScheme::Bearer),
            ("basic", HttpAuthScheme::Basic),
        ] {
            components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
        }
        let none: [&str; 0] = [];
        document.security = Some(
            ["bearer", "basic"]
                .map(|name| SecurityRequirement::new(name, none))
                .to_vec(),
        );
    }
}

fn routes() -> (Router<ApiState>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(connection_types::routes::routes())
        .merge(connections::routes::routes())
        .merge(schemas::routes::routes())
        .merge(bulk::routes())
        .merge(jobs::routes::routes())
        .merge(me::routes::routes())
        .merge(events::routes::routes())
        .merge(entities::routes::routes())
        .split_for_parts()
}

/// The OpenAPI document of what is built.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().1
}

pub fn router(state: ApiState) -> Router {
    let (api, document) = routes();
    let request_id = HeaderName::from_static("x-request-id");
    let api = api
        .merge(not_built::router())
        .layer(
            ServiceBuilder::new()
                .layer(middleware::from_fn(version::negotiate))
                .layer(middleware::from_fn_with_state(state.clone(), auth::require))
                .layer(middleware::from_fn_with_state(
                    state.clone(),
                    idempotency::replay,
                )),
        )
        .merge(bulk::open_routes());
    let router = Router::new()
        .merge(api)
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(not_built::not_found)
        .method_not_allowed_fallback(not_built::method_not_allowed)
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(request_id.clone(), MakeRequestUuid))
                .layer(PropagateRequestIdLayer::new(request_id))
                .layer(middleware::from_fn(headers::strict))
                .layer(middleware::from_fn(measure))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(middleware::from_fn(unread::taken_in))
                .layer(DefaultBodyLimit::max(state.settings.body_limit)),
        )
        .with_state(state);
    schemas::slashes::taken_whole(router)
}

async fn ready(State(state): State<ApiState>) -> Response {
    match state.store().ready().await {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

async fn metrics(State(state): State<ApiState>) -> String {
    state.metrics.render()
}

/// Counts requests and their times by route, never by what a client made up.
async fn measure(request: Request, next: Next) -> Response {
    let begun = std::time::Instant::now();
    let method = request.method().to_string();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", |path| path.as_str())
        .to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    let time = begun.elapsed();
    tracing::debug!(
        method,
        route,
        status,
        millis = time.as_millis() as u64,
        "request"
    );
    metrics::counter!("tideway_http_requests_total", "method" => method.clone(), "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!("tideway_http_request_seconds", "method" => method, "route" => route)
        .record(time.as_secs_f64());
    response
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "a bug in Tideway stopped this request; please report it with the server's log",
    )
    .into_response()
}
