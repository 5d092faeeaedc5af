use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_connection_is_checked_saved_and_listed() {
    let server = Server::start().await;
    let shop = server.shop();
    let request = json!({"name": "Shop", "type": "sqlite", "configuration": {"path": shop}});
    let saved = server.post("/api/connections", request).await.data();
    assert_eq!(saved["status"], "healthy");
    assert_eq!(saved["saved"], true);
    assert_eq!(saved["configuration"], json!({"path": shop}));
    assert_eq!(saved["type"]["id"], "sqlite");

    let path = format!("/api/connections/{}", saved["id"].as_str().unwrap());
    let shown = server.get(&path).await.data();
    assert_eq!(shown["name"], "Shop");
    assert_eq!(shown["created_by"]["type"], "user");
    assert_eq!(shown["rate_limit"]["currently_limited"], false);
    // Calls are counted meanwhile: the tables are looked up once it is saved.
    let listed = server.get("/api/connections").await.data();
    let without_calls = |connection: &Value| {
        let mut connection = connection.clone();
        connection["api_calls_last_24_hours"].take();
        connection
    };
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(without_calls(&listed[0]), without_calls(&shown));
}

#[tokio::test]
async fn what_cannot_be_reached_is_not_saved_and_tells_what_was_tried() {
    let server = Server::start().await;
    let configuration = json!({"path": server.path_of("no/such/folder/shop.db")});
    let request = json!({"name": "Shop", "type": "sqlite", "configuration": configuration});
    let body = server
        .post("/api/connections", request.clone())
        .await
        .refused(400);
    let probes = body["metadata"]["probes"].as_array().unwrap();
    assert!(
        probes.iter().any(|probe| probe["passed"] == false),
        "{body}"
    );
    assert_eq!(server.get("/api/connections").await.data(), json!([]));

    let mut unchecked = request;
    unchecked["validate"] = false.into();
    let saved = server.post("/api/connections", unchecked).await.data();
    assert_eq!(saved["status"], "unknown");
}

#[tokio::test]
async fn settings_that_do_not_fit_the_form_are_named() {
    let server = Server::start().await;
    let request =
        json!({"name": "Shop", "type": "sqlite", "configuration": {"path": 5, "colour": "red"}});
    let body = server.post("/api/connections", request).await.refused(422);
    let fields = body["metadata"]["fields"].as_object().unwrap();
    assert!(
        fields.contains_key("path") && fields.contains_key("colour"),
        "{body}"
    );

    let request = json!({"name": "Shop", "type": "abacus", "configuration": {}});
    let body = server.post("/api/connections", request).await.refused(422);
    assert_eq!(body["metadata"]["field"], "type");

    let request = json!({"name": " ", "type": "sqlite", "configuration": {"path": "x"}});
    let body = server.post("/api/connections", request).await.refused(422);
    assert_eq!(body["metadata"]["field"], "name");
}

#[tokio::test]
async fn secrets_are_never_read_back_and_survive_being_written_back() {
    let server = Server::start().await;
    let configuration = json!({
        "hostname": "db.invalid", "port": 5432, "database": "shop", "username": "u",
        "password": "s3cret-word"
    });
    let request = json!({
        "name": "Shop", "type": "postgresql", "configuration": configuration, "validate": false
    });
    let saved = server.post("/api/connections", request).await.data();
    assert_eq!(saved["configuration"]["password"], "********");
    assert_eq!(saved["configuration"]["hostname"], "db.invalid");

    let path = format!("/api/connections/{}", saved["id"].as_str().unwrap());
    let mut whole = server.get(&path).await.data();
    assert!(!whole.to_string().contains("s3cret-word"));
    whole["name"] = "Store".into();
    whole["validate"] = false.into();
    let updated = server.send("PUT", &path, Some(whole)).await.data();
    assert_eq!(updated["name"], "Store");

    let organization = saved["organization_id"].as_str().unwrap().parse().unwrap();
    let id = saved["id"].as_str().unwrap().parse().unwrap();
    let stored = server
        .store
        .connections()
        .get(organization, id)
        .await
        .unwrap();
    assert_eq!(stored.configuration.expose()["password"], "s3cret-word");
}

#[tokio::test]
async fn an_update_replaces_and_a_patch_merges() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let path = format!("/api/connections/{id}");
    let shop = server.path_of("shop.db");

    let patched = server
        .send("PATCH", &path, Some(json!({"name": "Store"})))
        .await
        .data();
    assert_eq!(patched["name"], "Store");
    assert_eq!(patched["configuration"], json!({"path": shop}));
    assert_eq!(patched["status"], "healthy");

    let empty = json!({"name": "Store", "configuration": {}});
    server.send("PUT", &path, Some(empty)).await.refused(422);
    let other = json!({"name": "Store", "configuration": {"path": shop}, "type": "postgresql"});
    let body = server.send("PUT", &path, Some(other)).await.refused(422);
    assert_eq!(body["metadata"]["field"], "type");

    let broken = json!({"name": "Store", "configuration": {"path": "/no/such/folder/x.db"}});
    server.send("PUT", &path, Some(broken)).await.refused(400);
    assert_eq!(
        server.get(&path).await.data()["configuration"],
        json!({"path": shop})
    );
}

#[tokio::test]
async fn a_test_saves_nothing_and_builds_upon_what_is_stored() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let path = "/api/connections/test";
    let stored = json!({"type": "sqlite", "configuration": {}, "connection_id": id});
    let passed = server.post(path, stored).await;
    assert_eq!((passed.status.as_u16(), passed.body), (200, Value::Null));
    let alone = json!({"type": "sqlite", "configuration": {}});
    server.post(path, alone).await.refused(422);
    let broken = json!({"type": "sqlite", "configuration": {"path": "/no/such/folder/x.db"}});
    server.post(path, broken).await.refused(400);
    let unknown = json!({"type": "abacus", "configuration": {}});
    server.post(path, unknown).await.refused(404);
    let absent =
        json!({"type": "sqlite", "configuration": {}, "connection_id": uuid::Uuid::now_v7()});
    server.post(path, absent).await.refused(404);
    assert_eq!(
        server
            .get("/api/connections")
            .await
            .data()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_connection_that_is_used_is_deleted_only_by_force() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let shown = server.get(&format!("/api/connections/{id}")).await.data();
    let organization = shown["organization_id"].as_str().unwrap().parse().unwrap();
    let connection = id.parse().unwrap();
    let draft = tideway_store::SyncDraft {
        name: "Nightly".into(),
        source_connection_id: connection,
        destination_connection_id: connection,
        mode: tideway_core::WriteMode::Snapshot,
        active: true,
        settings: tideway_store::SyncSettings::default(),
    };
    let author = tideway_store::Author::system();
    server
        .store
        .bulk_syncs()
        .create(organization, &author, &draft, &[], &[])
        .await
        .unwrap();

    let path = format!("/api/connections/{id}");
    let body = server.send("DELETE", &path, None).await.refused(422);
    assert_eq!(body["metadata"]["used_by"][0]["name"], "Nightly");
    let forced = server
        .send("DELETE", &format!("{path}?force=true"), None)
        .await;
    assert_eq!(forced.status, 200);
    server.get(&path).await.refused(404);
    server.send("DELETE", &path, None).await.refused(404);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start().await;
    for id in ["no-uuid".to_owned(), uuid::Uuid::now_v7().to_string()] {
        for path in [
            "",
            "/parameter_values",
            "/usage",
            "/schemas/status",
            "/schemas/orders",
            "/bulksync/source",
            "/bulksync/target",
        ] {
            server
                .get(&format!("/api/connections/{id}{path}"))
                .await
                .refused(404);
        }
    }
}

#[tokio::test]
async fn usage_counts_calls() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let usage = server
        .get(&format!("/api/connections/{id}/usage"))
        .await
        .data();
    assert_eq!(usage["connectionId"], id.as_str());
    assert!(usage["callsLast24h"].is_number());
    assert_eq!(usage["bySync"], json!([]));
}

#[tokio::test]
async fn older_paths_of_model_syncs_are_known_but_not_built() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    server
        .get(&format!("/api/connections/{id}/source"))
        .await
        .refused(501);
    server
        .post(&format!("/api/connections/{id}/target/fields"), json!({}))
        .await
        .refused(501);
    server
        .post("/api/connections/connect", json!({}))
        .await
        .refused(501);
}
