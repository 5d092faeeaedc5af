//! What is staged is read back as what it was written from, and what is not shows. (That it
//! does for values of every type, see `round_trip.rs`.)

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use tideway_core::{
    Batch, Column, Kind, LogicalType,
    destination::{Disposition, ReadBack, TableLoad, Write},
    sums::{Sums, is_compared},
};

use crate::support::*;

const HOW: ReadBack<'_> = ReadBack {
    format: None,
    lanes: 4,
    batch_bytes: 300,
};

pub async fn staged(load: &dyn TableLoad) -> Sums {
    load.read_back(&HOW).await.unwrap().expect("it can be read")
}

/// What the rows of a load add up to before they are written.
pub fn sums_of(load: &dyn TableLoad, columns: &[Column], rows: &RecordBatch) -> Sums {
    let told = |column: &&Column| is_compared(column.logical) && load.tells_apart(column);
    let types: Vec<_> = columns
        .iter()
        .map(|column| Some(column).filter(told).map(|column| column.logical))
        .collect();
    let mut sums = Sums::new(types.len());
    sums.add_batch(rows, &types).unwrap();
    sums
}

#[tokio::test]
async fn a_staged_row_that_is_altered_lost_or_doubled_is_found() {
    for write in [Write::Append, Write::Replace, SOFT] {
        let (file, load) = (File::absent(), load(write, Disposition::Retain));
        let begun = begin(&file, &load).await.unwrap();
        let names: Vec<String> = (1..=100).map(|id| format!("name {id}")).collect();
        let rows: Vec<(i64, &str)> = (1..).zip(names.iter().map(String::as_str)).collect();
        let rows = person_rows(&rows);
        let sums = sums_of(begun.as_ref(), &people(), &rows.rows);
        land(begun.as_ref(), vec![rows]).await.unwrap();
        assert_eq!(staged(begun.as_ref()).await, sums);
        let stage = format!("_tideway_stage_{}", load.id);
        let run = |sql: &str| file.run(&sql.replace("STAGE", &stage));
        let alike = async |sql: &str, columns: &[usize]| {
            run(sql);
            let now = staged(begun.as_ref()).await;
            assert_eq!(sums.differing(&now), columns, "{write:?} {sql}");
            assert_ne!(now.rows, sums.rows, "{write:?} {sql}");
        };
        alike("UPDATE STAGE SET name = NULL WHERE id = 100", &[1]).await;
        run("UPDATE STAGE SET name = 'name 100' WHERE id = 100");
        alike(
            "UPDATE STAGE SET name = 'name ' || (3 - id) WHERE id IN (1, 2)",
            &[],
        )
        .await;
        run("UPDATE STAGE SET name = 'name ' || id WHERE id IN (1, 2)");
        assert_eq!(staged(begun.as_ref()).await, sums);
        alike("INSERT INTO STAGE (id, name) VALUES (0, 'name 1')", &[0, 1]).await;
        run("DELETE FROM STAGE WHERE id = 0");
        alike("DELETE FROM STAGE WHERE id = 50", &[0, 1]).await;
        // No number at all: it cannot even be read.
        if write == Write::Append {
            run("UPDATE STAGE SET id = 'abc' WHERE id = 51");
            let error = begun.read_back(&HOW).await.unwrap_err();
            assert_eq!(error.kind, Kind::Data, "{error}");
        }
        begun.abandon().await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_are_not_staged_are_said_to_be() {
    let lacking = |ids: [Option<i64>; 3]| {
        let ids = Int64Array::from(ids.to_vec());
        let names = StringArray::from(vec!["a", "b", "a"]);
        batch(&people(), vec![Arc::new(ids), Arc::new(names)])
    };
    for write in [SOFT, Write::Replace] {
        for ids in [[Some(1), Some(2), Some(1)], [Some(1), None, Some(3)]] {
            let file = File::absent();
            let begun = begin(&file, &load(write, Disposition::Retain)).await;
            let begun = begun.unwrap();
            land(begun.as_ref(), vec![lacking(ids)]).await.unwrap();
            let error = begun.read_back(&HOW).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
            assert!(error.to_string().contains("1 rows lack a key"), "{error}");
        }
    }
}

#[tokio::test]
async fn values_that_are_kept_as_wider_ones_are_compared_where_they_can_be() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT, x REAL, d TIMESTAMP, e \"DECIMAL TEXT(30,4)\")",
    );
    let logical = [
        ("id", LogicalType::Int64),
        ("n", LogicalType::Int64),
        ("x", LogicalType::Int32),
        ("d", LogicalType::Date),
        ("e", LogicalType::Int64),
    ];
    let columns: Vec<Column> = logical
        .iter()
        .map(|(name, logical)| Column::new(name, *logical))
        .collect();
    let numbers = || -> ArrayRef { Arc::new(Int64Array::from(vec![Some(-7), None])) };
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2])),
        numbers(),
        Arc::new(arrow_array::Int32Array::from(vec![i32::MAX, 0])),
        Arc::new(arrow_array::Date32Array::from(vec![i32::MAX, -1])),
        numbers(),
    ];
    let Batch { rows, .. } = batch(&columns, arrays);
    let load = load_of(columns.clone(), &["id"], SOFT, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    land(begun.as_ref(), vec![Batch::of_rows(rows.clone())])
        .await
        .unwrap();
    let told: Vec<bool> = columns.iter().map(|c| begun.tells_apart(c)).collect();
    assert_eq!(told, [true, false, true, true, true]);
    let sums = sums_of(begun.as_ref(), &columns, &rows);
    assert_eq!(staged(begun.as_ref()).await, sums);
    let stage = format!("_tideway_stage_{}", load.id);
    file.run(&format!("UPDATE {stage} SET x = x - 1 WHERE id = 1"));
    assert_eq!(staged(begun.as_ref()).await.differing(&sums), [2]);
}

#[tokio::test]
async fn minus_zero_and_infinity_are_what_they_are() {
    let file = File::absent();
    let columns = vec![
        Column::new("id", LogicalType::Int64),
        Column::new("x", LogicalType::Float64),
    ];
    let floats = Float64Array::from(vec![-0.0, f64::INFINITY, f64::MIN_POSITIVE]);
    let ids = Int64Array::from(vec![1, 2, 3]);
    let Batch { rows, .. } = batch(&columns, vec![Arc::new(ids), Arc::new(floats)]);
    let load = load_of(columns.clone(), &["id"], SOFT, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    land(begun.as_ref(), vec![Batch::of_rows(rows.clone())])
        .await
        .unwrap();
    let sums = sums_of(begun.as_ref(), &columns, &rows);
    assert_eq!(staged(begun.as_ref()).await, sums);
}
