//! Syncs as they are shown.

use serde_json::Value;
use tideway_core::WriteMode;
use tideway_store as store;
use uuid::Uuid;

use super::wire::{BulkMode, BulkSync, Discover, ErrorHandling, NormalizeNames};
use crate::{
    bulk::schedules::view::{additional_schedule, default_schedule},
    problem::Answer,
    state::ApiState,
    version::ApiVersion,
    wire::{Actor, JsonObject},
};

mirrored!(WriteMode, BulkMode: Replicate, Snapshot, Append);
mirrored!(store::Discover, Discover: All, OnlyIncremental, OnlyNonIncremental, None);
mirrored!(store::NormalizeNames, NormalizeNames: Enabled, Disabled, Legacy);

/// The sync with its schedules, as the caller's version knows it.
pub async fn shown(
    state: &ApiState,
    sync: store::BulkSync,
    version: ApiVersion,
) -> Answer<BulkSync> {
    let schedules = state
        .store()
        .schedules()
        .list(sync.organization_id, sync.id)
        .await?;
    let sync = with_schedules(sync, &schedules);
    Ok(if version.has_single_schedule() {
        sync.with_single_schedule()
    } else {
        sync
    })
}

fn with_schedules(sync: store::BulkSync, schedules: &[store::Schedule]) -> BulkSync {
    let settings = sync.settings;
    let additional = schedules.iter().filter(|one| !one.default);
    BulkSync {
        active: sync.active,
        additional_schedules: Some(additional.map(additional_schedule).collect()),
        automatically_add_new_fields: settings.automatically_add_new_fields.into(),
        automatically_add_new_objects: settings.automatically_add_new_objects.into(),
        concurrency_limit: settings
            .concurrency_limit
            .and_then(|limit| u32::try_from(limit).ok()),
        created_at: sync.created_at,
        created_by: Some(actor(&sync.created_by)),
        data_cutoff_timestamp: settings.data_cutoff_timestamp,
        default_schedule: schedules
            .iter()
            .find(|one| one.default)
            .map(default_schedule),
        destination_configuration: object(settings.destination_configuration),
        destination_connection_id: sync.destination_connection_id,
        disable_record_timestamps: settings.disable_record_timestamps,
        discover: None,
        id: sync.id,
        mode: sync.mode.into(),
        name: sync.name,
        normalize_names: settings.normalize_names.into(),
        organization_id: sync.organization_id,
        policies: settings
            .policies
            .iter()
            .filter_map(|id| Uuid::parse_str(id).ok())
            .collect(),
        resync_concurrency_limit: (settings.resync_concurrency_limit)
            .and_then(|limit| u32::try_from(limit).ok()),
        schedule: None,
        source_configuration: object(settings.source_configuration),
        source_connection_id: sync.source_connection_id,
        updated_at: sync.updated_at,
        updated_by: Some(actor(&sync.updated_by)),
    }
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(fields) => fields,
        _ => JsonObject::new(),
    }
}

/// Who made or changed something.
pub fn actor(author: &store::Author) -> Actor {
    Actor {
        id: (author.kind != store::ActorKind::System).then_some(author.id),
        name: Some(author.name.clone()),
        kind: author.kind.word().to_owned(),
    }
}

pub fn error_handling(stored: store::ErrorHandling) -> ErrorHandling {
    ErrorHandling {
        ingestion_failure_threshold: stored
            .ingestion_failure_threshold
            .and_then(|threshold| u32::try_from(threshold).ok()),
        subscribers: stored.subscribers,
    }
}
