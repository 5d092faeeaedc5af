//! JSON as it comes.

use tempfile::TempDir;
use tideway_core::{Kind, LogicalType as L};

use crate::support::*;

#[tokio::test]
async fn lines_and_arrays_give_the_same_table() {
    let home = TempDir::new().unwrap();
    put(
        home.path(),
        "lines.jsonl",
        "{\"id\":1,\"name\":\"A\\n\\u00e4\",\"tags\":[1, 2]}\n{\"id\":2,\"name\":null,\"extra\":1.5}\n",
    );
    put(
        home.path(),
        "array.json",
        "[{\"id\":1,\"name\":\"A\\n\\u00e4\",\"tags\":[1, 2]},\n {\"extra\":1.5,\"id\":2}]",
    );
    let connection = folder(home.path()).await;
    for id in ["lines", "array"] {
        let table = table(&*connection, id).await;
        assert_eq!(
            shape(&table),
            [
                ("id", L::Int64),
                ("name", L::Text),
                ("tags", L::Json),
                ("extra", L::Float64)
            ]
        );
        let found = read(&*connection, read_request(&table)).await.unwrap().rows;
        assert_eq!(
            found,
            [["1", "A\nä", "[1, 2]", NULL], ["2", NULL, NULL, "1.5"]]
        );
    }
}

#[tokio::test]
async fn rows_of_different_types_meet_in_a_type_that_holds_both() {
    let home = TempDir::new().unwrap();
    put(
        home.path(),
        "t.json",
        r#"{"a":1,"b":1,"c":1,"d":true,"e":12345678901234567890}
           {"a":2.5,"b":"x","c":{"k":"v"},"d":null,"e":1}"#,
    );
    let connection = folder(home.path()).await;
    let table = table(&*connection, "t").await;
    let wide = L::Decimal {
        precision: 38,
        scale: 0,
    };
    assert_eq!(
        shape(&table),
        [
            ("a", L::Float64),
            ("b", L::Text),
            ("c", L::Json),
            ("d", L::Boolean),
            ("e", wide)
        ]
    );
    let found = read(&*connection, read_request(&table)).await.unwrap().rows;
    assert_eq!(
        found,
        [
            ["1.0", "1", "1", "true", "12345678901234567890"],
            ["2.5", "x", "{\"k\":\"v\"}", NULL, "1"]
        ]
    );
}

#[tokio::test]
async fn broken_json_is_named_by_its_line_and_shows_no_value() {
    let home = TempDir::new().unwrap();
    put(home.path(), "t.json", "{\"id\":1}\n{\"id\":s3cret}\n");
    let connection = folder(home.path()).await;
    let source = connection.roles().source.unwrap();
    let error = source.discover(&Default::default()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.what().contains("t.json, line 2"), "{error}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
}
