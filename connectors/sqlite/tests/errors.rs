use std::fs;

use serde_json::json;
use tideway_core::{
    Error, Kind,
    destination::{Disposition, Write},
    source::Scope,
};

use crate::support::*;

/// The kind, and that both the words and the advice help.
fn assert_kind(error: &Error, kind: Kind, file: &File) {
    assert_eq!(error.kind, kind, "{error:?}");
    let folder = file.folder.path().to_str().unwrap();
    assert!(
        error.what().contains(folder),
        "{error:?} does not name the file"
    );
    assert_ne!(
        error.advice(),
        kind.remedy(),
        "{error:?} has no advice of its own"
    );
}

async fn discovery_error(file: &File) -> Error {
    let connection = file.connect().await;
    let error = source(&connection)
        .discover(&Scope::default())
        .await
        .unwrap_err();
    let opened = source(&connection).open(&json!({})).await.err().unwrap();
    assert_eq!(opened.kind, error.kind);
    error
}

#[tokio::test]
async fn a_missing_file_is_missing_and_never_made_by_reading() {
    let file = File::absent();
    assert_kind(&discovery_error(&file).await, Kind::Missing, &file);
    assert!(!file.path.exists());
}

#[tokio::test]
async fn a_file_is_made_by_writing_only_if_its_folder_is_there() {
    let file = File::absent();
    let connection = connect(&file.folder.path().join("none/shop.db")).await;
    let load = load(Write::Append, Disposition::Retain);
    let error = destination(&connection)
        .begin(load.clone())
        .await
        .err()
        .unwrap();
    assert_kind(&error, Kind::Missing, &file);
    begin(&file, &load).await.unwrap();
    assert!(file.path.exists());
}

#[tokio::test]
async fn something_else_than_a_database_is_a_wrong_path() {
    let file = File::absent();
    fs::write(&file.path, "id,name\n".repeat(500)).unwrap();
    assert_kind(&discovery_error(&file).await, Kind::Config, &file);
    let error = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .err()
        .unwrap();
    assert_kind(&error, Kind::Config, &file);
    assert_eq!(error.blamed_field(), Some("path"));
}

#[tokio::test]
async fn an_empty_file_is_an_empty_database() {
    let file = File::absent();
    fs::write(&file.path, "").unwrap();
    assert!(file.discover().await.tables.is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_told() {
    let file = File::with(
        "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 2000)
         INSERT INTO t SELECT n, hex(randomblob(20)) FROM c",
    );
    let table = file.table("t").await;
    let mut bytes = fs::read(&file.path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 20_000].fill(0xA5);
    fs::write(&file.path, bytes).unwrap();
    let error = try_read(&file, read_of(&table)).await.unwrap_err();
    assert_kind(&error, Kind::Data, &file);
    assert!(error.what().contains("damaged"));
}

#[tokio::test]
async fn a_lock_that_is_not_let_go_is_a_timeout_that_is_tried_again() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let holder = file.open();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let connection = file.connect().await;
    let error = source(&connection)
        .discover(&Scope::default())
        .await
        .unwrap_err();
    assert_kind(&error, Kind::Timeout, &file);
    assert!(error.what().contains("locked"));
    holder.execute_batch("ROLLBACK").unwrap();
    source(&connection)
        .discover(&Scope::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_writer_waits_for_another_program_to_be_done() {
    let file =
        File::with("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let holder = file.open();
    holder
        .execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (1, 'other')")
        .unwrap();
    let waiting = tokio::spawn({
        let path = file.path.clone();
        async move {
            let connection = connect(&path).await;
            let begun = destination(&connection)
                .begin(load(Write::Append, Disposition::Retain))
                .await
                .unwrap();
            land(begun.as_ref(), vec![person_rows(&[(2, "ours")])])
                .await
                .unwrap();
            begun.finish().await.unwrap().inserted
        }
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
    assert_eq!(
        file.texts("SELECT name FROM t ORDER BY id"),
        ["other", "ours"]
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_written_can_still_be_read() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'ann')",
    );
    // A file format that only newer versions may write; it stands in for missing rights,
    // which an administrator who runs the tests would have.
    let mut bytes = fs::read(&file.path).unwrap();
    bytes[18] = 3;
    fs::write(&file.path, bytes).unwrap();
    assert_eq!(read_table(&file, "t").await, texts(&[["1", "ann"]]));
    let error = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .err()
        .unwrap();
    assert_kind(&error, Kind::Permission, &file);
    let report = file.connect().await.check().await;
    assert!(
        report.passed() && report.probes[2].detail.starts_with("none"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_violated_constraint_names_the_column_and_no_value() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER, name TEXT UNIQUE); INSERT INTO t VALUES (1, 'secret')",
    );
    let load = load(Write::Append, Disposition::Retain);
    let error = run_load(&file, &load, vec![person_rows(&[(2, "secret")])])
        .await
        .unwrap_err();
    assert_kind(&error, Kind::Data, &file);
    assert!(
        error.what().contains("t.name") && !format!("{error:?}").contains("secret"),
        "{error:?}"
    );
    assert_eq!(file.texts("SELECT count(*) FROM t"), ["1"]);
}
