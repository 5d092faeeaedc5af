//! What happened.

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tideway_core::Error;
use tideway_store::{self as store, ActorKind, EventFilter};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::wire::{Event, EventListQuery, EventPayload, EventType};
use crate::{
    auth::Caller,
    body::Query,
    envelope::{ApiError, Data, Page, page_size},
    failures::ReadFailures,
    problem::{Answer, Problem},
    state::ApiState,
};

/// Events of one microsecond that a page may begin among.
const AT_ONCE: u32 = 100;

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(types))
}

/// Lists what happened in the last 48 hours, the newest first.
#[utoipa::path(
    get, path = "/api/events", operation_id = "events.list", tag = "Events",
    params(EventListQuery),
    responses(
        (status = 200, description = "a page of events", body = Page<Event>),
        (status = 400, description = "the request does not fit", body = ApiError),
        (status = 422, description = "a parameter does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    query: Result<Query<EventListQuery>, Problem>,
) -> Answer<Json<Page<Event>>> {
    let Query(query) = query.map_err(|mut problem| {
        problem.status = StatusCode::UNPROCESSABLE_ENTITY;
        problem
    })?;
    let organization = match query.organization_id {
        Some(named) if caller.actor.kind == ActorKind::System => named,
        _ => caller.organization()?,
    };
    let limit = page_size(query.limit, 10, 100);
    let place = query
        .page_token
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(Place::parse);
    let place = place.transpose()?;
    let before = place.map(|place| place.at + TimeDelta::microseconds(1));
    let filter = EventFilter {
        kind: query.kind.map(EventType::word),
        starting_after: query.starting_after,
        ending_before: match (query.ending_before, before) {
            (Some(asked), Some(before)) => Some(asked.min(before)),
            (asked, before) => asked.or(before),
        },
        limit: limit + 1 + AT_ONCE,
    };
    let mut events = state.store().events().list(organization, &filter).await?;
    events.retain(|event| place.is_none_or(|place| Place::of(event) < place));
    let more = events.len() > limit as usize;
    events.truncate(limit as usize);
    let next = events
        .last()
        .filter(|_| more)
        .map(|last| Place::of(last).token());
    let events = events.into_iter().map(shown).collect::<Answer<Vec<_>>>()?;
    Ok(Json(Page::new(events, next)))
}

/// Lists the types of events.
#[utoipa::path(
    get, path = "/api/events_types", operation_id = "events.get_types", tag = "Events",
    responses(
        (status = 200, description = "all types", body = Data<Vec<EventType>>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn types() -> Json<Data<Vec<EventType>>> {
    Json(Data::new(EventType::ALL.to_vec()))
}

/// Where a page ends: the newest come first, so what follows is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: DateTime<Utc>,
    id: Uuid,
}

impl Place {
    fn of(event: &store::Event) -> Self {
        Place {
            at: event.created_at,
            id: event.id,
        }
    }

    fn token(self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.at.timestamp_micros(), self.id))
    }

    fn parse(token: &str) -> Answer<Self> {
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
            let (at, id) = text.split_once(' ')?;
            // Far from the ends of time, so that a little can be added.
            let at = at
                .parse()
                .ok()
                .filter(|at| (0..=1_i64 << 52).contains(at))?;
            Some(Place {
                at: DateTime::from_timestamp_micros(at)?,
                id: Uuid::parse_str(id).ok()?,
            })
        };
        read().ok_or_else(|| {
            Problem::unprocessable(
                "page_token",
                "the page token is not one that this list gave",
            )
        })
    }
}

impl EventType {
    fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.and_then(|word| word.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

fn shown(stored: store::Event) -> Answer<Event> {
    let unknown = |error| Error::bug(format!("event {} cannot be shown", stored.id)).because(error);
    let kind: EventType =
        serde_json::from_value(Value::from(stored.kind.as_str())).map_err(unknown)?;
    let event = payload(kind, stored.payload).map_err(unknown)?;
    Ok(Event {
        created_at: stored.created_at,
        event,
        id: stored.id,
        organization_id: stored.organization_id,
        kind,
    })
}

fn payload(kind: EventType, stored: Value) -> serde_json::Result<EventPayload> {
    fn read<T: DeserializeOwned>(
        stored: Value,
        wrap: impl Fn(T) -> EventPayload,
    ) -> serde_json::Result<EventPayload> {
        serde_json::from_value(stored).map(wrap)
    }
    match kind {
        EventType::SyncRunning => read(stored, EventPayload::SyncRunning),
        EventType::SyncCompleted => {
            read(stored, |event| EventPayload::SyncCompleted(Box::new(event)))
        }
        EventType::SyncCompletedWithErrors => read(stored, EventPayload::SyncCompletedWithErrors),
        EventType::SyncFailed => read(stored, EventPayload::SyncFailed),
        EventType::SyncCanceled => read(stored, EventPayload::SyncCanceled),
        EventType::BulkSyncRunning => read(stored, EventPayload::BulkSyncRunning),
        EventType::BulkSyncCompleted => read(stored, EventPayload::BulkSyncCompleted),
        EventType::BulkSyncCompletedWithError => {
            read(stored, EventPayload::BulkSyncCompletedWithError)
        }
        EventType::BulkSyncFailed => read(stored, EventPayload::BulkSyncFailed),
        EventType::BulkSyncCanceled => read(stored, EventPayload::BulkSyncCanceled),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn page_tokens_are_read_as_they_are_written() {
        let place = Place {
            at: DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap(),
            id: Uuid::from_u128(7),
        };
        assert_eq!(Place::parse(&place.token()).unwrap(), place);
        for wrong in [
            "x",
            "",
            "MTIz",
            &URL_SAFE_NO_PAD.encode("9223372036854775807 x"),
        ] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_type_of_event_that_the_store_writes_can_be_shown() {
        let id = Uuid::nil();
        for kind in store::EVENT_KINDS {
            let payload = json!({
                "sync_id": id, "sync_name": "orders", "execution_id": id, "organization_id": id,
                "source_connection_id": id, "destination_connection_id": id, "error": "",
                "trigger_source": "manual",
            });
            let stored = store::Event {
                id,
                kind: (*kind).to_owned(),
                organization_id: id,
                created_at: DateTime::UNIX_EPOCH,
                payload,
            };
            let event = shown(stored).unwrap();
            assert_eq!(event.event.kind(), event.kind);
            assert_eq!(event.kind.word(), *kind);
        }
    }
}
