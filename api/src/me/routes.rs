//! Who the caller is.

use axum::Json;
use tideway_store::ActorKind;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::wire::{Credential, Identity};
use crate::{
    auth::Caller,
    envelope::{ApiError, Data},
    failures::ReadFailures,
    state::ApiState,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// The caller, as its key tells.
#[utoipa::path(
    get, path = "/api/me", operation_id = "identity.get", tag = "Identity",
    responses(
        (status = 200, description = "who is calling", body = Data<Identity>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn get(caller: Caller) -> Json<Data<Identity>> {
    let actor = caller.actor;
    let user = actor.user.as_ref();
    Json(Data::new(Identity {
        credential: Credential {
            api_key_profile: None,
            harbor: None,
            method: "api_key".to_owned(),
            mode: None,
            oauth_client_id: None,
            oauth_resource: None,
        },
        email: user.map(|user| user.email.clone()),
        id: user.map(|user| user.id),
        is_organization: actor.kind == ActorKind::Organization,
        is_partner: false,
        is_system: actor.kind == ActorKind::System,
        is_user: actor.kind == ActorKind::User,
        organization_id: actor.organization_id,
        organization_name: actor.organization_name,
        role: user.map(|user| user.role.clone()),
    }))
}
