use std::sync::Arc;

use arrow_array::{Float64Array, Int64Array, StringArray};
use rusqlite::types::Value;
use tideway_core::{
    Column, LogicalType, Note,
    destination::{CREATED_AT, DELETED_AT, Disposition, UPDATED_AT, Write},
};

use crate::support::*;

#[tokio::test]
async fn every_way_of_writing_onto_every_disposition_has_exact_counts() {
    // One row is new, one changed, one the same, one gone.
    let rows = || person_rows(&[(1, "ann"), (2, "BOB"), (4, "dan")]);
    let all = ["1 ann", "2 BOB", "4 dan"];
    let appended = ["1 ann", "1 ann", "2 BOB", "2 bob", "3 cid", "4 dan"];
    let merged = ["1 ann", "2 BOB", "3 cid", "4 dan"];
    let cases: [(Write, Disposition, [u64; 4], &[&str]); 15] = [
        (Write::Append, Disposition::Retain, [3, 0, 0, 0], &appended),
        (Write::Append, Disposition::Truncate, [3, 0, 0, 0], &all),
        (Write::Append, Disposition::Rebuild, [3, 0, 0, 0], &all),
        (Write::Replace, Disposition::Retain, [3, 0, 0, 0], &all),
        (Write::Replace, Disposition::Truncate, [3, 0, 0, 0], &all),
        (Write::Replace, Disposition::Rebuild, [3, 0, 0, 0], &all),
        (SOFT, Disposition::Retain, [1, 1, 1, 1], &merged),
        (SOFT, Disposition::Truncate, [3, 0, 0, 0], &all),
        (SOFT, Disposition::Rebuild, [3, 0, 0, 0], &all),
        (HARD, Disposition::Retain, [1, 1, 1, 1], &all),
        (HARD, Disposition::Truncate, [3, 0, 0, 0], &all),
        (HARD, Disposition::Rebuild, [3, 0, 0, 0], &all),
        (PARTIAL, Disposition::Retain, [1, 1, 0, 1], &merged),
        (PARTIAL, Disposition::Truncate, [3, 0, 0, 0], &all),
        (PARTIAL, Disposition::Rebuild, [3, 0, 0, 0], &all),
    ];
    for (write, disposition, expected, left) in cases {
        for truncate_existing in [false, true] {
            for record_timestamps in [false, true] {
                let file = filled(write).await;
                let load = tideway_core::destination::Load {
                    truncate_existing,
                    record_timestamps,
                    ..load(write, disposition)
                };
                let case =
                    format!("{write:?} {disposition:?} {truncate_existing} {record_timestamps}");
                let outcome = run_load(&file, &load, vec![rows()]).await.unwrap();
                assert_eq!(counts(&outcome), expected, "{case}");
                assert!(!outcome.repeated, "{case}");
                assert_eq!(names(&file), left, "{case}");
                no_leftovers(&file);
                let again = begin(&file, &load).await.unwrap();
                assert!(again.finished(), "{case}");
                let again = again.finish().await.unwrap();
                assert!(again.repeated && again.place == outcome.place, "{case}");
                assert_eq!(counts(&again), [0; 4], "{case}");
                assert_eq!(names(&file), left, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_load_without_rows_empties_or_keeps_the_table_as_it_should() {
    for (write, expected, left) in [
        (Write::Append, [0, 0, 0, 0], 3),
        (Write::Replace, [0, 0, 0, 0], 0),
        (HARD, [0, 0, 3, 0], 0),
        (PARTIAL, [0, 0, 0, 0], 3),
    ] {
        let file = filled(write).await;
        let begun = begin(&file, &load(write, Disposition::Retain))
            .await
            .unwrap();
        let durable = begun.lane().await.unwrap().commit("only").await.unwrap();
        assert_eq!(durable.rows, 0);
        let outcome = begun.finish().await.unwrap();
        assert_eq!(counts(&outcome), expected, "{write:?}");
        assert_eq!(names(&file).len(), left, "{write:?}");
    }
}

#[tokio::test]
async fn soft_deleted_rows_are_marked_once_and_come_back_cleared() {
    let file = filled(SOFT).await;
    let mut second = load(SOFT, Disposition::Retain);
    second.record_timestamps = true;
    let outcome = run_load(&file, &second, vec![person_rows(&[(1, "ann")])])
        .await
        .unwrap();
    assert_eq!(counts(&outcome), [0, 0, 2, 1]);
    let marked = file.texts(&format!(
        "SELECT id FROM t WHERE {DELETED_AT} IS NOT NULL ORDER BY id"
    ));
    assert_eq!(marked, ["2", "3"]);
    let when = file.texts(&format!("SELECT {DELETED_AT} FROM t WHERE id = 2"));

    let third = load(SOFT, Disposition::Retain);
    let rows = person_rows(&[(1, "ann"), (3, "cid")]);
    let outcome = run_load(&file, &third, vec![rows]).await.unwrap();
    assert_eq!(
        counts(&outcome),
        [0, 1, 0, 1],
        "the same values, but no longer deleted"
    );
    assert_eq!(
        file.texts(&format!("SELECT {DELETED_AT} FROM t WHERE id = 2")),
        when,
        "marked once"
    );
    assert_eq!(
        file.texts(&format!(
            "SELECT count(*) FROM t WHERE {DELETED_AT} IS NULL"
        )),
        ["2"]
    );
}

#[tokio::test]
async fn record_timestamps_tell_when_a_row_came_and_changed() {
    let file = File::absent();
    let stamped = |write| tideway_core::destination::Load {
        record_timestamps: true,
        ..load(write, Disposition::Retain)
    };
    run_load(
        &file,
        &stamped(HARD),
        vec![person_rows(&[(1, "ann"), (2, "bob")])],
    )
    .await
    .unwrap();
    let before = file.rows(&format!(
        "SELECT {CREATED_AT}, {UPDATED_AT} FROM t ORDER BY id"
    ));
    assert!(
        before
            .iter()
            .flatten()
            .all(|value| matches!(value, Value::Text(text) if text.ends_with("+00:00")))
    );
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    run_load(
        &file,
        &stamped(HARD),
        vec![person_rows(&[(1, "ann"), (2, "BOB"), (3, "cid")])],
    )
    .await
    .unwrap();
    let after = file.rows(&format!(
        "SELECT {CREATED_AT}, {UPDATED_AT} FROM t ORDER BY id"
    ));
    assert_eq!(after[0], before[0], "an unchanged row is untouched");
    assert_eq!(after[1][0], before[1][0]);
    assert_ne!(after[1][1], before[1][1]);
    assert_ne!(after[2][0], Value::Null);
    // Our own discovery sees them as timestamps with a zone.
    let table = file.table("t").await;
    assert_eq!(
        table.column(CREATED_AT).unwrap().logical,
        LogicalType::TimestampTz
    );
}

#[tokio::test]
async fn appended_rows_may_repeat_a_key() {
    let file = File::absent();
    for _ in 0..2 {
        let rows = person_rows(&[(1, "ann"), (1, "ann")]);
        run_load(&file, &load(Write::Append, Disposition::Retain), vec![rows])
            .await
            .unwrap();
    }
    assert_eq!(names(&file), ["1 ann"; 4]);
}

#[tokio::test]
async fn of_rows_with_the_same_key_the_last_one_wins_and_is_noted() {
    for write in [SOFT, HARD, Write::Replace] {
        let file = filled(write).await;
        let begun = begin(&file, &load(write, Disposition::Retain))
            .await
            .unwrap();
        let notes = land(
            begun.as_ref(),
            vec![
                person_rows(&[(1, "a"), (1, "b"), (2, "bob")]),
                person_rows(&[(1, "c"), (3, "cid")]),
            ],
        )
        .await
        .unwrap();
        let rows: u64 = notes.iter().map(|note| note.rows).sum();
        assert_eq!(rows, 2, "{notes:?}");
        assert!(
            notes
                .iter()
                .all(|note| note.column == "id" && note.what.contains("repeated"))
        );
        let outcome = begun.finish().await.unwrap();
        assert_eq!(names(&file), ["1 c", "2 bob", "3 cid"]);
        let merged = write != Write::Replace;
        assert_eq!(
            counts(&outcome),
            if merged { [0, 1, 0, 2] } else { [3, 0, 0, 0] }
        );
    }
}

#[tokio::test]
async fn a_null_key_is_rejected_with_a_note() {
    let file = filled(HARD).await;
    let ids = Int64Array::from(vec![Some(1), None, None]);
    let rows = batch(
        &people(),
        vec![
            Arc::new(ids),
            Arc::new(StringArray::from(vec!["ann", "x", "y"])),
        ],
    );
    let begun = begin(&file, &load(HARD, Disposition::Retain))
        .await
        .unwrap();
    let notes = land(begun.as_ref(), vec![rows]).await.unwrap();
    assert_eq!(
        notes,
        [Note {
            column: "id".into(),
            what: "row without a key not written".into(),
            rows: 2
        }]
    );
    assert_eq!(counts(&begun.finish().await.unwrap()), [0, 0, 2, 1]);
}

#[tokio::test]
async fn a_null_never_becomes_a_row_number() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let ids = Int64Array::from(vec![Some(1), None]);
    let rows = batch(
        &people(),
        vec![Arc::new(ids), Arc::new(StringArray::from(vec!["ann", "x"]))],
    );
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let notes = land(begun.as_ref(), vec![rows]).await.unwrap();
    assert_eq!((notes[0].column.as_str(), notes[0].rows), ("id", 1));
    begun.finish().await.unwrap();
    assert_eq!(names(&file), ["1 ann"]);
}

#[tokio::test]
async fn keys_of_several_columns_are_merged() {
    let columns = vec![
        Column::new("a", LogicalType::Text),
        Column::new("b", LogicalType::Int64),
        Column::new("v", LogicalType::Float64),
    ];
    let rows = |rows: &[(&str, i64, f64)]| {
        batch(
            &columns,
            vec![
                Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>()),
                Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>()),
                Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Float64Array>()),
            ],
        )
    };
    let file = File::absent();
    let load = || load_of(columns.clone(), &["b", "a"], HARD, Disposition::Retain);
    run_load(
        &file,
        &load(),
        vec![rows(&[("x", 1, 1.0), ("x", 2, 2.0), ("y", 1, 3.0)])],
    )
    .await
    .unwrap();
    assert_eq!(file.table("t").await.primary_key, ["b", "a"]);
    let outcome = run_load(
        &file,
        &load(),
        vec![rows(&[("x", 1, 1.0), ("x", 2, 2.5), ("z", 1, 3.0)])],
    )
    .await
    .unwrap();
    assert_eq!(counts(&outcome), [1, 1, 1, 1]);
}

#[tokio::test]
async fn a_table_of_keys_alone_is_merged() {
    let columns = vec![Column::new("id", LogicalType::Int64)];
    let rows = |ids: Vec<i64>| batch(&columns, vec![Arc::new(Int64Array::from(ids))]);
    for write in [SOFT, HARD] {
        let file = File::absent();
        let load = || load_of(columns.clone(), &["id"], write, Disposition::Retain);
        run_load(&file, &load(), vec![rows(vec![1, 2])])
            .await
            .unwrap();
        let outcome = run_load(&file, &load(), vec![rows(vec![2, 3])])
            .await
            .unwrap();
        assert_eq!(counts(&outcome), [1, 0, 1, 1]);
    }
}

#[tokio::test]
async fn changes_from_and_to_null_and_in_case_are_changes() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE); INSERT INTO t VALUES (1, NULL), (2, 'b'), (3, 'cid'), (4, NULL)",
    );
    let names = StringArray::from(vec![Some("a"), None, Some("CID"), None]);
    let rows = batch(
        &people(),
        vec![
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
            Arc::new(names),
        ],
    );
    let outcome = run_load(&file, &load(HARD, Disposition::Retain), vec![rows])
        .await
        .unwrap();
    assert_eq!(counts(&outcome), [0, 3, 0, 1]);
}
