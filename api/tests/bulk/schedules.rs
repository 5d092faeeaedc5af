use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn schedules_are_added_replaced_and_removed() {
    let server = Server::start(0).await;
    let sync = server.create(json!({})).await;
    let schedules = format!("{sync}/schedules");
    let first = server.get(&schedules).await;
    assert_eq!(first[0]["isDefault"], true);

    let body = json!({"schedule": {"frequency": "hourly", "minute": "15", "schemas": ["users"], "syncMode": "refetch"}});
    let made = server.post(&schedules, body).await;
    let path = format!("{schedules}/{}", made["id"].as_str().unwrap());
    let update = json!({"schedule": {"frequency": "daily", "hour": "3"}});
    let updated = Server::data(server.send("PUT", &path, Some(update)).await);
    assert!(updated["minute"].is_null());
    assert_eq!(
        (&updated["schemas"], &updated["syncMode"]),
        (&json!(["users"]), &json!("refetch"))
    );
    assert_eq!(server.get(&path).await, updated);
    let echo = json!({"schedule": updated});
    assert_eq!(
        Server::data(server.send("PUT", &path, Some(echo)).await)["hour"],
        "3"
    );

    assert_eq!(server.send("DELETE", &path, None).await.status, 200);
    assert_eq!(server.send("GET", &path, None).await.status, 404);
    let default = format!("{schedules}/{}", first[0]["id"].as_str().unwrap());
    let daily = json!({"schedule": {"frequency": "daily"}});
    Server::data(server.send("PUT", &default, Some(daily)).await);
    assert_eq!(
        server.get(&sync).await["default_schedule"]["frequency"],
        "daily"
    );
    assert_eq!(server.send("DELETE", &default, None).await.status, 200);
    assert_eq!(
        server.get(&sync).await["default_schedule"]["frequency"],
        "manual"
    );
}

#[tokio::test]
async fn schedules_that_cannot_fire_are_refused() {
    let server = Server::start(0).await;
    let sync = server.create(json!({})).await;
    let other = server.create(json!({"name": "other"})).await;
    let id = sync.rsplit('/').next().unwrap();
    let schedules = format!("{sync}/schedules");
    for (schedule, status) in [
        (json!({"frequency": "hourly", "minute": "61"}), 400),
        (json!({"frequency": "custom", "day_of_month": "x"}), 400),
        (json!({"frequency": "dbtcloud"}), 400),
        (json!({"frequency": "multi"}), 400),
        (json!({"frequency": "hourly", "schemas": ["ghosts"]}), 400),
        (json!({"frequency": "runafter"}), 400),
        (
            json!({"frequency": "runafter", "runAfter": {"bulk_sync_ids": [id]}}),
            400,
        ),
        (
            json!({"frequency": "runafter", "runAfter": {"bulk_sync_ids": [uuid::Uuid::nil()]}}),
            400,
        ),
    ] {
        let body = json!({"schedule": schedule});
        let refused = server.send("POST", &schedules, Some(body)).await;
        assert_eq!(refused.status, status, "{schedule}: {}", refused.text);
    }
    let after = json!({"frequency": "runafter", "runAfterSuccessOnly": true,
        "runAfter": {"bulk_sync_ids": [other.rsplit('/').next().unwrap()]}});
    let made = server.post(&schedules, json!({"schedule": after})).await;
    assert_eq!(
        made["runAfter"],
        json!({"bulk_sync_ids": after["runAfter"]["bulk_sync_ids"], "sync_ids": []})
    );
    assert_eq!(server.get(&schedules).await.as_array().unwrap().len(), 2);
}
