//! Every way of writing on every disposition, with exact counts.

use tideway_core::{
    Batch, Kind,
    destination::{Deletes, Disposition, Load, Write},
};

use crate::given::*;

const OLD: &[(i64, &str)] = &[(1, "a"), (2, "b"), (3, "c")];
const NEW: &[(i64, &str)] = &[(2, "b"), (3, "C"), (4, "d")];

fn merge(complete: bool, deletes: Deletes) -> Write {
    Write::Merge { complete, deletes }
}

/// Loads `OLD`, then `NEW` as asked; checks the counts and the live rows.
async fn expect(second: Load, expected: [u64; 4], left: &[(i64, &str)]) {
    let place = place().await;
    let first = Load {
        record_timestamps: second.record_timestamps,
        ..load("first", merge(true, Deletes::Soft))
    };
    let outcome = run(&place.connection, first, &[rows(OLD)]).await;
    assert_eq!(counts(&outcome), [3, 0, 0, 0]);
    let what = format!(
        "{:?} {:?} truncate {}",
        second.write, second.disposition, second.truncate_existing
    );
    let outcome = run(
        &place.connection,
        second,
        &[rows(&NEW[..1]), rows(&NEW[1..])],
    )
    .await;
    assert_eq!(counts(&outcome), expected, "{what}");
    assert_eq!(outcome.place, "main.t");
    assert!(!outcome.repeated);
    assert_eq!(
        ids_and_values(&place.connection, "main.t").await,
        owned(left),
        "{what}"
    );
    let catalog = discover(&place.connection).await;
    assert_eq!(
        catalog.tables.len(),
        1,
        "only the table is left: {catalog:?}"
    );
}

#[tokio::test]
async fn append_adds_to_what_is_there() {
    let both = [(1, "a"), (2, "b"), (2, "b"), (3, "C"), (3, "c"), (4, "d")];
    for record_timestamps in [false, true] {
        let load = Load {
            record_timestamps,
            ..load("second", Write::Append)
        };
        expect(load, [3, 0, 0, 0], &both).await;
    }
}

#[tokio::test]
async fn replace_leaves_only_the_new_rows() {
    for truncate_existing in [false, true] {
        for disposition in [
            Disposition::Retain,
            Disposition::Truncate,
            Disposition::Rebuild,
        ] {
            let load = Load {
                truncate_existing,
                disposition,
                ..load("second", Write::Replace)
            };
            expect(load, [3, 0, 0, 0], NEW).await;
        }
    }
}

#[tokio::test]
async fn a_complete_merge_deletes_what_the_source_no_longer_has() {
    for deletes in [Deletes::Soft, Deletes::Hard] {
        for record_timestamps in [false, true] {
            let load = Load {
                record_timestamps,
                ..load("second", merge(true, deletes))
            };
            expect(load, [1, 1, 1, 1], NEW).await;
        }
    }
}

#[tokio::test]
async fn an_incomplete_merge_leaves_other_keys_alone() {
    let left = [(1, "a"), (2, "b"), (3, "C"), (4, "d")];
    for deletes in [Deletes::Soft, Deletes::Hard] {
        expect(load("second", merge(false, deletes)), [1, 1, 0, 1], &left).await;
    }
}

#[tokio::test]
async fn truncating_and_rebuilding_start_every_write_from_nothing() {
    for disposition in [Disposition::Truncate, Disposition::Rebuild] {
        for write in [Write::Append, REPLICATE, merge(false, Deletes::Hard)] {
            let load = Load {
                disposition,
                ..load("second", write)
            };
            expect(load, [3, 0, 0, 0], NEW).await;
        }
    }
}

#[tokio::test]
async fn a_key_that_comes_back_is_no_longer_deleted() {
    let place = place().await;
    run(&place.connection, load("a", REPLICATE), &[rows(OLD)]).await;
    let outcome = run(&place.connection, load("b", REPLICATE), &[rows(&OLD[..1])]).await;
    assert_eq!(counts(&outcome), [0, 0, 2, 1]);
    // Deleted once, deleted for good: not counted again.
    let outcome = run(&place.connection, load("c", REPLICATE), &[rows(&OLD[..1])]).await;
    assert_eq!(counts(&outcome), [0, 0, 0, 1]);
    let outcome = run(&place.connection, load("d", REPLICATE), &[rows(OLD)]).await;
    assert_eq!(counts(&outcome), [0, 2, 0, 1]);
    assert_eq!(
        ids_and_values(&place.connection, "main.t").await,
        owned(OLD)
    );
}

#[tokio::test]
async fn of_rows_with_one_key_the_last_wins() {
    let place = place().await;
    for (id, counted) in [("first", [2, 0, 0, 0]), ("second", [0, 1, 0, 1])] {
        let last = format!("last of {id}");
        let parts = [
            rows(&[(1, "x"), (2, "y"), (1, "z")]),
            rows(&[(1, last.as_str())]),
        ];
        let outcome = run(&place.connection, load(id, REPLICATE), &parts).await;
        assert_eq!(counts(&outcome), counted);
        assert_eq!(
            ids_and_values(&place.connection, "main.t").await,
            owned(&[(1, last.as_str()), (2, "y")])
        );
    }
}

#[tokio::test]
async fn stamps_say_when_a_row_came_and_when_it_changed() {
    let place = place().await;
    let stamped = |id| Load {
        record_timestamps: true,
        ..load(id, REPLICATE)
    };
    run(&place.connection, stamped("a"), &[rows(OLD)]).await;
    let query = "SELECT id, _polytomic_created_at::VARCHAR, _polytomic_updated_at::VARCHAR, \
                 _polytomic_deleted_at IS NULL FROM t ORDER BY id";
    let before = place.sql(&[query]);
    run(&place.connection, stamped("b"), &[rows(NEW)]).await;
    let after = place.sql(&[query]);
    assert_eq!(after.len(), 4);
    // 1 is gone, 2 is as it was, 3 has changed.
    assert_eq!(after[0][1..3], before[0][1..3]);
    assert_eq!(
        [before[0][3].as_str(), after[0][3].as_str()],
        ["true", "false"]
    );
    assert_eq!(after[1], before[1]);
    assert_eq!(after[2][1], before[2][1]);
    assert!(after[2][2] > before[2][2]);
    assert!(after[3][1] >= after[2][2]);
}

#[tokio::test]
async fn a_finished_load_is_not_done_twice() {
    let place = place().await;
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let id = format!(
            "load{}",
            matches!(write, Write::Append) as u8 + 2 * matches!(write, Write::Replace) as u8
        );
        let first = begin(&place.connection, load(&id, write)).await;
        fill(first.as_ref(), &[rows(OLD)]).await;
        let outcome = first.finish().await.unwrap();
        let after = ids_and_values(&place.connection, "main.t").await;
        let again = first.finish().await.unwrap();
        assert!(again.repeated);
        assert_eq!(
            (again.place, counts(&again_default())),
            (outcome.place, [0; 4])
        );
        for resume in [false, true] {
            let next = begin(
                &place.connection,
                Load {
                    resume,
                    ..load(&id, write)
                },
            )
            .await;
            assert!(next.finished());
            assert!(next.finish().await.unwrap().repeated);
        }
        assert_eq!(ids_and_values(&place.connection, "main.t").await, after);
    }
}

fn again_default() -> tideway_core::destination::Outcome {
    tideway_core::destination::Outcome::default()
}

#[tokio::test]
async fn a_load_goes_on_with_the_parts_that_have_landed() {
    let place = place().await;
    for write in [Write::Append, Write::Replace, REPLICATE] {
        let id = format!("l{}", format!("{write:?}").len());
        let first = begin(&place.connection, load(&id, write)).await;
        fill(first.as_ref(), &[rows(&OLD[..2])]).await;
        let mut dying = first.lane().await.unwrap();
        dying
            .write(Batch::of_rows(rows(&[(9, "never committed")])))
            .await
            .unwrap();
        drop(dying);
        drop(first);

        let again = begin(
            &place.connection,
            Load {
                resume: true,
                ..load(&id, write)
            },
        )
        .await;
        assert_eq!(again.landed().iter().collect::<Vec<_>>(), ["p0"]);
        let mut lane = again.lane().await.unwrap();
        // A part that has landed may come again; its rows must not.
        lane.write(Batch::of_rows(rows(&OLD[..2]))).await.unwrap();
        assert_eq!(lane.commit("p0").await.unwrap().rows, 2);
        lane.write(Batch::of_rows(rows(&OLD[2..]))).await.unwrap();
        lane.commit("p1").await.unwrap();
        again.finish().await.unwrap();
        let found = ids_and_values(&place.connection, "main.t").await;
        match write {
            Write::Append => assert_eq!(found, owned(OLD)),
            _ => assert_eq!(found, owned(OLD), "{write:?}"),
        }
    }
}

#[tokio::test]
async fn without_resume_what_was_staged_is_thrown_away() {
    let place = place().await;
    let first = begin(&place.connection, load("x", Write::Append)).await;
    fill(first.as_ref(), &[rows(OLD)]).await;
    drop(first);
    let second = begin(&place.connection, load("x", Write::Append)).await;
    assert!(second.landed().is_empty());
    fill(second.as_ref(), &[rows(NEW)]).await;
    assert_eq!(counts(&second.finish().await.unwrap()), [3, 0, 0, 0]);
    assert_eq!(
        ids_and_values(&place.connection, "main.t").await,
        owned(NEW)
    );
}

#[tokio::test]
async fn abandoning_leaves_the_table_as_it_was() {
    let place = place().await;
    run(&place.connection, load("a", REPLICATE), &[rows(OLD)]).await;
    let second = begin(&place.connection, load("b", REPLICATE)).await;
    fill(second.as_ref(), &[rows(NEW)]).await;
    second.abandon().await.unwrap();
    drop(second);
    assert_eq!(
        ids_and_values(&place.connection, "main.t").await,
        owned(OLD)
    );
    let left = place.sql(&[
        "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '\\_tideway\\_stage%' ESCAPE '\\'",
        "SELECT load_id FROM _tideway_loads WHERE load_id = 'b'",
    ]);
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_empty_load_makes_an_empty_table() {
    let place = place().await;
    for write in [REPLICATE, Write::Replace, Write::Append] {
        let load = begin(
            &place.connection,
            load(
                &format!("e{write:?}")
                    .to_lowercase()
                    .replace(|c: char| !c.is_alphanumeric(), "")[..6],
                write,
            ),
        )
        .await;
        let mut lane = load.lane().await.unwrap();
        assert_eq!(lane.commit("all").await.unwrap().rows, 0);
        assert_eq!(counts(&load.finish().await.unwrap()), [0; 4]);
        assert!(ids_and_values(&place.connection, "main.t").await.is_empty());
    }
}

#[tokio::test]
async fn lanes_fill_one_table_at_the_same_time() {
    let place = place().await;
    let load = begin(&place.connection, load("many", REPLICATE)).await;
    let mut lanes = tokio::task::JoinSet::new();
    for number in 0..4_i64 {
        let mut lane = load.lane().await.unwrap();
        lanes.spawn(async move {
            for part in 0..5 {
                for batch in 0..4 {
                    let first = number * 1_000_000 + part * 10_000 + batch * 1000;
                    let many: Vec<(i64, &str)> =
                        (first..first + 1000).map(|id| (id, "v")).collect();
                    lane.write(Batch::of_rows(rows(&many))).await.unwrap();
                }
                lane.commit(&format!("{number}-{part}")).await.unwrap();
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    assert_eq!(counts(&load.finish().await.unwrap()), [80_000, 0, 0, 0]);
}

#[tokio::test]
async fn merging_without_a_key_is_refused() {
    let place = place().await;
    let mut keyless = load("x", REPLICATE);
    keyless.target.key.clear();
    let refused = place
        .connection
        .roles()
        .destination
        .unwrap()
        .begin(keyless)
        .await;
    assert_eq!(refused.err().unwrap().kind, Kind::Config);
}

#[tokio::test]
async fn null_keys_match_each_other() {
    let place = place().await;
    let with_null = |value: &str| {
        let ids = arrow_array::Int64Array::from(vec![None, Some(1)]);
        let values = arrow_array::StringArray::from(vec![value, "one"]);
        arrow_array::RecordBatch::try_new(
            rows(&[]).schema(),
            vec![std::sync::Arc::new(ids), std::sync::Arc::new(values)],
        )
        .unwrap()
    };
    run(&place.connection, load("a", REPLICATE), &[with_null("x")]).await;
    let outcome = run(&place.connection, load("b", REPLICATE), &[with_null("y")]).await;
    assert_eq!(counts(&outcome), [0, 1, 0, 1]);
    assert_eq!(
        place.sql(&["SELECT id, v FROM t ORDER BY v"]),
        [["1", "one"], ["NULL", "y"]]
    );
}

#[tokio::test]
async fn tables_that_users_made_keep_their_keys_and_views() {
    let place = place().await;
    place.sql(&[
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR NOT NULL, note VARCHAR DEFAULT 'none')",
        "CREATE VIEW w AS SELECT id, v FROM t",
        "INSERT INTO t VALUES (1, 'a', 'mine'), (2, 'b', 'mine'), (3, 'c', 'mine')",
    ]);
    let hard = merge(true, Deletes::Hard);
    let outcome = run(&place.connection, load("m", hard), &[rows(NEW)]).await;
    assert_eq!(counts(&outcome), [1, 1, 1, 1]);
    assert_eq!(
        place.sql(&["SELECT id, v, note FROM t ORDER BY id"]),
        [["2", "b", "mine"], ["3", "C", "mine"], ["4", "d", "none"]]
    );
    let emptied = Load {
        truncate_existing: true,
        ..load("r", Write::Replace)
    };
    assert_eq!(
        counts(&run(&place.connection, emptied, &[rows(OLD)]).await),
        [3, 0, 0, 0]
    );
    assert_eq!(place.sql(&["SELECT count(*) FROM w"]), [["3"]]);
    assert_eq!(table(&place.connection, "main.t").await.primary_key, ["id"]);
}
