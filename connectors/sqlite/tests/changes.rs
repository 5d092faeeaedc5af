//! Loads of changes: every operation, several parts, several loads.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt8Array};
use tideway_core::{
    Batch, Column, Kind, LogicalType, Note, Op, Ops,
    destination::{Deletes, Disposition, Load, Outcome, TableLoad, Write},
};

use crate::support::*;

pub const SOFTLY: Write = Write::Changes {
    complete: false,
    deletes: Deletes::Soft,
};
pub const HARDLY: Write = Write::Changes {
    complete: false,
    deletes: Deletes::Hard,
};

/// The same, of a table that the source emptied before.
pub fn emptied(write: Write) -> Write {
    match write {
        Write::Changes { deletes, .. } => Write::Changes {
            complete: true,
            deletes,
        },
        other => other,
    }
}

/// A value of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Is(String),
    Kept,
}

/// A change: the operation, `id`, `name` and `about`.
pub type Change = (Op, i64, Cell, Cell);

pub fn is(text: &str) -> Cell {
    Cell::Is(text.to_owned())
}

pub fn put(op: Op, id: i64, name: &str, about: &str) -> Change {
    (op, id, is(name), is(about))
}

pub fn gone(id: i64) -> Change {
    (Op::Delete, id, is("means nothing"), Cell::Null)
}

pub fn changed_columns() -> Vec<Column> {
    let mut columns = people();
    columns.push(Column::new("about", LogicalType::Text));
    columns
}

pub fn changing(write: Write) -> Load {
    load_of(changed_columns(), &["id"], write, Disposition::Retain)
}

pub fn changes(rows: &[Change]) -> Batch {
    let texts = |at: fn(&Change) -> &Cell| -> ArrayRef {
        let texts: StringArray = rows
            .iter()
            .map(|row| match at(row) {
                Cell::Is(text) => Some(text.as_str()),
                Cell::Null => None,
                Cell::Kept => Some("means nothing"),
            })
            .collect();
        Arc::new(texts)
    };
    let kept = |at: fn(&Change) -> &Cell| -> BooleanArray {
        rows.iter()
            .map(|row| Some(*at(row) == Cell::Kept))
            .collect()
    };
    let ids: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    let arrays = vec![
        Arc::new(ids) as ArrayRef,
        texts(|row| &row.2),
        texts(|row| &row.3),
    ];
    let codes: UInt8Array = rows.iter().map(|row| Some(row.0 as u8)).collect();
    let kept = [(1, kept(|row| &row.2)), (2, kept(|row| &row.3))];
    Batch {
        ops: Ops::Each(codes),
        kept: kept
            .into_iter()
            .filter(|(_, rows)| rows.true_count() > 0)
            .collect(),
        ..batch(&changed_columns(), arrays)
    }
}

/// Lands each list of rows as a part of its own, in a single lane.
pub async fn stage(begun: &dyn TableLoad, parts: &[(&str, Vec<Change>)]) -> Vec<Note> {
    let mut lane = begun.lane().await.unwrap();
    let mut notes = Vec::new();
    for (id, rows) in parts {
        notes.extend(lane.write(changes(rows)).await.unwrap().notes);
        assert_eq!(lane.commit(id).await.unwrap().rows, rows.len() as u64);
    }
    notes
}

async fn apply(file: &File, load: Load, parts: &[(&str, Vec<Change>)]) -> Outcome {
    let begun = begin(file, &load).await.unwrap();
    assert_eq!(stage(begun.as_ref(), parts).await, []);
    let outcome = begun.finish().await.unwrap();
    no_leftovers(file);
    outcome
}

/// A table with the people 1 to 3.
async fn inhabited(write: Write) -> File {
    let file = File::absent();
    let people = ["a", "b", "c"].iter().zip(1..);
    let rows = people.map(|(name, id)| put(Op::Insert, id, name, "x"));
    let outcome = apply(&file, changing(write), &[("1", rows.collect())]).await;
    assert_eq!(counts(&outcome), [3, 0, 0, 0]);
    file
}

/// The rows as text; a `!` behind those that are marked as deleted.
pub fn state(file: &File, write: Write) -> Vec<String> {
    let mark = match write {
        SOFTLY => "iif(_polytomic_deleted_at IS NULL, '', '!')",
        _ => "''",
    };
    file.texts(&format!(
        "SELECT id || '|' || ifnull(name, '∅') || '|' || ifnull(about, '∅') || {mark} \
         FROM t ORDER BY id"
    ))
}

/// Rows of the table are gone, others changed, when the last one is refused.
#[tokio::test]
async fn a_load_that_fails_in_its_last_step_changes_nothing() {
    for write in [SOFTLY, HARDLY] {
        let file = inhabited(write).await;
        file.run(
            "CREATE TRIGGER refuse BEFORE INSERT ON t WHEN NEW.id = 99 \
             BEGIN SELECT RAISE(ABORT, 'refused'); END",
        );
        let before = state(&file, write);
        let begun = begin(&file, &changing(emptied(write))).await.unwrap();
        let parts = [
            ("1", vec![put(Op::Insert, 2, "B", "x")]),
            ("2", vec![put(Op::Insert, 99, "z", "x")]),
        ];
        assert_eq!(stage(begun.as_ref(), &parts).await, []);
        begun.finish().await.unwrap_err();
        assert_eq!(state(&file, write), before);
    }
}

#[tokio::test]
async fn each_operation_has_its_exact_outcome() {
    let part = || {
        vec![
            gone(1),
            put(Op::Update, 2, "B", "x"),
            put(Op::Update, 3, "c", "x"),
            put(Op::Insert, 4, "d", "x"),
            gone(99),
        ]
    };
    let file = inhabited(HARDLY).await;
    let outcome = apply(&file, changing(HARDLY), &[("1", part())]).await;
    assert_eq!(counts(&outcome), [1, 1, 1, 1]);
    assert_eq!(state(&file, HARDLY), ["2|B|x", "3|c|x", "4|d|x"]);
    let file = inhabited(SOFTLY).await;
    for expected in [[1, 1, 1, 1], [0, 0, 0, 3]] {
        let outcome = apply(&file, changing(SOFTLY), &[("1", part())]).await;
        assert_eq!(counts(&outcome), expected);
        let rows = ["1|a|x!", "2|B|x", "3|c|x", "4|d|x"];
        assert_eq!(state(&file, SOFTLY), rows);
    }
}

#[tokio::test]
async fn a_key_that_comes_back_is_cleared() {
    let file = inhabited(SOFTLY).await;
    let part = vec![gone(1), gone(2)];
    apply(&file, changing(SOFTLY), &[("1", part)]).await;
    let part = vec![put(Op::Insert, 1, "a", "x"), put(Op::Update, 2, "B", "x")];
    let outcome = apply(&file, changing(SOFTLY), &[("1", part)]).await;
    assert_eq!(counts(&outcome), [0, 2, 0, 0]);
    assert_eq!(state(&file, SOFTLY), ["1|a|x", "2|B|x", "3|c|x"]);
}

#[tokio::test]
async fn rows_that_are_equal_value_for_value_are_not_touched() {
    let file = File::absent();
    let stamped = || Load {
        record_timestamps: true,
        ..changing(SOFTLY)
    };
    let part = vec![put(Op::Insert, 1, "a", "x"), put(Op::Insert, 2, "b", "x")];
    apply(&file, stamped(), &[("1", part)]).await;
    let time = "SELECT _polytomic_updated_at FROM t WHERE id = 1";
    let before = file.texts(time);
    let part = vec![
        (Op::Update, 1, is("a"), Cell::Kept),
        put(Op::Update, 2, "B", "x"),
    ];
    let outcome = apply(&file, stamped(), &[("1", part)]).await;
    assert_eq!(counts(&outcome), [0, 1, 0, 1]);
    assert_eq!(file.texts(time), before);
    let newer = "SELECT id FROM t WHERE _polytomic_updated_at > _polytomic_created_at";
    assert_eq!(file.texts(newer), ["2"]);
}

#[tokio::test]
async fn kept_values_stay_over_several_parts() {
    for write in [SOFTLY, HARDLY] {
        let file = inhabited(write).await;
        let parts = [
            (
                "001",
                vec![
                    (Op::Update, 1, is("A"), Cell::Kept),
                    (Op::Update, 2, Cell::Kept, is("y")),
                    (Op::Update, 3, Cell::Kept, Cell::Kept),
                ],
            ),
            (
                "002",
                vec![
                    (Op::Update, 2, is("B"), Cell::Kept),
                    put(Op::Insert, 4, "d", "z"),
                ],
            ),
            ("003", vec![(Op::Update, 4, is("D"), Cell::Kept)]),
        ];
        let outcome = apply(&file, changing(write), &parts).await;
        assert_eq!(counts(&outcome), [1, 4, 0, 1], "{write:?}");
        let rows = ["1|A|x", "2|B|y", "3|c|x", "4|D|z"];
        assert_eq!(state(&file, write), rows);
    }
}

#[tokio::test]
async fn a_value_kept_by_a_row_that_is_not_there_is_null_and_told() {
    let file = inhabited(HARDLY).await;
    let parts = [
        ("1", vec![gone(3), (Op::Update, 1, is("A"), Cell::Kept)]),
        ("2", vec![(Op::Update, 3, is("C"), Cell::Kept)]),
        ("3", vec![(Op::Update, 8, Cell::Kept, Cell::Kept)]),
    ];
    let mut outcome = apply(&file, changing(HARDLY), &parts).await;
    assert_eq!(counts(&outcome), [2, 1, 1, 0]);
    let note = |column: &str, rows| Note {
        column: column.to_owned(),
        what: "value kept by a row that is not there stored as null".to_owned(),
        rows,
    };
    outcome.notes.sort_by(|a, b| a.column.cmp(&b.column));
    assert_eq!(outcome.notes, [note("about", 2), note("name", 1)]);
    let rows = ["1|A|x", "2|b|x", "3|C|∅", "8|∅|∅"];
    assert_eq!(state(&file, HARDLY), rows);
}

#[tokio::test]
async fn parts_apply_in_the_order_of_their_ids() {
    for write in [SOFTLY, HARDLY] {
        let file = inhabited(write).await;
        let parts = [
            ("003", vec![put(Op::Update, 2, "third", "x"), gone(1)]),
            ("001", vec![put(Op::Update, 2, "first", "x"), gone(1)]),
            (
                "002",
                vec![
                    put(Op::Update, 2, "second", "x"),
                    put(Op::Insert, 1, "a", "x"),
                ],
            ),
        ];
        let outcome = apply(&file, changing(write), &parts).await;
        let (expected, rows) = match write {
            HARDLY => ([1, 3, 2, 0], vec!["2|third|x", "3|c|x"]),
            _ => ([0, 4, 2, 0], vec!["1|a|x!", "2|third|x", "3|c|x"]),
        };
        assert_eq!(counts(&outcome), expected, "{write:?}");
        assert_eq!(state(&file, write), rows);
    }
}

#[tokio::test]
async fn a_key_may_have_several_columns() {
    let file = File::absent();
    let keyed = || {
        load_of(
            changed_columns(),
            &["about", "id"],
            HARDLY,
            Disposition::Retain,
        )
    };
    let part = vec![
        put(Op::Insert, 1, "a", "x"),
        put(Op::Insert, 1, "b", "y"),
        put(Op::Insert, 2, "c", "x"),
    ];
    apply(&file, keyed(), &[("1", part)]).await;
    let part = vec![
        put(Op::Update, 1, "A", "x"),
        (Op::Delete, 1, Cell::Null, is("y")),
        (Op::Delete, 2, Cell::Null, is("y")),
        put(Op::Insert, 3, "d", "x"),
    ];
    let outcome = apply(&file, keyed(), &[("1", part)]).await;
    assert_eq!(counts(&outcome), [1, 1, 1, 0]);
    assert_eq!(state(&file, HARDLY), ["1|A|x", "2|c|x", "3|d|x"]);
}

#[tokio::test]
async fn a_row_without_a_key_is_not_written_and_counted() {
    let file = File::absent();
    let load = load_of(changed_columns(), &["name"], SOFTLY, Disposition::Retain);
    let begun = begin(&file, &load).await.unwrap();
    let rows = vec![
        (Op::Insert, 1, Cell::Null, is("x")),
        (Op::Insert, 2, is("b"), is("x")),
        (Op::Delete, 3, Cell::Null, is("x")),
    ];
    let notes = stage(begun.as_ref(), &[("1", rows)]).await;
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].column.as_str(), notes[0].rows), ("name", 2));
    assert_eq!(counts(&begun.finish().await.unwrap()), [1, 0, 0, 0]);
    assert_eq!(state(&file, SOFTLY), ["2|b|x"]);
}

#[tokio::test]
async fn finishing_again_changes_nothing() {
    let file = inhabited(SOFTLY).await;
    let load = changing(SOFTLY);
    let begun = begin(&file, &load).await.unwrap();
    stage(begun.as_ref(), &[("1", vec![put(Op::Update, 1, "A", "x")])]).await;
    assert_eq!(counts(&begun.finish().await.unwrap()), [0, 1, 0, 0]);
    file.run("UPDATE t SET name = 'by someone' WHERE id = 1");
    assert!(begun.finish().await.unwrap().repeated);
    let again = begin(&file, &load).await.unwrap();
    assert!(again.finished());
    assert!(again.finish().await.unwrap().repeated);
    assert_eq!(state(&file, SOFTLY)[0], "1|by someone|x");
    no_leftovers(&file);
}

#[tokio::test]
async fn a_load_goes_on_with_the_parts_that_landed_or_starts_over() {
    for resume in [true, false] {
        let file = inhabited(SOFTLY).await;
        let load = changing(SOFTLY);
        let first = || vec![put(Op::Insert, 4, "d", "x"), gone(2)];
        {
            let begun = begin(&file, &load).await.unwrap();
            stage(begun.as_ref(), &[("1", first())]).await;
            let mut lane = begun.lane().await.unwrap();
            let lost = changes(&[put(Op::Insert, 5, "lost", "x")]);
            lane.write(lost).await.unwrap();
        }
        let begun = begin(&file, &Load { resume, ..load }).await.unwrap();
        assert_eq!(begun.landed().len(), usize::from(resume));
        let rest = [("1", first()), ("2", vec![put(Op::Update, 4, "D", "x")])];
        stage(begun.as_ref(), &rest).await;
        assert_eq!(counts(&begun.finish().await.unwrap()), [1, 1, 1, 0]);
        let rows = ["1|a|x", "2|b|x!", "3|c|x", "4|D|x"];
        assert_eq!(state(&file, SOFTLY), rows);
    }
}

#[tokio::test]
async fn two_loads_are_staged_side_by_side_and_finished_one_after_the_other() {
    let file = inhabited(HARDLY).await;
    let first = begin(&file, &changing(HARDLY)).await.unwrap();
    stage(
        first.as_ref(),
        &[("1", vec![put(Op::Update, 1, "first", "x")])],
    )
    .await;
    let second = begin(&file, &changing(HARDLY)).await.unwrap();
    stage(
        second.as_ref(),
        &[("1", vec![put(Op::Update, 1, "second", "x")])],
    )
    .await;
    assert_eq!(counts(&first.finish().await.unwrap()), [0, 1, 0, 0]);
    assert_eq!(state(&file, HARDLY)[0], "1|first|x");
    assert_eq!(counts(&second.finish().await.unwrap()), [0, 1, 0, 0]);
    assert_eq!(state(&file, HARDLY)[0], "1|second|x");
    no_leftovers(&file);
}

#[tokio::test]
async fn columns_are_added_and_a_table_of_someone_elses_is_changed_as_it_is() {
    let file = File::with(
        "CREATE TABLE t (extra INTEGER DEFAULT 5, name TEXT, id INTEGER); \
         INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
    );
    let begun = begin(&file, &changing(HARDLY)).await.unwrap();
    let told = begun
        .schema_changes()
        .iter()
        .map(|change| change.0.as_str());
    let told: Vec<&str> = told.collect();
    let expected = ["column about added as TEXT", "index on the key (id) added"];
    assert_eq!(told, expected);
    let part = vec![
        (Op::Update, 1, is("A"), Cell::Kept),
        gone(2),
        put(Op::Insert, 3, "c", "y"),
    ];
    stage(begun.as_ref(), &[("1", part)]).await;
    assert_eq!(counts(&begun.finish().await.unwrap()), [1, 1, 1, 0]);
    assert_eq!(state(&file, HARDLY), ["1|A|∅", "3|c|y"]);
    assert_eq!(file.texts("SELECT extra FROM t ORDER BY id"), ["1", "5"]);
}

#[tokio::test]
async fn a_missing_table_is_made_and_others_are_emptied_or_made_anew_where_asked() {
    for disposition in [
        Disposition::Retain,
        Disposition::Truncate,
        Disposition::Rebuild,
    ] {
        let file = File::absent();
        let asked = || Load {
            disposition,
            ..changing(SOFTLY)
        };
        let part = || vec![put(Op::Insert, 9, "i", "x"), gone(1)];
        let outcome = apply(&file, asked(), &[("1", part())]).await;
        assert_eq!(counts(&outcome), [1, 0, 0, 0]);
        let outcome = apply(&file, asked(), &[("1", part())]).await;
        let expected = match disposition {
            Disposition::Retain => [0, 0, 0, 1],
            _ => [1, 0, 0, 0],
        };
        assert_eq!(counts(&outcome), expected, "{disposition:?}");
        assert_eq!(state(&file, SOFTLY), ["9|i|x"]);
    }
}

#[tokio::test]
async fn batches_that_are_no_changes_are_our_bug() {
    let file = inhabited(SOFTLY).await;
    let whole = changes(&[put(Op::Insert, 4, "d", "x")]);
    let wrong = [
        Batch {
            ops: Ops::Rows,
            ..whole.clone()
        },
        Batch {
            ops: Ops::Each(UInt8Array::from(vec![7])),
            ..whole.clone()
        },
        Batch {
            kept: vec![(0, BooleanArray::from(vec![true]))],
            ..whole
        },
    ];
    for wrong in wrong {
        let begun = begin(&file, &changing(SOFTLY)).await.unwrap();
        let mut lane = begun.lane().await.unwrap();
        assert_eq!(lane.write(wrong).await.unwrap_err().kind, Kind::Bug);
        assert_eq!(lane.commit("1").await.unwrap_err().kind, Kind::Bug);
        drop(lane);
        begun.abandon().await.unwrap();
    }
}
