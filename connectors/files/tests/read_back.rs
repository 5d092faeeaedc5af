//! What is staged is read back as what it was written from, and what is not shows.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    Column, Kind, LogicalType as L, Result,
    destination::{ReadBack, TableLoad, Write},
    sums::{Sums, is_compared},
};

use crate::{round_trips::all_types, support::*};

const FORMATS: [&str; 3] = ["parquet", "csv", "json"];

async fn try_read_back(load: &dyn TableLoad) -> Result<Sums> {
    let how = ReadBack {
        format: None,
        lanes: 3,
        batch_bytes: 500,
    };
    let sums = load.read_back(&how).await?;
    Ok(sums.expect("it can be read"))
}

async fn read_back(load: &dyn TableLoad) -> Sums {
    try_read_back(load).await.unwrap()
}

/// What the rows of a load add up to before they are written.
fn sums_of(load: &dyn TableLoad, columns: &[Column], rows: &RecordBatch) -> Sums {
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
async fn values_of_every_type_are_read_back_as_they_were_written() {
    let types = all_types();
    let columns: Vec<_> = types
        .iter()
        .map(|(name, logical, _)| column(name, *logical))
        .collect();
    let most = types.iter().map(|(_, _, values)| values.len()).max();
    let rows: Rows = (0..=most.unwrap())
        .map(|row| {
            let value = |values: &Vec<String>| values.get(row).cloned().unwrap_or(NULL.to_owned());
            types.iter().map(|(_, _, values)| value(values)).collect()
        })
        .collect();
    let bucket = Bucket::new();
    for format in FORMATS {
        for compression in ["none", "gzip", "zstd"] {
            for write in [Write::Append, Write::Replace, REPLICATE] {
                let home = TempDir::new().unwrap();
                let places = [
                    folder(home.path()).await,
                    bucket
                        .connect(&format!("{format}/{compression}/{write:?}").replace(' ', ""))
                        .await,
                ];
                for connection in places {
                    let options = json!({"format": format, "compression": compression});
                    let mut load = load("l1", write, &columns, options);
                    load.target.key = vec!["int64".into()];
                    load.record_timestamps = true;
                    let begun = begin(&*connection, load).await;
                    // Rows without a key are not merged.
                    let rows: Rows = match write == REPLICATE {
                        true => rows.iter().filter(|row| row[3] != NULL).cloned().collect(),
                        false => rows.clone(),
                    };
                    let (first, second) = rows.split_at(1);
                    land(begun.as_ref(), "a", batch(&columns, first)).await;
                    land(begun.as_ref(), "b", batch(&columns, second)).await;
                    let sums = sums_of(begun.as_ref(), &columns, &batch(&columns, &rows));
                    let found = read_back(begun.as_ref()).await;
                    assert_eq!(found, sums, "{format} {compression} {write:?}");
                    begun.abandon().await.unwrap();
                }
            }
        }
    }
}

/// The staged files of the load `id`, other than receipts.
fn staged(home: &Path, id: &str) -> Vec<PathBuf> {
    let files = files_below(home).into_iter();
    files
        .filter(|name| name.contains(&format!("/{id}/")) && !name.ends_with(".receipt.json"))
        .map(|name| home.join(name))
        .collect()
}

#[tokio::test]
async fn a_staged_file_that_is_altered_or_lost_is_found() {
    let columns = columns(&[("id", L::Int64), ("name", L::Text)]);
    for format in FORMATS {
        for write in [Write::Replace, REPLICATE] {
            let home = TempDir::new().unwrap();
            let connection = folder(home.path()).await;
            let right = rows("1|a\n2|b\n3|c");
            let begin = async |id: &str, rows: &Rows| {
                let load = load(id, write, &columns, json!({"format": format}));
                let begun = begin(&*connection, load).await;
                land(begun.as_ref(), "a", batch(&columns, rows)).await;
                begun
            };
            let begun = begin("right", &right).await;
            let sums = sums_of(begun.as_ref(), &columns, &batch(&columns, &right));
            assert_eq!(read_back(begun.as_ref()).await, sums);
            let [file] = staged(home.path(), "right").try_into().unwrap();
            let original = std::fs::read(&file).unwrap();
            for (at, (wrong, differing)) in [
                ("1|a\n2|B\n3|c", vec![1]),
                ("1|b\n2|a\n3|c", vec![]),
                ("1|a\n2|b", vec![0, 1]),
                ("1|a\n2|b\n3|c\n3|c", vec![0, 1]),
            ]
            .into_iter()
            .enumerate()
            {
                let id = format!("wrong{at}");
                let other = begin(&id, &rows(wrong)).await;
                let [from] = staged(home.path(), &id).try_into().unwrap();
                std::fs::copy(&from, &file).unwrap();
                other.abandon().await.unwrap();
                let now = read_back(begun.as_ref()).await;
                assert_eq!(sums.differing(&now), differing, "{format} {wrong}");
                assert_ne!(now.rows, sums.rows, "{format} {wrong}");
            }
            std::fs::write(&file, &original).unwrap();
            assert_eq!(read_back(begun.as_ref()).await, sums);
            // Half of it, and none of it.
            std::fs::write(&file, &original[..original.len() / 2]).unwrap();
            match try_read_back(begun.as_ref()).await {
                Ok(now) => assert_ne!(now.rows, sums.rows, "{format}"),
                Err(error) => assert_eq!(error.kind, Kind::Data, "{format} {error}"),
            }
            std::fs::remove_file(&file).unwrap();
            let error = try_read_back(begun.as_ref()).await.unwrap_err();
            assert_eq!(error.kind, Kind::Data, "{format} {error}");
        }
    }
}

#[tokio::test]
async fn values_that_are_kept_as_wider_ones_are_compared_where_they_can_be() {
    for format in FORMATS {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        let options = json!({"format": format});
        let wide = columns(&[
            ("id", L::Int64),
            ("n", L::Text),
            ("x", L::Float64),
            ("d", L::Timestamp),
            ("u", L::Text),
        ]);
        let first = load("l1", Write::Append, &wide, options.clone());
        carry(&*connection, first, &rows("1|x|0.5|2024-01-01T00:00:00|x")).await;
        let narrow = columns(&[
            ("id", L::Int32),
            ("n", L::Int64),
            ("x", L::Float32),
            ("d", L::Date),
            ("u", L::Uuid),
        ]);
        let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        let rows = rows(&format!("2|7|0.1|2024-02-29|{uuid}\n3|∅|∅|1969-12-31|∅"));
        let begun = begin(&*connection, load("l2", Write::Append, &narrow, options)).await;
        land(begun.as_ref(), "a", batch(&narrow, &rows)).await;
        let told: Vec<bool> = narrow.iter().map(|c| begun.tells_apart(c)).collect();
        assert_eq!(told, [true, false, true, true, true], "{format}");
        let sums = sums_of(begun.as_ref(), &narrow, &batch(&narrow, &rows));
        assert_eq!(read_back(begun.as_ref()).await, sums, "{format}");
    }
}
