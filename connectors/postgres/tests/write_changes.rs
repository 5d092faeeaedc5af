//! Loads of changes: every operation, several parts, several loads.

use std::{sync::Arc, time::Duration};

use arrow_array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt8Array};
use tideway_core::{
    Batch, Column, Kind, LogicalType, Note, Op, Ops,
    destination::{Deletes, Disposition, Load, Outcome, TableLoad, Write},
};

use crate::write_rig::*;

pub const SOFTLY: Write = Write::Changes {
    deletes: Deletes::Soft,
};
pub const HARDLY: Write = Write::Changes {
    deletes: Deletes::Hard,
};

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

async fn apply(rig: &Rig, load: Load, parts: &[(&str, Vec<Row>)]) -> Outcome {
    let table = rig.begin(load).await;
    assert_eq!(stage(table.as_ref(), parts).await, []);
    let done = table.finish().await.unwrap();
    assert!(rig.staged().await.is_empty());
    done
}

/// A table with the people 1 to 3.
async fn filled(write: Write) -> Rig {
    let rig = Rig::new().await;
    let people = ["a", "b", "c"].iter().zip(1..);
    let rows = people
        .map(|(name, id)| put(Op::Insert, id, name, "x"))
        .collect();
    let done = apply(&rig, load(write), &[("1", rows)]).await;
    assert_eq!(done, did(3, 0, 0, 0));
    rig
}

const ALL: &str = "SELECT id, name, about FROM shop.people ORDER BY id";
const MARKED: &str =
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
async fn finishing_again_changes_nothing() {
    let rig = filled(SOFTLY).await;
    let load = load(SOFTLY);
    let table = rig.begin(load.clone()).await;
    stage(table.as_ref(), &[("1", vec![put(Op::Update, 1, "A", "x")])]).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 1, 0, 0));
    rig.run("UPDATE shop.people SET name = 'by someone' WHERE id = 1")
        .await;
    let repeated = Outcome {
        repeated: true,
        ..did(0, 0, 0, 0)
    };
    assert_eq!(table.finish().await.unwrap(), repeated);
    let again = rig.begin(load).await;
    assert!(again.finished());
    assert_eq!(again.finish().await.unwrap(), repeated);
    assert!(rig.staged().await.is_empty());
    assert_eq!(rig.rows(ALL).await[0], "1|by someone|x");
}

#[tokio::test]
async fn a_load_goes_on_with_the_parts_that_landed_or_starts_over() {
    let rig = filled(SOFTLY).await;
    for resume in [true, false] {
        let load = load(SOFTLY);
        {
            let table = rig.begin(load.clone()).await;
            stage(
                table.as_ref(),
                &[("1", vec![put(Op::Insert, 4, "d", "x"), gone(2)])],
            )
            .await;
            let mut lane = table.lane().await.unwrap();
            let lost = changes(&[put(Op::Insert, 5, "lost", "x")]);
            lane.write(lost).await.unwrap();
        }
        let again = connect(&rig.url).await;
        let destination = again.roles().destination.unwrap();
        let table = destination.begin(Load { resume, ..load }).await.unwrap();
        assert_eq!(table.landed().len(), usize::from(resume));
        let rest = [
            ("1", vec![put(Op::Insert, 4, "d", "x"), gone(2)]),
            ("2", vec![put(Op::Update, 4, "D", "x")]),
        ];
        stage(table.as_ref(), &rest).await;
        let done = table.finish().await.unwrap();
        assert_eq!(done, did(1, 1, 1, 0), "{resume}");
        let rows = rig.rows(MARKED).await;
        assert_eq!(rows, ["1|a|x|f", "2|b|x|t", "3|c|x|f", "4|D|x|f"]);
        rig.run(
            "DELETE FROM shop.people WHERE id = 4; \
             UPDATE shop.people SET _polytomic_deleted_at = NULL",
        )
        .await;
    }
}

/// Waits until this many sessions wait for a lock.
async fn until_stuck(rig: &Rig, count: &str) {
    const STUCK: &str = "SELECT count(*) FROM pg_stat_activity \
                         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        // In a transaction the server goes on showing what it showed first.
        rig.run("SELECT pg_stat_clear_snapshot()").await;
        if rig.one(STUCK).await == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_is_staged_while_another_one_is_in_its_last_step() {
    let rig = filled(HARDLY).await;
    let first: Arc<dyn TableLoad> = rig.begin(load(HARDLY)).await.into();
    stage(
        first.as_ref(),
        &[("1", vec![put(Op::Update, 1, "first", "x")])],
    )
    .await;
    // Someone holds the row, so the first load is stuck in the middle.
    rig.run("BEGIN; UPDATE shop.people SET about = 'held' WHERE id = 1")
        .await;
    let finishing = tokio::spawn({
        let first = first.clone();
        async move { first.finish().await.unwrap() }
    });
    until_stuck(&rig, "1").await;
    let second = rig.begin(load(HARDLY)).await;
    stage(
        second.as_ref(),
        &[("1", vec![put(Op::Update, 1, "second", "x")])],
    )
    .await;
    assert!(!finishing.is_finished());
    rig.run("ROLLBACK").await;
    assert_eq!(finishing.await.unwrap(), did(0, 1, 0, 0));
    assert_eq!(second.finish().await.unwrap(), did(0, 1, 0, 0));
    assert_eq!(rig.rows(ALL).await[0], "1|second|x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_in_its_last_step_elsewhere_is_waited_for() {
    let rig = filled(HARDLY).await;
    let load = load(HARDLY);
    let zombie: Arc<dyn TableLoad> = rig.begin(load.clone()).await.into();
    stage(
        zombie.as_ref(),
        &[("1", vec![put(Op::Update, 1, "A", "x")])],
    )
    .await;
    rig.run("BEGIN; UPDATE shop.people SET about = 'held' WHERE id = 1")
        .await;
    let finishing = tokio::spawn(async move { zombie.finish().await.unwrap() });
    until_stuck(&rig, "1").await;
    let again = tokio::spawn({
        let connection = rig.connection.clone();
        async move {
            let destination = connection.roles().destination.unwrap();
            destination.begin(load).await.unwrap().finished()
        }
    });
    until_stuck(&rig, "2").await;
    rig.run("ROLLBACK").await;
    assert_eq!(finishing.await.unwrap(), did(0, 1, 0, 0));
    assert!(again.await.unwrap());
}

#[tokio::test]
async fn columns_are_added_and_filled_where_changes_arrive() {
    let rig = Rig::new().await;
    rig.load(people(SOFT), rows(&[(1, "a"), (2, "b")])).await;
    let table = rig.begin(load(SOFTLY)).await;
    let told: Vec<&str> = table
        .schema_changes()
        .iter()
        .map(|c| c.0.as_str())
        .collect();
    assert_eq!(told, ["column about added as text"]);
    let rows = vec![
        put(Op::Update, 1, "a", "x"),
        (Op::Update, 2, is("B"), Cell::Kept),
    ];
    stage(table.as_ref(), &[("1", rows)]).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 2, 0, 0));
    assert_eq!(rig.rows(ALL).await, ["1|a|x", "2|B|null"]);
}

#[tokio::test]
async fn a_table_of_someone_elses_is_changed_as_it_is() {
    let rig = Rig::new().await;
    rig.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.people (extra int DEFAULT 5, about varchar(8), \
         name varchar(3), id numeric NOT NULL); \
         INSERT INTO shop.people VALUES (1, 'x', 'a', 1), (2, 'x', 'b', 2)",
    )
    .await;
    let table = rig.begin(load(HARDLY)).await;
    let told: Vec<&str> = table
        .schema_changes()
        .iter()
        .map(|c| c.0.as_str())
        .collect();
    assert_eq!(told, ["index on the key (id) added"]);
    let rows = vec![
        (Op::Update, 1, is("A"), Cell::Kept),
        gone(2),
        put(Op::Insert, 3, "c", "y"),
    ];
    stage(table.as_ref(), &[("1", rows)]).await;
    assert_eq!(table.finish().await.unwrap(), did(1, 1, 1, 0));
    let all = "SELECT id, name, about, extra FROM shop.people ORDER BY id";
    assert_eq!(rig.rows(all).await, ["1|A|x|1", "3|c|y|5"]);
    let table = rig.begin(load(HARDLY)).await;
    assert!(table.schema_changes().is_empty());
    stage(
        table.as_ref(),
        &[("1", vec![put(Op::Update, 1, "long", "x")])],
    )
    .await;
    let error = table.finish().await.unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.what().contains("column name"), "{error}");
    assert_eq!(rig.rows(all).await, ["1|A|x|1", "3|c|y|5"]);
}

#[tokio::test]
async fn a_missing_table_is_made_and_others_are_emptied_or_made_anew_where_asked() {
    let rig = Rig::new().await;
    for disposition in [
        Disposition::Retain,
        Disposition::Truncate,
        Disposition::Rebuild,
    ] {
        let part = vec![put(Op::Insert, 9, "i", "x"), gone(1)];
        let asked = || Load {
            disposition,
            ..load(SOFTLY)
        };
        let done = apply(&rig, asked(), &[("1", part.clone())]).await;
        assert_eq!(done, did(1, 0, 0, 0));
        let done = apply(&rig, asked(), &[("1", part)]).await;
        let expected = match disposition {
            Disposition::Retain => did(0, 0, 0, 1),
            _ => did(1, 0, 0, 0),
        };
        assert_eq!(done, expected, "{disposition:?}");
        assert_eq!(rig.rows(MARKED).await, ["9|i|x|f"]);
        let key = "SELECT conname FROM pg_constraint WHERE conrelid = 'shop.people'::regclass \
                   AND contype = 'p'";
        assert_eq!(rig.one(key).await, "people_pkey");
        rig.run("DROP TABLE shop.people").await;
    }
}

#[tokio::test]
async fn a_table_dropped_meanwhile_and_a_stage_lost_are_told_or_mended() {
    let rig = filled(HARDLY).await;
    let table = rig.begin(load(HARDLY)).await;
    stage(table.as_ref(), &[("1", vec![put(Op::Insert, 4, "d", "x")])]).await;
    rig.run("DROP TABLE shop.people").await;
    assert_eq!(table.finish().await.unwrap(), did(1, 0, 0, 0));
    for spoil in ["DELETE FROM", "DROP TABLE"] {
        let table = rig.begin(load(HARDLY)).await;
        stage(table.as_ref(), &[("1", vec![put(Op::Insert, 5, "e", "x")])]).await;
        let staged = rig.staged().await;
        rig.run(&format!("{spoil} shop.{}", staged[0])).await;
        assert_eq!(table.finish().await.unwrap_err().kind, Kind::Drift);
        table.abandon().await.unwrap();
        assert!(rig.staged().await.is_empty());
    }
    assert_eq!(rig.rows(ALL).await, ["4|d|x"]);
}

#[tokio::test]
async fn empty_parts_and_empty_loads_change_nothing() {
    let rig = filled(SOFTLY).await;
    let table = rig.begin(load(SOFTLY)).await;
    assert_eq!(table.finish().await.unwrap(), did(0, 0, 0, 0));
    let table = rig.begin(load(SOFTLY)).await;
    let mut lane = table.lane().await.unwrap();
    lane.commit("1").await.unwrap();
    lane.commit("2").await.unwrap();
    assert_eq!(table.finish().await.unwrap(), did(0, 0, 0, 0));
    assert_eq!(rig.rows(ALL).await.len(), 3);
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
