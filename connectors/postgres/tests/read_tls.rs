//! TLS in its four modes. The server's certificate names `localhost` alone.

use serde_json::{Value, json};
use tideway_core::{Connection, Error, Kind};

use crate::read_rig::*;

fn file(name: &str) -> String {
    let path = std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run through `make test`"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn authority() -> String {
    file("TIDEWAY_TEST_POSTGRES_CA")
}

async fn outcome(rig: &Rig, changes: Value) -> Result<(), Error> {
    let connection: std::sync::Arc<dyn Connection> = rig.connect(changes).await?;
    let report = connection.check().await;
    assert!(report.passed(), "{:?}", report.probes);
    Ok(())
}

#[tokio::test]
async fn require_encrypts_and_asks_for_no_name() {
    let rig = Rig::new().await;
    let connection = rig.connect(json!({"sslmode": "require"})).await.unwrap();
    let encrypted = rig
        .one("SELECT bool_and(ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.datname = current_database() AND a.application_name = 'tideway' AND ssl")
        .await;
    assert_eq!(encrypted, "t");
    drop(connection);
    // As libpq does: an authority that is given is asked.
    let error = outcome(&rig, json!({"sslmode": "require", "ca_cert": stranger()}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("sslmode")),
        "{error}"
    );
}

#[tokio::test]
async fn verify_ca_checks_the_authority_but_not_the_name() {
    let rig = Rig::new().await;
    outcome(
        &rig,
        json!({"sslmode": "verify-ca", "ca_cert": authority()}),
    )
    .await
    .unwrap();
    for settings in [
        json!({"sslmode": "verify-ca", "ca_cert": stranger()}),
        json!({"sslmode": "verify-ca"}),
    ] {
        let error = outcome(&rig, settings).await.unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some("sslmode")),
            "{error}"
        );
        assert!(error.what().contains("not trusted"), "{error}");
    }
}

#[tokio::test]
async fn verify_full_checks_the_name_too() {
    let rig = Rig::new().await;
    outcome(
        &rig,
        json!({"host": "localhost", "sslmode": "verify-full", "ca_cert": authority()}),
    )
    .await
    .unwrap();
    let error = outcome(
        &rig,
        json!({"host": "127.0.0.1", "sslmode": "verify-full", "ca_cert": authority()}),
    )
    .await
    .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("sslmode"))
    );
    assert!(
        error.what().contains("not made out to 127.0.0.1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_certificate_signs_in_without_a_password() {
    let rig = Rig::new().await;
    let settings = json!({
        "username": "tideway_cert", "password": "", "sslmode": "verify-ca", "ca_cert": authority(),
        "client_certs": true,
        "client_certificate": file("TIDEWAY_TEST_POSTGRES_CLIENT_CERT"),
        "client_key": file("TIDEWAY_TEST_POSTGRES_CLIENT_KEY"),
    });
    outcome(&rig, settings.clone()).await.unwrap();
    let mut without = settings;
    without["client_certs"] = false.into();
    let error = outcome(&rig, without).await.unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Auth, Some("client_certificate")),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_without_tls_is_told_by_sslmode() {
    let rig = Rig::new().await;
    // Answers a request for TLS as a server that has none.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8];
            let _ = stream.read_exact(&mut request).await;
            let _ = stream.write_all(b"N").await;
        }
    });
    let error = outcome(&rig, json!({"port": port, "sslmode": "require"}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("sslmode")),
        "{error}"
    );
}

/// The client's own certificate is a valid one that signed nothing.
fn stranger() -> String {
    file("TIDEWAY_TEST_POSTGRES_CLIENT_CERT")
}
