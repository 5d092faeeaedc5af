//! Every way of writing, with what it does to a table that is there.

use tideway_core::destination::{Disposition, Load, Write};

use crate::write_rig::*;

const ALL: &str = "SELECT id, name FROM shop.people ORDER BY id, name";

/// 1 vanishes, 2 stays, 3 changes, 4 is new.
const BEFORE: [(i64, &str); 3] = [(1, "a"), (2, "b"), (3, "c")];
const AFTER: [(i64, &str); 3] = [(2, "b"), (3, "C"), (4, "d")];

#[tokio::test]
async fn a_missing_table_is_made_with_its_key_in_every_mode_but_append() {
    let rig = Rig::new().await;
    for write in [Write::Append, Write::Replace, SOFT, HARD, PARTIAL] {
        let done = rig.load(people(write), rows(&BEFORE)).await;
        assert_eq!(done, did(3, 0, 0, 0), "{write:?}");
        assert_eq!(rig.rows(ALL).await, ["1|a", "2|b", "3|c"]);
        let key = rig
            .rows("SELECT conname FROM pg_constraint WHERE conrelid = 'shop.people'::regclass AND contype = 'p'")
            .await;
        // Since version 18 what keeps a column from being null has a name, too.
        let ours = "SELECT conname FROM pg_constraint WHERE conrelid = 'shop.people'::regclass AND conname ~ '^_'";
        assert!(rig.rows(ours).await.is_empty());
        match write {
            Write::Append => assert!(key.is_empty()),
            _ => assert_eq!(key, ["people_pkey"]),
        }
        assert!(rig.staged().await.is_empty());
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn each_write_and_disposition_has_its_exact_outcome() {
    let rig = Rig::new().await;
    let whole = ["2|b", "3|C", "4|d"];
    for write in [Write::Append, Write::Replace, SOFT, HARD, PARTIAL] {
        for disposition in [
            Disposition::Retain,
            Disposition::Truncate,
            Disposition::Rebuild,
        ] {
            for truncate_existing in [false, true] {
                rig.load(people(write), rows(&BEFORE)).await;
                let load = Load {
                    disposition,
                    truncate_existing,
                    ..people(write)
                };
                let done = rig.load(load, rows(&AFTER)).await;
                let found = rig.rows(ALL).await;
                let case = format!("{write:?} {disposition:?} {truncate_existing}");
                match (write, disposition) {
                    (Write::Append, Disposition::Retain) => {
                        assert_eq!(found, ["1|a", "2|b", "2|b", "3|C", "3|c", "4|d"], "{case}");
                        assert_eq!(done, did(3, 0, 0, 0), "{case}");
                    }
                    (Write::Replace | Write::Append, _)
                    | (_, Disposition::Truncate | Disposition::Rebuild) => {
                        assert_eq!(found, whole, "{case}");
                        assert_eq!(done, did(3, 0, 0, 0), "{case}");
                    }
                    (HARD, Disposition::Retain) => {
                        assert_eq!(found, whole, "{case}");
                        assert_eq!(done, did(1, 1, 1, 1), "{case}");
                    }
                    (_, Disposition::Retain) => {
                        assert_eq!(found, ["1|a", "2|b", "3|C", "4|d"], "{case}");
                        let deleted = u64::from(write == SOFT);
                        assert_eq!(done, did(1, 1, deleted, 1), "{case}");
                    }
                }
                assert!(rig.staged().await.is_empty(), "{case}");
                rig.run("DROP TABLE shop.people").await;
            }
        }
    }
}

#[tokio::test]
async fn a_vanished_row_is_marked_once_and_cleared_when_its_key_comes_back() {
    let rig = Rig::new().await;
    let deleted = "SELECT id, _polytomic_deleted_at IS NOT NULL FROM shop.people ORDER BY id";
    rig.load(people(SOFT), rows(&BEFORE)).await;
    assert_eq!(
        rig.load(people(SOFT), rows(&BEFORE[1..])).await,
        did(0, 0, 1, 2)
    );
    assert_eq!(rig.rows(deleted).await, ["1|t", "2|f", "3|f"]);
    assert_eq!(
        rig.load(people(SOFT), rows(&BEFORE[1..])).await,
        did(0, 0, 0, 2)
    );
    assert_eq!(rig.load(people(SOFT), rows(&BEFORE)).await, did(0, 1, 0, 2));
    assert_eq!(rig.rows(deleted).await, ["1|f", "2|f", "3|f"]);
}

#[tokio::test]
async fn rows_that_are_equal_value_for_value_are_not_touched() {
    let rig = Rig::new().await;
    rig.load(people(SOFT), rows(&BEFORE)).await;
    let version = "SELECT xmin, ctid FROM shop.people WHERE id = 2";
    let before = rig.one(version).await;
    rig.load(people(SOFT), rows(&AFTER)).await;
    assert_eq!(rig.one(version).await, before);
}

#[tokio::test]
async fn stamps_tell_when_a_row_was_made_changed_and_deleted() {
    let rig = Rig::new().await;
    let stamped = |write| Load {
        record_timestamps: true,
        ..people(write)
    };
    let table = rig.begin(stamped(SOFT)).await;
    land(table.as_ref(), "1", rows(&BEFORE[..1])).await;
    land(table.as_ref(), "2", rows(&BEFORE[1..])).await;
    table.finish().await.unwrap();
    let uniform = "SELECT count(DISTINCT _polytomic_created_at), \
                   bool_and(_polytomic_created_at = _polytomic_updated_at) FROM shop.people";
    assert_eq!(rig.one(uniform).await, "1|t");
    rig.load(stamped(SOFT), rows(&AFTER)).await;
    let state = "SELECT id, _polytomic_updated_at > (SELECT min(_polytomic_created_at) FROM shop.people), \
                 _polytomic_created_at > (SELECT min(_polytomic_created_at) FROM shop.people), \
                 _polytomic_deleted_at = _polytomic_updated_at FROM shop.people ORDER BY id";
    assert_eq!(
        rig.rows(state).await,
        ["1|t|f|t", "2|f|f|null", "3|t|f|null", "4|t|t|null"]
    );
}

#[tokio::test]
async fn stamps_are_given_to_appended_and_refilled_rows() {
    let rig = Rig::new().await;
    for write in [Write::Append, Write::Replace] {
        for _ in 0..2 {
            let load = Load {
                record_timestamps: true,
                truncate_existing: true,
                ..people(write)
            };
            rig.load(load, rows(&BEFORE)).await;
        }
        let missing = "SELECT count(*) FROM shop.people WHERE _polytomic_created_at IS NULL \
                       OR _polytomic_updated_at IS NULL";
        assert_eq!(rig.one(missing).await, "0", "{write:?}");
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn of_rows_with_the_same_key_the_last_one_wins() {
    let rig = Rig::new().await;
    let twice = [(1, "first"), (2, "b"), (1, "last")];
    assert_eq!(rig.load(people(SOFT), rows(&twice)).await, did(2, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["1|last", "2|b"]);
    let again = [(1, "x"), (1, "last"), (2, "y"), (2, "z")];
    assert_eq!(rig.load(people(SOFT), rows(&again)).await, did(0, 1, 0, 1));
    assert_eq!(rig.rows(ALL).await, ["1|last", "2|z"]);
    assert_eq!(
        rig.load(people(Write::Replace), rows(&twice)).await,
        did(2, 0, 0, 0)
    );
    assert_eq!(rig.rows(ALL).await, ["1|last", "2|b"]);
}

#[tokio::test]
async fn a_row_without_a_key_is_not_merged_and_counted() {
    let rig = Rig::new().await;
    for _ in 0..2 {
        let mut load = people(SOFT);
        load.target.key = vec!["name".into()];
        let table = rig.begin(load.clone()).await;
        let names = arrow_array::StringArray::from(vec![Some("a"), None, None, Some("b")]);
        let ids = arrow_array::Int64Array::from(vec![1, 2, 3, 4]);
        let part = batch(
            &load,
            vec![std::sync::Arc::new(ids), std::sync::Arc::new(names)],
        );
        let notes = land(table.as_ref(), "1", part).await;
        assert_eq!(notes.len(), 1);
        assert_eq!((notes[0].column.as_str(), notes[0].rows), ("name", 2));
        let done = table.finish().await.unwrap();
        assert_eq!(done.inserted + done.unchanged, 2);
        assert_eq!(rig.rows(ALL).await, ["1|a", "4|b"]);
    }
}

#[tokio::test]
async fn rows_without_a_key_stay_in_a_replaced_table() {
    let rig = Rig::new().await;
    let mut load = people(Write::Replace);
    load.target.key = vec!["name".into()];
    let names = arrow_array::StringArray::from(vec![Some("a"), None, None, Some("a")]);
    let ids = arrow_array::Int64Array::from(vec![1, 2, 3, 4]);
    let part = batch(
        &load,
        vec![std::sync::Arc::new(ids), std::sync::Arc::new(names)],
    );
    assert_eq!(rig.load(load, part).await, did(3, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["2|null", "3|null", "4|a"]);
}

#[tokio::test]
async fn a_table_can_be_all_key() {
    let rig = Rig::new().await;
    let load = |rows: &[i64]| {
        let mut load = people(HARD);
        load.target.columns.truncate(1);
        let ids: arrow_array::Int64Array = rows.iter().copied().collect();
        let part = batch(&load, vec![std::sync::Arc::new(ids)]);
        (load, part)
    };
    let (first, part) = load(&[1, 2]);
    assert_eq!(rig.load(first, part).await, did(2, 0, 0, 0));
    let (second, part) = load(&[2, 3]);
    assert_eq!(rig.load(second, part).await, did(1, 0, 1, 1));
}

#[tokio::test]
async fn an_empty_load_empties_what_it_is_complete_for() {
    let rig = Rig::new().await;
    for (write, left) in [
        (Write::Append, 3),
        (PARTIAL, 3),
        (HARD, 0),
        (Write::Replace, 0),
    ] {
        rig.load(people(write), rows(&BEFORE)).await;
        let table = rig.begin(people(write)).await;
        let mut lane = table.lane().await.unwrap();
        assert_eq!(lane.commit("1").await.unwrap().rows, 0);
        let done = table.finish().await.unwrap();
        assert_eq!(
            done,
            did(0, 0, if write == HARD { 3 } else { 0 }, 0),
            "{write:?}"
        );
        assert_eq!(
            rig.one("SELECT count(*) FROM shop.people").await,
            left.to_string()
        );
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_small_merge_into_a_table_without_a_key_gets_an_index() {
    let rig = Rig::new().await;
    rig.load(people(Write::Append), rows(&BEFORE)).await;
    let table = rig.begin(people(SOFT)).await;
    let changes: Vec<&str> = table
        .schema_changes()
        .iter()
        .map(|change| change.0.as_str())
        .collect();
    assert_eq!(
        changes,
        [
            "column _polytomic_deleted_at added",
            "index on the key (id) added"
        ]
    );
    land(table.as_ref(), "1", rows(&AFTER)).await;
    assert_eq!(table.finish().await.unwrap(), did(1, 1, 1, 1));
    assert!(rig.begin(people(SOFT)).await.schema_changes().is_empty());
}
