use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_source_lists_its_schemas_with_fields_only_where_asked() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let path = format!("/api/connections/{id}/bulksync/source");
    let source = server.get(&path).await.data();
    assert_eq!(
        source["schemas"],
        json!([{"id": "orders", "name": "orders", "fields": null}])
    );
    assert_eq!(
        source["capabilities"],
        json!({"supports_namespaces": false, "supports_tracking_fields": true})
    );
    assert!(source["configuration"].is_object());

    let whole = server
        .get(&format!("{path}?include_fields=true"))
        .await
        .data();
    assert_eq!(whole["schemas"][0]["fields"].as_array().unwrap().len(), 3);
    let older = format!("/api/bulk/source/{id}?include_fields=true&refresh_schemas=true");
    assert_eq!(server.get(&older).await.data(), whole);
}

#[tokio::test]
async fn a_destination_tells_its_modes_on_both_paths() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let target = server
        .get(&format!("/api/connections/{id}/bulksync/target"))
        .await
        .data();
    let modes: Vec<&Value> = target["modes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert_eq!(modes, ["replicate", "snapshot", "append"]);
    assert_eq!(
        target["supported_resync_modes"],
        json!(["refetch", "resync", "rebuild"])
    );
    assert_eq!(target["supports_history_mode"], true);
    assert!(target["configuration"]["properties"].is_object());
    assert_eq!(
        server.get(&format!("/api/bulk/dest/{id}")).await.data(),
        target
    );
}
