use serde_json::{Value, json};

use crate::server::Server;

fn field<'a>(schema: &'a Value, id: &str) -> &'a Value {
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().find(|field| field["id"] == id).unwrap()
}

#[tokio::test]
async fn a_schema_is_shown_with_its_fields_on_both_paths() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let schema = server
        .get(&format!("/api/connections/{id}/schemas/orders"))
        .await
        .data();
    assert_eq!(schema["id"], "orders");
    assert_eq!(field(&schema, "id")["is_primary_key"], true);
    assert_eq!(field(&schema, "city")["type"], "string");
    let older = server
        .get(&format!("/api/bulk/source/{id}/schema/orders"))
        .await
        .data();
    assert_eq!(older, schema);
    server
        .get(&format!("/api/connections/{id}/schemas/nothing"))
        .await
        .refused(404);
}

#[tokio::test]
async fn records_are_sampled_on_both_paths() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let records = server
        .get(&format!("/api/connections/{id}/schemas/orders/records"))
        .await
        .data();
    assert_eq!(records.as_array().unwrap().len(), 3);
    assert_eq!(records[0]["city"], "Lisbon");
    let older = server
        .get(&format!("/api/connections/{id}/orders/records"))
        .await
        .data();
    assert_eq!(older, records);
    server
        .get(&format!("/api/connections/{id}/schemas/nothing/records"))
        .await
        .refused(404);
}

#[tokio::test]
async fn a_refresh_finds_new_tables_and_says_where_its_status_is() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let shop = rusqlite::Connection::open(server.path_of("shop.db")).unwrap();
    shop.execute_batch("CREATE TABLE items (id INTEGER PRIMARY KEY)")
        .unwrap();
    server
        .get(&format!("/api/connections/{id}/schemas/items"))
        .await
        .refused(404);

    let path = format!("/api/connections/{id}/schemas/refresh");
    let started = server.send("POST", &path, None).await;
    assert_eq!(started.status, 200);
    let status = format!("/api/connections/{id}/schemas/status");
    assert_eq!(started.headers["location"], status.as_str());
    server.inspected(&id).await;
    server
        .get(&format!("/api/connections/{id}/schemas/items"))
        .await
        .data();
    server
        .get(&format!("/api/bulk/source/{id}/status"))
        .await
        .data();
}

#[tokio::test]
async fn a_connection_that_is_not_healthy_is_not_refreshed() {
    let server = Server::start().await;
    let configuration = json!({"path": "/no/such/folder/x.db"});
    let request = json!({"name": "Shop", "type": "sqlite", "configuration": configuration, "validate": false});
    let saved = server.post("/api/connections", request).await.data();
    let path = format!(
        "/api/connections/{}/schemas/refresh",
        saved["id"].as_str().unwrap()
    );
    server.send("POST", &path, None).await.refused(400);
}

#[tokio::test]
async fn the_primary_key_can_be_overridden_and_taken_back() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let schema = format!("/api/connections/{id}/schemas/orders");
    let path = format!("{schema}/primary_keys");
    let request = json!({"fields": [
        {"field_id": "id", "is_primary_key": false}, {"field_id": "city", "is_primary_key": true}
    ]});
    let done = server.send("PUT", &path, Some(request)).await;
    assert_eq!((done.status.as_u16(), done.body), (200, Value::Null));
    let shown = server.get(&schema).await.data();
    assert_eq!(field(&shown, "id")["is_primary_key"], false);
    assert_eq!(field(&shown, "id")["source_primary_key"], true);
    assert_eq!(field(&shown, "city")["primary_key_override"], true);
    assert!(field(&shown, "total").get("primary_key_override").is_none());

    let unknown = json!({"fields": [{"field_id": "colour", "is_primary_key": true}]});
    let body = server.send("PUT", &path, Some(unknown)).await.refused(400);
    assert_eq!(body["metadata"]["field"], "fields[0].field_id");

    for _ in 0..2 {
        assert_eq!(server.send("DELETE", &path, None).await.status, 200);
    }
    assert_eq!(
        field(&server.get(&schema).await.data(), "id")["is_primary_key"],
        true
    );
}

#[tokio::test]
async fn users_define_override_and_delete_fields() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let schema = format!("/api/connections/{id}/schemas/orders");
    let path = format!("{schema}/fields");
    let town = json!({"field_id": "town", "label": "Town", "type": "string", "path": "$.city"});
    assert_eq!(
        server.post(&path, json!({"fields": [town]})).await.status,
        200
    );
    let shown = server.get(&schema).await.data();
    assert_eq!(field(&shown, "town")["path"], "$.city");
    assert_eq!(field(&shown, "town")["user_managed"], true);
    let records = server.get(&format!("{schema}/records")).await.data();
    assert_eq!(records[1]["town"], "Oslo");

    let both = json!({"fields": [
        {"field_id": "a", "label": "A", "type": "string"},
        {"field_id": "b", "label": "B", "type": "string", "path": "$..b"}
    ]});
    let body = server.post(&path, both).await.refused(400);
    assert_eq!(body["metadata"]["field"], "fields[1].path");
    let shown = server.get(&schema).await.data();
    assert!(!shown.to_string().contains("\"a\""), "all or none: {shown}");

    let patch = json!({"label": "Where", "type": "object"});
    let patched = server
        .send("PATCH", &format!("{path}/city"), Some(patch))
        .await
        .data();
    assert_eq!(patched["name"], "Where");
    assert_eq!(patched["type"], "object");
    assert_eq!(patched["type_spec"], Value::Null);
    assert_eq!(patched["user_managed"], true);
    server
        .send("PATCH", &format!("{path}/colour"), Some(json!({})))
        .await
        .refused(404);

    for field_id in ["town", "city"] {
        assert_eq!(
            server
                .send("DELETE", &format!("{path}/{field_id}"), None)
                .await
                .status,
            200
        );
    }
    server
        .send("DELETE", &format!("{path}/city"), None)
        .await
        .refused(400);
    server
        .send("DELETE", &format!("{path}/town"), None)
        .await
        .refused(404);
    assert_eq!(
        field(&server.get(&schema).await.data(), "city")["name"],
        "city"
    );
}

#[tokio::test]
async fn an_id_with_a_slash_is_found_encoded_or_not() {
    let server = Server::start().await;
    let id = server.connect_shop().await;
    let shop = rusqlite::Connection::open(server.path_of("shop.db")).unwrap();
    shop.execute_batch(r#"CREATE TABLE "raw/orders" (id INTEGER PRIMARY KEY)"#)
        .unwrap();
    let refresh = format!("/api/connections/{id}/schemas/refresh");
    server.send("POST", &refresh, None).await;
    server.inspected(&id).await;
    for spelling in ["raw/orders", "raw%2Forders"] {
        let path = format!("/api/connections/{id}/schemas/{spelling}");
        assert_eq!(server.get(&path).await.data()["id"], "raw/orders");
        let records = server.get(&format!("{path}/records")).await.data();
        assert_eq!(records, json!([]));
    }
}
