use serde_json::json;

use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_is_made_started_watched_and_looked_into() {
    let server = Server::start(1).await;
    let sync = server.create(json!({})).await;
    let started = server.post(&format!("{sync}/executions"), json!({})).await;
    assert_eq!(started["type"], "manual");
    let path = format!("{sync}/executions/{}", started["id"].as_str().unwrap());
    let ended = server.ended(&path).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(ended["record_count"], 3);
    let schemas: Vec<_> = ended["schemas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (&s["schema"], &s["status"]))
        .collect();
    assert_eq!(
        schemas,
        [
            (&json!("orders"), &json!("completed")),
            (&json!("users"), &json!("completed"))
        ]
    );
    let rows: i64 = server
        .lake()
        .query_row("SELECT count(*) FROM orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);

    let status = server.get(&format!("{sync}/status")).await;
    assert!(status["current_execution"].is_null());
    assert_eq!(status["last_execution"]["id"], started["id"]);
    let overview = server.get("/api/bulk/syncs/status?all=true").await;
    assert_eq!(overview[0]["status"], "completed");
    assert_eq!(overview[0]["schemas"].as_array().unwrap().len(), 2);
    assert_eq!(server.get("/api/bulk/syncs/status").await, json!([]));
    let page = server
        .send("GET", &format!("{sync}/executions?limit=1"), None)
        .await;
    assert_eq!(page.body["data"][0]["id"], started["id"]);
    assert!(page.body["pagination"]["next_page_token"].is_null());

    let console = server.get(&format!("{path}/consolelog")).await;
    let cursor = console["next_cursor"].as_str().unwrap();
    assert!(!console["entries"].as_array().unwrap().is_empty());
    let later = server
        .get(&format!("{path}/consolelog?after={cursor}"))
        .await;
    assert_eq!(later, json!({"entries": [], "next_cursor": cursor}));
    let of_users = server
        .get(&format!("{path}/schemas/users/consolelog"))
        .await;
    assert!(
        of_users["entries"].as_array().unwrap().len()
            < console["entries"].as_array().unwrap().len()
    );

    let id = started["id"].as_str().unwrap();
    let entity = server.get(&format!("/api/entities/{id}")).await;
    assert_eq!(entity["canonical_path"], path);
    assert_eq!(entity["context"]["schema_ids"], json!(["orders", "users"]));
    let events = server.get("/api/events?type=bulk_sync.completed").await;
    assert_eq!(events[0]["event"]["execution_id"], id);
    let first = server.send("GET", "/api/events?limit=1", None).await.body;
    let token = first["pagination"]["next_page_token"].as_str().unwrap();
    let second = server
        .get(&format!("/api/events?limit=1&page_token={token}"))
        .await;
    assert_eq!(second[0]["type"], "bulk_sync.running");
    server.work.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_files_open_by_their_signed_link_alone() {
    let server = Server::start(1).await;
    let sync = server.create(json!({"schemas": ["users"]})).await;
    let started = server.post(&format!("{sync}/executions"), json!({})).await;
    let path = format!("{sync}/executions/{}", started["id"].as_str().unwrap());
    server.ended(&path).await;
    let logs = server.get(&format!("{path}/logs")).await;
    let url = logs["URLs"][0].as_str().unwrap();
    let file = server.open(url).await;
    let lines: Vec<serde_json::Value> = file
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line["schema"] == "users"));

    assert_eq!(
        server
            .open(&url.replace("signature=", "signature=0"))
            .await
            .status,
        403
    );
    let other = url.replace(
        started["id"].as_str().unwrap(),
        &uuid::Uuid::nil().to_string(),
    );
    assert_eq!(server.open(&other).await.status, 403);

    let export = server
        .send("POST", &format!("{path}/logs/export"), None)
        .await
        .body;
    let job = export["job"]["job_id"].as_str().unwrap();
    let job = server.get(&format!("/api/jobs/exportlogs/{job}")).await;
    assert_eq!(job["status"], "done");
    assert_eq!(
        server
            .open(job["result"]["url"].as_str().unwrap())
            .await
            .text,
        file.text
    );
    let missing = server.send("GET", "/api/jobs/coffee/1", None).await;
    assert_eq!(missing.status, 400);
    server.work.stop().await;
}

#[tokio::test]
async fn one_execution_at_a_time_and_it_can_be_canceled() {
    let server = Server::start(0).await;
    let sync = server.create(json!({"schemas": ["users"]})).await;
    let executions = format!("{sync}/executions");
    let nothing = server.send("POST", &format!("{sync}/cancel"), None).await;
    assert_eq!(nothing.status, 200);

    for (version, body) in [
        (
            "2025-09-18",
            json!({"test": true, "resync_mode": "rebuild"}),
        ),
        ("2025-09-18", json!({"resync": false})),
        ("2025-09-18", json!({"schemas": ["orders"]})),
        ("2024-02-08", json!({"resync": true, "test": true})),
    ] {
        let refused = server
            .send_as(version, "POST", &executions, Some(body.clone()))
            .await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
    }

    let first = server
        .send_as(
            "2024-02-08",
            "POST",
            &executions,
            Some(json!({"resync": true})),
        )
        .await;
    let first = Server::data(first);
    assert_eq!(first["output_disposition"], "rebuild");
    assert_eq!(server.send("POST", &executions, None).await.status, 409);
    assert_eq!(
        server
            .send("POST", &format!("{sync}/schemas/users/cancel"), None)
            .await
            .status,
        200
    );
    assert_eq!(
        server
            .send("POST", &format!("{sync}/schemas/ghosts/cancel"), None)
            .await
            .status,
        404
    );
    let path = format!("{executions}/{}", first["id"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(
            server
                .send("POST", &format!("{path}/cancel"), None)
                .await
                .status,
            200
        );
    }
    assert_eq!(server.get(&path).await["status"], "canceled");

    let null = Some(serde_json::Value::Null);
    let second = server.send("POST", &executions, null).await;
    let second = Server::data(second);
    let off = server
        .post(&format!("{sync}/activate"), json!({"active": false}))
        .await;
    assert_eq!(off["active"], false);
    let path = format!("{executions}/{}", second["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await["status"], "canceled");
    assert_eq!(server.get(&sync).await["active"], false);

    assert_eq!(server.send("DELETE", &sync, None).await.status, 200);
    assert_eq!(server.send("GET", &sync, None).await.status, 404);
    assert_eq!(server.send("GET", &path, None).await.status, 404);
}
