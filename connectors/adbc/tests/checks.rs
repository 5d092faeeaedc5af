//! Settings, checks, and errors for people.

use std::path::Path;

use serde_json::json;
use tideway_adbc::{DuckDbConnector, driver::Library};
use tideway_core::{
    Connector, Kind, connector::ConnectCx, destination::Write, form, source::Scope,
};
use url::Url;

use crate::given::*;

#[tokio::test]
async fn a_check_tries_library_file_tables_and_writing() {
    let place = place().await;
    let report = place.connection.check().await;
    assert!(report.passed(), "{report:?}");
    assert!(!place.path().exists(), "a check makes no file");
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0);
    run(
        &place.connection,
        load("a", Write::Append),
        &[rows(&[(1, "a")])],
    )
    .await;
    let report = place.connection.check().await;
    let names: Vec<&str> = report
        .probes
        .iter()
        .map(|probe| probe.name.as_str())
        .collect();
    assert_eq!(names, ["library", "open file", "list tables", "write"]);
    assert!(report.passed(), "{report:?}");
    assert_eq!(discover(&place.connection).await.tables.len(), 1);
}

#[tokio::test]
async fn what_is_no_duckdb_file_is_told_so() {
    library();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let mut damaged = vec![0; 20_000];
    damaged[8..12].copy_from_slice(b"DUCK");
    for (path, hint) in [
        (
            file("text", b"hello, this is a text and no database"),
            "another file",
        ),
        (file("short", b"hi"), "another file"),
        (
            file("lite", b"SQLite format 3\0 and more of it"),
            "type sqlite",
        ),
        (file("damaged", &damaged), "damaged"),
        (folder.path().to_owned(), "correct the setting"),
    ] {
        let connection = connect(&path).await;
        let error = connection
            .roles()
            .source
            .unwrap()
            .discover(&Scope::default())
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some("path")),
            "{error:?}"
        );
        assert!(
            error
                .what()
                .contains(path.canonicalize().unwrap().to_str().unwrap()),
            "{error}"
        );
        assert!(error.advice().contains(hint), "{error}: {}", error.advice());
        let report = connection.check().await;
        assert_eq!(report.first_failure().unwrap().name, "open file");
        let before = path.is_file().then(|| std::fs::read(&path).unwrap());
        assert!(
            connection
                .roles()
                .destination
                .unwrap()
                .begin(load("a", Write::Append))
                .await
                .is_err()
        );
        assert_eq!(
            path.is_file().then(|| std::fs::read(&path).unwrap()),
            before,
            "it is left alone"
        );
    }
}

#[tokio::test]
async fn an_empty_file_is_as_good_as_none() {
    let place = place().await;
    std::fs::write(place.path(), b"").unwrap();
    run(
        &place.connection,
        load("a", Write::Append),
        &[rows(&[(1, "a")])],
    )
    .await;
    assert_eq!(
        ids_and_values(&place.connection, "main.t").await,
        owned(&[(1, "a")])
    );
}

#[tokio::test]
async fn a_source_does_not_create_its_file() {
    let place = place().await;
    let source = place.connection.roles().source.unwrap();
    let errors = [
        source.discover(&Scope::default()).await.err().unwrap(),
        source.open(&json!({})).await.err().unwrap(),
    ];
    for error in errors {
        assert_eq!(error.kind, Kind::Missing);
    }
    assert!(!place.path().exists());
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    library();
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&folder.path().join("no/such/t.duckdb")).await;
    let error = connection
        .roles()
        .destination
        .unwrap()
        .begin(load("a", Write::Append))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Missing, Some("path"))
    );
    assert!(error.what().ends_with("no/such"), "{error}");
    assert!(!connection.check().await.passed());
}

#[tokio::test]
async fn settings_are_checked_by_name() {
    for (configuration, field) in [
        (json!({}), "path"),
        (json!({"path": " "}), "path"),
        (json!({"path": ":memory:"}), "path"),
        (json!({"path": 5}), "path"),
        (json!({"path": "/x", "threads": "many"}), "threads"),
        (
            json!({"path": "/x", "memory_limit": "a lot"}),
            "memory_limit",
        ),
        (json!({"path": "/x", "memory_limit": "12"}), "memory_limit"),
        (
            json!({"path": "/x", "memory_limit": "1e3GB"}),
            "memory_limit",
        ),
    ] {
        let error = connect_with(configuration.clone()).await.err().unwrap();
        assert_eq!(error.kind, Kind::Config);
        let blamed = error.blamed_field().unwrap_or_else(|| error.what());
        assert!(blamed.contains(field), "{configuration}: {error:?}");
    }
}

#[test]
fn the_form_has_the_path_and_its_limits() {
    let forms = DuckDbConnector.forms();
    let properties: Vec<&String> = forms
        .connection
        .properties()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(properties, ["path", "memory_limit", "threads"]);
    assert_eq!(forms.connection.json_schema["required"], json!(["path"]));
    assert_eq!(
        forms.connection.json_schema["properties"]["memory_limit"]["default"],
        json!("1GB")
    );
    assert_eq!(
        forms.destination.json_schema["properties"]["advanced"]["properties"]["hard_deletes"]["type"],
        "boolean"
    );
    assert_eq!(
        forms.connection.redacted(&json!({"path": "/x"})),
        json!({"path": "/x"})
    );
    let _: Result<serde_json::Value, _> = form::parse(&json!({}));
}

#[test]
fn urls_name_absolute_and_relative_files() {
    let parse = |text: &str| DuckDbConnector.parse_url(&Url::parse(text).unwrap());
    for (url, path) in [
        ("duckdb:///abs/path.duckdb", "/abs/path.duckdb"),
        ("duckdb://rel.duckdb", "rel.duckdb"),
        ("duckdb://rel/sub/file.duckdb", "rel/sub/file.duckdb"),
        (
            "duckdb:///with%20space/%C3%A9.duckdb",
            "/with space/é.duckdb",
        ),
        ("duckdb://Rel/Case.DuckDB", "Rel/Case.DuckDB"),
        ("duckdb:/one/slash.duckdb", "/one/slash.duckdb"),
        ("duckdb:rel.duckdb", "rel.duckdb"),
    ] {
        assert_eq!(
            parse(url).unwrap().configuration,
            json!({"path": path}),
            "{url}"
        );
    }
    let endpoint = parse("duckdb:///x?schema=raw&memory_limit=512MB&threads=2").unwrap();
    assert_eq!(
        endpoint.configuration,
        json!({"path": "/x", "memory_limit": "512MB", "threads": 2})
    );
    assert_eq!(endpoint.options, json!({"schema": "raw"}));
    assert_eq!(
        parse("duckdb:///x?nonsense=1").unwrap_err().blamed_field(),
        Some("nonsense")
    );
    assert_eq!(parse("duckdb://").unwrap_err().blamed_field(), Some("path"));
}

#[tokio::test]
async fn schemas_are_offered_as_choices() {
    let place = place().await;
    place.sql(&["CREATE SCHEMA raw"]);
    let configuration = json!({"path": place.path().to_str().unwrap()});
    let choices = DuckDbConnector
        .choices("schema", &configuration, &ConnectCx::default())
        .await
        .unwrap();
    let labels: Vec<&str> = choices.iter().map(|choice| choice.label.as_str()).collect();
    assert_eq!(labels, ["main", "raw"]);
    assert!(
        DuckDbConnector
            .choices("path", &configuration, &ConnectCx::default())
            .await
            .is_err()
    );
}

#[test]
fn a_missing_library_says_where_it_was_looked_for_and_how_to_get_it() {
    let library = Library {
        system: "NoDB",
        stem: "tideway_no_such_driver",
        entry_point: b"init",
        variable: "TIDEWAY_TEST_NO_SUCH_VARIABLE",
        remedy: "ask the wizard",
    };
    let error = library.load(Some(Path::new("/data"))).unwrap_err();
    assert_eq!(
        (error.kind, error.advice()),
        (Kind::Config, "ask the wizard")
    );
    let exe = std::env::current_exe().unwrap();
    let beside = exe.parent().unwrap().join("libtideway_no_such_driver.so");
    for place in [
        "TIDEWAY_TEST_NO_SUCH_VARIABLE (not set)",
        beside.to_str().unwrap(),
        "/data/lib/libtideway_no_such_driver.so",
        "/tideway/tools/tideway_no_such_driver/libtideway_no_such_driver.so",
        "the system's library path",
    ] {
        assert!(error.what().contains(place), "{place} is not in: {error}");
    }
}

#[test]
fn a_file_that_is_no_library_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let lib = folder.path().join("lib");
    std::fs::create_dir(&lib).unwrap();
    let file = lib.join("libtideway_broken_driver.so");
    std::fs::write(&file, "no ELF").unwrap();
    let library = Library {
        system: "NoDB",
        stem: "tideway_broken_driver",
        entry_point: b"init",
        variable: "TIDEWAY_TEST_NO_SUCH_VARIABLE",
        remedy: "ask the wizard",
    };
    let error = library.load(Some(folder.path())).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(error.what().starts_with(file.to_str().unwrap()), "{error}");
}
