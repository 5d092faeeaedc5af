use std::fs;

use tideway_core::CheckReport;

use crate::support::*;

fn names(report: &CheckReport) -> Vec<(&str, bool)> {
    report
        .probes
        .iter()
        .map(|probe| (probe.name.as_str(), probe.passed))
        .collect()
}

#[tokio::test]
async fn a_good_file_passes_every_probe() {
    let file = File::with(
        "PRAGMA journal_mode = WAL; CREATE TABLE a (x); CREATE VIEW b AS SELECT x FROM a",
    );
    let report = file.connect().await.check().await;
    assert_eq!(
        names(&report),
        [
            ("open file", true),
            ("list tables", true),
            ("write permission", true)
        ]
    );
    assert_eq!(report.probes[1].detail, "2 tables and views");
    assert!(report.probes[2].detail.contains("can be written"));
    assert_eq!(file.texts("SELECT name FROM sqlite_schema"), ["a", "b"]);
}

#[tokio::test]
async fn a_file_that_makes_writers_wait_is_told() {
    let file = File::with("CREATE TABLE a (x)");
    let report = file.connect().await.check().await;
    assert!(report.passed() && report.probes[1].detail.contains("WAL"));
}

#[tokio::test]
async fn a_missing_file_is_told_and_not_made() {
    let file = File::absent();
    let report = file.connect().await.check().await;
    assert!(report.passed() && report.probes[0].detail.contains("does not exist"));
    assert!(!file.path.exists());
}

#[tokio::test]
async fn a_missing_folder_fails_with_a_hint() {
    let file = File::absent();
    let report = connect(&file.path.join("none/shop.db")).await.check().await;
    let probe = report.first_failure().unwrap();
    assert!(
        probe.detail.contains("does not exist") && probe.hint.is_some(),
        "{probe:?}"
    );
}

#[tokio::test]
async fn something_else_than_a_database_fails() {
    let file = File::absent();
    fs::write(&file.path, "name,price\n".repeat(1000)).unwrap();
    let report = file.connect().await.check().await;
    let probe = report.first_failure().unwrap();
    assert!(probe.detail.contains("not a SQLite database"), "{probe:?}");

    let report = connect(file.folder.path()).await.check().await;
    assert!(
        report
            .first_failure()
            .unwrap()
            .detail
            .contains("is a folder")
    );
}
