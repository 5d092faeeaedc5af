//! What goes wrong, in words that name it, with the field to change.

use serde_json::{Value, json};
use tideway_core::{Connector, Error, Kind, connector::ConnectCx};
use tideway_postgres::POSTGRESQL;

use crate::read_rig::*;

async fn refusal(rig: &Rig, changes: Value) -> Error {
    match rig.connect(changes.clone()).await {
        Ok(_) => panic!("{changes} was accepted"),
        Err(error) => error,
    }
}

#[track_caller]
fn assert_says(error: &Error, kind: Kind, field: &str, words: &[&str]) {
    assert_eq!(
        (error.kind, error.blamed_field()),
        (kind, Some(field)),
        "{error}"
    );
    for word in words {
        assert!(error.what().contains(word), "{word:?} is not in {error}");
    }
    assert!(!error.advice().is_empty());
    assert!(
        !format!("{error:?} {error} {}", error.advice()).contains("s3cret"),
        "{error:?}"
    );
}

#[tokio::test]
async fn wrong_settings_are_named() {
    let rig = Rig::new().await;
    let port = rig.url.port().unwrap();
    let wrong = refusal(&rig, json!({"password": "s3cret"})).await;
    assert_says(
        &wrong,
        Kind::Auth,
        "password",
        &["tideway", &port.to_string()],
    );
    let stranger = refusal(&rig, json!({"username": "nobody_here"})).await;
    assert_says(&stranger, Kind::Auth, "password", &["nobody_here"]);
    let nowhere = refusal(&rig, json!({"database": "no_such_db"})).await;
    assert_says(&nowhere, Kind::Missing, "database", &["no_such_db"]);
    let host = refusal(&rig, json!({"host": "no-such-host.invalid"})).await;
    assert_says(
        &host,
        Kind::Unavailable,
        "host",
        &["no-such-host.invalid", &port.to_string()],
    );
    let closed = refusal(&rig, json!({"port": 1})).await;
    assert_says(
        &closed,
        Kind::Unavailable,
        "port",
        &["127.0.0.1:1", "refused"],
    );
}

#[tokio::test]
async fn what_is_not_postgresql_is_told_apart() {
    let rig = Rig::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = refusal(&rig, json!({"port": port})).await;
    assert_eq!(error.blamed_field(), Some("port"), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let rig = Rig::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let started = std::time::Instant::now();
    let error = refusal(&rig, json!({"port": port})).await;
    assert_says(&error, Kind::Timeout, "host", &["did not answer"]);
    assert!(started.elapsed().as_secs() < 15);
}

#[tokio::test]
async fn a_role_that_may_not_log_in_or_has_its_limit_is_told_so() {
    let rig = Rig::new().await;
    let name = rig.url.path().trim_start_matches('/').to_owned();
    rig.run(&format!("CREATE ROLE {name} NOLOGIN PASSWORD 'x'"))
        .await;
    let error = refusal(&rig, json!({"username": name, "password": "x"})).await;
    assert_says(&error, Kind::Auth, "username", &[&name]);
    rig.run(&format!("ALTER ROLE {name} LOGIN CONNECTION LIMIT 0"))
        .await;
    let error = refusal(&rig, json!({"username": name, "password": "x"})).await;
    assert_eq!(error.kind, Kind::RateLimited { after: None }, "{error}");
    rig.run(&format!(
        "ALTER ROLE {name} CONNECTION LIMIT -1; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"
    ))
    .await;
    let error = refusal(&rig, json!({"username": name, "password": "x"})).await;
    assert_says(&error, Kind::Permission, "database", &[&name]);
    rig.drop_role(&name).await;
}

#[tokio::test]
async fn unusable_settings_are_refused_before_anything_is_dialled() {
    let rig = Rig::new().await;
    for (changes, kind, field) in [
        (
            json!({"ssh": true, "ssh_host": "bastion"}),
            Kind::Config,
            "ssh_private_key",
        ),
        (
            json!({"host": "/var/run/postgresql"}),
            Kind::Unsupported,
            "host",
        ),
        (json!({"sslmode": "prefer"}), Kind::Config, "sslmode"),
        (json!({"port": 0}), Kind::Config, "port"),
        (
            json!({"sslmode": "verify-ca", "ca_cert": "s3cret"}),
            Kind::Config,
            "ca_cert",
        ),
        (
            json!({"sslmode": "require", "client_certs": true}),
            Kind::Config,
            "client_certificate",
        ),
    ] {
        let error = refusal(&rig, changes).await;
        assert_says(&error, kind, field, &[]);
    }
}

#[tokio::test]
async fn a_table_dropped_since_discovery_is_missing() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int)").await;
    let read = request(&rig.table("public.t").await);
    rig.run("DROP TABLE t").await;
    let error = rig.snapshot().await.plan(&read).await.unwrap_err();
    assert_eq!(error.kind, Kind::Missing);
    assert!(error.what().starts_with("public.t: "), "{error}");
    // Dropped between the snapshot and the plan.
    rig.run("CREATE TABLE t (id int)").await;
    let snapshot = rig.snapshot().await;
    rig.run("DROP TABLE t").await;
    let error = snapshot.plan(&read).await.unwrap_err();
    assert_eq!(error.kind, Kind::Missing, "{error}");
}

#[tokio::test]
async fn changed_columns_are_drift() {
    let rig = Rig::new().await;
    for change in [
        "DROP COLUMN v",
        "ALTER COLUMN v TYPE text",
        "ALTER COLUMN v DROP NOT NULL",
        "RENAME COLUMN v TO w",
    ] {
        rig.run("DROP TABLE IF EXISTS t; CREATE TABLE t (id int, v int NOT NULL)")
            .await;
        let read = request(&rig.table("public.t").await);
        rig.run(&format!("ALTER TABLE t {change}")).await;
        let error = rig.snapshot().await.plan(&read).await.unwrap_err();
        assert_eq!(error.kind, Kind::Drift, "{change}: {error}");
        assert!(error.what().contains("column v"), "{error}");
    }
}

#[tokio::test]
async fn a_revoked_grant_names_what_to_grant() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
        .await;
    let (role, connection) = rig.as_new_role().await;
    rig.run(&format!("GRANT SELECT ON t TO {role}")).await;
    let read = request(&rig.table("public.t").await);
    let source = connection.roles().source.unwrap();
    let snapshot = source.open(&json!({})).await.unwrap();
    let (scan, _) = read_all(&snapshot, read.clone()).await.unwrap();
    assert_eq!(scan.parts.len(), 1);
    rig.run(&format!("REVOKE SELECT ON t FROM {role}")).await;
    for snapshot in [snapshot, source.open(&json!({})).await.unwrap()] {
        let error = read_all(&snapshot, read.clone()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Permission, "{error}");
        assert!(error.what().starts_with("public.t: "), "{error}");
        assert!(
            error.advice().contains("GRANT SELECT ON"),
            "{}",
            error.advice()
        );
    }
    drop(connection);
    rig.drop_role(&role).await;
}

#[tokio::test]
async fn errors_about_values_do_not_show_them() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t AS SELECT 's3cret'::text AS v; CREATE VIEW broken AS SELECT v::int AS n FROM t").await;
    let read = request(&rig.table("public.broken").await);
    let error = read_all(&rig.snapshot().await, read).await.unwrap_err();
    assert_eq!(error.kind, Kind::Data, "{error}");
    assert!(
        !format!("{error} {error:?} {}", error.advice()).contains("s3cret"),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_unfilled_materialized_view_says_so() {
    let rig = Rig::new().await;
    rig.run("CREATE MATERIALIZED VIEW m AS SELECT 1 AS id WITH NO DATA")
        .await;
    let read = request(&rig.table("public.m").await);
    let error = rig.snapshot().await.plan(&read).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.what().contains("has not been populated"), "{error}");
}

#[tokio::test]
async fn lists_of_databases_and_publications_are_offered() {
    let rig = Rig::new().await;
    rig.run("CREATE PUBLICATION changes FOR ALL TABLES").await;
    let database = rig.url.path().trim_start_matches('/').to_owned();
    let choices = async |field: &str, settings: Value| {
        POSTGRESQL
            .choices(field, &settings, &ConnectCx::default())
            .await
    };
    for settings in [
        rig.settings(json!({})),
        rig.settings(json!({"database": ""})),
        rig.settings(json!({"database": "no_such_db"})),
    ] {
        let found = choices("database", settings).await.unwrap();
        assert!(found.iter().any(|choice| choice.label == database));
    }
    let found = choices("publication", rig.settings(json!({})))
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    let error = choices("host", rig.settings(json!({}))).await.unwrap_err();
    assert_eq!(error.blamed_field(), Some("host"));
}
