//! Every logical type, through every format and back.

use std::sync::Arc;

use arrow_array::{Date32Array, Decimal128Array, RecordBatch, TimestampMicrosecondArray};
use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    LogicalType as L,
    destination::Write,
    schema::arrow_schema,
    types::{DATE_INFINITY, DECIMAL_NAN, TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY},
};

use crate::support::*;

/// Each type with values at the edges of what it holds.
pub fn all_types() -> Vec<(&'static str, L, Vec<String>)> {
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let decimal = |precision, scale| L::Decimal { precision, scale };
    vec![
        ("boolean", L::Boolean, texts(&["true", "false"])),
        ("int16", L::Int16, texts(&["-32768", "32767"])),
        ("int32", L::Int32, texts(&["-2147483648", "2147483647"])),
        (
            "int64",
            L::Int64,
            texts(&["-9223372036854775808", "9223372036854775807"]),
        ),
        ("uint64", L::UInt64, texts(&["0", "18446744073709551615"])),
        (
            "float32",
            L::Float32,
            texts(&["0.1", "3.4028235e38", "NaN", "-Infinity", "-0.0"]),
        ),
        (
            "float64",
            L::Float64,
            texts(&["0.1", "5e-324", "NaN", "Infinity", "-0.0"]),
        ),
        ("amount", decimal(12, 2), texts(&["-9999999999.99", "0.01"])),
        (
            "long",
            decimal(38, 10),
            vec![
                format!("{}.{}", "9".repeat(28), "1".repeat(10)),
                "0.0000000000".into(),
            ],
        ),
        (
            "longer",
            decimal(76, 0),
            vec!["9".repeat(76), format!("-{}", "1".repeat(70))],
        ),
        (
            "numeric",
            L::Numeric,
            vec![
                format!("{}.5", "9".repeat(90)),
                "NaN".into(),
                "-0.000".into(),
            ],
        ),
        (
            "text",
            L::Text,
            texts(&[
                "",
                "a,\"b\"\r\nc",
                "äß€😀",
                "\\N",
                "null",
                "007",
                "\u{feff}",
            ]),
        ),
        (
            "json",
            L::Json,
            texts(&["{\"a\":[1,2.50,null]}", "\"x\"", "null", "12.30", "[]"]),
        ),
        (
            "uuid",
            L::Uuid,
            texts(&[
                "00000000-0000-0000-0000-000000000000",
                "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            ]),
        ),
        ("binary", L::Binary, texts(&["", "AP8Q"])),
        (
            "date",
            L::Date,
            texts(&["-4712-01-01", "1969-12-31", "+294276-12-31"]),
        ),
        ("time", L::Time, texts(&["00:00:00", "23:59:59.999999"])),
        (
            "timestamp",
            L::Timestamp,
            texts(&["-4712-01-01T00:00:00", "+294246-12-31T23:59:59.999999"]),
        ),
        (
            "timestamptz",
            L::TimestampTz,
            texts(&["1969-12-31T23:59:59.999999Z", "9999-12-31T00:00:00Z"]),
        ),
        (
            "interval",
            L::Interval,
            texts(&["P1Y2M-3DT4H5M6.789S", "PT0S"]),
        ),
    ]
}

#[tokio::test]
async fn every_type_comes_back_as_it_went() {
    let types = all_types();
    let columns: Vec<_> = types
        .iter()
        .map(|(name, logical, _)| column(name, *logical))
        .collect();
    let most = types
        .iter()
        .map(|(_, _, values)| values.len())
        .max()
        .unwrap();
    let values: Rows = (0..=most)
        .map(|row| {
            let value = |values: &Vec<String>| values.get(row).cloned().unwrap_or(NULL.to_owned());
            types.iter().map(|(_, _, values)| value(values)).collect()
        })
        .collect();
    let mut expected = values.clone();
    expected.sort();
    for format in ["parquet", "csv", "json"] {
        for compression in ["none", "gzip", "zstd"] {
            let home = TempDir::new().unwrap();
            let connection = folder(home.path()).await;
            let options = json!({"format": format, "compression": compression});
            let mut load = load("l1", Write::Append, &columns, options);
            load.target.key = vec![];
            carry(&*connection, load, &values).await;
            let table = table(&*connection, "orders").await;
            assert_eq!(
                table.columns.iter().map(|c| c.logical).collect::<Vec<_>>(),
                types.iter().map(|t| t.1).collect::<Vec<_>>()
            );
            let found = rows_of(&*connection, "orders").await;
            assert_eq!(found, expected, "{format} {compression}");
        }
    }
}

#[tokio::test]
async fn parquet_files_tell_their_types_without_the_manifest() {
    let types = all_types();
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let columns: Vec<_> = types
        .iter()
        .map(|(name, logical, _)| column(name, *logical))
        .collect();
    let values: Rows = vec![
        types
            .iter()
            .map(|(_, _, values)| values[0].clone())
            .collect(),
    ];
    let mut load = load("l1", Write::Append, &columns, json!({"format": "parquet"}));
    load.target.key = vec![];
    carry(&*connection, load, &values).await;
    std::fs::remove_file(home.path().join("orders/_tideway.json")).unwrap();
    let alone = tables(&*connection).await.remove(0);
    for (column, (name, logical, _)) in alone.columns.iter().zip(&types) {
        assert_eq!((column.name.as_str(), column.logical), (*name, *logical));
    }
    assert_eq!(rows_of(&*connection, &alone.id.to_string()).await, values);
}

#[tokio::test]
async fn merging_unchanged_rows_of_every_type_changes_nothing() {
    let types = all_types();
    let mut columns = vec![column("id", L::Int64)];
    columns.extend(
        types
            .iter()
            .map(|(name, logical, _)| column(name, *logical)),
    );
    let most = types
        .iter()
        .map(|(_, _, values)| values.len())
        .max()
        .unwrap();
    let values: Rows = (0..=most)
        .map(|row| {
            let value = |values: &Vec<String>| values.get(row).cloned().unwrap_or(NULL.to_owned());
            let cells = types.iter().map(|(_, _, values)| value(values));
            std::iter::once(row.to_string()).chain(cells).collect()
        })
        .collect();
    for format in ["parquet", "csv", "json"] {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        for (id, expected) in [
            ("l1", (values.len() as u64, 0, 0, 0)),
            ("l2", (0, 0, 0, values.len() as u64)),
        ] {
            let load = load(id, REPLICATE, &columns, json!({"format": format}));
            assert_eq!(
                counts(&carry(&*connection, load, &values).await),
                expected,
                "{format}"
            );
        }
    }
}

#[tokio::test]
async fn infinity_and_nan_of_decimals_are_stored_as_null_and_told() {
    for format in ["parquet", "csv", "json"] {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        let columns = columns(&[
            ("day", L::Date),
            ("at", L::TimestampTz),
            (
                "price",
                L::Decimal {
                    precision: 9,
                    scale: 2,
                },
            ),
        ]);
        let price =
            Decimal128Array::from(vec![Some(DECIMAL_NAN), Some(150), None, Some(DECIMAL_NAN)]);
        let at = TimestampMicrosecondArray::from(vec![
            Some(TIMESTAMP_INFINITY),
            Some(TIMESTAMP_MINUS_INFINITY),
            None,
            Some(0),
        ]);
        let rows = RecordBatch::try_new(
            arrow_schema(&columns),
            vec![
                Arc::new(Date32Array::from(vec![
                    Some(DATE_INFINITY),
                    Some(0),
                    None,
                    Some(1),
                ])),
                Arc::new(at.with_timezone("UTC")),
                Arc::new(price.with_precision_and_scale(9, 2).unwrap()),
            ],
        );
        let mut load = load("l1", Write::Append, &columns, json!({"format": format}));
        load.target.key = vec![];
        let begun = begin(&*connection, load).await;
        let notes = land(&*begun, "a", rows.unwrap()).await;
        let told: Vec<(&str, u64)> = notes.iter().map(|n| (n.column.as_str(), n.rows)).collect();
        assert_eq!(told, [("day", 1), ("at", 2), ("price", 2)]);
        assert_eq!(notes[0].what, "infinity stored as null");
        assert_eq!(notes[2].what, "NaN stored as null");
        begun.finish().await.unwrap();
        let mut found = rows_of(&*connection, "orders").await;
        found.sort();
        let n = NULL;
        assert_eq!(
            found,
            [
                ["1970-01-01", n, "1.50"],
                ["1970-01-02", "1970-01-01T00:00:00Z", n],
                [n, n, n],
                [n, n, n]
            ]
        );
    }
}

#[tokio::test]
async fn json_documents_stand_in_json_files_as_they_are() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let columns = columns(&[
        ("id", L::Int64),
        ("doc", L::Json),
        (
            "amount",
            L::Decimal {
                precision: 12,
                scale: 2,
            },
        ),
    ]);
    let values = vec![
        vec![
            "1".to_owned(),
            "{\"a\":\n 1}".to_owned(),
            "12.30".to_owned(),
        ],
        vec!["2".to_owned(), "no json".to_owned(), NULL.to_owned()],
    ];
    let begun = begin(
        &*connection,
        load("l1", Write::Append, &columns, json!({"format": "json"})),
    )
    .await;
    let notes = land(&*begun, "a", batch(&columns, &values)).await;
    assert_eq!(
        (notes[0].column.as_str(), notes[0].what.as_str()),
        ("doc", "invalid JSON stored as a JSON string")
    );
    begun.finish().await.unwrap();
    let file = std::fs::read_to_string(home.path().join("orders/part-l1-00000.json")).unwrap();
    assert_eq!(
        file,
        "{\"id\":1,\"doc\":{\"a\":  1},\"amount\":12.30}\n{\"id\":2,\"doc\":\"no json\",\"amount\":null}\n"
    );
}

#[tokio::test]
async fn tables_of_one_column_keep_their_rows_without_value() {
    for format in ["csv", "json", "parquet"] {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        let columns = columns(&[("v", L::Text)]);
        let mut load = load("l1", Write::Append, &columns, json!({"format": format}));
        load.target.key = vec![];
        let values = rows("∅\na\n∅\n∅");
        carry(&*connection, load, &values).await;
        assert_eq!(rows_of(&*connection, "orders").await, rows("a\n∅\n∅\n∅"));
    }
}
