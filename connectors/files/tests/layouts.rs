//! Which files are which table.

use serde_json::json;
use tempfile::TempDir;
use tideway_core::{Kind, LogicalType as L, destination::Write};

use crate::support::*;

async fn ids(connection: &dyn tideway_core::Connection) -> Vec<String> {
    tables(connection)
        .await
        .iter()
        .map(|table| table.id.to_string())
        .collect()
}

fn exports() -> TempDir {
    let home = TempDir::new().unwrap();
    put(home.path(), "orders.csv", "id,v\n1,a\n");
    put(home.path(), "2024/orders.csv", "id,v\n2,b\n");
    put(home.path(), "2024/orders.json", "{\"id\":3,\"w\":1}\n");
    put(home.path(), "2025/q1/orders.csv", "id,v\n4,d\n");
    put(home.path(), "2025/_SUCCESS", "");
    put(home.path(), ".hidden/x.csv", "id\n9\n");
    put(home.path(), "_tideway/orders/l1/x.csv", "id\n9\n");
    put(home.path(), "readme.txt", "not a table\n");
    home
}

#[tokio::test]
async fn by_default_every_file_is_a_table_and_no_two_have_one_id() {
    let home = exports();
    let connection = folder(home.path()).await;
    assert_eq!(
        ids(&*connection).await,
        [
            "2024/orders.csv",
            "2024/orders.json",
            "2025/q1/orders",
            "orders"
        ]
    );
    assert_eq!(rows_of(&*connection, "2025/q1/orders").await, rows("4|d"));
}

#[tokio::test]
async fn all_files_of_a_format_can_be_one_table() {
    let home = exports();
    let settings = json!({
        "is_single_table": true,
        "single_table_name": "all orders",
        "single_table_file_format": "csv"
    });
    let connection = folder_with(home.path(), settings).await;
    assert_eq!(ids(&*connection).await, ["all orders"]);
    // A file without an extension that is known is taken for the format that is set.
    std::fs::remove_file(home.path().join("readme.txt")).unwrap();
    put(home.path(), "part-00000", "v,id,new\nz,5,x\n");
    let table = table(&*connection, "all orders").await;
    assert_eq!(
        shape(&table),
        [("id", L::Int64), ("v", L::Text), ("new", L::Text)]
    );
    let expected = rows("1|a|∅\n2|b|∅\n4|d|∅\n5|z|x");
    assert_eq!(rows_of(&*connection, "all orders").await, expected);
}

#[tokio::test]
async fn files_of_several_formats_can_be_one_table() {
    let home = exports();
    std::fs::remove_file(home.path().join("readme.txt")).unwrap();
    let settings = json!({
        "is_single_table": true,
        "single_table_name": "t",
        "single_table_file_formats": ["csv", "json"]
    });
    let connection = folder_with(home.path(), settings).await;
    assert_eq!(rows_of(&*connection, "t").await.len(), 4);
}

#[tokio::test]
async fn directories_that_a_pattern_matches_are_tables() {
    let home = exports();
    for (pattern, expected) in [
        ("*", vec!["2024", "2025"]),
        ("2025/*", vec!["2025/q1"]),
        ("**", vec!["2024", "2025/q1"]),
    ] {
        let settings = json!({"is_directory_snapshot": true, "directory_glob_pattern": pattern});
        let connection = folder_with(home.path(), settings).await;
        assert_eq!(ids(&*connection).await, expected, "{pattern}");
    }
    let settings = json!({
        "is_directory_snapshot": true,
        "directory_glob_pattern": "*",
        "single_table_file_formats": ["json"]
    });
    let connection = folder_with(home.path(), settings).await;
    assert_eq!(rows_of(&*connection, "2024").await, rows("3|1"));
}

#[tokio::test]
async fn a_single_file_can_be_a_source() {
    let home = exports();
    let connection = folder(&home.path().join("orders.csv")).await;
    assert_eq!(ids(&*connection).await, ["orders"]);
    assert_eq!(rows_of(&*connection, "orders").await, rows("1|a"));
}

#[tokio::test]
async fn what_we_wrote_is_one_table_with_its_types_and_key() {
    let home = exports();
    let columns = columns(&[("id", L::Int64), ("code", L::Text), ("doc", L::Json)]);
    let connection = folder(home.path()).await;
    for format in ["csv", "json", "parquet"] {
        let mut load = load(
            &format!("l{format}"),
            REPLICATE,
            &columns,
            json!({"format": format}),
        );
        load.target.name = format!("ours_{format}");
        carry(&*connection, load, &rows("1|007|{}\n2|008|null")).await;
        let id = format!("ours_{format}");
        let table = table(&*connection, &id).await;
        assert_eq!(table.primary_key, ["id"]);
        assert_eq!(
            &shape(&table)[..3],
            [("id", L::Int64), ("code", L::Text), ("doc", L::Json)]
        );
        let found = rows_of(&*connection, &id).await;
        assert_eq!(found, rows("1|007|{}|∅\n2|008|null|∅"));
    }
    // Files that are not in the manifest are no part of it.
    put(&home.path().join("ours_csv"), "stranger.csv", "id\n77\n");
    assert_eq!(rows_of(&*connection, "ours_csv").await.len(), 2);
}

#[tokio::test]
async fn our_tables_are_seen_from_within_their_own_folder_too() {
    let home = TempDir::new().unwrap();
    let columns = columns(&[("id", L::Int64)]);
    let options = json!({"format": "csv", "subfolder": "a/b"});
    let connection = folder(home.path()).await;
    carry(
        &*connection,
        load("l1", Write::Append, &columns, options),
        &rows("1\n2"),
    )
    .await;
    assert_eq!(ids(&*connection).await, ["a/b/orders"]);
    let inside = folder(&home.path().join("a/b/orders")).await;
    assert_eq!(rows_of(&*inside, "orders").await, rows("1\n2"));
}

#[tokio::test]
async fn a_layout_that_makes_no_sense_is_refused_with_its_field() {
    use tideway_core::{Connector, connector::ConnectCx};
    for (settings, field) in [
        (json!({"is_single_table": true}), "single_table_name"),
        (
            json!({"is_single_table": true, "is_directory_snapshot": true}),
            "is_directory_snapshot",
        ),
        (
            json!({"is_directory_snapshot": true, "directory_glob_pattern": "[x"}),
            "directory_glob_pattern",
        ),
        (json!({"skip_lines": "many"}), "skip_lines"),
    ] {
        let mut settings = settings;
        settings["path"] = "/tmp".into();
        let cx = ConnectCx::default();
        let connected = tideway_files::FilesConnector.connect(&settings, &cx);
        let error = connected.await.err().unwrap();
        assert_eq!(
            (error.kind, error.blamed_field()),
            (Kind::Config, Some(field))
        );
    }
}

#[tokio::test]
async fn one_broken_file_does_not_hide_the_other_tables() {
    let home = exports();
    put(home.path(), "broken.parquet", "this is no Parquet");
    let connection = folder(home.path()).await;
    assert_eq!(tables(&*connection).await.len(), 4);
}
