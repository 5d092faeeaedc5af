//! Merging into files: what is kept, what is stamped, and that it counts exactly.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    LogicalType as L,
    destination::{CREATED_AT, Deletes, Load, UPDATED_AT, Write},
};

use crate::support::*;

fn order_columns() -> Vec<tideway_core::Column> {
    columns(&[("id", L::Int64), ("name", L::Text)])
}

#[tokio::test]
async fn a_merge_that_changes_nothing_leaves_the_files_alone() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let make = |id: &str| {
        load(
            id,
            REPLICATE,
            &order_columns(),
            json!({"format": "parquet"}),
        )
    };
    carry(&*connection, make("l1"), &rows("1|a\n2|∅")).await;
    let before = files_below(home.path());
    let outcome = carry(&*connection, make("l2"), &rows("2|∅\n1|a")).await;
    assert_eq!(counts(&outcome), (0, 0, 0, 2));
    assert_eq!(files_below(home.path()), before);
    let again = begin(&*connection, make("l2")).await;
    assert!(again.finished(), "it has taken effect all the same");
}

#[tokio::test]
async fn stamps_tell_when_a_row_came_and_when_it_changed() {
    for format in ["csv", "json", "parquet"] {
        let home = TempDir::new().unwrap();
        let connection = folder(home.path()).await;
        let make = |id: &str| Load {
            record_timestamps: true,
            ..load(id, REPLICATE, &order_columns(), json!({"format": format}))
        };
        carry(&*connection, make("l1"), &rows("1|a\n2|b\n3|c")).await;
        let names: Vec<String> = table(&*connection, "orders")
            .await
            .columns
            .iter()
            .map(|c| c.name.clone())
            .collect();
        assert_eq!(
            names[2..],
            ["_polytomic_deleted_at", CREATED_AT, UPDATED_AT]
        );
        let first = rows_of(&*connection, "orders").await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        carry(&*connection, make("l2"), &rows("1|a\n2|B\n4|d")).await;
        let second = rows_of(&*connection, "orders").await;
        assert_eq!(first[0], second[0], "an unchanged row stays as it is");
        assert_eq!(
            second[1][3], first[1][3],
            "a changed row keeps when it was made"
        );
        assert!(second[1][4] > first[1][4]);
        assert_ne!(second[2][2], NULL, "a row that is gone is marked");
        assert_eq!(second[2][3..], first[2][3..]);
        assert_eq!(second[3][3], second[3][4]);
        // What comes back is not deleted any more, and that is a change.
        let outcome = carry(&*connection, make("l3"), &rows("1|a\n2|B\n3|c\n4|d")).await;
        assert_eq!(counts(&outcome), (0, 1, 0, 3));
        let third = rows_of(&*connection, "orders").await;
        assert_eq!(third[2][2], NULL);
        assert!(third[2][4] > first[2][4]);
    }
}

#[tokio::test]
async fn a_row_without_a_key_is_left_out_with_a_note() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let columns = order_columns();
    let begun = begin(&*connection, load("l1", REPLICATE, &columns, json!({}))).await;
    let notes = land(&*begun, "a", batch(&columns, &rows("1|a\n∅|b\n∅|c"))).await;
    assert_eq!((notes[0].column.as_str(), notes[0].rows), ("id", 2));
    assert_eq!(counts(&begun.finish().await.unwrap()), (1, 0, 0, 0));
    assert_eq!(rows_of(&*connection, "orders").await, rows("1|a|∅"));
}

#[tokio::test]
async fn of_rows_with_one_key_the_last_one_wins() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    for format in ["parquet", "csv"] {
        let mut load = load("l1", REPLICATE, &order_columns(), json!({"format": format}));
        load.target.name = format.into();
        let begun = begin(&*connection, load).await;
        land(
            &*begun,
            "a",
            batch(&order_columns(), &rows("1|a\n2|b\n1|c\n1|d")),
        )
        .await;
        assert_eq!(counts(&begun.finish().await.unwrap()), (2, 0, 0, 0));
        assert_eq!(rows_of(&*connection, format).await, rows("1|d|∅\n2|b|∅"));
    }
}

#[tokio::test]
async fn keys_of_several_columns_and_types_are_told_apart() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let columns = columns(&[("a", L::Text), ("b", L::Uuid), ("v", L::Float64)]);
    let uuid = "00000000-0000-0000-0000-00000000000";
    let make = |id: &str| {
        let mut load = load(id, REPLICATE, &columns, json!({"format": "json"}));
        load.target.key = vec!["a".into(), "b".into()];
        load
    };
    let first = format!("x|{uuid}1|1.5\nx|{uuid}2|NaN\n|{uuid}1|2.5");
    carry(&*connection, make("l1"), &rows(&first)).await;
    let second = format!("x|{uuid}1|1.5\nx|{uuid}2|NaN\n|{uuid}1|-0.0");
    let outcome = carry(&*connection, make("l2"), &rows(&second)).await;
    assert_eq!(counts(&outcome), (0, 1, 0, 2));
}

#[tokio::test]
async fn big_tables_keep_the_files_that_did_not_change() {
    let home = TempDir::new().unwrap();
    let connection = folder(home.path()).await;
    let columns = columns(&[("id", L::Int64), ("noise", L::Binary)]);
    // About 40 MiB that cannot be compressed.
    let noise = |id: u64| {
        let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let bytes: Vec<u8> = (0..30_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    let big: Rows = (0..1400)
        .map(|id| vec![id.to_string(), noise(id)])
        .collect();
    let begun = begin(&*connection, load("l1", REPLICATE, &columns, json!({}))).await;
    land(&*begun, "a", batch(&columns, &big)).await;
    begun.finish().await.unwrap();
    let partly = Write::Merge {
        complete: false,
        deletes: Deletes::Soft,
    };
    let added = vec![vec!["5000".to_owned(), "AAAA".to_owned()]];
    carry(
        &*connection,
        load("l2", partly, &columns, json!({})),
        &added,
    )
    .await;
    let files = files_below(&home.path().join("orders"));
    assert!(
        files.contains(&"part-l1-00000.parquet".to_owned()),
        "{files:?}"
    );
    let changed = vec![vec!["0".to_owned(), "BBBB".to_owned()]];
    let outcome = carry(
        &*connection,
        load("l3", partly, &columns, json!({})),
        &changed,
    )
    .await;
    assert_eq!(counts(&outcome), (0, 1, 0, 0));
    let files = files_below(&home.path().join("orders"));
    assert!(
        !files.contains(&"part-l1-00000.parquet".to_owned()),
        "{files:?}"
    );
    assert_eq!(rows_of(&*connection, "orders").await.len(), 1401);
}

/// What a merge should do, row by row.
#[derive(Default)]
struct Model(BTreeMap<i64, (String, bool)>);

impl Model {
    fn merge(
        &mut self,
        staged: &[(i64, String)],
        complete: bool,
        soft: bool,
    ) -> (u64, u64, u64, u64) {
        let staged: BTreeMap<i64, String> = staged.iter().cloned().collect();
        let (mut inserted, mut updated, mut deleted, mut unchanged) = (0, 0, 0, 0);
        for (key, value) in &staged {
            match self.0.insert(*key, (value.clone(), false)) {
                None => inserted += 1,
                Some((old, false)) if old == *value => unchanged += 1,
                Some(_) => updated += 1,
            }
        }
        if complete {
            let gone: Vec<i64> = self
                .0
                .keys()
                .filter(|key| !staged.contains_key(key))
                .copied()
                .collect();
            for key in gone {
                if !soft {
                    self.0.remove(&key);
                    deleted += 1;
                } else if let Some((_, mark)) = self.0.get_mut(&key)
                    && !*mark
                {
                    *mark = true;
                    deleted += 1;
                }
            }
        }
        (inserted, updated, deleted, unchanged)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_series_of_merges_gives_what_the_model_gives(
        format in prop::sample::select(vec!["csv", "json", "parquet"]),
        loads in prop::collection::vec(
            (prop::collection::vec((0_i64..12, "[a-c]{0,1}"), 0..14), any::<bool>(), any::<bool>()),
            1..6
        )
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let home = TempDir::new().unwrap();
            let connection = folder(home.path()).await;
            let mut model = Model::default();
            for (index, (staged, complete, soft)) in loads.iter().enumerate() {
                let deletes = if *soft { Deletes::Soft } else { Deletes::Hard };
                let write = Write::Merge { complete: *complete, deletes };
                let load = load(&format!("l{index}"), write, &order_columns(), json!({"format": format}));
                let rows: Rows = staged.iter().map(|(k, v)| vec![k.to_string(), v.clone()]).collect();
                let columns = order_columns();
                let begun = begin(&*connection, load).await;
                land(&*begun, "all", batch(&columns, &rows)).await;
                let outcome = begun.finish().await.unwrap();
                assert_eq!(counts(&outcome), model.merge(staged, *complete, *soft));
                let found: BTreeMap<i64, (String, bool)> = rows_of(&*connection, "orders").await
                    .into_iter()
                    .map(|row| {
                        let marked = row.get(2).is_some_and(|at| at != NULL);
                        (row[0].parse().unwrap(), (row[1].clone(), marked))
                    })
                    .collect();
                assert_eq!(found, model.0);
            }
        });
    }
}
