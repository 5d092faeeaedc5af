use serde_json::json;
use tideway_core::{
    Connector, Kind, WriteMode,
    connector::ConnectCx,
    destination::{Disposition, Write},
};
use tideway_sqlite::Sqlite;
use url::Url;

use crate::support::*;

fn path_of(url: &str) -> tideway_core::Result<String> {
    let endpoint = Sqlite.parse_url(&Url::parse(url).unwrap())?;
    Ok(endpoint.configuration["path"].as_str().unwrap().to_owned())
}

#[test]
fn urls_name_absolute_and_relative_files() {
    assert_eq!(
        path_of("sqlite:///var/lib/shop.db").unwrap(),
        "/var/lib/shop.db"
    );
    assert_eq!(path_of("sqlite://Data/shop.db").unwrap(), "Data/shop.db");
    assert_eq!(path_of("sqlite://shop.db").unwrap(), "shop.db");
    assert_eq!(path_of("sqlite:shop.db").unwrap(), "shop.db");
    assert_eq!(path_of("sqlite:///a%20b/%C3%BC.db").unwrap(), "/a b/ü.db");
}

#[test]
fn urls_that_name_no_file_are_refused_with_a_reason() {
    for (url, word) in [
        ("sqlite::memory:", "memory"),
        ("sqlite:", "no file"),
        ("sqlite://", "no file"),
        ("sqlite:///a.db?mode=ro", "parameters"),
        ("sqlite://user@host/a.db", "no user"),
        ("sqlite://host:80/a.db", "no port"),
        ("sqlite:///%FF.db", "UTF-8"),
        ("sqlite:///a%00.db", "NUL"),
    ] {
        let error = path_of(url).unwrap_err();
        assert_eq!(error.kind, Kind::Config, "{url}");
        assert!(error.what().contains(word), "{url}: {}", error.what());
    }
}

#[tokio::test]
async fn settings_without_a_usable_path_are_refused() {
    for configuration in [
        json!({}),
        json!({"path": ""}),
        json!({"path": ":memory:"}),
        json!({"path": 5}),
    ] {
        let connected = Sqlite.connect(&configuration, &ConnectCx::default()).await;
        let error = connected.err().unwrap();
        assert_eq!(error.kind, Kind::Config, "{configuration}");
    }
}

#[test]
fn the_form_asks_for_a_path() {
    let form = &Sqlite.forms().connection.json_schema;
    assert_eq!(form["required"], json!(["path"]));
    assert_eq!(form["properties"]["path"]["type"], "string");
    let advanced = &Sqlite.forms().destination.json_schema["properties"]["advanced"];
    assert_eq!(
        advanced["properties"]["truncate_existing"]["type"],
        "boolean"
    );
}

#[tokio::test]
async fn a_connection_can_be_source_and_destination_in_all_modes() {
    let connection = File::absent().connect().await;
    assert!(connection.roles().source.is_some() && connection.roles().destination.is_some());
    assert_eq!(connection.capabilities().modes, &WriteMode::ALL);
}

#[tokio::test]
async fn names_that_sqlite_or_the_bookkeeping_own_are_refused() {
    let file = File::absent();
    for name in ["", "sqlite_stat1", "SQLITE_x", "_tideway_loads"] {
        let mut load = load(Write::Append, Disposition::Retain);
        load.target.name = name.to_owned();
        let error = begin(&file, &load).await.err().unwrap();
        assert_eq!(error.kind, Kind::Config, "{name}");
    }
    let mut load = load(Write::Append, Disposition::Retain);
    load.target.namespace = Some("public".to_owned());
    let error = begin(&file, &load).await.err().unwrap();
    assert_eq!(error.blamed_field(), Some("schema"));
}
