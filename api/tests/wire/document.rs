//! The schemas of the OpenAPI document.

use serde_json::json;
use tideway_api::{
    bulk::{
        executions::wire::StartExecution,
        schedules::wire::SaveSchedule,
        schemas::wire::{PatchBulkSchemas, UpdateBulkSchema},
        syncs::wire::{BulkSync, SaveBulkSync},
    },
    connection_types::wire::ConnectionType,
    connections::wire::{Connection, CreateConnection, UpdateConnection},
    envelope::{ApiError, Data, Page},
    events::wire::Event,
    schemas::wire::{PatchField, Schema, SetPrimaryKeys, UpsertFields},
};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(components(schemas(
    ApiError,
    ConnectionType,
    CreateConnection,
    Data<BulkSync>,
    Data<Connection>,
    Data<Vec<Schema>>,
    Page<Event>,
    PatchBulkSchemas,
    PatchField,
    SaveBulkSync,
    SaveSchedule,
    SetPrimaryKeys,
    StartExecution,
    UpdateBulkSchema,
    UpdateConnection,
    UpsertFields,
)))]
struct Components;

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = serde_json::to_value(Components::openapi()).unwrap();
    let text = document.to_string();
    let references: Vec<_> = text
        .split("\"#/components/schemas/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(
        references.len() > 50,
        "only {} references",
        references.len()
    );
    let schemas = &document["components"]["schemas"];
    for name in references {
        assert!(schemas.get(name).is_some(), "{name} is not described");
    }
}

#[test]
fn the_document_shows_what_is_free_closed_and_read_only() {
    let document = serde_json::to_value(Components::openapi()).unwrap();
    let schemas = &document["components"]["schemas"];
    let save = &schemas["SaveBulkSync"];
    assert_eq!(save["additionalProperties"], false);
    assert_eq!(save["properties"]["created_by"], json!({"readOnly": true}));
    assert_eq!(
        save["properties"]["destination_configuration"]["type"],
        "object"
    );
    let selection = &save["properties"]["schemas"]["items"]["$ref"];
    let name = selection.as_str().unwrap().rsplit('/').next().unwrap();
    let ways = schemas[name]["oneOf"].as_array().unwrap();
    assert_eq!(ways[0]["type"], "string");
    assert!(schemas["EventPayload"]["anyOf"].is_array());
}
