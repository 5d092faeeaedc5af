//! Changes: every operation, kept values, several parts.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt8Array};
use tideway_core::{
    Batch, Column, Kind, LogicalType, Note, Op, Ops,
    destination::{Deletes, Load, Outcome, TableLoad, Write},
};

use crate::write_rig::*;

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

/// A change of `shop.people`: the operation, `id`, `name` and `about`.
pub type Row = (Op, i64, Cell, Cell);

pub fn is(text: &str) -> Cell {
    Cell::Is(text.to_owned())
}

pub fn put(op: Op, id: i64, name: &str, about: &str) -> Row {
    (op, id, is(name), is(about))
}

pub fn gone(id: i64) -> Row {
    (Op::Delete, id, is("means nothing"), Cell::Null)
}

pub fn columns() -> Vec<Column> {
    vec![
        Column {
            nullable: false,
            ..Column::new("id", LogicalType::Int64)
        },
        Column::new("name", LogicalType::Text),
        Column::new("about", LogicalType::Text),
    ]
}

pub fn load(write: Write) -> Load {
    load_of(write, columns())
}

pub fn changes(rows: &[Row]) -> Batch {
    let texts = |at: fn(&Row) -> &Cell| -> ArrayRef {
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
    let kept = |at: fn(&Row) -> &Cell| -> BooleanArray {
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
        ..Batch::of_rows(batch(&load(SOFTLY), arrays))
    }
}

/// Lands each list of rows as a part of its own, in a single lane.
pub async fn stage(table: &dyn TableLoad, parts: &[(&str, Vec<Row>)]) -> Vec<Note> {
    let mut lane = table.lane().await.unwrap();
    let mut notes = Vec::new();
    for (id, rows) in parts {
        let accepted = lane.write(changes(rows)).await.unwrap();
        notes.extend(accepted.notes);
        let landed = lane.commit(id).await.unwrap().rows;
        assert_eq!(landed, rows.len() as u64);
    }
    notes
}

pub async fn apply(rig: &Rig, load: Load, parts: &[(&str, Vec<Row>)]) -> Outcome {
    let table = rig.begin(load).await;
    assert_eq!(stage(table.as_ref(), parts).await, []);
    let done = table.finish().await.unwrap();
    assert!(rig.staged().await.is_empty());
    done
}

/// A table with the people 1 to 3.
pub async fn filled(write: Write) -> Rig {
    let rig = Rig::new().await;
    let people = ["a", "b", "c"].iter().zip(1..);
    let rows = people
        .map(|(name, id)| put(Op::Insert, id, name, "x"))
        .collect();
    let done = apply(&rig, load(write), &[("1", rows)]).await;
    assert_eq!(done, did(3, 0, 0, 0));
    rig
}

pub const ALL: &str = "SELECT id, name, about FROM shop.people ORDER BY id";
pub const MARKED: &str =
    "SELECT id, name, about, _polytomic_deleted_at IS NOT NULL FROM shop.people ORDER BY id";

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
    let hard = filled(HARDLY).await;
    let done = apply(&hard, load(HARDLY), &[("1", part())]).await;
    assert_eq!(done, did(1, 1, 1, 1));
    assert_eq!(hard.rows(ALL).await, ["2|B|x", "3|c|x", "4|d|x"]);
    let soft = filled(SOFTLY).await;
    for expected in [did(1, 1, 1, 1), did(0, 0, 0, 3)] {
        let done = apply(&soft, load(SOFTLY), &[("1", part())]).await;
        assert_eq!(done, expected);
        let rows = soft.rows(MARKED).await;
        assert_eq!(rows, ["1|a|x|t", "2|B|x|f", "3|c|x|f", "4|d|x|f"]);
    }
}

#[tokio::test]
async fn an_insert_of_a_row_that_is_there_and_an_update_of_one_that_is_not_are_upserts() {
    let rig = filled(HARDLY).await;
    let rows = vec![
        put(Op::Insert, 2, "B", "x"),
        put(Op::Insert, 3, "c", "x"),
        put(Op::Insert, 4, "d", "x"),
    ];
    let done = apply(&rig, load(HARDLY), &[("1", rows)]).await;
    assert_eq!(done, did(1, 1, 0, 1));
    let rows = vec![put(Op::Update, 1, "A", "x"), put(Op::Update, 5, "e", "x")];
    let done = apply(&rig, load(HARDLY), &[("1", rows)]).await;
    assert_eq!(done, did(1, 1, 0, 0));
    assert_eq!(
        rig.rows(ALL).await,
        ["1|A|x", "2|B|x", "3|c|x", "4|d|x", "5|e|x"]
    );
}

#[tokio::test]
async fn a_key_that_comes_back_is_cleared() {
    let rig = filled(SOFTLY).await;
    apply(&rig, load(SOFTLY), &[("1", vec![gone(1), gone(2)])]).await;
    let rows = vec![put(Op::Insert, 1, "a", "x"), put(Op::Update, 2, "B", "x")];
    let done = apply(&rig, load(SOFTLY), &[("1", rows)]).await;
    assert_eq!(done, did(0, 2, 0, 0));
    assert_eq!(rig.rows(MARKED).await, ["1|a|x|f", "2|B|x|f", "3|c|x|f"]);
}

#[tokio::test]
async fn rows_that_are_equal_value_for_value_are_not_touched() {
    let rig = Rig::new().await;
    let stamped = || Load {
        record_timestamps: true,
        ..load(SOFTLY)
    };
    let people = vec![put(Op::Insert, 1, "a", "x"), put(Op::Insert, 2, "b", "x")];
    apply(&rig, stamped(), &[("1", people)]).await;
    let state = "SELECT xmin, ctid, _polytomic_updated_at FROM shop.people WHERE id = 1";
    let before = rig.one(state).await;
    let rows = vec![
        (Op::Update, 1, is("a"), Cell::Kept),
        put(Op::Update, 2, "B", "x"),
        put(Op::Insert, 3, "c", "x"),
    ];
    let done = apply(&rig, stamped(), &[("1", rows)]).await;
    assert_eq!(done, did(1, 1, 0, 1));
    assert_eq!(rig.one(state).await, before);
    let times = "SELECT id, _polytomic_updated_at > _polytomic_created_at FROM shop.people \
                 ORDER BY id";
    assert_eq!(rig.rows(times).await, ["1|f", "2|t", "3|f"]);
    apply(&rig, stamped(), &[("1", vec![gone(2)])]).await;
    let marked = "SELECT id FROM shop.people WHERE _polytomic_deleted_at = _polytomic_updated_at";
    assert_eq!(rig.rows(marked).await, ["2"]);
}

#[tokio::test]
async fn kept_values_stay_over_several_parts() {
    for write in [SOFTLY, HARDLY] {
        let rig = filled(write).await;
        // Long enough to be stored out of line, and not to be compressed away.
        rig.run(
            "UPDATE shop.people SET about = (SELECT string_agg(md5(i::text), '') \
             FROM generate_series(1, 2000) i) WHERE id = 1",
        )
        .await;
        let long = "SELECT md5(about) FROM shop.people WHERE id = 1";
        let before = rig.one(long).await;
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
                    (Op::Update, 1, is("AA"), Cell::Kept),
                    (Op::Update, 2, is("B"), Cell::Kept),
                    put(Op::Insert, 4, "d", "z"),
                ],
            ),
            ("003", vec![(Op::Update, 4, is("D"), Cell::Kept)]),
        ];
        let done = apply(&rig, load(write), &parts).await;
        assert_eq!(done, did(1, 5, 0, 1), "{write:?}");
        assert_eq!(rig.one(long).await, before);
        let rest = "SELECT id, name, left(about, 1) FROM shop.people WHERE id > 1 ORDER BY id";
        assert_eq!(rig.rows(rest).await, ["2|B|y", "3|c|x", "4|D|z"]);
        assert_eq!(
            rig.one("SELECT name FROM shop.people WHERE id = 1").await,
            "AA"
        );
    }
}

#[tokio::test]
async fn a_value_kept_by_a_row_that_is_not_there_is_null_and_told() {
    let rig = filled(HARDLY).await;
    let parts = [
        ("1", vec![gone(3), (Op::Update, 1, is("A"), Cell::Kept)]),
        (
            "2",
            vec![
                (Op::Update, 3, is("C"), Cell::Kept),
                (Op::Update, 7, is("g"), Cell::Kept),
            ],
        ),
        ("3", vec![(Op::Update, 8, Cell::Kept, Cell::Kept)]),
    ];
    let done = apply(&rig, load(HARDLY), &parts).await;
    let note = |column: &str, rows| Note {
        column: column.to_owned(),
        what: "value kept by a row that is not there stored as null".to_owned(),
        rows,
    };
    let expected = Outcome {
        notes: vec![note("about", 3), note("name", 1)],
        ..did(3, 1, 1, 0)
    };
    assert_eq!(done, expected);
    assert_eq!(
        rig.rows(ALL).await,
        ["1|A|x", "2|b|x", "3|C|null", "7|g|null", "8|null|null"]
    );
}

/// Rows of the table are gone, others changed, when the last one is refused.
#[tokio::test]
async fn a_load_that_fails_in_its_last_step_changes_nothing() {
    for write in [SOFTLY, HARDLY] {
        let rig = filled(write).await;
        rig.run("ALTER TABLE shop.people ADD CONSTRAINT refuse CHECK (id <> 99)")
            .await;
        let all = "SELECT p::text FROM shop.people p ORDER BY id";
        let before = rig.rows(all).await;
        let table = rig.begin(load(emptied(write))).await;
        let parts = [
            ("1", vec![put(Op::Insert, 2, "B", "x")]),
            ("2", vec![put(Op::Insert, 99, "z", "x")]),
        ];
        assert_eq!(stage(table.as_ref(), &parts).await, []);
        table.finish().await.unwrap_err();
        assert_eq!(rig.rows(all).await, before);
    }
}

#[tokio::test]
async fn parts_apply_in_the_order_of_their_ids() {
    for (write, last) in [(SOFTLY, "1|a|x|t"), (HARDLY, "")] {
        let rig = filled(write).await;
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
        let done = apply(&rig, load(write), &parts).await;
        let (inserted, updated) = if write == HARDLY { (1, 3) } else { (0, 4) };
        assert_eq!(done, did(inserted, updated, 2, 0), "{write:?}");
        assert_eq!(
            rig.one("SELECT name FROM shop.people WHERE id = 2").await,
            "third"
        );
        let first = match write {
            HARDLY => rig.rows("SELECT id FROM shop.people WHERE id = 1").await,
            _ => {
                rig.rows(&MARKED.replace("ORDER", "WHERE id = 1 ORDER"))
                    .await
            }
        };
        assert_eq!(first.join(""), last);
    }
}

#[tokio::test]
async fn a_key_may_have_several_columns() {
    let rig = Rig::new().await;
    let keyed = |write| {
        let mut load = load(write);
        load.target.key = vec!["about".into(), "id".into()];
        load
    };
    let people = vec![
        put(Op::Insert, 1, "a", "x"),
        put(Op::Insert, 1, "b", "y"),
        put(Op::Insert, 2, "c", "x"),
    ];
    apply(&rig, keyed(HARDLY), &[("1", people)]).await;
    let rows = vec![
        put(Op::Update, 1, "A", "x"),
        (Op::Delete, 1, Cell::Null, is("y")),
        (Op::Delete, 2, Cell::Null, is("y")),
        put(Op::Insert, 3, "d", "x"),
    ];
    let done = apply(&rig, keyed(HARDLY), &[("1", rows)]).await;
    assert_eq!(done, did(1, 1, 1, 0));
    assert_eq!(rig.rows(ALL).await, ["1|A|x", "2|c|x", "3|d|x"]);
    let key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint \
               WHERE conrelid = 'shop.people'::regclass AND contype = 'p'";
    assert_eq!(rig.one(key).await, "PRIMARY KEY (about, id)");
}

#[tokio::test]
async fn a_row_without_a_key_is_not_written_and_counted() {
    let rig = Rig::new().await;
    let mut load = load(SOFTLY);
    load.target.key = vec!["name".into()];
    let table = rig.begin(load).await;
    let rows = vec![
        (Op::Insert, 1, Cell::Null, is("x")),
        (Op::Insert, 2, is("b"), is("x")),
        (Op::Delete, 3, Cell::Null, is("x")),
    ];
    let notes = stage(table.as_ref(), &[("1", rows)]).await;
    let expected = Note {
        column: "name".into(),
        what: "row without a key not written".into(),
        rows: 2,
    };
    assert_eq!(notes, [expected]);
    assert_eq!(table.finish().await.unwrap(), did(1, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["2|b|x"]);
}

#[tokio::test]
async fn batches_that_are_no_changes_are_our_bug() {
    let rig = filled(SOFTLY).await;
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
            ops: Ops::Each(UInt8Array::from(vec![None])),
            ..whole.clone()
        },
        Batch {
            kept: vec![(0, BooleanArray::from(vec![true]))],
            ..whole.clone()
        },
        Batch {
            kept: vec![(1, BooleanArray::from(vec![true, false]))],
            ..whole.clone()
        },
    ];
    for wrong in wrong {
        let table = rig.begin(load(SOFTLY)).await;
        let mut lane = table.lane().await.unwrap();
        assert_eq!(lane.write(wrong).await.unwrap_err().kind, Kind::Bug);
        assert_eq!(lane.commit("1").await.unwrap_err().kind, Kind::Bug);
        table.abandon().await.unwrap();
    }
    let table = rig.begin(load(SOFT)).await;
    let mut lane = table.lane().await.unwrap();
    assert_eq!(lane.write(whole).await.unwrap_err().kind, Kind::Bug);
}

#[tokio::test]
async fn more_columns_than_a_word_has_bits_keep_their_values() {
    let rig = Rig::new().await;
    let mut columns = columns();
    columns.extend((0..70).map(|at| Column::new(&format!("c{at}"), LogicalType::Text)));
    let load = || load_of(HARDLY, columns.clone());
    let part = |text: &str| {
        let texts = || Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let id = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let arrays = std::iter::once(id).chain((0..72).map(|_| texts()));
        Batch {
            ops: Ops::Each(UInt8Array::from(vec![Op::Update as u8])),
            ..Batch::of_rows(batch(&load(), arrays.collect()))
        }
    };
    for (text, kept) in [("old", vec![]), ("new", vec![1, 8, 64, 72])] {
        let table = rig.begin(load()).await;
        let mut lane = table.lane().await.unwrap();
        let kept = kept
            .into_iter()
            .map(|at| (at, BooleanArray::from(vec![true])));
        let batch = Batch {
            kept: kept.collect(),
            ..part(text)
        };
        lane.write(batch).await.unwrap();
        lane.commit("1").await.unwrap();
        table.finish().await.unwrap();
    }
    let old = "SELECT string_agg(key, ',' ORDER BY key) FROM shop.people p, \
               json_each_text(row_to_json(p)) WHERE value = 'old'";
    assert_eq!(rig.one(old).await, "c5,c61,c69,name");
}
