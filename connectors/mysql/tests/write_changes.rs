//! Loads of changes: every operation, kept values, several parts.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt8Array};
use serde_json::json;
use tideway_core::{
    Batch, Column, LogicalType, Note, Op, Ops,
    destination::{Deletes, Load, Outcome, TableLoad, Write},
};

use crate::rig::{Rig, Server, batch, load_of, on_both};

on_both!(
    each_operation_has_its_exact_outcome,
    a_key_that_comes_back_is_cleared,
    rows_that_are_equal_value_for_value_are_not_touched,
    kept_values_stay_over_several_parts,
    a_value_kept_by_a_row_that_is_not_there_is_null_and_told,
    parts_apply_in_the_order_of_their_ids,
    rows_go_as_statements_where_files_are_not_taken,
    values_of_every_kind_are_kept_or_replaced,
    a_row_without_a_key_is_not_written_and_counted,
);

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

/// A change of `people`: the operation, `id`, `name` and `about`.
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

pub fn changing(write: Write) -> Load {
    let id = Column {
        nullable: false,
        ..Column::new("id", LogicalType::Int64)
    };
    let texts = ["name", "about"].map(|name| Column::new(name, LogicalType::Text));
    load_of(write, std::iter::once(id).chain(texts).collect())
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
        ..Batch::of_rows(batch(&changing(SOFTLY), arrays))
    }
}

/// Lands each list of rows as a part of its own, in a single lane.
pub async fn stage(table: &dyn TableLoad, parts: &[(&str, Vec<Change>)]) -> Vec<Note> {
    let mut lane = table.lane().await.unwrap();
    let mut notes = Vec::new();
    for (id, rows) in parts {
        notes.extend(lane.write(changes(rows)).await.unwrap().notes);
        assert_eq!(lane.commit(id).await.unwrap().rows, rows.len() as u64);
    }
    notes
}

pub async fn apply(rig: &Rig, load: Load, parts: &[(&str, Vec<Change>)]) -> Outcome {
    let table = rig.begin(load).await;
    assert_eq!(stage(table.as_ref(), parts).await, []);
    let outcome = table.finish().await.unwrap();
    assert!(rig.staged().await.is_empty());
    outcome
}

/// A table with the people 1 to 3.
pub async fn inhabit(rig: &Rig, write: Write) {
    let people = ["a", "b", "c"].iter().zip(1..);
    let rows = people.map(|(name, id)| put(Op::Insert, id, name, "x"));
    let outcome = apply(rig, changing(write), &[("1", rows.collect())]).await;
    assert_eq!(outcome, rig.did(3, 0, 0, 0));
}

/// A rig whose table has the people 1 to 3.
pub async fn inhabited(server: Server, write: Write) -> Rig {
    let rig = Rig::new(server).await;
    inhabit(&rig, write).await;
    rig
}

/// The rows as text; a `!` behind those that are marked as deleted.
pub async fn state(rig: &Rig, write: Write) -> Vec<String> {
    let mark = match write {
        SOFTLY => "IF(_polytomic_deleted_at IS NULL, '', '!')",
        _ => "''",
    };
    rig.rows(&format!(
        "SELECT CONCAT(id, '|', COALESCE(name, '-'), '|', COALESCE(about, '-'), {mark}) \
         FROM people ORDER BY id"
    ))
    .await
}

async fn each_operation_has_its_exact_outcome(server: Server) {
    let part = || {
        vec![
            gone(1),
            put(Op::Update, 2, "B", "x"),
            put(Op::Update, 3, "c", "x"),
            put(Op::Insert, 4, "d", "x"),
            gone(99),
        ]
    };
    let rig = inhabited(server, HARDLY).await;
    let outcome = apply(&rig, changing(HARDLY), &[("1", part())]).await;
    assert_eq!(outcome, rig.did(1, 1, 1, 1));
    assert_eq!(state(&rig, HARDLY).await, ["2|B|x", "3|c|x", "4|d|x"]);
    rig.run("DROP TABLE people").await;
    inhabit(&rig, SOFTLY).await;
    for expected in [rig.did(1, 1, 1, 1), rig.did(0, 0, 0, 3)] {
        let outcome = apply(&rig, changing(SOFTLY), &[("1", part())]).await;
        assert_eq!(outcome, expected);
        let rows = ["1|a|x!", "2|B|x", "3|c|x", "4|d|x"];
        assert_eq!(state(&rig, SOFTLY).await, rows);
    }
    rig.drop().await;
}

async fn a_key_that_comes_back_is_cleared(server: Server) {
    let rig = inhabited(server, SOFTLY).await;
    apply(&rig, changing(SOFTLY), &[("1", vec![gone(1), gone(2)])]).await;
    let part = vec![put(Op::Insert, 1, "a", "x"), put(Op::Update, 2, "B", "x")];
    let outcome = apply(&rig, changing(SOFTLY), &[("1", part)]).await;
    assert_eq!(outcome, rig.did(0, 2, 0, 0));
    assert_eq!(state(&rig, SOFTLY).await, ["1|a|x", "2|B|x", "3|c|x"]);
    // Inserts alone, some of which are there.
    apply(&rig, changing(SOFTLY), &[("1", vec![gone(1)])]).await;
    let part = [1, 2, 4].map(|id| put(Op::Insert, id, "again", "x"));
    let outcome = apply(&rig, changing(SOFTLY), &[("1", part.to_vec())]).await;
    assert_eq!(outcome, rig.did(1, 2, 0, 0));
    let rows = ["1|again|x", "2|again|x", "3|c|x", "4|again|x"];
    assert_eq!(state(&rig, SOFTLY).await, rows);
    rig.drop().await;
}

async fn rows_that_are_equal_value_for_value_are_not_touched(server: Server) {
    let rig = Rig::new(server).await;
    let stamped = || Load {
        record_timestamps: true,
        ..changing(SOFTLY)
    };
    let part = vec![put(Op::Insert, 1, "a", "x"), put(Op::Insert, 2, "b", "x")];
    apply(&rig, stamped(), &[("1", part)]).await;
    let time = "SELECT _polytomic_updated_at FROM people WHERE id = 1";
    let before = rig.rows(time).await;
    let part = vec![
        (Op::Update, 1, is("a"), Cell::Kept),
        put(Op::Update, 2, "B", "x"),
    ];
    let outcome = apply(&rig, stamped(), &[("1", part)]).await;
    assert_eq!(outcome, rig.did(0, 1, 0, 1));
    assert_eq!(rig.rows(time).await, before);
    let newer = "SELECT id FROM people WHERE _polytomic_updated_at > _polytomic_created_at";
    assert_eq!(rig.rows(newer).await, ["2"]);
    rig.drop().await;
}

async fn kept_values_stay_over_several_parts(server: Server) {
    let rig = Rig::new(server).await;
    for write in [SOFTLY, HARDLY] {
        inhabit(&rig, write).await;
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
        let outcome = apply(&rig, changing(write), &parts).await;
        assert_eq!(outcome, rig.did(1, 4, 0, 1), "{write:?}");
        let rows = ["1|A|x", "2|B|y", "3|c|x", "4|D|z"];
        assert_eq!(state(&rig, write).await, rows);
        rig.run("DROP TABLE people").await;
    }
    rig.drop().await;
}

async fn a_value_kept_by_a_row_that_is_not_there_is_null_and_told(server: Server) {
    let rig = inhabited(server, HARDLY).await;
    let parts = [
        ("1", vec![gone(3), (Op::Update, 1, is("A"), Cell::Kept)]),
        ("2", vec![(Op::Update, 3, is("C"), Cell::Kept)]),
        ("3", vec![(Op::Update, 8, Cell::Kept, Cell::Kept)]),
    ];
    let mut outcome = apply(&rig, changing(HARDLY), &parts).await;
    let note = |column: &str, rows| Note {
        column: column.to_owned(),
        what: "value kept by a row that is not there stored as null".to_owned(),
        rows,
    };
    outcome.notes.sort_by(|a, b| a.column.cmp(&b.column));
    let expected = Outcome {
        notes: vec![note("about", 2), note("name", 1)],
        ..rig.did(2, 1, 1, 0)
    };
    assert_eq!(outcome, expected);
    let rows = ["1|A|x", "2|b|x", "3|C|-", "8|-|-"];
    assert_eq!(state(&rig, HARDLY).await, rows);
    rig.drop().await;
}

async fn parts_apply_in_the_order_of_their_ids(server: Server) {
    let rig = Rig::new(server).await;
    for write in [SOFTLY, HARDLY] {
        inhabit(&rig, write).await;
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
        let outcome = apply(&rig, changing(write), &parts).await;
        let (expected, rows) = match write {
            HARDLY => (rig.did(1, 3, 2, 0), vec!["2|third|x", "3|c|x"]),
            _ => (rig.did(0, 4, 2, 0), vec!["1|a|x!", "2|third|x", "3|c|x"]),
        };
        assert_eq!(outcome, expected, "{write:?}");
        assert_eq!(state(&rig, write).await, rows);
        rig.run("DROP TABLE people").await;
    }
    rig.drop().await;
}

async fn rows_go_as_statements_where_files_are_not_taken(server: Server) {
    let rig = Rig::with(server, json!({ "local_infile": false })).await;
    inhabit(&rig, SOFTLY).await;
    let odd = "it's \\N \"a\"\t\n\r\0";
    let parts = [
        ("1", vec![(Op::Update, 1, is(odd), Cell::Kept), gone(2)]),
        (
            "2",
            vec![put(Op::Insert, 4, odd, ""), put(Op::Update, 3, "c", "x")],
        ),
        ("3", Vec::new()),
    ];
    let outcome = apply(&rig, changing(SOFTLY), &parts).await;
    assert_eq!(outcome, rig.did(1, 1, 1, 1));
    let odd = format!("1|{odd}|x");
    assert_eq!(state(&rig, SOFTLY).await[0], odd);
    rig.drop().await;
}

/// Columns of all kinds of which one row keeps all and another one none.
async fn values_of_every_kind_are_kept_or_replaced(server: Server) {
    use arrow_array::*;
    let rig = Rig::new(server).await;
    let kinds = [
        LogicalType::Boolean,
        LogicalType::UInt64,
        LogicalType::Float32,
        LogicalType::Decimal {
            precision: 12,
            scale: 2,
        },
        LogicalType::Json,
        LogicalType::Binary,
        LogicalType::Date,
        LogicalType::Time,
        LogicalType::TimestampTz,
    ];
    let id = Column {
        nullable: false,
        ..Column::new("id", LogicalType::Int64)
    };
    let others = kinds.iter().enumerate();
    let others = others.map(|(at, kind)| Column::new(&format!("c{at}"), *kind));
    let columns: Vec<Column> = std::iter::once(id).chain(others).collect();
    let load = || load_of(HARDLY, columns.clone());
    let rows = |n: u8| {
        let wide = u64::from(n);
        let decimals = Decimal128Array::from(vec![i128::from(n) * 100 + 1; 2]);
        let times = TimestampMicrosecondArray::from(vec![i64::from(n) * 86_400_000_001; 2]);
        let document = format!("{{\"n\": {n}}}");
        let bytes = [0, n, 0xff, b'\\'];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(BooleanArray::from(vec![n % 2 == 1; 2])),
            Arc::new(UInt64Array::from(vec![u64::MAX - wide; 2])),
            Arc::new(Float32Array::from(vec![0.1 + f32::from(n); 2])),
            Arc::new(decimals.with_precision_and_scale(12, 2).unwrap()),
            Arc::new(StringArray::from(vec![document.as_str(); 2])),
            Arc::new(BinaryArray::from(vec![bytes.as_slice(); 2])),
            Arc::new(Date32Array::from(vec![i32::from(n); 2])),
            Arc::new(Time64MicrosecondArray::from(vec![i64::from(n) + 7; 2])),
            Arc::new(times.with_timezone("UTC")),
        ];
        batch(&load(), arrays)
    };
    let run = async |n: u8, op: Op, keeps: bool| {
        let table = rig.begin(load()).await;
        let mut lane = table.lane().await.unwrap();
        // The first row keeps all that it has, the second one takes all that comes.
        let kept = BooleanArray::from(vec![keeps, false]);
        let changes = Batch {
            ops: Ops::Each(UInt8Array::from(vec![op as u8; 2])),
            kept: (1..=kinds.len()).map(|at| (at, kept.clone())).collect(),
            ..Batch::of_rows(rows(n))
        };
        lane.write(changes).await.unwrap();
        lane.commit("1").await.unwrap();
        table.finish().await.unwrap()
    };
    assert_eq!(run(1, Op::Insert, false).await, rig.did(2, 0, 0, 0));
    let shown = |id: u8| {
        format!("SELECT c0, c1, c2, c3, c4, HEX(c5), c6, c7, c8 FROM people WHERE id = {id}")
    };
    let before = rig.rows(&shown(1)).await;
    assert_eq!(run(2, Op::Update, true).await, rig.did(0, 1, 0, 1));
    assert_eq!(rig.rows(&shown(1)).await, before);
    let after = "0|18446744073709551613|2.1|2.01|{\"n\": 2}|0002FF5C|1970-01-03\
                 |00:00:00.000009|1970-01-03 00:00:00.000002";
    assert_eq!(rig.rows(&shown(2)).await, [after]);
    rig.drop().await;
}

async fn a_row_without_a_key_is_not_written_and_counted(server: Server) {
    let rig = Rig::new(server).await;
    let mut load = changing(SOFTLY);
    load.target.key = vec!["name".into()];
    let table = rig.begin(load).await;
    let rows = vec![
        (Op::Insert, 1, Cell::Null, is("x")),
        (Op::Insert, 2, is("b"), is("x")),
        (Op::Delete, 3, Cell::Null, is("x")),
    ];
    let notes = stage(table.as_ref(), &[("1", rows)]).await;
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].column.as_str(), notes[0].rows), ("name", 2));
    assert_eq!(table.finish().await.unwrap(), rig.did(1, 0, 0, 0));
    assert_eq!(state(&rig, SOFTLY).await, ["2|b|x"]);
    rig.drop().await;
}
