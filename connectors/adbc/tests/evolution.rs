//! Targets whose columns are not those of the load.

use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use tideway_core::{
    Column, Kind, LogicalType,
    destination::{Disposition, Load, TargetTable, Write},
    schema::arrow_schema,
};

use crate::given::*;

fn target(id: &str, write: Write, columns: &[(&str, LogicalType)]) -> Load {
    Load {
        target: TargetTable {
            columns: columns
                .iter()
                .map(|(name, logical)| Column::new(name, *logical))
                .collect(),
            ..load(id, write).target
        },
        ..load(id, write)
    }
}

fn batch(load: &Load, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(arrow_schema(&load.target.columns), arrays).unwrap()
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

const INT: LogicalType = LogicalType::Int64;
const TEXT: LogicalType = LogicalType::Text;

#[tokio::test]
async fn new_columns_are_added_and_vanished_ones_kept() {
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let place = place().await;
        let first = target("a", write, &[("id", INT), ("gone", TEXT), ("v", TEXT)]);
        let rows = batch(
            &first,
            vec![ints(&[1, 2]), texts(&["x", "y"]), texts(&["a", "b"])],
        );
        run(&place.connection, first, &[rows]).await;

        let second = target("b", write, &[("id", INT), ("v", TEXT), ("new", INT)]);
        let rows = batch(
            &second,
            vec![ints(&[2, 3]), texts(&["B", "c"]), ints(&[20, 30])],
        );
        let loading = begin(&place.connection, second).await;
        let changes: Vec<&str> = loading
            .schema_changes()
            .iter()
            .map(|c| c.0.as_str())
            .collect();
        assert_eq!(changes, ["added column new (BIGINT)"]);
        fill(loading.as_ref(), &[rows]).await;
        loading.finish().await.unwrap();
        drop(loading);
        let seen = place.sql(&["SELECT id, gone, v, new FROM t ORDER BY id, v DESC"]);
        match write {
            Write::Append => assert_eq!(seen.len(), 4),
            Write::Replace => {
                assert_eq!(seen, [["2", "NULL", "B", "20"], ["3", "NULL", "c", "30"]])
            }
            Write::Merge { .. } | Write::Changes { .. } => assert_eq!(
                seen,
                [
                    ["1", "x", "a", "NULL"],
                    ["2", "y", "B", "20"],
                    ["3", "NULL", "c", "30"]
                ]
            ),
        }
    }
}

#[tokio::test]
async fn columns_are_widened_to_hold_old_and_new_values() {
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let place = place().await;
        place.sql(&[
            "CREATE TABLE t (id TINYINT, small DECIMAL(4,1) NOT NULL, day DATE, list INTEGER[], text INTEGER)",
            "INSERT INTO t VALUES (1, 1.5, '2020-01-01', [1, 2], 7)",
        ]);
        let wide = LogicalType::Decimal {
            precision: 10,
            scale: 4,
        };
        let columns = [
            ("id", INT),
            ("small", wide),
            ("day", LogicalType::Timestamp),
            ("list", LogicalType::Json),
            ("text", TEXT),
        ];
        let second = target("b", write, &columns);
        let decimals = Decimal128Array::from(vec![12345])
            .with_precision_and_scale(10, 4)
            .unwrap();
        let stamps = arrow_array::TimestampMicrosecondArray::from(vec![1]);
        let rows = batch(
            &second,
            vec![
                ints(&[300]),
                Arc::new(decimals),
                Arc::new(stamps),
                texts(&["{}"]),
                texts(&["x"]),
            ],
        );
        let loading = begin(&place.connection, second).await;
        let changes: Vec<&str> = loading
            .schema_changes()
            .iter()
            .map(|c| c.0.as_str())
            .collect();
        assert_eq!(
            changes,
            [
                "column id became BIGINT (was TINYINT)",
                "column small became DECIMAL(10,4) (was DECIMAL(4,1))",
                "column small may be null now",
                "column day became TIMESTAMP (was DATE)",
                "column list became JSON (was INTEGER[])",
                "column text became VARCHAR (was INTEGER)",
            ]
        );
        fill(loading.as_ref(), &[rows]).await;
        loading.finish().await.unwrap();
        drop(loading);
        let seen = place.sql(&["SELECT id, small, day::VARCHAR, list, text FROM t ORDER BY id"]);
        let new = ["300", "1.2345", "1970-01-01 00:00:00.000001", "{}", "x"];
        let old = ["1", "1.5000", "2020-01-01 00:00:00", "[1,2]", "7"];
        match write {
            Write::Replace => assert_eq!(seen, [new]),
            Write::Append => assert_eq!(seen, [old, new]),
            // Key 1 has not come, so it is marked.
            Write::Merge { .. } | Write::Changes { .. } => assert_eq!(seen, [old, new]),
        }
    }
}

#[tokio::test]
async fn a_narrower_source_does_not_narrow_the_table() {
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let place = place().await;
        place.sql(&[
            "CREATE TABLE t (id HUGEINT, v VARCHAR)",
            "COMMENT ON COLUMN t.v IS 'mine'",
        ]);
        let second = target(
            "b",
            write,
            &[("id", LogicalType::Int32), ("v", LogicalType::Uuid)],
        );
        let id = arrow_array::Int32Array::from(vec![5]);
        let uuid = arrow_array::FixedSizeBinaryArray::try_from_iter([[1_u8; 16]].iter()).unwrap();
        let rows = batch(&second, vec![Arc::new(id), Arc::new(uuid)]);
        run(&place.connection, second, &[rows]).await;
        assert_eq!(
            place.sql(&[
                "SELECT id, v, typeof(id), typeof(v) FROM t",
                "SELECT comment FROM duckdb_columns() WHERE table_name = 't' AND column_name = 'v'"
            ]),
            [
                vec![
                    "5",
                    "01010101-0101-0101-0101-010101010101",
                    "HUGEINT",
                    "VARCHAR"
                ],
                vec!["mine"]
            ]
        );
    }
}

#[tokio::test]
async fn text_carried_columns_say_what_they_are_wherever_they_come_from() {
    let wide = LogicalType::Decimal {
        precision: 50,
        scale: 10,
    };
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let place = place().await;
        for (id, logical) in [
            ("a", INT),
            ("b", wide),
            ("c", LogicalType::Numeric),
            ("d", TEXT),
        ] {
            let loading = target(id, write, &[("id", INT), ("n", logical)]);
            run(&place.connection, loading, &[]).await;
            let found = table(&place.connection, "main.t").await;
            assert_eq!(found.columns[1].logical, logical, "{write:?}");
        }
    }
}

#[tokio::test]
async fn rebuilding_makes_the_table_as_the_load_wants_it() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE t (id VARCHAR, extra INTEGER)",
        "INSERT INTO t VALUES ('x', 1)",
    ]);
    let rebuilt = Load {
        disposition: Disposition::Rebuild,
        ..load("r", Write::Append)
    };
    let loading = begin(&place.connection, rebuilt).await;
    assert!(loading.schema_changes().is_empty());
    // Until the end the old table is there as it was.
    fill(loading.as_ref(), &[rows(&[(1, "a")])]).await;
    assert_eq!(table(&place.connection, "main.t").await.columns.len(), 2);
    loading.finish().await.unwrap();
    let found = table(&place.connection, "main.t").await;
    let columns: Vec<_> = found
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.logical))
        .collect();
    assert_eq!(columns, [("id", INT), ("v", TEXT)]);
}

#[tokio::test]
async fn stamps_are_added_to_a_table_that_lacks_them() {
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let place = place().await;
        run(
            &place.connection,
            load("a", Write::Append),
            &[rows(&[(1, "a")])],
        )
        .await;
        let stamped = Load {
            record_timestamps: true,
            ..load("b", write)
        };
        run(&place.connection, stamped, &[rows(&[(2, "b")])]).await;
        let seen = place.sql(&["SELECT _polytomic_created_at IS NULL FROM t WHERE id = 2"]);
        assert_eq!(seen, [["false"]], "{write:?}");
    }
}

#[tokio::test]
async fn a_table_dropped_during_a_load_is_made_again() {
    let place = place().await;
    for write in [Write::Append, REPLICATE] {
        run(
            &place.connection,
            load(&format!("a{}", write == Write::Append), write),
            &[rows(&[(1, "a")])],
        )
        .await;
        let stamped = Load {
            record_timestamps: true,
            ..load(&format!("b{}", write == Write::Append), write)
        };
        let loading = begin(&place.connection, stamped.clone()).await;
        fill(loading.as_ref(), &[rows(&[(2, "b")])]).await;
        drop(loading);
        place.sql(&["DROP TABLE t"]);
        let again = begin(
            &place.connection,
            Load {
                resume: true,
                ..stamped
            },
        )
        .await;
        fill(again.as_ref(), &[rows(&[(2, "b")])]).await;
        assert_eq!(counts(&again.finish().await.unwrap()), [1, 0, 0, 0]);
        drop(again);
        assert_eq!(
            ids_and_values(&place.connection, "main.t").await,
            owned(&[(2, "b")])
        );
        place.sql(&["DROP TABLE t"]);
    }
}

#[tokio::test]
async fn a_view_is_not_written_to() {
    let place = place().await;
    place.sql(&["CREATE VIEW t AS SELECT 1 AS id"]);
    let refused = place
        .connection
        .roles()
        .destination
        .unwrap()
        .begin(load("x", Write::Append))
        .await;
    let error = refused.err().unwrap();
    assert_eq!(
        (error.kind, error.what()),
        (Kind::Conflict, "main.t is a view")
    );
}

#[tokio::test]
async fn an_index_in_the_way_is_named_with_a_remedy() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE t (id INTEGER, v VARCHAR)",
        "CREATE INDEX i ON t (id)",
    ]);
    let refused = place
        .connection
        .roles()
        .destination
        .unwrap()
        .begin(load("x", Write::Append))
        .await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind, Kind::Conflict, "{error:?}");
    assert!(
        error.advice().contains("drop the indexes"),
        "{}",
        error.advice()
    );
}
