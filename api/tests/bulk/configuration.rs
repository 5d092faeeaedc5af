use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn what_does_not_fit_is_refused_by_name() {
    let server = Server::start(0).await;
    let nil = uuid::Uuid::nil();
    let cases = [
        (json!({"name": "  "}), 422, "name"),
        (
            json!({"source_connection_id": nil}),
            422,
            "source_connection_id",
        ),
        (
            json!({"destination_connection_id": nil}),
            422,
            "destination_connection_id",
        ),
        (
            json!({"destination_configuration": {"x": 1}}),
            422,
            "destination_configuration.x",
        ),
        (
            json!({"source_configuration": {"x": 1}}),
            422,
            "source_configuration.x",
        ),
        (json!({"schemas": ["ghosts"]}), 422, "schemas"),
        (
            json!({"schemas": [{"id": "users", "fields": ["x"]}]}),
            422,
            "fields",
        ),
        (
            json!({"schemas": [{"id": "users", "tracking_field": "x"}]}),
            422,
            "tracking_field",
        ),
        (
            json!({"mode": "snapshot", "schemas": [{"id": "users", "history_enabled": true}]}),
            422,
            "history_enabled",
        ),
        (json!({"default_schedule": null}), 422, "default_schedule"),
        (
            json!({"default_schedule": {"frequency": "daily", "hour": "25"}}),
            422,
            "default_schedule",
        ),
        (
            json!({"default_schedule": {"frequency": "dbtcloud"}}),
            422,
            "default_schedule.frequency",
        ),
        (
            json!({"additional_schedules": [{"frequency": "hourly", "schemas": ["ghosts"]}]}),
            422,
            "additional_schedules.0.schemas",
        ),
        (json!({"mode": "teleport"}), 400, "mode"),
        (json!({"colour": "red"}), 400, "colour"),
    ];
    for (more, status, field) in cases {
        let refused = server
            .send("POST", "/api/bulk/syncs", Some(server.sync(more)))
            .await;
        assert_eq!(refused.status, status, "{}", refused.text);
        assert_eq!(refused.body["metadata"]["field"], field, "{}", refused.text);
    }
    let other = server.sync(json!({"organization_id": nil}));
    assert_eq!(
        server
            .send("POST", "/api/bulk/syncs", Some(other))
            .await
            .status,
        403
    );
    assert_eq!(server.get("/api/bulk/syncs").await, json!([]));
}

#[tokio::test]
async fn a_sync_that_was_read_can_be_sent_back() {
    let server = Server::start(0).await;
    let sync = server
        .create(json!({
            "mode": "append",
            "default_schedule": {"frequency": "daily", "hour": "6"},
            "additional_schedules": [{"frequency": "weekly", "day_of_week": "1", "schemas": ["users"]}],
            "automatically_add_new_objects": "all",
            "data_cutoff_timestamp": "2025-01-01T00:00:00Z",
            "concurrency_limit": 2,
            "destination_configuration": {"advanced": {"table_prefix": "p_"}},
        }))
        .await;
    let mut before = server.get(&sync).await;
    assert_eq!(before["default_schedule"]["hour"], "6");
    let mut after = Server::data(server.send("PUT", &sync, Some(before.clone())).await);
    let same = |body: &mut Value| {
        body["updated_at"] = Value::Null;
        body["default_schedule"]["updated_at"] = Value::Null;
        body["additional_schedules"][0]["updated_at"] = Value::Null;
    };
    same(&mut before);
    same(&mut after);
    assert_eq!(before, after);

    let plain = server.sync(json!({"name": "renamed"}));
    let after = Server::data(server.send("PUT", &sync, Some(plain)).await);
    assert_eq!(after["name"], "renamed");
    assert_eq!(after["mode"], "replicate");
    assert_eq!(after["additional_schedules"], json!([]));
    assert_eq!(
        after["default_schedule"]["id"],
        before["default_schedule"]["id"]
    );
    assert!(after["concurrency_limit"].is_null());

    let patched = server
        .send("PATCH", &sync, Some(json!({"mode": "snapshot"})))
        .await;
    let patched = Server::data(patched);
    assert_eq!(
        (&patched["mode"], &patched["name"]),
        (&json!("snapshot"), &json!("renamed"))
    );
    let refused = server
        .send("PUT", &sync, Some(server.sync(json!({"name": ""}))))
        .await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn schemas_are_chosen_changed_and_replaced() {
    let server = Server::start(0).await;
    let sync = server.create(json!({"schemas": ["users"]})).await;
    let ids = |list: Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().into())
            .collect()
    };
    let enabled = format!("{sync}/schemas?filters[enabled]=true");
    assert_eq!(ids(server.get(&enabled).await), ["users"]);
    assert_eq!(
        ids(server.get(&format!("{sync}/schemas")).await),
        ["orders", "users"]
    );

    let patch = json!({"schemas": ["orders", {"id": "users", "enabled": false}]});
    let patched = Server::data(
        server
            .send("PATCH", &format!("{sync}/schemas"), Some(patch))
            .await,
    );
    assert_eq!(ids(patched), ["orders", "users"]);
    assert_eq!(ids(server.get(&enabled).await), ["orders"]);

    let orders = format!("{sync}/schemas/orders");
    let update = json!({
        "tracking_field": "changed", "user_output_name": "Sales",
        "fields": ["id", "changed", {"id": "total", "obfuscate": true}],
        "filters": [{"field_id": "total", "function": "IsNotNull"}],
    });
    let updated = Server::data(server.send("PUT", &orders, Some(update)).await);
    assert_eq!(updated["output_name"], "sales");
    assert_eq!(updated["fields"][1]["obfuscated"], true);
    assert_eq!(server.get(&orders).await, updated);
    let echoed = Server::data(server.send("PUT", &orders, Some(updated.clone())).await);
    assert_eq!(echoed, updated);
    let kept = Server::data(
        server
            .send("PATCH", &orders, Some(json!({"enabled": false})))
            .await,
    );
    assert_eq!(
        (&kept["enabled"], &kept["tracking_field"]),
        (&json!(false), &json!("changed"))
    );
    let cleared = Server::data(server.send("PUT", &orders, Some(json!({}))).await);
    assert_eq!(
        (&cleared["enabled"], &cleared["tracking_field"]),
        (&json!(true), &json!(""))
    );
    assert_eq!(cleared["filters"], json!([]));

    for (method, path, body, status) in [
        ("PUT", &orders, json!({"tracking_field": "ghost"}), 400),
        ("PUT", &format!("{sync}/schemas/ghosts"), json!({}), 404),
        (
            "PATCH",
            &format!("{sync}/schemas"),
            json!({"schemas": ["ghosts"]}),
            404,
        ),
        (
            "PATCH",
            &format!("{sync}/schemas"),
            json!({"schemas": [{"id": "users", "fields": ["x"]}]}),
            400,
        ),
    ] {
        let refused = server.send(method, path, Some(body)).await;
        assert_eq!(refused.status, status, "{}", refused.text);
    }
}

#[tokio::test]
async fn a_put_with_schemas_disables_the_others() {
    let server = Server::start(0).await;
    let sync = server.create(json!({})).await;
    let body = server.sync(json!({"schemas": [{"id": "orders", "tracking_field": "changed"}]}));
    Server::data(server.send("PUT", &sync, Some(body)).await);
    let schemas = server.get(&format!("{sync}/schemas")).await;
    let enabled: Vec<_> = schemas
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["enabled"].clone())
        .collect();
    assert_eq!(enabled, [true, false]);
    Server::data(
        server
            .send("PUT", &sync, Some(server.sync(json!({}))))
            .await,
    );
    assert_eq!(server.get(&format!("{sync}/schemas")).await, schemas);
}

#[tokio::test]
async fn error_handling_changes_in_part() {
    let server = Server::start(0).await;
    let path = format!("{}/error-handling", server.create(json!({})).await);
    let nothing = json!({"ingestion_failure_threshold": null, "subscribers": []});
    assert_eq!(server.get(&path).await, nothing);
    let body = json!({"subscribers": ["ops@example.com"], "ingestion_failure_threshold": 60});
    assert_eq!(
        Server::data(server.send("PUT", &path, Some(body.clone())).await),
        body
    );
    Server::data(
        server
            .send(
                "PUT",
                &path,
                Some(json!({"ingestion_failure_threshold": 0})),
            )
            .await,
    );
    assert_eq!(
        server.get(&path).await["subscribers"],
        json!(["ops@example.com"])
    );
    let wrong = server
        .send("PUT", &path, Some(json!({"subscribers": ["ops"]})))
        .await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn older_versions_see_one_schedule_and_whole_lists() {
    let server = Server::start(0).await;
    server
        .create(json!({
            "default_schedule": {"frequency": "daily", "hour": "6"},
            "additional_schedules": [{"frequency": "hourly", "selective_mode": "incrementalFields"}],
        }))
        .await;
    let old = server
        .send_as("2024-02-08", "GET", "/api/bulk/syncs?limit=1", None)
        .await;
    let sync = &old.body["data"][0];
    assert_eq!(sync["schedule"]["frequency"], "multi");
    assert!(sync.get("default_schedule").is_none());
    let body = json!({
        "name": "old", "source_connection_id": server.source,
        "destination_connection_id": server.destination,
        "schedule": {"frequency": "hourly", "minute": "5"}, "discover": true,
    });
    let made = server
        .send_as("2023-04-25", "POST", "/api/bulk/syncs", Some(body))
        .await;
    let made = Server::data(made);
    assert_eq!(made["schedule"]["minute"], "5");
    assert_eq!(made["discover"], true);
    let page = server.send("GET", "/api/bulk/syncs?limit=1", None).await;
    let token = page.body["pagination"]["next_page_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let rest = server
        .send("GET", &format!("/api/bulk/syncs?page_token={token}"), None)
        .await;
    assert_eq!(rest.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        server
            .send("GET", "/api/bulk/syncs?page_token=x", None)
            .await
            .status,
        400
    );
    assert_eq!(server.get("/api/bulk/syncs?active=false").await, json!([]));
}

#[tokio::test]
async fn the_caller_learns_who_it_is() {
    let server = Server::start(0).await;
    let me = server.get("/api/me").await;
    assert_eq!(
        (&me["is_user"], &me["is_system"]),
        (&json!(true), &json!(false))
    );
    let organization = me["organization_id"].as_str().unwrap();
    let entity = server.get(&format!("/api/entities/{organization}")).await;
    assert_eq!(entity["type"], "organization");
    let unknown = server
        .send("GET", &format!("/api/entities/{}", uuid::Uuid::nil()), None)
        .await;
    assert_eq!(unknown.status, 404);
    assert_eq!(
        server.send("GET", "/api/events?limit=x", None).await.status,
        422
    );
    assert_eq!(
        server
            .get("/api/events_types")
            .await
            .as_array()
            .unwrap()
            .len(),
        10
    );
    let ingest = format!("/api/connections/{}/ingest/consolelog", server.source);
    assert_eq!(
        server.get(&ingest).await,
        json!({"entries": [], "next_cursor": null})
    );
}
