//! What is staged is read back as what it was written from, and what is not shows.

use arrow_array::RecordBatch;
use tideway_core::{
    Column,
    destination::{Load, ReadBack, TableLoad, Write},
    sums::{Sums, is_compared},
};

use crate::{
    given::*,
    values::{cases, columns, target, whole},
};

async fn read_back(load: &dyn TableLoad) -> Sums {
    let how = ReadBack {
        format: None,
        lanes: 3,
        batch_bytes: 1 << 20,
    };
    load.read_back(&how).await.unwrap().expect("it can be read")
}

/// What the rows of a load add up to before they are written.
fn sums_of(columns: &[Column], rows: &[RecordBatch]) -> Sums {
    let types: Vec<_> = columns
        .iter()
        .map(|column| Some(column.logical).filter(|logical| is_compared(*logical)))
        .collect();
    let mut sums = Sums::new(types.len());
    for rows in rows {
        sums.add_batch(rows, &types).unwrap();
    }
    sums
}

#[tokio::test]
async fn values_of_every_type_are_read_back_as_they_were_written() {
    let place = place().await;
    let cases = cases();
    let columns = columns(&cases);
    let rows = [whole(&cases, 1), whole(&cases, 3)];
    let sums = sums_of(&columns, &rows);
    for (at, write) in [Write::Replace, Write::Append, REPLICATE]
        .iter()
        .enumerate()
    {
        let load = target("t", columns.clone(), *write, &format!("w{at}"));
        let load = Load {
            target: tideway_core::destination::TargetTable {
                key: vec![columns[0].name.clone()],
                ..load.target
            },
            ..load
        };
        let begun = begin(&place.connection, load).await;
        fill(begun.as_ref(), &rows).await;
        assert_eq!(read_back(begun.as_ref()).await, sums, "{write:?}");
        begun.finish().await.unwrap();
    }
}

/// More than what DuckDB keeps together, so that it is read back in several ranges.
fn many() -> RecordBatch {
    let all: Vec<(i64, &str)> = (1..=130_000)
        .map(|id| (id, if id % 3 == 0 { "three" } else { "" }))
        .collect();
    rows(&all)
}

#[tokio::test]
async fn a_staged_row_that_is_altered_lost_or_doubled_is_found() {
    for write in [REPLICATE, Write::Append] {
        let mut place = place().await;
        let load = Load {
            resume: true,
            ..load("l", write)
        };
        let sums = sums_of(&load.target.columns, &[many()]);
        let begun = begin(&place.connection, load.clone()).await;
        fill(begun.as_ref(), &[many()]).await;
        assert_eq!(read_back(begun.as_ref()).await, sums);
        drop(begun);
        for (sql, columns) in [
            (
                "UPDATE _tideway_stage_l SET v = 'x' WHERE id = 129999",
                vec![1],
            ),
            (
                "UPDATE _tideway_stage_l SET v = 'three' WHERE id = 129999",
                vec![],
            ),
            (
                "UPDATE _tideway_stage_l SET v = CASE id WHEN 2 THEN 'three' ELSE '' END \
                 WHERE id IN (2, 3)",
                vec![],
            ),
            ("DELETE FROM _tideway_stage_l WHERE id = 77", vec![0, 1]),
            (
                "INSERT INTO _tideway_stage_l SELECT * FROM _tideway_stage_l WHERE id = 78",
                vec![0, 1],
            ),
        ] {
            // DuckDB lets one process have the file.
            place.connection = connect(&place.folder.path().join("none.duckdb")).await;
            place.sql(&[sql]);
            place.connection = connect(&place.path()).await;
            let begun = begin(&place.connection, load.clone()).await;
            assert_eq!(begun.landed().len(), 1);
            let now = read_back(begun.as_ref()).await;
            assert_eq!(sums.differing(&now), columns, "{write:?} {sql}");
            let mended = sql.contains("SET v = 'three'");
            assert_eq!(now.rows == sums.rows, mended, "{write:?} {sql}");
        }
    }
}
