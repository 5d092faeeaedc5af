//! Bodies and query strings of requests.

use axum::{extract::Query, http::Uri};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tideway_api::{
    bulk::{
        executions::wire::{OverviewQuery, StartExecution},
        schedules::wire::SaveSchedule,
        schemas::wire::{BulkSchemaListQuery, PatchBulkSchemas, UpdateBulkSchema},
        syncs::wire::{
            ActivateBulkSync, Discover, PatchBulkSync, SaveBulkSync, UpdateErrorHandling,
        },
    },
    connection_types::wire::ParameterValuesRequest,
    connections::wire::{CreateConnection, PatchConnection, TestConnection, UpdateConnection},
    events::wire::{EventListQuery, EventType},
    schemas::wire::{PatchField, SetPrimaryKeys, UpsertFields},
    wire::IdOr,
};

use crate::{ID, OTHER_ID, bulk_sync, read, round_trips};

#[track_caller]
fn refuses<T: DeserializeOwned>(body: Value, parts: &[&str]) {
    let Err(error) = read::<T>(&body) else {
        panic!("{body} was taken");
    };
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in `{error}`");
    }
}

fn query<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let uri: Uri = format!("http://localhost/?{text}").parse().unwrap();
    Query::try_from_uri(&uri)
        .map(|Query(query)| query)
        .map_err(|error| error.body_text())
}

#[test]
fn requests_about_connections_round_trip() {
    round_trips::<ParameterValuesRequest>(json!({
        "field": "database", "connection_id": ID, "parameters": {"hostname": "db"}, "query": "sh"
    }));
    round_trips::<CreateConnection>(json!({
        "name": "Shop", "type": "postgresql", "configuration": {"host": "db", "port": 5432},
        "healthcheck_interval": "15m", "organization_id": ID, "policies": [OTHER_ID],
        "redirect_url": "https://example.com/done", "validate": false
    }));
    round_trips::<UpdateConnection>(json!({
        "name": "Shop", "configuration": {"host": "db"}, "healthcheck_interval": "15m",
        "organization_id": ID, "policies": [], "reconnect": true, "type": "postgresql",
        "validate": true
    }));
    round_trips::<PatchConnection>(json!({}));
    round_trips::<PatchConnection>(json!({
        "name": "Shop", "configuration": {"port": 5433}, "organization_id": ID, "policies": [],
        "reconnect": false, "type": "postgresql", "validate": true
    }));
    round_trips::<TestConnection>(json!({
        "type": "postgresql", "configuration": {"password": "new"}, "connection_id": ID
    }));
    round_trips::<UpsertFields>(json!({"fields": [
        {"field_id": "total", "label": "Total", "type": "number", "definition": ["decimal", 10, 2],
         "example": 9.5, "path": "$.total"},
        {"field_id": "note", "label": "Note", "type": "string", "definition": "string"}
    ]}));
    round_trips::<PatchField>(json!({"type": "datetime", "definition": "datetime_tz"}));
    round_trips::<PatchField>(json!({"label": "Total", "example": null, "path": ""}));
    round_trips::<SetPrimaryKeys>(json!({"fields": [{"field_id": "id", "is_primary_key": true}]}));
}

#[test]
fn requests_about_bulk_syncs_round_trip() {
    round_trips::<SaveBulkSync>(bulk_sync(json!({
        "source_configuration": {"replication_slot": "shop"},
        "mode": "replicate",
        "active": true,
        "default_schedule": {"frequency": "daily", "minute": "0", "hour": "6"},
        "additional_schedules": [{
            "frequency": "weekly", "minute": "0", "hour": "3", "day_of_week": "sunday",
            "resync_mode": "refetch", "schemas": ["public.orders"], "selective_mode": "none"
        }],
        "schemas": ["public.customers", {
            "id": "public.orders",
            "data_cutoff_timestamp": "2024-01-01T00:00:00Z",
            "disable_data_cutoff": false,
            "enabled": true,
            "fields": ["id", {"id": "email", "enabled": true, "obfuscate": true,
                              "user_output_name": "mail"}],
            "filters": [{"field_id": "total", "function": "GreaterThan", "value": 10}],
            "history_enabled": true,
            "partition_key": "created_at",
            "tracking_field": "updated_at",
            "user_output_name": "orders"
        }],
        "automatically_add_new_objects": "onlyIncremental",
        "automatically_add_new_fields": "none",
        "normalize_names": "legacy",
        "data_cutoff_timestamp": "2023-01-01T00:00:00Z",
        "disable_record_timestamps": true,
        "concurrency_limit": 4,
        "resync_concurrency_limit": 2,
        "policies": [OTHER_ID],
        "organization_id": ID
    })));
    round_trips::<PatchBulkSync>(json!({
        "active": false, "discover": true, "mode": "snapshot", "name": "shop",
        "schedule": {"frequency": "hourly", "minute": "15"}
    }));
    round_trips::<ActivateBulkSync>(json!({"active": true}));
    round_trips::<StartExecution>(json!({}));
    round_trips::<StartExecution>(json!({
        "fetch_mode": "incremental", "resync_mode": "rebuild", "schemas": ["public.orders"],
        "test": false, "resync": true
    }));
    round_trips::<PatchBulkSchemas>(json!({"schemas": [{
        "id": "public.orders", "data_cutoff_timestamp": null, "partition_key": null,
        "fields": [{"id": "email", "obfuscated": true}]
    }]}));
    round_trips::<UpdateBulkSchema>(json!({
        "enabled": true, "fields": [{"id": "email", "enabled": false, "obfuscated": true}],
        "data_cutoff_timestamp": "2024-01-01T00:00:00Z", "disable_data_cutoff": true,
        "filters": [{"field_id": "name", "function": "IsNotNull"}], "history_enabled": false,
        "partition_key": "day", "tracking_field": "updated_at", "user_output_name": "orders"
    }));
    round_trips::<SaveSchedule>(json!({"schedule": {
        "frequency": "custom", "minute": "*/10", "hour": "*", "dayOfWeek": "1-5",
        "dayOfMonth": "*", "month": "*", "selectiveMode": "nonincrementalFields"
    }}));
    round_trips::<SaveSchedule>(json!({"schedule": {
        "frequency": "runafter", "runAfterSuccessOnly": true,
        "runAfter": {"bulk_sync_ids": [ID], "sync_ids": []}
    }}));
    round_trips::<UpdateErrorHandling>(json!({
        "ingestion_failure_threshold": 0, "subscribers": ["ops@example.com"]
    }));
}

#[test]
fn nulls_in_requests_mean_left_out() {
    let sync: SaveBulkSync = read(&bulk_sync(json!({
        "mode": null, "active": null, "default_schedule": {"frequency": "manual", "minute": null},
        "additional_schedules": null, "schemas": null, "data_cutoff_timestamp": null,
        "policies": null, "automatically_add_new_fields": null, "concurrency_limit": null
    })))
    .unwrap();
    assert_eq!(sync.mode, None);
    assert_eq!(sync.discover_fields(), Discover::All);
    assert_eq!(sync.discover_objects(), Discover::None);
}

#[test]
fn null_clears_and_absence_keeps_in_partial_updates() {
    let patch: PatchBulkSchemas = read(&json!({"schemas": [
        {"id": "a", "tracking_field": null}, {"id": "b"}, "c"
    ]}))
    .unwrap();
    let fields: Vec<_> = patch
        .schemas
        .unwrap()
        .into_iter()
        .map(|schema| match schema {
            IdOr::Object(schema) => (schema.id, schema.tracking_field),
            IdOr::Id(id) => (id, None),
        })
        .collect();
    let expected = [("a", Some(None)), ("b", None), ("c", None)];
    assert_eq!(fields, expected.map(|(id, field)| (id.to_owned(), field)));
}

#[test]
fn errors_name_the_field_and_what_would_be_right() {
    refuses::<CreateConnection>(
        json!({"name": "Shop", "type": "postgresql", "configuration": {}, "passwrod": 1}),
        &["unknown field `passwrod`", "`redirect_url`"],
    );
    refuses::<CreateConnection>(json!({"type": "csv"}), &["missing field `name`"]);
    refuses::<SaveBulkSync>(
        bulk_sync(json!({"mode": "mirror"})),
        &[
            "mode",
            "unknown variant `mirror`",
            "`snapshot`, `replicate`, `append`",
        ],
    );
    refuses::<SaveBulkSync>(
        bulk_sync(json!({"schemas": [{"id": "a", "fields": [{"id": "b", "hash": true}]}]})),
        &[
            "schemas[0].fields[0]",
            "unknown field `hash`",
            "`obfuscate`",
        ],
    );
    refuses::<SaveBulkSync>(
        bulk_sync(json!({"schemas": [7]})),
        &["schemas[0]", "expected an id (string) or an object"],
    );
    refuses::<SaveBulkSync>(
        bulk_sync(json!({"data_cutoff_timestamp": "2024-01-01"})),
        &["data_cutoff_timestamp", "2024-01-01", "RFC 3339"],
    );
    refuses::<SaveBulkSync>(
        bulk_sync(json!({"source_connection_id": "shop"})),
        &["source_connection_id", "UUID"],
    );
    refuses::<SaveBulkSync>(
        bulk_sync(json!({"automatically_add_new_fields": "some"})),
        &[
            "automatically_add_new_fields",
            "unknown variant `some`",
            "`onlyIncremental`",
        ],
    );
    refuses::<SaveSchedule>(
        json!({"schedule": {"frequency": "daily", "minute": 5}}),
        &["schedule.minute", "expected a string"],
    );
    refuses::<PatchField>(
        json!({"definition": "money"}),
        &["definition", "unknown variant `money`", "`bigint`"],
    );
    refuses::<StartExecution>(json!({"test": "yes"}), &["test", "expected a boolean"]);
}

#[test]
fn older_ways_to_ask_for_discovery_are_understood() {
    let sync: SaveBulkSync = read(&bulk_sync(json!({"discover": true}))).unwrap();
    assert_eq!(sync.discover_objects(), Discover::All);
    let body = bulk_sync(json!({"automatically_add_new_objects": true, "discover": false}));
    let sync: SaveBulkSync = read(&body).unwrap();
    assert_eq!(sync.discover_objects(), Discover::All);
    assert_eq!(sync.discover_fields(), Discover::None);
}

#[test]
fn query_strings_are_read() {
    let overview: OverviewQuery =
        query(&format!("sync_id={ID}&active=true&sync_id={OTHER_ID}&x=1")).unwrap();
    assert!(overview.active && !overview.all);
    assert_eq!(overview.sync_id.len(), 2);
    let error = query::<OverviewQuery>("all=yes").unwrap_err();
    assert!(error.contains("`all` is true or false"), "{error}");

    let schemas: BulkSchemaListQuery = query("filters%5Benabled%5D=false").unwrap();
    assert_eq!(schemas.enabled, Some(false));

    let events: EventListQuery =
        query("type=bulk_sync.failed&starting_after=2024-01-01T00:00:00%2B02:00&limit=7").unwrap();
    assert_eq!(events.kind, Some(EventType::BulkSyncFailed));
    assert_eq!(
        events.starting_after.unwrap().to_rfc3339(),
        "2023-12-31T22:00:00+00:00"
    );
    let error = query::<EventListQuery>("type=fire").unwrap_err();
    assert!(error.contains("bulk_sync.completed_with_error"), "{error}");
}
