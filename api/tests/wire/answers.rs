//! Bodies of answers, and their way back in requests.

use serde_json::json;
use tideway_api::{
    bulk::{
        schedules::wire::{Frequency, SaveSchedule, Schedule, ScheduleSyncMode},
        schemas::wire::{BulkSchema, PatchBulkSchemas, UpdateBulkSchema},
        syncs::wire::{BulkSync, SaveBulkSync},
    },
    connection_types::wire::ConnectionType,
    connections::wire::{Connection, UpdateConnection},
    events::wire::{BulkSyncRunning, EventPayload, EventType},
    wire::IdOr,
};
use uuid::uuid;

use crate::{ID, OTHER_ID, read, round_trips};

#[test]
fn an_answer_sent_back_whole_is_taken() {
    let actor = json!({"id": ID, "name": "Ada", "type": "user"});
    let connection = json!({
        "api_calls_last_24_hours": null, "configuration": {"password": "********"},
        "created_at": "2024-01-15T09:30:00Z", "created_by": actor, "id": ID, "name": "Shop",
        "organization_id": OTHER_ID, "parent_connection_id": null, "policies": [],
        "rate_limit": {"currently_limited": false, "expires_at": null, "limited_since": null},
        "saved": true, "status": "healthy", "status_error": null,
        "type": {"id": "postgresql", "logo_dark_url": null, "logo_url": null,
                 "name": "PostgreSQL", "operations": ["bulksyncsource"]},
        "updated_at": "2024-01-15T09:30:00Z", "updated_by": actor
    });
    round_trips::<Connection>(connection.clone());
    let update: UpdateConnection = read(&connection).unwrap();
    assert_eq!(update.kind.unwrap().type_id(), "postgresql");

    let schedule = json!({
        "created_at": "2024-01-15T09:30:00Z", "created_by": actor, "day_of_month": null,
        "day_of_week": null, "frequency": "daily", "hour": "6", "id": ID, "minute": "0",
        "month": null, "updated_at": "2024-01-15T09:30:00Z", "updated_by": actor
    });
    let mut additional = schedule.clone();
    additional["resync_mode"] = json!("normal");
    additional["schemas"] = json!(["public.orders"]);
    additional["selective_mode"] = json!("incrementalFields");
    let sync = json!({
        "active": true, "additional_schedules": [additional],
        "automatically_add_new_fields": "all", "automatically_add_new_objects": "none",
        "concurrency_limit": null, "created_at": "2024-01-15T09:30:00Z", "created_by": actor,
        "data_cutoff_timestamp": null, "default_schedule": schedule,
        "destination_configuration": {}, "destination_connection_id": ID,
        "disable_record_timestamps": false, "id": ID, "mode": "replicate", "name": "shop",
        "normalize_names": "enabled", "organization_id": OTHER_ID, "policies": [],
        "resync_concurrency_limit": null, "source_configuration": {},
        "source_connection_id": OTHER_ID, "updated_at": "2024-01-15T09:30:00Z",
        "updated_by": null
    });
    round_trips::<BulkSync>(sync.clone());
    let saved: SaveBulkSync = read(&sync).unwrap();
    assert_eq!(
        saved
            .schedule_fields()
            .read()
            .unwrap()
            .unwrap()
            .additional
            .len(),
        1
    );

    let older: BulkSync = read(&sync).unwrap();
    let older = serde_json::to_value(older.with_single_schedule()).unwrap();
    assert_eq!(older["schedule"]["frequency"], "multi");
    assert_eq!(older.get("default_schedule"), None);
    assert_eq!(older["discover"], false);
    let saved: SaveBulkSync = read(&older).unwrap();
    let requested = saved.schedule_fields().read().unwrap().unwrap();
    assert_eq!(requested.default.frequency, Frequency::Daily);
    assert_eq!(requested.additional.len(), 1);
}

#[test]
fn a_schema_and_a_schedule_sent_back_whole_are_taken() {
    let schema = json!({
        "data_cutoff_timestamp": null, "destination_history_output_name": "orders_history",
        "disable_data_cutoff": false, "enabled": true,
        "fields": [{"enabled": true, "id": "email", "obfuscated": true, "output_name": "email",
                    "user_output_name": ""}],
        "filters": [], "history_enabled": true, "id": "public.orders", "output_name": "orders",
        "partition_key": "", "tracking_field": "", "user_output_name": ""
    });
    round_trips::<BulkSchema>(schema.clone());
    read::<PatchBulkSchemas>(&json!({"schemas": [schema]})).unwrap();
    let update: UpdateBulkSchema = read(&schema).unwrap();
    let Some([IdOr::Object(field)]) = update.fields.as_deref() else {
        panic!("one field was sent");
    };
    assert_eq!(field.obfuscation(), Some(true));

    let schedule = json!({
        "createdAt": "2024-01-15T09:30:00Z", "createdBy": ID, "dayOfMonth": null,
        "dayOfWeek": null, "deletedAt": null, "deletedBy": null, "frequency": "daily",
        "hour": "6", "id": ID, "isDefault": false, "minute": "0", "month": null,
        "schemas": ["public.orders"], "selectiveMode": "none", "syncId": OTHER_ID,
        "syncMode": "refetch", "updatedAt": "2024-01-15T09:30:00Z", "updatedBy": null
    });
    round_trips::<Schedule>(schedule.clone());
    let saved: SaveSchedule = read(&json!({"schedule": schedule})).unwrap();
    assert_eq!(saved.schedule.sync_mode, Some(ScheduleSyncMode::Refetch));
}

#[test]
fn connection_types_keep_the_fields_and_order_of_the_reference() {
    let postgresql = json!({
        "capabilities": {"destination": true, "enrichment": false, "logging": false,
                         "orchestration": false, "source": true},
        "configurationForm": {"jsonschema": {"type": "object"}, "uischema": {}},
        "envConfig": {"PGSSLMODE": "require"},
        "id": "postgresql",
        "initialConfiguration": {"port": 5432},
        "logo_dark_url": null,
        "logo_url": null,
        "name": "PostgreSQL",
        "oauth_prompt": {"key": null, "value": null, "when": "never"},
        "use_oauth": false
    });
    let read: ConnectionType = read(&postgresql).unwrap();
    assert_eq!(
        serde_json::to_string(&read).unwrap(),
        postgresql.to_string()
    );
}

#[test]
fn events_carry_their_payload_plain() {
    let payload = EventPayload::BulkSyncRunning(BulkSyncRunning {
        destination_connection_id: uuid!("0b155265-c537-44c9-9359-a3ceb468a4da"),
        execution_id: uuid!("248df4b7-aa70-47b8-a036-33ac447e668d"),
        organization_id: uuid!("248df4b7-aa70-47b8-a036-33ac447e668d"),
        source_connection_id: uuid!("248df4b7-aa70-47b8-a036-33ac447e668d"),
        sync_id: uuid!("248df4b7-aa70-47b8-a036-33ac447e668d"),
        sync_name: "shop".to_owned(),
    });
    let written = serde_json::to_value(&payload).unwrap();
    assert_eq!(written["sync_name"], "shop");
    assert_eq!(
        serde_json::to_value(payload.kind()).unwrap(),
        "bulk_sync.running"
    );
    assert_eq!(EventType::ALL.len(), 10);
}
