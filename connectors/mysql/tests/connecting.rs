//! Signing in, TLS, and what goes wrong on the way.

use serde_json::json;
use tideway_core::Kind;

use crate::rig::{Rig, Server, on_both};

on_both!(
    tls_is_checked_as_far_as_it_is_asked_for,
    each_wrong_setting_is_named,
    the_check_names_its_steps,
    an_account_without_rights_reads_through_one_session,
);

async fn tls_is_checked_as_far_as_it_is_asked_for(server: Server) {
    let ca = server.file("CA");
    // The certificate names `localhost` alone.
    for (settings, wrong) in [
        (json!({"ssl": true}), None),
        (json!({"sslmode": "verify-ca", "ca_cert": ca}), None),
        (
            json!({"sslmode": "verify-full", "ca_cert": ca, "hostname": "localhost"}),
            None,
        ),
        (
            json!({"sslmode": "verify-full", "ca_cert": ca}),
            Some("sslmode"),
        ),
        (json!({"sslmode": "verify-ca"}), Some("sslmode")),
        (
            json!({"sslmode": "verify-ca", "ca_cert": "nonsense"}),
            Some("ca_cert"),
        ),
    ] {
        let connected = server.connect(settings.clone()).await;
        match (connected, wrong) {
            (Ok(_), None) => {}
            (Err(error), Some(field)) => {
                assert_eq!(error.kind, Kind::Config, "{settings}: {error}");
                assert_eq!(error.blamed_field(), Some(field), "{settings}: {error}");
            }
            (Ok(_), Some(_)) => panic!("{settings} passed"),
            (Err(error), None) => panic!("{settings}: {error}"),
        }
    }
    let certificate = json!({
        "account": "tideway_cert", "passwd": "",
        "client_certificate": server.file("CLIENT_CERT"), "client_key": server.file("CLIENT_KEY"),
    });
    server.connect(certificate).await.unwrap();
    let without = json!({"account": "tideway_cert", "passwd": ""});
    let error = server.connect(without).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, Kind::Auth);
}

async fn each_wrong_setting_is_named(server: Server) {
    for (settings, kind, field) in [
        (json!({"passwd": "wr0ng"}), Kind::Auth, "passwd"),
        (json!({"account": "nobody"}), Kind::Auth, "passwd"),
        (json!({"dbname": "nowhere"}), Kind::Missing, "dbname"),
        (json!({"port": 1}), Kind::Unavailable, "port"),
        (
            json!({"hostname": "no.such.host.invalid"}),
            Kind::Unavailable,
            "hostname",
        ),
        (json!({"ssh": true}), Kind::Config, "ssh_host"),
    ] {
        let error = server.connect(settings).await.map(|_| ()).unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (kind, Some(field)),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("wr0ng"));
    }
}

async fn the_check_names_its_steps(server: Server) {
    let report = server.connect(json!({})).await.unwrap().check().await;
    assert!(report.passed(), "{report:?}");
    let names: Vec<&str> = report
        .probes
        .iter()
        .map(|probe| probe.name.as_str())
        .collect();
    let expected = [
        "reach",
        "sign in",
        "server version",
        "read permission",
        "parallel reads",
        "late commits",
    ];
    assert_eq!(names, expected);
}

async fn an_account_without_rights_reads_through_one_session(server: Server) {
    let rig = Rig::new(server).await;
    let account = format!("u{}", &rig.database[3..20]);
    rig.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    rig.run("INSERT INTO t VALUES (1), (2)").await;
    rig.run(&format!("CREATE USER {account}@'%' IDENTIFIED BY 'pw'"))
        .await;
    rig.run(&format!(
        "GRANT SELECT ON {}.* TO {account}@'%'",
        rig.database
    ))
    .await;
    let settings = json!({"account": account, "passwd": "pw", "dbname": rig.database});
    let reader = Rig {
        connection: server.connect(settings).await.unwrap(),
        database: rig.database.clone(),
        eyes: tideway_mysql::testing::Eyes::open(&server.settings(json!({})))
            .await
            .unwrap()
            .into(),
    };
    let read: usize = reader
        .read("t")
        .await
        .iter()
        .map(|batch| batch.row_count())
        .sum();
    assert_eq!(read, 2);
    let refused = reader
        .try_begin(crate::rig::people(crate::rig::SOFT))
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(refused.kind, Kind::Permission, "{refused}");
    assert!(
        refused.advice().starts_with("GRANT "),
        "{}",
        refused.advice()
    );
    rig.run(&format!("DROP USER {account}@'%'")).await;
    rig.drop().await;
}
