//! The three ways to write the schedules of a sync.

use serde_json::{Value, json};
use tideway_api::bulk::{
    schedules::{
        spellings::RequestedSchedules,
        wire::{Frequency, SelectiveMode, SingleSchedule},
    },
    syncs::wire::SaveBulkSync,
};

use crate::{bulk_sync, read};

#[track_caller]
fn schedules_of(fields: Value) -> RequestedSchedules {
    let sync: SaveBulkSync = read(&bulk_sync(fields)).unwrap();
    sync.schedule_fields().read().unwrap().unwrap()
}

#[test]
fn three_spellings_of_schedules_read_the_same() {
    let hourly = json!({"frequency": "hourly", "minute": "15"});
    let current = schedules_of(json!({"default_schedule": hourly}));
    assert_eq!(current.default.minute.as_deref(), Some("15"));
    assert_eq!(schedules_of(json!({"schedule": hourly})), current);
    assert_eq!(schedules_of(json!({"schedules": [hourly]})), current);

    let item = json!({"frequency": "continuous", "selective_mode": "incrementalFields"});
    let list = schedules_of(json!({"schedules": [item]}));
    assert_eq!(list.default.frequency, Frequency::Manual);
    let multi = schedules_of(
        json!({"schedule": {"frequency": "multi", "multi": {"schedules": [
            {"item": "incrementalFields", "schedule": {"frequency": "continuous"}}
        ]}}}),
    );
    assert_eq!(multi, list);
    assert_eq!(
        multi.additional[0].selective_mode,
        Some(SelectiveMode::IncrementalFields)
    );

    let none: SaveBulkSync = read(&bulk_sync(json!({}))).unwrap();
    assert_eq!(none.schedule_fields().read(), Ok(None));
}

#[test]
fn mixed_spellings_of_schedules_are_refused() {
    let hourly = json!({"frequency": "hourly"});
    let multi = SingleSchedule::new(Frequency::Multi);
    for (fields, at_fault) in [
        (
            json!({"default_schedule": hourly, "schedule": hourly}),
            "schedule",
        ),
        (
            json!({"default_schedule": hourly, "schedules": [hourly]}),
            "schedules",
        ),
        (
            json!({"schedule": hourly, "schedules": [hourly]}),
            "schedule",
        ),
        (
            json!({"additional_schedules": [hourly]}),
            "additional_schedules",
        ),
        (
            json!({"default_schedule": {"frequency": "multi"}}),
            "frequency",
        ),
        (json!({"schedule": multi}), "schedule.multi.schedules"),
    ] {
        let sync: SaveBulkSync = read(&bulk_sync(fields)).unwrap();
        assert_eq!(sync.schedule_fields().read().unwrap_err().field, at_fault);
    }
}
