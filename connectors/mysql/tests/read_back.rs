//! What is staged is read back as what it was written from, and what is not shows.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use tideway_core::{
    Batch, Column, Kind, LogicalType,
    destination::{Load, ReadBack, TableLoad, Write},
    sums::{Sums, is_compared},
};

use crate::{
    rig::{HARD, Rig, SOFT, Server, batch, land, load_of, on_both, people, rows},
    values::arrays,
};

on_both!(
    values_of_every_type_are_read_back_as_they_were_written,
    a_staged_row_that_is_altered_lost_or_doubled_is_found,
    a_load_with_repeated_keys_says_so,
);

const HOW: ReadBack<'_> = ReadBack {
    format: None,
    lanes: 4,
    batch_bytes: 64 << 10,
};

async fn read_back(load: &dyn TableLoad) -> Sums {
    load.read_back(&HOW).await.unwrap().expect("it can be read")
}

/// What the rows of a load add up to before they are written.
fn sums_of(load: &Load, rows: &RecordBatch) -> Sums {
    let columns = load.target.columns.iter();
    let types: Vec<_> = columns
        .map(|column| Some(column.logical).filter(|logical| is_compared(*logical)))
        .collect();
    let mut sums = Sums::new(types.len());
    sums.add_batch(rows, &types).unwrap();
    sums
}

async fn values_of_every_type_are_read_back_as_they_were_written(server: Server) {
    for write in [Write::Append, Write::Replace, SOFT, HARD] {
        for by_files in [true, false] {
            let rig = Rig::with(server, serde_json::json!({"local_infile": by_files})).await;
            let (mut columns, mut values): (Vec<Column>, Vec<_>) = arrays()
                .into_iter()
                .enumerate()
                .map(|(at, (logical, array))| {
                    let column = Column::new(&format!("c{at}"), logical);
                    let nullable = at > 0;
                    (Column { nullable, ..column }, array)
                })
                .unzip();
            // Numbers that the server prints in another way, and what no decimal of it holds.
            let zeros = arrow_array::Float64Array::from(vec![-0.0, 1e-300, 123_456_789.125]);
            let scaled = arrow_array::Decimal128Array::from(vec![5, -70, 0]);
            let more: [(LogicalType, arrow_array::ArrayRef); 2] = [
                (LogicalType::Float64, Arc::new(zeros)),
                (
                    LogicalType::Decimal {
                        precision: 5,
                        scale: -2,
                    },
                    Arc::new(scaled.with_precision_and_scale(5, -2).unwrap()),
                ),
            ];
            for (at, (logical, array)) in more.into_iter().enumerate() {
                columns.push(Column::new(&format!("m{at}"), logical));
                values.push(array);
            }
            let load = load_of(write, columns);
            let rows = batch(&load, values);
            let table = rig.begin(load.clone()).await;
            land(table.as_ref(), "1", rows.clone()).await.unwrap();
            let found = read_back(table.as_ref()).await;
            assert_eq!(found, sums_of(&load, &rows), "{write:?} {by_files}");
            assert_eq!(table.finish().await.unwrap().inserted, 3);
            rig.drop().await;
        }
    }
}

/// Enough rows to be read back in several ranges of the key.
fn many(load: &Load) -> RecordBatch {
    let ids = Int64Array::from_iter_values(1..=120_000);
    let names = (1..=120_000).map(|id| (id % 7 > 0).then(|| format!("name {id}")));
    let names: StringArray = names.collect();
    batch(load, vec![Arc::new(ids), Arc::new(names)])
}

async fn a_staged_row_that_is_altered_lost_or_doubled_is_found(server: Server) {
    let rig = Rig::new(server).await;
    for write in [SOFT, Write::Append] {
        let load = people(write);
        let rows = many(&load);
        let sums = sums_of(&load, &rows);
        let table = rig.begin(load.clone()).await;
        land(table.as_ref(), "1", rows).await.unwrap();
        assert_eq!(read_back(table.as_ref()).await, sums, "{write:?}");
        let stage = format!("_tideway_stage_{}", load.id);
        let alike = async |sql: &str, columns: &[usize]| {
            rig.run(&sql.replace("STAGE", &stage)).await;
            let now = read_back(table.as_ref()).await;
            assert_eq!(sums.differing(&now), columns, "{write:?} {sql}");
            assert_ne!(now.rows, sums.rows, "{write:?} {sql}");
        };
        let right = "UPDATE STAGE SET name = CONCAT('name ', id) WHERE id IN (1, 2, 60000)";
        alike(
            "UPDATE STAGE SET name = 'Name 60000' WHERE id = 60000",
            &[1],
        )
        .await;
        rig.run(&right.replace("STAGE", &stage)).await;
        assert_eq!(read_back(table.as_ref()).await, sums);
        // Two rows exchange a value: every column holds what it held.
        let exchanged = "UPDATE STAGE SET name = CONCAT('name ', 3 - id) WHERE id IN (1, 2)";
        alike(exchanged, &[]).await;
        rig.run(&right.replace("STAGE", &stage)).await;
        alike("DELETE FROM STAGE WHERE id = 119999", &[0, 1]).await;
        rig.run(&format!(
            "INSERT INTO {stage} VALUES (119999, 'name 119999')"
        ))
        .await;
        assert_eq!(read_back(table.as_ref()).await, sums);
        alike("INSERT INTO STAGE VALUES (0, NULL)", &[0, 1]).await;
        table.abandon().await.unwrap();
    }
    // What reading would take for true was not written so.
    let flag = Column::new("flag", LogicalType::Boolean);
    let load = load_of(Write::Append, vec![flag]);
    let flags = arrow_array::BooleanArray::from(vec![true, false]);
    let rows = batch(&load, vec![Arc::new(flags)]);
    let table = rig.begin(load.clone()).await;
    land(table.as_ref(), "1", rows.clone()).await.unwrap();
    assert_eq!(read_back(table.as_ref()).await, sums_of(&load, &rows));
    let stage = format!("_tideway_stage_{}", load.id);
    rig.run(&format!("UPDATE {stage} SET flag = 2 WHERE flag = 1"))
        .await;
    let error = table.read_back(&HOW).await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.to_string().contains("column flag"), "{error}");
    rig.drop().await;
}

async fn a_load_with_repeated_keys_says_so(server: Server) {
    for by_files in [true, false] {
        let rig = Rig::with(server, serde_json::json!({"local_infile": by_files})).await;
        // Whether or not the second row is like the first, and wherever it comes.
        for repeated in [
            vec![vec![(1, "a"), (2, "b"), (1, "a")]],
            vec![vec![(1, "a"), (2, "b"), (1, "c")]],
            vec![vec![(1, "a")], vec![(2, "b"), (1, "a")]],
        ] {
            for write in [SOFT, Write::Replace] {
                let table = rig.begin(people(write)).await;
                let mut lane = table.lane().await.unwrap();
                for (part, people) in repeated.iter().enumerate() {
                    lane.write(Batch::of_rows(rows(people))).await.unwrap();
                    lane.commit(&part.to_string()).await.unwrap();
                }
                let error = table.read_back(&HOW).await.unwrap_err();
                assert_eq!(error.kind, Kind::Unsupported);
                assert!(error.to_string().contains("1 rows repeat a key"), "{error}");
                table.abandon().await.unwrap();
            }
        }
        rig.drop().await;
    }
}
