use std::sync::Arc;

use arrow_array::{Float64Array, Int64Array, StringArray};
use rusqlite::types::Value;
use tideway_core::{
    Column, Kind, LogicalType, Note,
    destination::{CREATED_AT, DELETED_AT, Deletes, Disposition, UPDATED_AT, Write},
};

use crate::support::*;

const SOFT: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Soft,
};
const HARD: Write = Write::Merge {
    complete: true,
    deletes: Deletes::Hard,
};
const PARTIAL: Write = Write::Merge {
    complete: false,
    deletes: Deletes::Soft,
};

/// A target with rows 1 to 3, as an earlier load of the same kind left it.
async fn filled(write: Write) -> File {
    let file = File::absent();
    let first = load(write, Disposition::Retain);
    let rows = person_rows(&[(1, "ann"), (2, "bob"), (3, "cid")]);
    let outcome = run_load(&file, &first, vec![rows]).await.unwrap();
    assert_eq!(counts(&outcome), [3, 0, 0, 0]);
    assert!(outcome.place.starts_with("t in /") && outcome.place.ends_with("shop.db"));
    file
}

fn names(file: &File) -> Vec<String> {
    file.texts("SELECT id || ' ' || name FROM t ORDER BY 1")
}

fn no_leftovers(file: &File) {
    let tables = file.texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1");
    assert_eq!(tables, ["_tideway_loads", "t"]);
}

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
async fn without_a_target_the_table_is_made_with_its_key() {
    let file = File::absent();
    run_load(
        &file,
        &load(SOFT, Disposition::Retain),
        vec![person_rows(&[(1, "ann")])],
    )
    .await
    .unwrap();
    let table = file.table("t").await;
    assert_eq!(table.primary_key, ["id"]);
    assert_eq!(
        types(&table),
        [
            ("id", LogicalType::Int64),
            ("name", LogicalType::Text),
            (DELETED_AT, LogicalType::TimestampTz)
        ]
    );
    let mode = file.texts("PRAGMA journal_mode");
    assert_eq!(mode, ["wal"]);
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

#[tokio::test]
async fn a_load_goes_on_with_the_parts_that_landed() {
    for write in [Write::Append, Write::Replace, HARD] {
        let file = filled(write).await;
        let mut load = load(write, Disposition::Retain);
        let begun = begin(&file, &load).await.unwrap();
        let mut lane = begun.lane().await.unwrap();
        lane.write(person_rows(&[(1, "ann")])).await.unwrap();
        lane.commit("a").await.unwrap();
        lane.write(person_rows(&[(8, "lost")])).await.unwrap();
        drop(lane);
        drop(begun);
        assert_eq!(names(&file).len(), 3, "readers see nothing of it yet");

        load.resume = true;
        let begun = begin(&file, &load).await.unwrap();
        assert_eq!(begun.landed().iter().collect::<Vec<_>>(), ["a"]);
        let mut lane = begun.lane().await.unwrap();
        // A part that has landed is written once more: its rows do not double.
        lane.write(person_rows(&[(1, "ann")])).await.unwrap();
        assert_eq!(lane.commit("a").await.unwrap().rows, 1);
        lane.write(person_rows(&[(9, "new")])).await.unwrap();
        lane.commit("b").await.unwrap();
        let outcome = begun.finish().await.unwrap();
        let expected = match write {
            Write::Append | Write::Replace => [2, 0, 0, 0],
            Write::Merge { .. } => [1, 0, 2, 1],
        };
        assert_eq!(counts(&outcome), expected, "{write:?}");
        no_leftovers(&file);
    }
}

#[tokio::test]
async fn a_load_that_does_not_resume_starts_over() {
    let file = filled(Write::Append).await;
    let load = load(Write::Append, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    land(begun.as_ref(), vec![person_rows(&[(7, "old")])])
        .await
        .unwrap();
    let begun = begin(&file, &load).await.unwrap();
    assert!(begun.landed().is_empty());
    land(begun.as_ref(), vec![person_rows(&[(8, "new")])])
        .await
        .unwrap();
    assert_eq!(begun.finish().await.unwrap().inserted, 1);
    assert_eq!(names(&file), ["1 ann", "2 bob", "3 cid", "8 new"]);
}

#[tokio::test]
async fn what_was_staged_with_other_columns_is_not_resumed() {
    let file = File::absent();
    let mut load = load(Write::Append, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    land(begun.as_ref(), vec![person_rows(&[(7, "old")])])
        .await
        .unwrap();
    load.resume = true;
    load.target
        .columns
        .push(Column::new("extra", LogicalType::Text));
    let begun = begin(&file, &load).await.unwrap();
    assert!(begun.landed().is_empty());
}

#[tokio::test]
async fn an_abandoned_load_leaves_nothing_behind() {
    let file = filled(Write::Replace).await;
    let begun = begin(&file, &load(Write::Replace, Disposition::Retain))
        .await
        .unwrap();
    land(begun.as_ref(), vec![person_rows(&[(7, "x")])])
        .await
        .unwrap();
    begun.abandon().await.unwrap();
    begun.abandon().await.unwrap();
    assert_eq!(names(&file), ["1 ann", "2 bob", "3 cid"]);
    no_leftovers(&file);
    assert_eq!(
        file.texts("SELECT count(*) FROM _tideway_loads WHERE part_id <> ''"),
        ["0"]
    );
}

#[tokio::test]
async fn a_lane_that_is_dropped_leaves_nothing_and_lets_others_write() {
    let file = File::absent();
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let mut first = begun.lane().await.unwrap();
    first.write(person_rows(&[(1, "lost")])).await.unwrap();
    let mut second = begun.lane().await.unwrap();
    let waiting = tokio::spawn(async move {
        second.write(person_rows(&[(2, "kept")])).await.unwrap();
        second.commit("b").await.unwrap()
    });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!waiting.is_finished(), "lanes take turns");
    drop(first);
    waiting.await.unwrap();
    assert_eq!(begun.finish().await.unwrap().inserted, 1);
    assert_eq!(names(&file), ["2 kept"]);
}

#[tokio::test]
async fn several_tables_are_loaded_side_by_side() {
    let file = File::absent();
    let connection = file.connect().await;
    let mut tasks = tokio::task::JoinSet::new();
    for table in 0..4 {
        let connection = connection.clone();
        tasks.spawn(async move {
            let mut load = load(HARD, Disposition::Retain);
            load.target.name = format!("table {table}");
            let begun = destination(&connection).begin(load).await.unwrap();
            let mut lane = begun.lane().await.unwrap();
            for part in 0..5 {
                for row in 0..4 {
                    lane.write(person_rows(&[(part * 10 + row, "x")]))
                        .await
                        .unwrap();
                }
                lane.commit(&part.to_string()).await.unwrap();
            }
            begun.finish().await.unwrap().inserted
        });
    }
    while let Some(inserted) = tasks.join_next().await {
        assert_eq!(inserted.unwrap(), 20);
    }
}

#[tokio::test]
async fn views_indexes_and_triggers_survive_a_replaced_table() {
    for truncate_existing in [false, true] {
        let file = filled(Write::Replace).await;
        file.run(
            "CREATE VIEW v AS SELECT name FROM t;
             CREATE INDEX by_name ON t (name);
             CREATE TABLE log (what TEXT);
             CREATE TRIGGER tell AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.name); END;
             CREATE TABLE child (id INTEGER REFERENCES t (id) ON DELETE CASCADE); INSERT INTO child VALUES (1);",
        );
        let mut load = load(Write::Replace, Disposition::Retain);
        load.truncate_existing = truncate_existing;
        run_load(&file, &load, vec![person_rows(&[(9, "new")])])
            .await
            .unwrap();
        assert_eq!(file.texts("SELECT name FROM v"), ["new"]);
        let attached = "SELECT name FROM sqlite_schema WHERE tbl_name = 't' AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY 1";
        assert_eq!(file.texts(attached), ["by_name", "tell"]);
        assert_eq!(
            file.texts("SELECT id FROM child"),
            ["1"],
            "no row of another table is lost"
        );
        let child = file.texts("SELECT sql FROM sqlite_schema WHERE name = 'child'");
        assert!(child[0].contains("REFERENCES t (id)"), "{child:?}");
    }
}

#[tokio::test]
async fn columns_that_the_load_lacks_stay_unless_the_table_is_rebuilt() {
    for (write, disposition, stays) in [
        (Write::Append, Disposition::Retain, true),
        (Write::Replace, Disposition::Retain, true),
        (Write::Replace, Disposition::Truncate, true),
        (Write::Replace, Disposition::Rebuild, false),
        (HARD, Disposition::Retain, true),
    ] {
        let file = filled(write).await;
        file.run("ALTER TABLE t ADD COLUMN extra TEXT; UPDATE t SET extra = 'mine'");
        run_load(
            &file,
            &load(write, disposition),
            vec![person_rows(&[(1, "ANN"), (4, "dan")])],
        )
        .await
        .unwrap();
        let table = file.table("t").await;
        assert_eq!(
            table.column("extra").is_some(),
            stays,
            "{write:?} {disposition:?}"
        );
        if stays {
            assert_eq!(
                file.rows("SELECT extra FROM t WHERE id = 4"),
                [[Value::Null]]
            );
        }
        if write == HARD {
            assert_eq!(file.texts("SELECT extra FROM t WHERE id = 1"), ["mine"]);
        }
    }
}

#[tokio::test]
async fn names_of_any_kind_are_written() {
    let odd = [
        "with space",
        "qu\"ote",
        "it's",
        "select",
        "表",
        "rowid",
        "a\nb",
        "oid",
        "_rowid_",
        "?1",
    ];
    let columns: Vec<Column> = odd
        .iter()
        .map(|name| Column::new(name, LogicalType::Text))
        .collect();
    let row = |value: &str| {
        let array = Arc::new(StringArray::from(vec![value]));
        batch(&columns, odd.iter().map(|_| array.clone() as _).collect())
    };
    for name in odd {
        for write in [Write::Append, Write::Replace, SOFT] {
            let file = File::absent();
            let mut first = load_of(
                columns.clone(),
                &["qu\"ote", "rowid"],
                write,
                Disposition::Retain,
            );
            first.target.name = name.to_owned();
            first.record_timestamps = true;
            run_load(&file, &first, vec![row("x")]).await.unwrap();
            let second = tideway_core::destination::Load {
                id: format!("{}b", first.id),
                ..first
            };
            run_load(&file, &second, vec![row("x")]).await.unwrap();
            let table = file.table(name).await;
            let rows = read_table(&file, name).await;
            assert_eq!(rows.len(), if write == Write::Append { 2 } else { 1 });
            assert_eq!(rows[0][..odd.len()], vec!["x"; odd.len()], "{name}");
            assert_eq!(table.columns[2].name, "it's");
        }
    }
}

#[tokio::test]
async fn wide_tables_are_merged() {
    let columns: Vec<Column> = (0..1500)
        .map(|at| Column::new(&format!("c{at}"), LogicalType::Int64))
        .collect();
    let row = |last: i64| {
        let arrays = (0..1500_i64)
            .map(|at| Arc::new(Int64Array::from(vec![if at == 1499 { last } else { at }])) as _);
        batch(&columns, arrays.collect())
    };
    let file = File::absent();
    let load = || load_of(columns.clone(), &["c0"], SOFT, Disposition::Retain);
    run_load(&file, &load(), vec![row(1)]).await.unwrap();
    assert_eq!(
        counts(&run_load(&file, &load(), vec![row(1)]).await.unwrap()),
        [0, 0, 0, 1]
    );
    assert_eq!(
        counts(&run_load(&file, &load(), vec![row(2)]).await.unwrap()),
        [0, 1, 0, 0]
    );
}

#[tokio::test]
async fn numbers_that_sqlite_has_not_are_noted() {
    let columns = vec![Column::new("f", LogicalType::Float64)];
    let values = Float64Array::from(vec![
        Some(f64::NAN),
        Some(-0.0),
        Some(f64::INFINITY),
        None,
        Some(f64::NAN),
    ]);
    let file = File::absent();
    let load = load_of(columns.clone(), &[], Write::Append, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    let notes = land(
        begun.as_ref(),
        vec![batch(&columns, vec![Arc::new(values)])],
    )
    .await
    .unwrap();
    let told: Vec<(&str, u64)> = notes
        .iter()
        .map(|note| (note.what.as_str(), note.rows))
        .collect();
    assert_eq!(
        told,
        [
            ("NaN stored as null", 2),
            ("negative zero stored as zero", 1)
        ]
    );
    begun.finish().await.unwrap();
    assert_eq!(
        read_table(&file, "t").await,
        texts(&[["∅"], ["0.0"], ["inf"], ["∅"], ["∅"]])
    );
}

#[tokio::test]
async fn tokens_of_loads_long_past_are_pruned_with_what_they_staged() {
    let file = filled(Write::Append).await;
    file.run(
        "UPDATE _tideway_loads SET committed_at = '2020-01-01 00:00:00.000000+00:00';
         INSERT INTO _tideway_loads VALUES ('dead', 'a', 1, '2020-01-01 00:00:00.000000+00:00');
         CREATE TABLE _tideway_stage_dead (x);",
    );
    let next = load(Write::Append, Disposition::Retain);
    run_load(&file, &next, vec![person_rows(&[(4, "dan")])])
        .await
        .unwrap();
    assert_eq!(file.texts("SELECT load_id FROM _tideway_loads"), [next.id]);
    no_leftovers(&file);
}

#[tokio::test]
async fn a_part_goes_on_over_many_writes_and_lands_whole() {
    let file = File::absent();
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let mut lane = begun.lane().await.unwrap();
    for row in 0..10 {
        lane.write(person_rows(&[(row, "x")])).await.unwrap();
        let stage = file.texts(
            "SELECT name FROM sqlite_schema WHERE name LIKE '\\_tideway\\_stage%' ESCAPE '\\'",
        );
        let staged = file.texts(&format!("SELECT count(*) FROM {}", stage[0]));
        assert_eq!(staged, ["0"], "nothing is there before the commit");
    }
    assert_eq!(lane.commit("a").await.unwrap().rows, 10);
    assert_eq!(begun.finish().await.unwrap().inserted, 10);
}

#[tokio::test]
async fn a_batch_of_other_columns_is_our_bug_and_spoils_the_part() {
    let file = File::absent();
    let begun = begin(&file, &load(Write::Append, Disposition::Retain))
        .await
        .unwrap();
    let mut lane = begun.lane().await.unwrap();
    lane.write(person_rows(&[(1, "x")])).await.unwrap();
    let columns = vec![Column::new("id", LogicalType::Int64)];
    let wrong = batch(&columns, vec![Arc::new(Int64Array::from(vec![1]))]);
    assert_eq!(lane.write(wrong).await.unwrap_err().kind, Kind::Bug);
    assert_eq!(
        lane.commit("a").await.unwrap_err().kind,
        Kind::Bug,
        "half a part must not land"
    );
    drop(lane);
    assert_eq!(begun.finish().await.unwrap().inserted, 0);
}
