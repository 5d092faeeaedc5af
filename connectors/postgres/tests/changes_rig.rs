//! Streams of a test's own database, followed as the engine does, and what a destination
//! would hold after them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow_array::{Array, UInt8Array};
use futures::{StreamExt, stream::BoxStream};
use serde_json::{Value, json};
use tideway_core::{
    Batch, Connection, Error, Op, Ops, Position, Table, TableId,
    changes::{Anchor, Attached, Change, Changes, Follow, Followed, Stream},
};

use crate::read_rig::*;

pub struct Streaming {
    pub rig: Rig,
    pub connection: Arc<dyn Connection>,
    pub stream: Stream,
}

pub fn id(table: &str) -> TableId {
    TableId::new(Some("public"), table)
}

impl Streaming {
    pub async fn new(setup: &str, tables: &[&str]) -> Streaming {
        Self::with(setup, tables, json!({})).await
    }

    pub async fn with(setup: &str, tables: &[&str], settings: Value) -> Streaming {
        let rig = Rig::new().await;
        rig.run(setup).await;
        let mut settings = settings;
        settings["change_detection"] = true.into();
        let connection = rig.connect(settings).await.unwrap();
        let stream = Stream {
            id: uuid::Uuid::new_v4().to_string(),
            options: json!({}),
            tables: tables.iter().map(|table| id(table)).collect(),
        };
        Streaming {
            rig,
            connection,
            stream,
        }
    }

    pub fn changes(&self) -> &dyn Changes {
        self.connection.roles().changes.unwrap()
    }

    pub fn slot(&self) -> String {
        format!("tideway_{}", self.stream.id.replace('-', ""))
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

    pub async fn followed(&self, table: &str, from: &Position) -> Followed {
        followed(self.rig.table(&format!("public.{table}")).await, from)
    }

    pub async fn all_from(&self, from: &Position) -> Vec<Followed> {
        let mut tables = Vec::new();
        for table in &self.stream.tables {
            tables.push(self.followed(&table.name, from).await);
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

    /// A table as its own snapshot shows it, through the cell decoders of COPY.
    pub async fn read_rows(&self, table: &str) -> Rows {
        let batches = self.rig.read(&format!("public.{table}")).await;
        let mut mirror = Mirror::default();
        let table = self.rig.table(&format!("public.{table}")).await;
        for batch in &batches {
            mirror.apply_batch(&table.id, &key_of(&table), batch);
        }
        mirror.rows(&table.id)
    }
}

pub fn followed(table: Table, from: &Position) -> Followed {
    Followed {
        columns: table.columns.clone(),
        key: key_of(&table),
        table,
        from: from.clone(),
    }
}

pub fn key_of(table: &Table) -> Vec<String> {
    table.primary_key.clone()
}

/// Rows by their key, all values as text.
pub type Rows = BTreeMap<Vec<Option<String>>, Vec<Option<String>>>;

/// What a destination holds.
#[derive(Default)]
pub struct Mirror {
    tables: HashMap<TableId, Rows>,
}

impl Mirror {
    pub fn rows(&self, table: &TableId) -> Rows {
        self.tables.get(table).cloned().unwrap_or_default()
    }

    pub fn apply(&mut self, key: &[String], change: &Change) {
        match change {
            Change::Rows { table, batch } => self.apply_batch(table, key, batch),
            Change::Truncate(table) => {
                self.tables.remove(table);
            }
            Change::Reshaped { table, .. } => panic!("{table} was reshaped"),
            Change::Failed { table, error } => panic!("{table}: {error}"),
            Change::Barrier { .. } => {}
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
            let values: Vec<Option<String>> = (0..batch.rows.num_columns())
                .map(|column| text(&batch.rows, column, row))
                .collect();
            let place: Vec<Option<String>> = key.iter().map(|at| values[*at].clone()).collect();
            match op(batch, row) {
                None => {
                    rows.insert(place, values);
                }
                Some(Op::Delete) => {
                    assert!(
                        rows.remove(&place).is_some(),
                        "{table}: no {place:?} to delete"
                    );
                }
                Some(op) => {
                    let before = rows.get(&place).cloned();
                    assert_eq!(op == Op::Update, before.is_some(), "{table}: {place:?}");
                    let mut values = values;
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
pub fn ops(changes: &[Change], column: &str) -> Vec<(Op, Option<String>)> {
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

/// Whether every array agrees with its column's promise not to be null.
pub fn sound(batch: &Batch) -> bool {
    let fields = batch.rows.schema();
    let fields = fields.fields().iter();
    fields
        .zip(batch.rows.columns())
        .all(|(field, array)| field.is_nullable() || array.null_count() == 0)
}
