//! Streams of a test's own database, followed as the engine does, and what a destination
//! would hold after them.

use std::collections::{BTreeMap, HashMap};

use arrow_array::UInt8Array;
use futures::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tideway_core::{
    Batch, Error, Op, Ops, Position, Table, TableId,
    changes::{Anchor, Attached, Change, Changes, Follow, Followed, Stream},
};

use crate::rig::*;

pub struct Streaming {
    pub rig: Rig,
    pub stream: Stream,
}

impl Streaming {
    pub async fn new(server: Server, setup: &[&str], tables: &[&str]) -> Streaming {
        Streaming::with(server, setup, tables, json!({})).await
    }

    pub async fn with(
        server: Server,
        setup: &[&str],
        tables: &[&str],
        mut settings: Value,
    ) -> Streaming {
        settings["change_detection"] = true.into();
        let rig = Rig::with(server, settings).await;
        for statement in setup {
            rig.run(statement).await;
        }
        let tables = tables.iter().map(|table| id(&rig, table)).collect();
        Streaming {
            rig,
            stream: Stream {
                id: uuid::Uuid::new_v4().to_string(),
                options: json!({}),
                tables,
            },
        }
    }

    pub fn changes(&self) -> &dyn Changes {
        self.rig.connection.roles().changes.unwrap()
    }

    pub async fn attach(&self) -> Attached {
        let attached = self.changes().attach(&self.stream).await.unwrap();
        assert!(attached.refused.is_empty(), "{:?}", attached.refused);
        attached
    }

    pub async fn anchor(&self) -> Anchor {
        self.changes().snapshot(&self.stream).await.unwrap()
    }

    pub async fn end(&self) -> Position {
        self.changes().end().await.unwrap()
    }

    pub async fn all_from(&self, from: &Position) -> Vec<Followed> {
        let mut tables = Vec::new();
        for table in &self.stream.tables {
            tables.push(followed(self.rig.table(&table.name).await, from));
        }
        tables
    }

    pub fn follow(
        &self,
        tables: Vec<Followed>,
        until: Option<Position>,
    ) -> BoxStream<'static, Result<Change, Error>> {
        let follow = Follow {
            tables,
            until,
            batch_bytes: 1 << 20,
        };
        self.changes().follow(&self.stream, follow)
    }

    /// All that happened from there until now.
    pub async fn told(&self, from: &Position) -> Vec<Change> {
        let tables = self.all_from(from).await;
        self.told_of(tables).await
    }

    pub async fn told_of(&self, tables: Vec<Followed>) -> Vec<Change> {
        let end = self.end().await;
        let mut changes = self.follow(tables, Some(end.clone()));
        let mut told = Vec::new();
        while let Some(change) = changes.next().await {
            told.push(change.unwrap());
        }
        let Some(Change::Barrier { position, .. }) = told.last() else {
            panic!("the stream did not end with a barrier");
        };
        assert!(self.changes().compare(position, &end).is_ge());
        told
    }

    /// A table as its own snapshot shows it.
    pub async fn read_rows(&self, table: &str) -> Rows {
        let batches = self.rig.read(table).await;
        let mut mirror = Mirror::default();
        let table = self.rig.table(table).await;
        for batch in &batches {
            mirror.apply_batch(&table.id, &table.primary_key, batch);
        }
        mirror.rows(&table.id)
    }
}

pub fn id(rig: &Rig, table: &str) -> TableId {
    TableId::new(Some(&rig.database), table)
}

pub fn followed(table: Table, from: &Position) -> Followed {
    Followed {
        columns: table.columns.clone(),
        key: table.primary_key.clone(),
        table,
        from: from.clone(),
    }
}

/// Rows by their key, all values as text.
pub type Rows = BTreeMap<Vec<String>, Vec<String>>;

/// What a destination holds.
#[derive(Default)]
pub struct Mirror {
    tables: HashMap<TableId, Rows>,
}

impl Mirror {
    pub fn rows(&self, table: &TableId) -> Rows {
        self.tables.get(table).cloned().unwrap_or_default()
    }

    pub fn apply_all(&mut self, key: &[&str], changes: &[Change]) {
        let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        for change in changes {
            match change {
                Change::Rows { table, batch } => self.apply_batch(table, &key, batch),
                Change::Truncate(table) => {
                    self.tables.remove(table);
                }
                Change::Failed { table, error } => panic!("{table}: {error}"),
                Change::Reshaped { table, .. } => panic!("{table} was reshaped"),
                Change::Barrier { .. } => {}
            }
        }
    }

    pub fn apply_batch(&mut self, table: &TableId, key: &[String], batch: &Batch) {
        let rows = self.tables.entry(table.clone()).or_default();
        let schema = batch.rows.schema();
        let key: Vec<usize> = key
            .iter()
            .map(|name| schema.index_of(name).unwrap())
            .collect();
        for row in 0..batch.row_count() {
            let mut values: Vec<String> = (0..batch.rows.num_columns())
                .map(|column| text(&batch.rows, column, row))
                .collect();
            let place: Vec<String> = key.iter().map(|at| values[*at].clone()).collect();
            match op(batch, row) {
                None => {
                    rows.insert(place, values);
                }
                Some(Op::Delete) => {
                    assert!(rows.remove(&place).is_some(), "no {place:?} to delete");
                }
                Some(op) => {
                    let before = rows.get(&place).cloned();
                    assert_eq!(op == Op::Update, before.is_some(), "{table}: {place:?}");
                    for (column, kept) in &batch.kept {
                        if kept.value(row) {
                            values[*column] =
                                before.as_ref().expect("a kept value")[*column].clone();
                        }
                    }
                    rows.insert(place, values);
                }
            }
        }
    }
}

pub fn op(batch: &Batch, row: usize) -> Option<Op> {
    match &batch.ops {
        Ops::Rows => None,
        Ops::Each(codes) => Some(Op::of(UInt8Array::value(codes, row)).unwrap()),
    }
}

/// Operations and the texts of a column, of every row told.
pub fn ops(changes: &[Change], column: &str) -> Vec<(Op, String)> {
    let mut told = Vec::new();
    for change in changes {
        if let Change::Rows { batch, .. } = change {
            let at = batch.rows.schema().index_of(column).unwrap();
            for row in 0..batch.row_count() {
                told.push((op(batch, row).unwrap(), text(&batch.rows, at, row)));
            }
        }
    }
    told
}

/// The verdict on the only table that was reshaped: whether it is still there, and whether
/// rows that were there before are others.
pub fn reshaped(changes: &[Change]) -> Option<(bool, bool)> {
    changes.iter().find_map(|change| match change {
        Change::Reshaped { now, rewritten, .. } => Some((now.is_some(), *rewritten)),
        _ => None,
    })
}
