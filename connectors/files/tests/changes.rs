//! Loads of changes: every operation, several parts, several loads; and any cut of them
//! into parts and loads, which gives the same table as applying them one by one to a map.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, UInt8Array};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tideway_core::{
    Batch, Column, Connection, LogicalType, Op, Ops,
    destination::{Deletes, Disposition, Load, Outcome, TableLoad, Write},
    schema::arrow_schema,
};

use crate::support::{self, NULL, begin, folder, rows_of};

struct Home {
    _folder: TempDir,
    connection: Arc<dyn Connection>,
    format: &'static str,
}

async fn home() -> Home {
    home_of("parquet").await
}

async fn home_of(format: &'static str) -> Home {
    let home = TempDir::new().unwrap();
    Home {
        connection: folder(home.path()).await,
        _folder: home,
        format,
    }
}

/// The rows as text; a `!` behind those that are marked as deleted.
async fn state(home: &Home) -> Vec<String> {
    let rows = rows_of(&*home.connection, "orders").await;
    let row = |row: Vec<String>| {
        let marked = row.get(3).is_some_and(|at| at != NULL);
        let mark = if marked { "!" } else { "" };
        format!("{}|{}|{}{mark}", row[0], row[1], row[2])
    };
    rows.into_iter().map(row).collect()
}

fn changing(home: &Home, id: &str, write: Write) -> Load {
    let options = json!({"format": home.format});
    support::load(&format!("l{id}"), write, &changed_columns(), options)
}

/// A value of a change.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Is(String),
    Kept,
}

/// A change: the operation, `id`, `name` and `about`.
type Change = (Op, i64, Cell, Cell);

fn is(text: &str) -> Cell {
    Cell::Is(text.to_owned())
}

fn put(op: Op, id: i64, name: &str, about: &str) -> Change {
    (op, id, is(name), is(about))
}

fn gone(id: i64) -> Change {
    (Op::Delete, id, is("means nothing"), Cell::Null)
}

fn changed_columns() -> Vec<Column> {
    vec![
        Column::new("id", LogicalType::Int64),
        Column::new("name", LogicalType::Text),
        Column::new("about", LogicalType::Text),
    ]
}

fn changes(rows: &[Change]) -> Batch {
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
    let rows = RecordBatch::try_new(arrow_schema(&changed_columns()), arrays).unwrap();
    Batch {
        ops: Ops::Each(codes),
        kept: kept
            .into_iter()
            .filter(|(_, rows)| rows.true_count() > 0)
            .collect(),
        ..Batch::of_rows(rows)
    }
}

/// Lands each list of rows as a part of its own, in a single lane.
async fn stage(begun: &dyn TableLoad, parts: &[(&str, Vec<Change>)]) {
    let mut lane = begun.lane().await.unwrap();
    for (id, rows) in parts {
        assert_eq!(lane.write(changes(rows)).await.unwrap().notes, []);
        assert_eq!(lane.commit(id).await.unwrap().rows, rows.len() as u64);
    }
}

/// Inserted, updated, deleted, unchanged.
fn numbers(outcome: &Outcome) -> [u64; 4] {
    [
        outcome.inserted,
        outcome.updated,
        outcome.deleted,
        outcome.unchanged,
    ]
}

const SOFTLY: Write = Write::Changes {
    complete: false,
    deletes: Deletes::Soft,
};
const HARDLY: Write = Write::Changes {
    complete: false,
    deletes: Deletes::Hard,
};

/// The same, of a table that the source emptied before.
fn emptied(write: Write) -> Write {
    match write {
        Write::Changes { deletes, .. } => Write::Changes {
            complete: true,
            deletes,
        },
        other => other,
    }
}

async fn inhabited(write: Write) -> Home {
    let home = home().await;
    let people = ["a", "b", "c"].iter().zip(1..);
    let rows = people.map(|(name, id)| put(Op::Insert, id, name, "x"));
    let outcome = apply(&home, changing(&home, "0", write), &[("1", rows.collect())]).await;
    assert_eq!(numbers(&outcome), [3, 0, 0, 0]);
    home
}

async fn apply(home: &Home, load: Load, parts: &[(&str, Vec<Change>)]) -> Outcome {
    let begun = begin(&*home.connection, load).await;
    stage(begun.as_ref(), parts).await;
    begun.finish().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
    for write in [SOFTLY, HARDLY] {
        let home = inhabited(write).await;
        let done = apply(&home, changing(&home, "1", write), &[("1", part())]).await;
        assert_eq!(numbers(&done), [1, 1, 1, 1], "{write:?}");
        let first = if write == SOFTLY {
            vec!["1|a|x!"]
        } else {
            vec![]
        };
        let rows = [first, vec!["2|B|x", "3|c|x", "4|d|x"]].concat();
        assert_eq!(state(&home).await, rows);
        let done = apply(&home, changing(&home, "2", write), &[("1", part())]).await;
        assert_eq!(numbers(&done), [0, 0, 0, 3], "{write:?}");
        assert_eq!(state(&home).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_values_stay_over_several_parts() {
    for write in [SOFTLY, HARDLY] {
        let home = inhabited(write).await;
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
        let done = apply(&home, changing(&home, "1", write), &parts).await;
        assert_eq!(numbers(&done), [1, 4, 0, 1], "{write:?}");
        let rows = ["1|A|x", "2|B|y", "3|c|x", "4|D|z"];
        assert_eq!(state(&home).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_apply_in_the_order_of_their_ids() {
    for write in [SOFTLY, HARDLY] {
        let home = inhabited(write).await;
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
        let done = apply(&home, changing(&home, "1", write), &parts).await;
        let (expected, rows) = match write {
            HARDLY => ([1, 3, 2, 0], vec!["2|third|x", "3|c|x"]),
            _ => ([0, 4, 2, 0], vec!["1|a|x!", "2|third|x", "3|c|x"]),
        };
        assert_eq!(numbers(&done), expected, "{write:?}");
        assert_eq!(state(&home).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_have_several_columns() {
    let home = home().await;
    let keyed = |home: &Home, id: &str| {
        let mut load = changing(home, id, HARDLY);
        load.target.key = vec!["about".into(), "id".into()];
        load
    };
    let part = vec![
        put(Op::Insert, 1, "a", "x"),
        put(Op::Insert, 1, "b", "y"),
        put(Op::Insert, 2, "c", "x"),
    ];
    apply(&home, keyed(&home, "1"), &[("1", part)]).await;
    let part = vec![
        put(Op::Update, 1, "A", "x"),
        (Op::Delete, 1, Cell::Null, is("y")),
        (Op::Delete, 2, Cell::Null, is("y")),
        put(Op::Insert, 3, "d", "x"),
    ];
    let done = apply(&home, keyed(&home, "2"), &[("1", part)]).await;
    assert_eq!(numbers(&done), [1, 1, 1, 0]);
    assert_eq!(state(&home).await, ["1|A|x", "2|c|x", "3|d|x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_goes_on_with_the_parts_that_landed_or_starts_over_and_finishes_once() {
    for resume in [true, false] {
        let home = inhabited(SOFTLY).await;
        let load = changing(&home, "1", SOFTLY);
        let first = || vec![put(Op::Insert, 4, "d", "x"), gone(2)];
        {
            let begun = begin(&*home.connection, load.clone()).await;
            stage(begun.as_ref(), &[("1", first())]).await;
            let mut lane = begun.lane().await.unwrap();
            let lost = changes(&[put(Op::Insert, 5, "lost", "x")]);
            lane.write(lost).await.unwrap();
        }
        let again = Load {
            resume,
            ..load.clone()
        };
        let begun = begin(&*home.connection, again).await;
        assert_eq!(begun.landed().len(), usize::from(resume));
        let rest = [("1", first()), ("2", vec![put(Op::Update, 4, "D", "x")])];
        stage(begun.as_ref(), &rest).await;
        let done = begun.finish().await.unwrap();
        assert_eq!(numbers(&done), [1, 1, 1, 0], "{resume}");
        let rows = ["1|a|x", "2|b|x!", "3|c|x", "4|D|x"];
        assert_eq!(state(&home).await, rows);
        assert!(begun.finish().await.unwrap().repeated);
        let again = begin(&*home.connection, load).await;
        assert!(again.finished());
        assert!(again.finish().await.unwrap().repeated);
        assert_eq!(state(&home).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_loads_are_staged_side_by_side_and_finished_one_after_the_other() {
    for fresh in [false, true] {
        let home = if fresh {
            home().await
        } else {
            inhabited(HARDLY).await
        };
        let part = |name: &str| vec![put(Op::Update, 1, name, "x")];
        let first = begin(&*home.connection, changing(&home, "1", HARDLY)).await;
        stage(first.as_ref(), &[("1", part("first"))]).await;
        let second = begin(&*home.connection, changing(&home, "2", HARDLY)).await;
        stage(second.as_ref(), &[("1", part("second"))]).await;
        first.finish().await.unwrap();
        assert_eq!(state(&home).await[0], "1|first|x");
        assert_eq!(numbers(&second.finish().await.unwrap()), [0, 1, 0, 0]);
        assert_eq!(state(&home).await[0], "1|second|x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_added_where_changes_arrive() {
    let home = home().await;
    let mut narrow = changing(&home, "1", HARDLY);
    narrow.target.columns.truncate(2);
    let begun = begin(&*home.connection, narrow).await;
    let mut lane = begun.lane().await.unwrap();
    let mut part = changes(&[put(Op::Insert, 1, "a", ""), put(Op::Insert, 2, "b", "")]);
    part.rows = part.rows.project(&[0, 1]).unwrap();
    lane.write(part).await.unwrap();
    lane.commit("1").await.unwrap();
    begun.finish().await.unwrap();
    let part = vec![
        put(Op::Update, 1, "a", "x"),
        (Op::Update, 2, is("B"), Cell::Kept),
    ];
    let done = apply(&home, changing(&home, "2", HARDLY), &[("1", part)]).await;
    assert_eq!(numbers(&done), [0, 2, 0, 0]);
    assert_eq!(state(&home).await, ["1|a|x", "2|B|∅"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_emptied_or_made_anew_where_asked() {
    for disposition in [Disposition::Truncate, Disposition::Rebuild] {
        let home = inhabited(SOFTLY).await;
        let asked = Load {
            disposition,
            ..changing(&home, "1", SOFTLY)
        };
        let part = vec![put(Op::Insert, 3, "c", "x"), gone(1)];
        let done = apply(&home, asked, &[("1", part)]).await;
        assert_eq!(numbers(&done), [1, 0, 0, 0], "{disposition:?}");
        assert_eq!(state(&home).await, ["3|c|x"]);
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Person {
    name: Option<String>,
    about: Option<String>,
    deleted: bool,
}

/// Whether the source emptied its table first, and the parts of a load.
type Changes = (bool, Vec<Vec<Change>>);

/// The table, and what the changes of a load did to it.
#[derive(Default)]
struct Model {
    people: BTreeMap<i64, Person>,
    counts: [u64; 4],
    lost: u64,
}

impl Model {
    /// All but these keys are gone.
    fn empty(&mut self, write: Write, parts: &[Vec<Change>]) {
        let told: Vec<i64> = parts.iter().flatten().map(|row| row.1).collect();
        let ids: Vec<i64> = self.people.keys().copied().collect();
        for id in ids.into_iter().filter(|id| !told.contains(id)) {
            self.apply(write, &gone(id));
        }
    }

    fn apply(&mut self, write: Write, (op, id, name, about): &Change) {
        let before = self.people.get(id).cloned();
        let [inserted, updated, deleted, unchanged] = &mut self.counts;
        if *op == Op::Delete {
            let Some(before) = before else { return };
            if write == HARDLY {
                self.people.remove(id);
                *deleted += 1;
            } else if !before.deleted {
                let marked = Person {
                    deleted: true,
                    ..before
                };
                self.people.insert(*id, marked);
                *deleted += 1;
            }
            return;
        }
        let mut lost = 0;
        let mut value = |cell: &Cell, before: Option<Option<String>>| match cell {
            Cell::Null => None,
            Cell::Is(text) => Some(text.clone()),
            Cell::Kept => before.unwrap_or_else(|| {
                lost += 1;
                None
            }),
        };
        let now = Person {
            name: value(name, before.as_ref().map(|person| person.name.clone())),
            about: value(about, before.as_ref().map(|person| person.about.clone())),
            deleted: false,
        };
        self.lost += lost;
        match before {
            None => *inserted += 1,
            Some(before) if before == now => *unchanged += 1,
            Some(_) => *updated += 1,
        }
        self.people.insert(*id, now);
    }

    fn rows(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "∅".to_owned());
        let row = |(id, person): (&i64, &Person)| {
            let mark = if person.deleted { "!" } else { "" };
            format!("{id}|{}|{}{mark}", text(&person.name), text(&person.about))
        };
        self.people.iter().map(row).collect()
    }
}

fn cell(keeps: bool) -> impl Strategy<Value = Cell> {
    let kept = if keeps { 2 } else { 0 };
    prop_oneof![
        1 => Just(Cell::Null),
        4 => "[ab]".prop_map(|text| is(&text)),
        kept => Just(Cell::Kept),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let id = || 0_i64..7;
    prop_oneof![
        2 => id().prop_map(gone),
        3 => (id(), cell(false), cell(false)).prop_map(|(id, a, b)| (Op::Insert, id, a, b)),
        5 => (id(), cell(true), cell(true)).prop_map(|(id, a, b)| (Op::Update, id, a, b)),
    ]
}

/// Loads of parts, in which each key occurs once.
fn loads() -> impl Strategy<Value = Vec<Changes>> {
    let part = prop::collection::vec(change(), 0..6).prop_map(|rows| {
        let mut last: BTreeMap<i64, Change> = BTreeMap::new();
        last.extend(rows.into_iter().map(|row| (row.1, row)));
        last.into_values().collect::<Vec<Change>>()
    });
    let load = (prop::bool::weighted(0.3), prop::collection::vec(part, 0..5));
    prop::collection::vec(load, 1..5)
}

#[test]
fn any_cut_of_changes_gives_what_a_map_gives() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(loads in loads(), soft: bool, format in prop::sample::select(vec!["csv", "json", "parquet"]))| {
        let write = if soft { SOFTLY } else { HARDLY };
        runtime.block_on(check(format, write, &loads));
    });
}

async fn check(format: &'static str, write: Write, loads: &[Changes]) {
    let home = home_of(format).await;
    let mut model = Model::default();
    for (number, (emptied_first, parts)) in loads.iter().enumerate() {
        let asked = if *emptied_first {
            emptied(write)
        } else {
            write
        };
        model.counts = [0; 4];
        model.lost = 0;
        let begun = begin(
            &*home.connection,
            changing(&home, &number.to_string(), asked),
        )
        .await;
        let names: Vec<String> = (0..parts.len()).map(|at| format!("{at:06}")).collect();
        let named: Vec<(&str, Vec<Change>)> = names
            .iter()
            .map(String::as_str)
            .zip(parts.iter().cloned())
            .collect();
        stage(begun.as_ref(), &named).await;
        let done = begun.finish().await.unwrap();
        if *emptied_first {
            model.empty(write, parts);
        }
        parts
            .iter()
            .flatten()
            .for_each(|row| model.apply(write, row));
        let counts = [done.inserted, done.updated, done.deleted, done.unchanged];
        assert_eq!(counts, model.counts, "{parts:?}");
        let lost: u64 = done.notes.iter().map(|note| note.rows).sum();
        assert_eq!(lost, model.lost, "{parts:?}");
        assert_eq!(state(&home).await, model.rows(), "{parts:?}");
    }
}
