//! What goes wrong outside, and what people are told.

use std::{os::unix::fs::PermissionsExt, time::Instant};

use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    Batch, Connector, Error, Kind, LogicalType as L, connector::ConnectCx, destination::Write,
};
use tideway_files::{FilesConnector, S3Connector};

use crate::support::*;

async fn s3_error(configuration: serde_json::Value) -> Error {
    S3Connector
        .connect(&configuration, &ConnectCx::default())
        .await
        .err()
        .unwrap()
}

#[tokio::test]
async fn wrong_keys_and_missing_buckets_are_told_apart() {
    let bucket = Bucket::new();
    let mut wrong = bucket.configuration("");
    wrong["aws_secret_access_key"] = "wrong".into();
    let error = s3_error(wrong).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Auth, Some("aws_secret_access_key"))
    );
    let mut wrong = bucket.configuration("");
    wrong["aws_access_key_id"] = "nobody".into();
    let error = s3_error(wrong).await;
    assert_eq!(error.kind, Kind::Auth, "{error:?}");
    let mut wrong = bucket.configuration("");
    wrong["s3_bucket_name"] = "no-such-bucket".into();
    let error = s3_error(wrong).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Missing, Some("s3_bucket_name"))
    );
    let shown = format!("{error:?} {error}");
    assert!(
        !shown.contains(&environment("TIDEWAY_TEST_S3_SECRET_KEY")),
        "{shown}"
    );
}

#[tokio::test]
async fn an_endpoint_where_nobody_answers_fails_soon() {
    let begun = Instant::now();
    let mut wrong = Bucket::new().configuration("");
    wrong["endpoint"] = "http://127.0.0.1:1".into();
    let error = s3_error(wrong).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Unavailable, Some("endpoint"))
    );
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn settings_that_are_not_built_are_named() {
    let bucket = Bucket::new();
    let mut wrong = bucket.configuration("");
    wrong["enable_event_notifications"] = true.into();
    let error = s3_error(wrong).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Unsupported, Some("enable_event_notifications"))
    );
    let mut wrong = bucket.configuration("");
    wrong["auth_mode"] = "iam_role".into();
    let error = s3_error(wrong).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Unsupported, Some("auth_mode"))
    );
    let mut wrong = bucket.configuration("");
    wrong.as_object_mut().unwrap().remove("aws_access_key_id");
    let error = s3_error(wrong).await;
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("aws_access_key_id"))
    );
    for endpoint in ["127.0.0.1:9000", "ftp://x"] {
        let mut wrong = bucket.configuration("");
        wrong["endpoint"] = endpoint.into();
        assert_eq!(s3_error(wrong).await.blamed_field(), Some("endpoint"));
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_missing_for_a_source_and_made_for_a_destination() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("new/folder");
    let connection = folder(&path).await;
    let report = connection.check().await;
    let failure = report.first_failure().unwrap();
    assert!(
        failure.hint.as_ref().unwrap().contains("create the folder"),
        "{failure:?}"
    );
    let source = connection.roles().source.unwrap();
    let error = source.discover(&Default::default()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Missing, Some("path"))
    );
    let columns = columns(&[("id", L::Int64)]);
    carry(
        &*connection,
        load("l1", Write::Append, &columns, json!({})),
        &rows("1\n2"),
    )
    .await;
    assert_eq!(rows_of(&*connection, "orders").await.len(), 2);
    assert!(connection.check().await.passed());
    assert_eq!(files_below(&path).len(), 3);
    let relative = json!({"path": "some/where"});
    let error = FilesConnector
        .connect(&relative, &ConnectCx::default())
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("path"))
    );
}

/// Root may write everywhere, so the folder is made unwritable for it as well, by a file
/// standing where a folder would have to be.
#[tokio::test]
async fn a_folder_that_cannot_be_written_to_is_named() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    put(home.path(), "_tideway", "a file in the way");
    let columns = columns(&[("id", L::Int64)]);
    let destination = connection.roles().destination.unwrap();
    let begun = destination.begin(load("l1", Write::Append, &columns, json!({})));
    let error = begun.await.err().unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("path")),
        "{error:?}"
    );

    let closed = TempDir::new().unwrap();
    std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(closed.path().join("probe"), "").is_err() {
        let connection = folder(closed.path()).await;
        let report = connection.check().await;
        assert!(report.passed(), "it can still be a source");
        assert!(
            report
                .probes
                .iter()
                .any(|probe| probe.detail.contains("can only be a source"))
        );
        let begun = begin(&*connection, load("l1", Write::Append, &columns, json!({}))).await;
        let mut lane = begun.lane().await.unwrap();
        lane.write(Batch::of_rows(batch(&columns, &rows("1"))))
            .await
            .unwrap();
        let error = lane.commit("a").await.unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Permission, Some("path"))
        );
    }
    std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o755)).unwrap();
}

/// A disk of a few MiB where the machine lets us make one.
#[tokio::test]
async fn a_full_disk_is_told_as_such_and_leaves_no_half_file() {
    let home = TempDir::new().unwrap();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tideway-test"])
        .arg(&disk)
        .output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        // Only root can mount; the kind of the error is then tested by its code alone.
        let error = Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
        assert_eq!(error.kind, Kind::Full);
        return;
    }
    let result = fill(&disk).await;
    let left = files_below(&disk);
    std::process::Command::new("umount")
        .arg(&disk)
        .status()
        .unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.kind, Kind::Full, "{error:?}");
    assert!(left.is_empty(), "{left:?}");
}

async fn fill(disk: &std::path::Path) -> Result<(), Error> {
    let connection = folder(disk).await;
    let columns = columns(&[("v", L::Text)]);
    let options = json!({"format": "csv"});
    let mut load = load("l1", Write::Append, &columns, options);
    load.target.key = vec![];
    let begun = begin(&*connection, load).await;
    let mut lane = begun.lane().await?;
    let text = vec![vec!["x".repeat(1 << 20)]];
    let mut result = Ok(());
    for _ in 0..40 {
        result = lane
            .write(Batch::of_rows(batch(&columns, &text)))
            .await
            .map(|_| ());
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        result = lane.commit("a").await.map(|_| ());
    }
    drop(lane);
    // What is left is removed in the background.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    begun.abandon().await?;
    result
}

#[tokio::test]
async fn a_damaged_manifest_is_named() {
    let home = TempDir::new().unwrap();
    put(home.path(), "orders/_tideway.json", "{ this is not");
    let connection = folder(home.path()).await;
    let columns = columns(&[("id", L::Int64)]);
    let destination = connection.roles().destination.unwrap();
    let error = destination
        .begin(load("l1", Write::Append, &columns, json!({})))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.what().contains("orders/_tideway.json"), "{error}");
}

#[tokio::test]
async fn files_that_others_changed_or_removed_are_not_merged_into() {
    let columns = columns(&[("id", L::Int64), ("name", L::Text)]);
    let make = |id: &str| load(id, REPLICATE, &columns, json!({"format": "csv"}));
    for removed in [true, false] {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        carry(&*connection, make("l1"), &rows("1|a\n2|b")).await;
        let file = home.path().join("orders/part-l1-00000.csv");
        match removed {
            true => std::fs::remove_file(file).unwrap(),
            false => std::fs::write(file, "id,name,_polytomic_deleted_at\n1,a,\n").unwrap(),
        }
        let begun = begin(&*connection, make("l2")).await;
        land(&*begun, "a", batch(&columns, &rows("1|x"))).await;
        let error = begun.finish().await.unwrap_err();
        assert_eq!(error.kind, Kind::Data);
        assert!(error.advice().contains("rebuild"), "{}", error.advice());
    }
}
