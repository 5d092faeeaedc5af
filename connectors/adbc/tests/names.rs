//! Names that would break a statement if they were not quoted, or mean something else.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use tideway_core::{
    Column, LogicalType,
    destination::{Load, TargetTable, Write},
    schema::arrow_schema,
};

use crate::given::*;

const NASTY: &[&str] = &[
    "a b",
    "quo\"te",
    "apo'strophe",
    "select",
    "semi; DROP TABLE t; --",
    "dot.dot",
    "größe 🦆",
    "%s {} \\",
    "row",
    "old",
    "s",
    "Line\nbreak",
];

fn nasty(id: &str, namespace: &str, table: &str, write: Write) -> (Load, RecordBatch) {
    let columns: Vec<Column> = NASTY
        .iter()
        .map(|name| {
            Column::new(
                name,
                if *name == "a b" {
                    LogicalType::Int64
                } else {
                    LogicalType::Numeric
                },
            )
        })
        .collect();
    let arrays = columns
        .iter()
        .map(|column| match column.logical {
            LogicalType::Int64 => Arc::new(Int64Array::from(vec![1, 2])) as _,
            _ => Arc::new(StringArray::from(vec![
                format!("{id} 1"),
                format!("{id} 2"),
            ])) as _,
        })
        .collect();
    let rows = RecordBatch::try_new(arrow_schema(&columns), arrays).unwrap();
    let target = TargetTable {
        namespace: Some(namespace.to_owned()),
        name: table.to_owned(),
        columns,
        key: vec!["a b".to_owned()],
        partition_key: None,
        history: None,
    };
    (
        Load {
            target,
            record_timestamps: true,
            ..load(id, write)
        },
        rows,
    )
}

#[tokio::test]
async fn nasty_names_of_schemas_tables_and_columns_survive() {
    for name in ["semi\"; DROP TABLE x", "it's", "größe 🦆", "select"] {
        let place = place().await;
        for (id, write) in [
            ("a", REPLICATE),
            ("b", REPLICATE),
            ("c", Write::Append),
            ("d", Write::Replace),
        ] {
            let (load, rows) = nasty(id, name, name, write);
            run(&place.connection, load, &[rows]).await;
        }
        let found = table(&place.connection, &format!("{name}.{name}")).await;
        let names: Vec<&str> = found
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .take(NASTY.len())
            .collect();
        assert_eq!(names, NASTY);
        let batches = read_all(&snapshot(&place.connection).await, &read_of(found)).await;
        assert_eq!(
            batches
                .iter()
                .map(tideway_core::Batch::row_count)
                .sum::<usize>(),
            2
        );
    }
}

#[tokio::test]
async fn a_schema_may_be_called_like_the_file() {
    let place = place().await;
    let (load, rows) = nasty("a", "t", "t", REPLICATE);
    run(&place.connection, load, &[rows]).await;
    assert_eq!(table(&place.connection, "t.t").await.columns[0].name, "a b");
}

#[tokio::test]
async fn files_may_have_any_name() {
    library();
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "temp.duckdb",
        "system",
        "memory.db",
        "main.duckdb",
        "it's \"quoted\".duckdb",
        "a.b.c",
        "🦆",
    ] {
        let connection = connect(&folder.path().join(name)).await;
        run(&connection, load("a", REPLICATE), &[rows(&[(1, "a")])]).await;
        assert_eq!(
            ids_and_values(&connection, "main.t").await,
            owned(&[(1, "a")]),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_column_called_rowid_hides_no_rows() {
    let place = place().await;
    let columns = vec![
        Column::new("id", LogicalType::Int64),
        Column::new("rowid", LogicalType::Int64),
    ];
    let of = |id: &str, numbers: Vec<i64>| {
        let target = TargetTable {
            columns: columns.clone(),
            ..load(id, REPLICATE).target
        };
        let ids = Int64Array::from((0..numbers.len() as i64).collect::<Vec<_>>());
        let arrays = vec![Arc::new(ids) as _, Arc::new(Int64Array::from(numbers)) as _];
        let rows = RecordBatch::try_new(arrow_schema(&columns), arrays).unwrap();
        (
            Load {
                target,
                ..load(id, REPLICATE)
            },
            rows,
        )
    };
    let (first, rows) = of("a", vec![7, 7, 7]);
    run(&place.connection, first, &[rows]).await;
    let (second, rows) = of("b", vec![7, 8]);
    assert_eq!(
        counts(&run(&place.connection, second, &[rows]).await),
        [0, 1, 1, 1]
    );
    assert_eq!(
        place.sql(&["SELECT id, \"rowid\" FROM t ORDER BY id"]),
        [["0", "7"], ["1", "8"], ["2", "7"]]
    );
    // More rows than DuckDB keeps together, all of one number.
    place.sql(&["INSERT INTO t SELECT range, 5, NULL FROM range(10, 400010)"]);
    let read = read_of(table(&place.connection, "main.t").await);
    let batches = read_all(&snapshot(&place.connection).await, &read).await;
    assert_eq!(
        batches
            .iter()
            .map(tideway_core::Batch::row_count)
            .sum::<usize>(),
        400_003
    );
}

#[tokio::test]
async fn our_own_tables_are_not_offered() {
    let place = place().await;
    let loading = begin(&place.connection, load("a", REPLICATE)).await;
    assert!(discover(&place.connection).await.tables.is_empty());
    drop(loading);
    assert_eq!(
        place.sql(&["SELECT count(*) FROM duckdb_tables()"]),
        [["2"]]
    );
}
