//! Bulk syncs: whole tables from one connection to another.

use axum::{Router, http::StatusCode};
use utoipa_axum::router::OpenApiRouter;

use crate::{problem::Problem, state::ApiState};

/// Conversions both ways between a stored enum and the wire's, whose variants are the same.
macro_rules! mirrored {
    ($stored:ty, $wire:ty: $($variant:ident),+ $(,)?) => {
        impl From<$stored> for $wire {
            fn from(stored: $stored) -> Self {
                match stored { $(<$stored>::$variant => <$wire>::$variant),+ }
            }
        }

        impl From<$wire> for $stored {
            fn from(wire: $wire) -> Self {
                match wire { $(<$wire>::$variant => <$stored>::$variant),+ }
            }
        }
    };
}

pub mod executions;
pub mod schedules;
pub mod schemas;
pub mod source_target;
pub mod syncs;

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .merge(syncs::routes::routes())
        .merge(schemas::routes::routes())
        .merge(schedules::routes::routes())
        .merge(executions::routes::routes())
        .merge(source_target::routes::routes())
}

/// Routes that need no key: what they serve is guarded by a signature in the link.
pub fn open_routes() -> Router<ApiState> {
    executions::files::routes()
}

/// For operations whose contract knows values that do not fit as 400 only.
fn plainly_bad(mut problem: Problem) -> Problem {
    if problem.status == StatusCode::UNPROCESSABLE_ENTITY {
        problem.status = StatusCode::BAD_REQUEST;
    }
    problem
}
