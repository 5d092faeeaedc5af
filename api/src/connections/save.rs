//! Creating and changing connections. Nothing is stored before it has been checked.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tideway_core::{Connector, form::Form};
use tideway_store::{Configuration, Connection as Stored, ConnectionDraft};
use tideway_work::health::{HEALTHY, parse_interval};
use uuid::Uuid;

use crate::{
    auth::Caller,
    connections::{
        settings,
        wire::{ConnectionTypeById, CreateConnection, PatchConnection, UpdateConnection},
    },
    problem::{Answer, Problem},
    state::ApiState,
    wire::{IdOr, JsonObject},
};

/// Of a connection that has not been checked yet.
const UNKNOWN: &str = "unknown";

pub async fn create(
    state: &ApiState,
    caller: &Caller,
    request: CreateConnection,
) -> Answer<Stored> {
    let organization = caller.organization()?;
    caller.check_organization(request.organization_id)?;
    let connector = tideway_registry::find(&request.kind).ok_or_else(|| unknown(&request.kind))?;
    let form = &connector.forms().connection;
    let configuration = settings::replaced(form, None, &request.configuration);
    settings::check_form(connector, &configuration)?;
    let mut draft = ConnectionDraft {
        name: name(request.name)?,
        kind: request.kind,
        configuration: Configuration::new(configuration),
        policies: request.policies.map(words).unwrap_or_default(),
        status: UNKNOWN.to_owned(),
        status_error: None,
        saved: true,
        parent_connection_id: None,
        healthcheck_interval: interval(request.healthcheck_interval)?,
        next_health_check_at: Some(Utc::now()),
    };
    if request.validate.unwrap_or(true) {
        validate(state, &mut draft).await?;
    }
    let stored = state
        .store()
        .connections()
        .create(organization, &caller.author(), &draft)
        .await?;
    refresh(state, connector, &stored).await?;
    Ok(stored)
}

/// What a request changes; `None` stays.
pub struct Change {
    name: Option<String>,
    configuration: Option<Rewrite>,
    healthcheck_interval: Option<String>,
    organization_id: Option<Uuid>,
    policies: Option<Vec<Uuid>>,
    kind: Option<IdOr<ConnectionTypeById>>,
    validate: bool,
}

enum Rewrite {
    Whole(JsonObject),
    Fields(JsonObject),
}

impl Rewrite {
    fn over(&self, form: &Form, stored: &Value) -> Value {
        match self {
            Rewrite::Whole(written) => settings::replaced(form, Some(stored), written),
            Rewrite::Fields(written) => settings::merged(form, Some(stored), written),
        }
    }
}

impl From<UpdateConnection> for Change {
    fn from(request: UpdateConnection) -> Self {
        Change {
            name: Some(request.name),
            configuration: Some(Rewrite::Whole(request.configuration)),
            healthcheck_interval: request.healthcheck_interval,
            organization_id: request.organization_id,
            policies: request.policies,
            kind: request.kind,
            validate: request.validate.unwrap_or(true),
        }
    }
}

impl From<PatchConnection> for Change {
    fn from(request: PatchConnection) -> Self {
        Change {
            name: request.name,
            configuration: request.configuration.map(Rewrite::Fields),
            healthcheck_interval: request.healthcheck_interval,
            organization_id: request.organization_id,
            policies: request.policies,
            kind: request.kind,
            validate: request.validate.unwrap_or(true),
        }
    }
}

pub async fn update(state: &ApiState, caller: &Caller, id: Uuid, change: Change) -> Answer<Stored> {
    let organization = caller.organization()?;
    let stored = state.store().connections().get(organization, id).await?;
    caller.check_organization(change.organization_id)?;
    check_kind(&stored, change.kind.as_ref())?;
    let connector = tideway_registry::find(&stored.kind).ok_or_else(|| unknown(&stored.kind))?;
    let mut draft = draft_of(&stored);
    if let Some(new) = change.name {
        draft.name = name(new)?;
    }
    if let Some(policies) = change.policies {
        draft.policies = words(policies);
    }
    if change.healthcheck_interval.is_some() {
        draft.healthcheck_interval = interval(change.healthcheck_interval)?;
    }
    if let Some(rewrite) = &change.configuration {
        let form = &connector.forms().connection;
        let configuration = rewrite.over(form, stored.configuration.expose());
        settings::check_form(connector, &configuration)?;
        draft.configuration = Configuration::new(configuration);
        if change.validate {
            validate(state, &mut draft).await?;
        } else {
            draft.status = UNKNOWN.to_owned();
            draft.status_error = None;
            draft.next_health_check_at = Some(Utc::now());
        }
    }
    let author = caller.author();
    let saved = state
        .store()
        .connections()
        .update(organization, id, &author, &draft)
        .await?;
    if saved.configuration != stored.configuration {
        refresh(state, connector, &saved).await?;
    }
    Ok(saved)
}

fn draft_of(stored: &Stored) -> ConnectionDraft {
    ConnectionDraft {
        name: stored.name.clone(),
        kind: stored.kind.clone(),
        configuration: stored.configuration.clone(),
        policies: stored.policies.clone(),
        status: stored.status.clone(),
        status_error: stored.status_error.clone(),
        saved: stored.saved,
        parent_connection_id: stored.parent_connection_id,
        healthcheck_interval: stored.healthcheck_interval.clone(),
        next_health_check_at: stored.next_health_check_at,
    }
}

async fn validate(state: &ApiState, draft: &mut ConnectionDraft) -> Answer<()> {
    settings::probe(state, &draft.kind, draft.configuration.expose()).await?;
    draft.status = HEALTHY.to_owned();
    draft.status_error = None;
    draft.next_health_check_at = Some(next_check(state, draft));
    Ok(())
}

fn next_check(state: &ApiState, draft: &ConnectionDraft) -> DateTime<Utc> {
    let own = draft
        .healthcheck_interval
        .as_deref()
        .and_then(parse_interval);
    let interval = own.unwrap_or(state.work.settings.healthcheck_interval);
    let interval = TimeDelta::from_std(interval).unwrap_or(TimeDelta::minutes(5));
    Utc::now()
        .checked_add_signed(interval)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// What the connection holds is known soon after it is saved.
async fn refresh(state: &ApiState, connector: &dyn Connector, stored: &Stored) -> Answer<()> {
    if connector.about().source {
        state.work.refresh_in_background(stored).await?;
    }
    Ok(())
}

fn check_kind(stored: &Stored, named: Option<&IdOr<ConnectionTypeById>>) -> Answer<()> {
    match named.map(IdOr::type_id) {
        Some(named) if named != stored.kind => Err(Problem::unprocessable(
            "type",
            format!(
                "the connection is of the type {}, which cannot be changed",
                stored.kind
            ),
        )),
        _ => Ok(()),
    }
}

fn unknown(kind: &str) -> Problem {
    let known: Vec<&str> = tideway_registry::all()
        .iter()
        .map(|c| c.about().id)
        .collect();
    let message = format!(
        "there is no connector for type {kind:?}; use one of {}",
        known.join(", ")
    );
    Problem::not_yet("type", message)
}

fn name(written: String) -> Answer<String> {
    match written.trim() {
        "" => Err(Problem::unprocessable(
            "name",
            "the connection needs a name",
        )),
        _ => Ok(written),
    }
}

/// The empty string goes back to the deployment's interval.
fn interval(written: Option<String>) -> Answer<Option<String>> {
    match written.filter(|text| !text.is_empty()) {
        Some(text) if parse_interval(&text).is_none() => Err(Problem::unprocessable(
            "healthcheck_interval",
            "healthcheck_interval must be a duration such as 15m or 1h",
        )),
        checked => Ok(checked),
    }
}

fn words(policies: Vec<Uuid>) -> Vec<String> {
    policies.iter().map(Uuid::to_string).collect()
}
