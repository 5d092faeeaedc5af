//! What an id stands for.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use tideway_store as store;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::wire::{Entity, EntityKind, EntityRelationship};
use crate::{
    auth::Caller,
    body::PathId,
    envelope::{ApiError, Data},
    failures::ReadFailures,
    problem::{Answer, Problem},
    state::ApiState,
    wire::JsonObject,
};

pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// What an id of the caller's organization stands for, and where to fetch it.
#[utoipa::path(
    get, path = "/api/entities/{id}", operation_id = "entities.get", tag = "Entities",
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "what it is", body = Data<Entity>),
        (status = 400, description = "the request does not fit", body = ApiError),
        ReadFailures,
    )
)]
async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    PathId(id): PathId,
) -> Answer<Json<Data<Entity>>> {
    let organization = caller.organization()?;
    let found = state.store().entities().resolve(organization, id).await?;
    let sync = found.as_ref().and_then(sync_of);
    let shown = found.as_ref().and_then(shown).ok_or_else(|| {
        Problem::not_found(format!(
            "there is nothing with the id {id} in this organization"
        ))
    })?;
    let context = match sync.filter(|_| shown.kind == EntityKind::BulkSyncExecution) {
        Some(sync) => Some(context(&state, organization, sync, id).await?),
        None => None,
    };
    Ok(Json(Data::new(Entity { context, ..shown })))
}

fn sync_of(entity: &store::Entity) -> Option<Uuid> {
    let parent = |kind| entity.parents.iter().find(|(parent, _)| *parent == kind);
    parent(store::EntityKind::BulkSync).map(|(_, id)| *id)
}

/// `None` for what the contract has no type for.
fn shown(entity: &store::Entity) -> Option<Entity> {
    let id = entity.id;
    let sync = sync_of(entity);
    let sync_path = |sync: Uuid| format!("/api/bulk/syncs/{sync}");
    let (kind, canonical_path) = match (entity.kind, sync) {
        (store::EntityKind::Organization, _) => {
            (EntityKind::Organization, format!("/api/organizations/{id}"))
        }
        (store::EntityKind::User, _) => (
            EntityKind::User,
            format!("/api/organizations/{}/users/{id}", entity.organization_id),
        ),
        (store::EntityKind::Connection, _) => {
            (EntityKind::Connection, format!("/api/connections/{id}"))
        }
        (store::EntityKind::BulkSync, _) => (EntityKind::BulkSync, sync_path(id)),
        (store::EntityKind::BulkSyncExecution, Some(sync)) => (
            EntityKind::BulkSyncExecution,
            format!("{}/executions/{id}", sync_path(sync)),
        ),
        _ => return None,
    };
    let relationships = sync.map(|sync| {
        let parent = EntityRelationship {
            id: sync,
            path: sync_path(sync),
        };
        BTreeMap::from([(store::EntityKind::BulkSync.word().to_owned(), parent)])
    });
    Some(Entity {
        canonical_path,
        context: None,
        id,
        organization_id: None,
        relationships,
        kind,
    })
}

/// The schemas that an execution carries.
async fn context(state: &ApiState, organization: Uuid, sync: Uuid, id: Uuid) -> Answer<JsonObject> {
    let execution = state
        .store()
        .executions()
        .get(organization, sync, id)
        .await?;
    let ids: Vec<String> = if execution.only_schemas.is_empty() {
        execution
            .schemas
            .into_iter()
            .map(|schema| schema.schema_id)
            .collect()
    } else {
        execution.only_schemas
    };
    Ok(JsonObject::from_iter([(
        "schema_ids".to_owned(),
        ids.into(),
    )]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_found_under_its_sync() {
        let (sync, id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let entity = store::Entity {
            kind: store::EntityKind::BulkSyncExecution,
            id,
            organization_id: Uuid::nil(),
            parents: vec![(store::EntityKind::BulkSync, sync)],
            detail: None,
        };
        let shown = shown(&entity).unwrap();
        assert_eq!(
            shown.canonical_path,
            format!("/api/bulk/syncs/{sync}/executions/{id}")
        );
        assert_eq!(shown.relationships.unwrap()["bulk_sync"].id, sync);
    }
}
