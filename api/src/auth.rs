//! Who is calling: a Bearer key, or Basic with a deployment key.

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use tideway_store::{Actor, Author};
use uuid::Uuid;

use crate::{
    problem::{Answer, Problem},
    state::ApiState,
};

/// The authenticated caller of a request.
#[derive(Clone)]
pub struct Caller {
    pub actor: Actor,
    organization: Option<Uuid>,
}

impl Caller {
    /// The organization that the request is about. Objects of another are not found.
    pub fn organization(&self) -> Answer<Uuid> {
        self.organization.ok_or_else(|| {
            Problem::forbidden(
                "this key acts for the whole deployment; name the organization by Basic authentication with its id as the user name and the key as the password",
            )
        })
    }

    /// Who stands in `created_by` and `updated_by`.
    pub fn author(&self) -> Author {
        self.actor.author()
    }

    /// Callers may name an organization only if it is theirs.
    pub fn check_organization(&self, named: Option<Uuid>) -> Answer<()> {
        match named {
            Some(named) if named != self.organization()? => Err(Problem::forbidden(
                "this key may not act for the organization named",
            )),
            _ => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Caller>()
            .cloned()
            .ok_or_else(unauthorized)
    }
}

/// Lets only known callers through, and tells the handlers who it is.
pub async fn require(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Answer<Response> {
    let caller = authenticate(&state, request.headers()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn authenticate(state: &ApiState, headers: &HeaderMap) -> Answer<Caller> {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let (scheme, credentials) = value
        .and_then(|value| value.split_once(' '))
        .ok_or_else(unauthorized)?;
    let actor = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => {
            state
                .store()
                .keys()
                .authenticate(credentials.trim())
                .await?
        }
        "basic" => basic(state, credentials.trim()).await?,
        _ => None,
    };
    let actor = actor.ok_or_else(unauthorized)?;
    let organization = match actor.organization_id {
        Some(organization) => Some(organization),
        None => only_organization(state).await?,
    };
    Ok(Caller {
        actor,
        organization,
    })
}

/// `organization id : key`. A user name that is no organization's id is not looked at.
async fn basic(state: &ApiState, credentials: &str) -> Answer<Option<Actor>> {
    let Some(decoded) = STANDARD
        .decode(credentials)
        .ok()
        .and_then(|b| String::from_utf8(b).ok())
    else {
        return Ok(None);
    };
    let Some((user, password)) = decoded.split_once(':') else {
        return Ok(None);
    };
    let keys = state.store().keys();
    Ok(match Uuid::parse_str(user) {
        Ok(organization) => keys.authenticate_for(organization, password).await?,
        Err(_) if password.is_empty() => keys.authenticate(user).await?,
        Err(_) => keys.authenticate(password).await?,
    })
}

/// A deployment with a single organization need not name it.
async fn only_organization(state: &ApiState) -> Answer<Option<Uuid>> {
    let organizations = state.store().organizations().list().await?;
    Ok(match organizations.as_slice() {
        [only] => Some(only.id),
        _ => None,
    })
}

fn unauthorized() -> Problem {
    Problem::unauthorized(
        "the request carries no valid key; send it as `Authorization: Bearer <API key>`",
    )
}
