//! The connection check.

use tideway_core::CheckReport;

use crate::read_rig::*;

fn detail<'a>(report: &'a CheckReport, name: &str) -> &'a str {
    let probe = report.probes.iter().find(|probe| probe.name == name);
    &probe
        .unwrap_or_else(|| panic!("{name} was not tried: {:?}", report.probes))
        .detail
}

#[tokio::test]
async fn every_step_is_named() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int); CREATE VIEW v AS SELECT 1 AS one")
        .await;
    let report = rig.connection.check().await;
    assert!(report.passed());
    let names: Vec<&str> = report
        .probes
        .iter()
        .map(|probe| probe.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "reach",
            "sign in",
            "server version",
            "read permission",
            "write permission",
            "late commits"
        ]
    );
    assert!(detail(&report, "server version").starts_with("PostgreSQL "));
    assert_eq!(detail(&report, "read permission"), "2 tables and views");
    assert_eq!(
        detail(&report, "write permission"),
        "any schema, new ones included"
    );
}

#[tokio::test]
async fn missing_rights_come_with_the_grant_that_gives_them() {
    let rig = Rig::new().await;
    rig.run("CREATE TABLE t (id int); REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        .await;
    let (role, connection) = rig.as_new_role().await;
    let report = connection.check().await;
    assert!(report.passed(), "{:?}", report.probes);
    assert!(detail(&report, "read permission").starts_with("none"));
    assert!(detail(&report, "write permission").starts_with("none"));
    let hints: Vec<&str> = report
        .probes
        .iter()
        .filter_map(|probe| probe.hint.as_deref())
        .collect();
    assert_eq!(hints.len(), 3, "{hints:?}");
    assert!(
        hints
            .iter()
            .all(|hint| hint.contains("GRANT") && hint.contains(&role)),
        "{hints:?}"
    );
    rig.run(&format!(
        "CREATE SCHEMA target; GRANT CREATE ON SCHEMA target TO {role}; GRANT SELECT ON t TO {role}"
    ))
    .await;
    let report = connection.check().await;
    assert_eq!(detail(&report, "read permission"), "1 tables and views");
    assert_eq!(detail(&report, "write permission"), "schemas target");
    drop(connection);
    rig.drop_role(&role).await;
}
