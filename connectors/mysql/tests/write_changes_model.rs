//! Any series of changes, cut into parts and loads in any way, gives the same table as
//! applying them one by one to a map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tideway_core::{Op, destination::Write};

use crate::{
    rig::{Rig, Server},
    write_changes::{Cell, Change, HARDLY, SOFTLY, changing, emptied, gone, is, stage, state},
};

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
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
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

fn any_cut_of_changes_gives_what_a_map_gives(server: Server) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rig = runtime.block_on(Rig::new(server));
    let config = ProptestConfig {
        cases: 25,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(loads in loads(), soft: bool)| {
        let write = if soft { SOFTLY } else { HARDLY };
        runtime.block_on(check(&rig, write, &loads));
    });
    runtime.block_on(rig.drop());
}

mod mysql {
    #[test]
    fn any_cut_of_changes_gives_what_a_map_gives() {
        super::any_cut_of_changes_gives_what_a_map_gives(crate::rig::Server::MySql);
    }
}
mod mariadb {
    #[test]
    fn any_cut_of_changes_gives_what_a_map_gives() {
        super::any_cut_of_changes_gives_what_a_map_gives(crate::rig::Server::MariaDb);
    }
}

async fn check(rig: &Rig, write: Write, loads: &[Changes]) {
    rig.run("DROP TABLE IF EXISTS people").await;
    let mut model = Model::default();
    for (emptied_first, parts) in loads {
        let asked = if *emptied_first {
            emptied(write)
        } else {
            write
        };
        model.counts = [0; 4];
        model.lost = 0;
        let table = rig.begin(changing(asked)).await;
        let names: Vec<String> = (0..parts.len()).map(|at| format!("{at:06}")).collect();
        let names = names.iter().map(String::as_str);
        let named: Vec<(&str, Vec<Change>)> = names.zip(parts.iter().cloned()).collect();
        stage(table.as_ref(), &named).await;
        let done = table.finish().await.unwrap();
        if *emptied_first {
            model.empty(write, parts);
        }
        let rows = parts.iter().flatten();
        rows.for_each(|row| model.apply(write, row));
        let counts = [done.inserted, done.updated, done.deleted, done.unchanged];
        assert_eq!(counts, model.counts, "{parts:?}");
        let lost: u64 = done.notes.iter().map(|note| note.rows).sum();
        assert_eq!(lost, model.lost, "{parts:?}");
        assert_eq!(state(rig, write).await, model.rows(), "{parts:?}");
    }
}
