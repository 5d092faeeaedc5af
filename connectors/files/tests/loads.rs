//! Loads from begin to finish: what they leave, what they count, what survives.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    Batch, Connection, Kind, LogicalType as L,
    destination::{Deletes, Disposition, Load, Write},
};

use crate::support::*;

const FORMATS: [&str; 3] = ["csv", "json", "parquet"];
const HARD: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Hard,
};
const PARTLY: Write = Write::Merge {
    complete: false,
    deletes: Deletes::Soft,
};

fn order_columns() -> Vec<tideway_core::Column> {
    columns(&[("id", L::Int64), ("name", L::Text)])
}

/// A folder and a bucket, each with what they are kept in.
struct Places {
    home: TempDir,
    bucket: Bucket,
}

impl Places {
    fn new() -> Self {
        Places {
            home: TempDir::new().unwrap(),
            bucket: Bucket::new(),
        }
    }

    async fn connections(&self) -> [Arc<dyn Connection>; 2] {
        [
            folder(self.home.path()).await,
            self.bucket.connect("deep/down").await,
        ]
    }

    fn below(&self) -> [std::path::PathBuf; 2] {
        [
            self.home.path().to_owned(),
            self.bucket.folder.join("deep/down"),
        ]
    }
}

#[tokio::test]
async fn every_write_and_disposition_gives_its_rows_and_its_counts() {
    let places = Places::new();
    let first = rows("1|a\n2|b\n3|c");
    let second = rows("2|b\n3|C\n4|d");
    use Disposition::*;
    let cases: [(Write, Disposition, &str, (u64, u64, u64, u64)); 13] = [
        (
            Write::Append,
            Retain,
            "1|a\n2|b\n2|b\n3|C\n3|c\n4|d",
            (3, 0, 0, 0),
        ),
        (Write::Append, Truncate, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (Write::Append, Rebuild, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (Write::Replace, Retain, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (Write::Replace, Truncate, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (Write::Replace, Rebuild, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (
            REPLICATE,
            Retain,
            "1|a|gone\n2|b|∅\n3|C|∅\n4|d|∅",
            (1, 1, 1, 1),
        ),
        (REPLICATE, Truncate, "2|b|∅\n3|C|∅\n4|d|∅", (3, 0, 0, 0)),
        (REPLICATE, Rebuild, "2|b|∅\n3|C|∅\n4|d|∅", (3, 0, 0, 0)),
        (HARD, Retain, "2|b\n3|C\n4|d", (1, 1, 1, 1)),
        (HARD, Truncate, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (HARD, Rebuild, "2|b\n3|C\n4|d", (3, 0, 0, 0)),
        (PARTLY, Retain, "1|a|∅\n2|b|∅\n3|C|∅\n4|d|∅", (1, 1, 0, 1)),
    ];
    for connection in places.connections().await {
        for format in FORMATS {
            for (index, (write, disposition, expected, counted)) in cases.iter().enumerate() {
                let name = format!("{format}{index}");
                let options = json!({"format": format});
                let make = |id: &str| {
                    let mut load = load(id, *write, &order_columns(), options.clone());
                    load.target.name = name.clone();
                    load
                };
                let made = Load {
                    disposition: Retain,
                    ..make("first")
                };
                assert_eq!(
                    counts(&carry(&*connection, made, &first).await),
                    (3, 0, 0, 0)
                );
                let changed = Load {
                    disposition: *disposition,
                    ..make("second")
                };
                let outcome = carry(&*connection, changed, &second).await;
                let what = format!("{write:?} {disposition:?} {format}");
                assert_eq!(counts(&outcome), *counted, "{what}");
                assert!(outcome.place.ends_with(&name), "{}", outcome.place);
                let mut found = rows_of(&*connection, &name).await;
                for row in &mut found {
                    if let Some(at) = row.get_mut(2)
                        && at != NULL
                    {
                        *at = "gone".into();
                    }
                }
                assert_eq!(found, rows(expected), "{what}");
            }
        }
    }
    for below in places.below() {
        let left: Vec<String> = files_below(&below)
            .into_iter()
            .filter(|name| name.starts_with("_tideway/"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn files_listed_without_the_manifest_are_the_table_too() {
    for format in FORMATS {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        for (id, text) in [("l1", "1|a\n2|b"), ("l2", "3|c\n4|d")] {
            let options = json!({"format": format, "compression": "gzip"});
            let load = load(id, Write::Replace, &order_columns(), options);
            carry(&*connection, load, &rows(text)).await;
        }
        let extension = if format == "parquet" { "" } else { ".gz" };
        let part = |n: u32| format!("orders/part-l2-{n:05}.{format}{extension}");
        let expected = ["orders/_tideway.json".to_owned(), part(0), part(1)];
        assert_eq!(files_below(home.path()), expected);
    }
}

#[tokio::test]
async fn finishing_again_changes_nothing() {
    let places = Places::new();
    for connection in places.connections().await {
        for write in [Write::Append, Write::Replace, REPLICATE] {
            let mut load = load("l1", write, &order_columns(), json!({"format": "json"}));
            load.target.name = format!("{write:?}")
                .split(' ')
                .next()
                .unwrap()
                .to_lowercase();
            let id = load.target.name.clone();
            let outcome = carry(&*connection, load.clone(), &rows("1|a\n2|b")).await;
            for resume in [true, false] {
                let again = begin(
                    &*connection,
                    Load {
                        resume,
                        ..load.clone()
                    },
                )
                .await;
                assert!(again.finished());
                for _ in 0..2 {
                    let repeated = again.finish().await.unwrap();
                    assert!(repeated.repeated);
                    assert_eq!((repeated.inserted, &repeated.place), (0, &outcome.place));
                }
            }
            assert_eq!(rows_of(&*connection, &id).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn a_load_goes_on_where_it_was() {
    let places = Places::new();
    for connection in places.connections().await {
        for write in [Write::Append, REPLICATE] {
            let mut load = load("l1", write, &order_columns(), json!({"format": "parquet"}));
            load.target.name = format!("resumed{}", matches!(write, Write::Append));
            let columns = order_columns();
            let begun = begin(&*connection, load.clone()).await;
            land(&*begun, "p/1", batch(&columns, &rows("1|a\n2|b"))).await;
            // This lane dies before its part is committed.
            let mut lane = begun.lane().await.unwrap();
            lane.write(Batch::of_rows(batch(&columns, &rows("3|c"))))
                .await
                .unwrap();
            drop(lane);
            drop(begun);

            let resumed = begin(
                &*connection,
                Load {
                    resume: true,
                    ..load.clone()
                },
            )
            .await;
            assert!(resumed.landed().iter().eq(["p/1"]));
            // A part that lands twice is there once.
            land(&*resumed, "p/1", batch(&columns, &rows("1|a\n2|b"))).await;
            land(&*resumed, "p/2", batch(&columns, &rows("3|c"))).await;
            assert_eq!(counts(&resumed.finish().await.unwrap()), (3, 0, 0, 0));
            let mut found = rows_of(&*connection, &load.target.name).await;
            found.iter_mut().for_each(|row| row.truncate(2));
            assert_eq!(found, rows("1|a\n2|b\n3|c"));
        }
    }
}

#[tokio::test]
async fn without_resume_what_was_staged_is_thrown_away() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let columns = order_columns();
    let load = load("l1", Write::Append, &columns, json!({}));
    let begun = begin(&*connection, load.clone()).await;
    land(&*begun, "a", batch(&columns, &rows("1|a"))).await;
    let again = begin(&*connection, load).await;
    assert!(again.landed().is_empty());
    land(&*again, "b", batch(&columns, &rows("2|b"))).await;
    again.finish().await.unwrap();
    assert_eq!(rows_of(&*connection, "orders").await, rows("2|b"));
}

#[tokio::test]
async fn abandoning_leaves_everything_as_it_was() {
    let places = Places::new();
    for (connection, below) in places.connections().await.into_iter().zip(places.below()) {
        let columns = order_columns();
        let load = load("l1", Write::Replace, &columns, json!({"format": "csv"}));
        carry(&*connection, load.clone(), &rows("1|a")).await;
        let before = files_below(&below);
        let begun = begin(
            &*connection,
            Load {
                id: "l2".into(),
                ..load
            },
        )
        .await;
        land(&*begun, "a", batch(&columns, &rows("2|b"))).await;
        assert_ne!(files_below(&below), before);
        begun.abandon().await.unwrap();
        assert_eq!(files_below(&below), before);
    }
}

/// Runs a load whose process dies after each file operation of its last step in turn,
/// by taking the steps apart: whatever was published before the manifest is repeated.
#[tokio::test]
async fn a_crash_while_publishing_is_made_good() {
    for write in [Write::Append, Write::Replace, REPLICATE] {
        for (crash_before_manifest, resume) in [(true, true), (true, false), (false, true)] {
            let home = TempDir::new().unwrap();
            let connection = folder(home.path()).await;
            let columns = order_columns();
            let old = load("old", write, &columns, json!({"format": "parquet"}));
            carry(&*connection, old.clone(), &rows("1|a\n2|b")).await;
            let table = home.path().join("orders");
            let manifest = std::fs::read(table.join("_tideway.json")).unwrap();
            let kept: Vec<(String, Vec<u8>)> = files_below(&table)
                .into_iter()
                .map(|name| (name.clone(), std::fs::read(table.join(name)).unwrap()))
                .collect();

            let new = Load {
                id: "new".into(),
                ..old
            };
            let begun = begin(&*connection, new.clone()).await;
            land(&*begun, "a", batch(&columns, &rows("2|B"))).await;
            land(&*begun, "b", batch(&columns, &rows("3|c"))).await;
            let staging = home.path().join("_tideway");
            let staged: Vec<(String, Vec<u8>)> = files_below(&staging)
                .into_iter()
                .map(|name| (name.clone(), std::fs::read(staging.join(name)).unwrap()))
                .collect();
            let done = counts(&begun.finish().await.unwrap());
            let expected = rows_of(&*connection, "orders").await;

            // Put back what a process that died would have left behind.
            staged
                .iter()
                .for_each(|(name, bytes)| put(&staging, name, bytes));
            kept.iter()
                .filter(|(name, _)| name != "_tideway.json")
                .for_each(|(name, bytes)| {
                    put(&table, name, bytes);
                });
            if crash_before_manifest {
                put(&table, "_tideway.json", &manifest);
            }
            let again = begin(&*connection, Load { resume, ..new }).await;
            if crash_before_manifest {
                if !resume {
                    land(&*again, "a", batch(&columns, &rows("2|B"))).await;
                    land(&*again, "b", batch(&columns, &rows("3|c"))).await;
                }
                assert_eq!(counts(&again.finish().await.unwrap()), done);
            } else {
                assert!(again.finish().await.unwrap().repeated);
            }
            let mut found = rows_of(&*connection, "orders").await;
            let mut expected = expected;
            // Marks of deletion bear the time of the attempt.
            for row in found.iter_mut().chain(&mut expected) {
                row.truncate(2);
            }
            assert_eq!(found, expected, "{write:?}");
            assert!(files_below(&staging).is_empty());
            let listed = std::fs::read_to_string(table.join("_tideway.json")).unwrap();
            for name in files_below(&table) {
                assert!(
                    name == "_tideway.json" || listed.contains(&name),
                    "{name} is rubbish"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_table_grows_columns_and_types_and_never_loses_one() {
    for format in FORMATS {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        let options = json!({"format": format});
        let first = columns(&[("id", L::Int64), ("n", L::Int32), ("gone", L::Date)]);
        let before = load("l1", REPLICATE, &first, options.clone());
        carry(
            &*connection,
            before,
            &rows("1|7|2024-01-01\n2|8|2024-01-02"),
        )
        .await;

        let second = columns(&[("id", L::Int64), ("n", L::Text), ("new", L::Boolean)]);
        let after = load("l2", PARTLY, &second, options.clone());
        let begun = begin(&*connection, after).await;
        let changes: Vec<&str> = begun
            .schema_changes()
            .iter()
            .map(|c| c.0.as_str())
            .collect();
        assert_eq!(
            changes,
            ["column n is Text now, it was Int32", "column new was added"]
        );
        land(&*begun, "a", batch(&second, &rows("2|x|true\n3|y|false"))).await;
        assert_eq!(counts(&begun.finish().await.unwrap()), (1, 1, 0, 0));
        let table = table(&*connection, "orders").await;
        assert_eq!(
            shape(&table)[..4],
            [
                ("id", L::Int64),
                ("n", L::Text),
                ("gone", L::Date),
                ("new", L::Boolean)
            ]
        );
        assert_eq!(
            rows_of(&*connection, "orders").await,
            rows("1|7|2024-01-01|∅|∅\n2|x|2024-01-02|true|∅\n3|y|∅|false|∅")
        );

        // Appending leaves the files of before alone; they are read in the new types.
        let third = columns(&[("id", L::Text)]);
        let appended = load("l3", Write::Append, &third, options.clone());
        carry(&*connection, appended, &rows("four\nfive")).await;
        let found = rows_of(&*connection, "orders").await;
        assert_eq!(found[0][..4], ["1", "7", "2024-01-01", NULL]);
        assert_eq!(found.len(), 5);

        let rebuilt = load("l4", Write::Replace, &third, options);
        let rebuilt = Load {
            disposition: Disposition::Rebuild,
            ..rebuilt
        };
        carry(&*connection, rebuilt, &rows("six\nseven")).await;
        assert_eq!(rows_of(&*connection, "orders").await, rows("seven\nsix"));
    }
}

#[tokio::test]
async fn the_format_can_change_between_loads() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    for (id, format, row) in [
        ("l1", "csv", "1|a"),
        ("l2", "parquet", "2|b"),
        ("l3", "json", "3|c"),
    ] {
        let load = load(
            id,
            Write::Append,
            &order_columns(),
            json!({"format": format}),
        );
        carry(&*connection, load, &rows(row)).await;
    }
    assert_eq!(rows_of(&*connection, "orders").await, rows("1|a\n2|b\n3|c"));
    let merged = load(
        "l4",
        HARD,
        &order_columns(),
        json!({"format": "csv", "compression": "zstd"}),
    );
    let outcome = carry(&*connection, merged, &rows("1|a\n2|x")).await;
    assert_eq!(counts(&outcome), (0, 1, 1, 1));
    assert_eq!(rows_of(&*connection, "orders").await, rows("1|a\n2|x"));
}

#[tokio::test]
async fn an_empty_table_has_a_file_that_shows_its_columns() {
    for format in FORMATS {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        let options = json!({"format": format});
        let empty = load("l1", Write::Replace, &order_columns(), options.clone());
        assert_eq!(counts(&carry(&*connection, empty, &[]).await), (0, 0, 0, 0));
        assert!(
            files_below(home.path())
                .iter()
                .any(|name| name.contains("part-l1-00000"))
        );
        assert!(rows_of(&*connection, "orders").await.is_empty());
        // It gives way to the first one with rows.
        let filled = load("l2", REPLICATE, &order_columns(), options.clone());
        assert_eq!(
            counts(&carry(&*connection, filled, &rows("1|a\n2|b")).await),
            (2, 0, 0, 0)
        );
        assert!(
            !files_below(home.path())
                .iter()
                .any(|name| name.contains("part-l1-00000"))
        );
        let emptied = load("l3", HARD, &order_columns(), options);
        assert_eq!(
            counts(&carry(&*connection, emptied, &[]).await),
            (0, 0, 2, 0)
        );
        assert!(rows_of(&*connection, "orders").await.is_empty());
    }
}

#[tokio::test]
async fn strange_names_stay_inside_the_folder_and_apart() {
    let home = TempDir::new().unwrap();
    let inside = home.path().join("inside");
    let connection = folder(&inside).await;
    let names = ["../escape", "a/b", "a:b", "..", "Ärger", "_tideway", " x "];
    for (index, name) in names.iter().enumerate() {
        let mut load = load(
            "l1",
            Write::Replace,
            &order_columns(),
            json!({"format": "csv"}),
        );
        load.target.namespace = Some("n/s".into());
        load.target.name = (*name).to_owned();
        carry(&*connection, load, &rows(&format!("{index}|x\n{index}|y"))).await;
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    let found = tables(&*connection).await;
    assert_eq!(found.len(), names.len(), "{found:?}");
    let refused = load(
        "l1",
        Write::Append,
        &order_columns(),
        json!({"subfolder": "../up"}),
    );
    let error = connection
        .roles()
        .destination
        .unwrap()
        .begin(refused)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (error.kind, error.blamed_field()),
        (Kind::Config, Some("subfolder"))
    );
}

#[tokio::test]
async fn files_of_others_are_left_alone_and_remarked_on() {
    let home = TempDir::new().unwrap();
    put(home.path(), "orders/mine.csv", "id\n1\n");
    let connection = folder(home.path()).await;
    let load = load(
        "l1",
        Write::Replace,
        &order_columns(),
        json!({"format": "csv"}),
    );
    let begun = begin(&*connection, load).await;
    assert!(
        begun.schema_changes()[0]
            .0
            .contains("1 files that Tideway did not write")
    );
    land(&*begun, "a", batch(&order_columns(), &rows("5|x"))).await;
    begun.finish().await.unwrap();
    assert!(home.path().join("orders/mine.csv").exists());
    assert_eq!(rows_of(&*connection, "orders").await, rows("5|x"));
}

#[tokio::test]
async fn two_loads_at_once_do_not_undo_each_other() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let make = |id: &str| {
        load(
            id,
            Write::Append,
            &order_columns(),
            json!({"format": "csv"}),
        )
    };
    carry(&*connection, make("l0"), &rows("0|z")).await;
    let one = begin(&*connection, make("l1")).await;
    let two = begin(&*connection, make("l2")).await;
    land(&*one, "a", batch(&order_columns(), &rows("1|a"))).await;
    land(&*two, "a", batch(&order_columns(), &rows("2|b"))).await;
    one.finish().await.unwrap();
    two.finish().await.unwrap();
    assert_eq!(rows_of(&*connection, "orders").await, rows("0|z\n1|a\n2|b"));
}
