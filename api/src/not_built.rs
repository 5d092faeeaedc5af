//! Answers for what is not built, not found or not allowed.

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode},
    routing::{MethodFilter, on},
};

use crate::{operations::OPERATIONS, problem::Problem, state::ApiState};

/// A route for every operation of the contract that is not built.
pub fn router() -> Router<ApiState> {
    let mut router = Router::new();
    for (path, methods) in OPERATIONS {
        for method in *methods {
            let filter = method
                .parse::<Method>()
                .ok()
                .and_then(|m| MethodFilter::try_from(m).ok());
            if let Some(filter) = filter {
                router = router.route(path, on(filter, answer));
            }
        }
    }
    router
}

async fn answer(request: Request) -> Problem {
    Problem::not_built(format!(
        "{} {} is part of the contract but not built yet",
        request.method(),
        request.uri().path()
    ))
}

pub async fn not_found(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

pub async fn method_not_allowed(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "{} is not possible at {}",
            request.method(),
            request.uri().path()
        ),
    )
}
