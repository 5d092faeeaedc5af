use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn types_are_listed_with_the_members_of_the_published_example() {
    let types = Server::start()
        .await
        .get("/api/connection_types")
        .await
        .data();
    let sqlite = types
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["id"] == "sqlite")
        .unwrap();
    assert_eq!(
        sqlite["capabilities"],
        json!({"destination": true, "enrichment": false, "logging": false, "orchestration": false, "source": true})
    );
    assert_eq!(sqlite["configurationForm"]["jsonschema"]["type"], "object");
    assert!(sqlite["configurationForm"]["uischema"].is_object());
    assert!(sqlite["envConfig"].is_object());
    assert!(sqlite["initialConfiguration"].is_object());
    assert_eq!(
        sqlite["oauth_prompt"],
        json!({"key": null, "value": null, "when": "never"})
    );
    assert_eq!(sqlite["use_oauth"], false);
    assert_eq!(sqlite["logo_url"], "http://tideway.test/logos/sqlite.svg");
}

#[tokio::test]
async fn the_form_of_a_type_comes_without_an_envelope() {
    let server = Server::start().await;
    let form = server.get("/api/connection_types/sqlite").await;
    assert_eq!(form.status, 200);
    assert_eq!(form.body["properties"]["path"]["type"], "string");
    server
        .get("/api/connection_types/abacus")
        .await
        .refused(404);
}

#[tokio::test]
async fn a_field_without_a_list_of_values_is_refused() {
    let server = Server::start().await;
    let path = "/api/connection_types/sqlite/parameter_values";
    let body = server
        .post(path, json!({"field": "path"}))
        .await
        .refused(400);
    assert_eq!(body["metadata"]["field"], "path");
    let path = "/api/connection_types/abacus/parameter_values";
    server
        .post(path, json!({"field": "path"}))
        .await
        .refused(404);
}
