//! A change log kept in memory: transactions in order, a place in it that forgets what was
//! confirmed, and changes told as the trait says.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt8Array};
use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use serde_json::json;
use tideway_core::{
    Batch, Column, Error, Op, Ops, Position, Result, TableId,
    changes::{Anchor, Attached, Change, Changes, Follow, Followed, Lag, Stream},
};

use super::{FakeSource, Row, record_batch, table};

/// What happens to a row or a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Inserted, or updated where it is there. The value is not told where it is `kept`
    /// and the row was there.
    Put {
        row: Row,
        kept: bool,
    },
    Delete(i64),
    /// The first row becomes the second, whose value is not told.
    Rekey {
        from: i64,
        row: Row,
    },
    Truncate,
    /// The table has a fourth column from now on; `rewritten` as in [`Change::Reshaped`].
    Widen {
        rewritten: bool,
    },
    /// A row that cannot be read in the log, while a snapshot of it can.
    Spoil,
}

#[derive(Default)]
pub struct FakeLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Position `n` stands after the first `n` transactions.
    transactions: Vec<Vec<(String, Told)>>,
    wide: BTreeMap<String, usize>,
    /// The stream's place; what lies before it is forgotten.
    place: Option<usize>,
    refused: BTreeMap<String, Error>,
    wrongs: Vec<String>,
    /// Following breaks off after so many changes, as often as there are numbers.
    breaks: Vec<usize>,
    attached: u32,
}

#[derive(Clone)]
enum Told {
    Row { op: Op, row: Row, kept: bool },
    Truncate,
    Widen { rewritten: bool },
    Spoil,
}

fn at(position: &Position) -> usize {
    position.at.as_u64().unwrap() as usize
}

fn position(at: usize) -> Position {
    Position {
        v: 1,
        kind: "fake".into(),
        at: json!(at),
    }
}

impl FakeLog {
    pub fn wide(&self, table: &str) -> bool {
        self.state.lock().unwrap().wide.contains_key(table)
    }

    pub fn refuse(&self, table: &str, error: Error) {
        let mut state = self.state.lock().unwrap();
        state.refused.insert(table.into(), error);
    }

    pub fn break_after(&self, changes: &[usize]) {
        self.state.lock().unwrap().breaks = changes.to_vec();
    }

    /// The place in the log is gone.
    pub fn lose(&self) {
        self.state.lock().unwrap().place = None;
    }

    pub fn place(&self) -> Option<usize> {
        self.state.lock().unwrap().place
    }

    pub fn end(&self) -> usize {
        self.state.lock().unwrap().transactions.len()
    }

    pub fn wrongs(&self) -> Vec<String> {
        self.state.lock().unwrap().wrongs.clone()
    }

    pub fn attached(&self) -> u32 {
        self.state.lock().unwrap().attached
    }
}

impl FakeSource {
    /// Carries a transaction out on the tables, and logs it.
    pub fn commit(&self, deeds: &[(&str, Deed)]) {
        let mut tables = self.tables.lock().unwrap();
        let mut state = self.log.as_ref().unwrap().state.lock().unwrap();
        let mut told = Vec::new();
        for (name, deed) in deeds {
            let rows = tables.entry((*name).to_owned()).or_default();
            let there = |id: i64, rows: &[Row]| rows.iter().position(|row| row[0] == id);
            match deed {
                Deed::Put { row, kept } => {
                    let before = there(row[0], rows);
                    let mut row = *row;
                    match before {
                        Some(before) => {
                            row[1] = if *kept { rows[before][1] } else { row[1] };
                            rows[before] = row;
                        }
                        None => rows.push(row),
                    }
                    let op = if before.is_some() {
                        Op::Update
                    } else {
                        Op::Insert
                    };
                    let kept = *kept && before.is_some();
                    told.push(((*name).to_owned(), Told::Row { op, row, kept }));
                }
                Deed::Delete(id) => {
                    if let Some(before) = there(*id, rows) {
                        rows.remove(before);
                        let row = [*id, -7, -7];
                        let op = Op::Delete;
                        told.push((
                            (*name).to_owned(),
                            Told::Row {
                                op,
                                row,
                                kept: false,
                            },
                        ));
                    }
                }
                Deed::Rekey { from, row } => {
                    let before = there(*from, rows).unwrap();
                    rows[before] = *row;
                    for (op, row, kept) in [
                        (Op::Delete, [*from, -7, -7], false),
                        (Op::Insert, *row, true),
                    ] {
                        told.push(((*name).to_owned(), Told::Row { op, row, kept }));
                    }
                }
                Deed::Truncate => {
                    rows.clear();
                    told.push(((*name).to_owned(), Told::Truncate));
                }
                Deed::Spoil => told.push(((*name).to_owned(), Told::Spoil)),
                Deed::Widen { rewritten } => {
                    let rewritten = *rewritten;
                    let now = state.transactions.len();
                    state.wide.insert((*name).to_owned(), now);
                    told.push(((*name).to_owned(), Told::Widen { rewritten }));
                }
            }
        }
        state.transactions.push(told);
    }
}

#[async_trait]
impl Changes for FakeSource {
    async fn attach(&self, stream: &Stream) -> Result<Attached> {
        tokio::task::yield_now().await;
        let mut state = self.log.as_ref().unwrap().state.lock().unwrap();
        state.attached += 1;
        let fresh = state.place.is_none().then(|| "made".to_owned());
        let end = state.transactions.len();
        let place = *state.place.get_or_insert(end);
        Ok(Attached {
            position: position(place),
            fresh,
            marks: HashMap::new(),
            refused: stream
                .tables
                .iter()
                .filter_map(|id| Some((id.clone(), state.refused.get(&id.name)?.clone())))
                .collect(),
        })
    }

    async fn snapshot(&self, _: &Stream) -> Result<Anchor> {
        tokio::task::yield_now().await;
        // Locked in this order everywhere, and together: the view has exactly this position.
        let tables = self.tables.lock().unwrap();
        let end = self.log.as_ref().unwrap().end();
        Ok(Anchor {
            position: position(end),
            snapshot: Arc::new(self.showing(tables.clone())),
        })
    }

    fn follow(&self, _: &Stream, follow: Follow) -> BoxStream<'static, Result<Change>> {
        let log = self.log.clone().unwrap();
        let from = follow
            .tables
            .iter()
            .map(|table| at(&table.from))
            .min()
            .unwrap();
        let breaks = {
            let mut state = log.state.lock().unwrap();
            if state.place.is_none_or(|place| place > from) {
                let wrong = format!("followed from {from}, forgotten up to {:?}", state.place);
                state.wrongs.push(wrong);
            }
            (!state.breaks.is_empty()).then(|| state.breaks.remove(0))
        };
        let reader = Reader {
            log,
            next: from,
            follow,
            reshaped: Vec::new(),
            done: false,
            breaks,
        };
        stream::unfold(reader, |mut reader| async move {
            loop {
                tokio::task::yield_now().await;
                if reader.done {
                    return None;
                }
                match reader.step() {
                    Some(changes) => return Some((stream::iter(changes), reader)),
                    None => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        })
        .flatten()
        .then(|change| async {
            tokio::task::yield_now().await;
            change
        })
        .boxed()
    }

    fn compare(&self, left: &Position, right: &Position) -> Ordering {
        at(left).cmp(&at(right))
    }

    async fn end(&self) -> Result<Position> {
        tokio::task::yield_now().await;
        Ok(position(self.log.as_ref().unwrap().end()))
    }

    async fn confirm(&self, _: &Stream, through: &Position) -> Result<()> {
        tokio::task::yield_now().await;
        let mut state = self.log.as_ref().unwrap().state.lock().unwrap();
        state.place = state.place.map(|place| place.max(at(through)));
        Ok(())
    }

    async fn lag(&self, _: &Stream, reached: &Position) -> Result<Lag> {
        let end = self.log.as_ref().unwrap().end();
        Ok(Lag {
            end: Some(position(end)),
            bytes: Some((end - at(reached)) as u64),
            ..Lag::default()
        })
    }

    async fn release(&self, _: &Stream) -> Result<()> {
        self.log.as_ref().unwrap().lose();
        Ok(())
    }
}

struct Reader {
    log: Arc<FakeLog>,
    next: usize,
    follow: Follow,
    reshaped: Vec<TableId>,
    done: bool,
    breaks: Option<usize>,
}

impl Reader {
    /// The next transaction; `None` while there is none.
    fn step(&mut self) -> Option<Vec<Result<Change>>> {
        let state = self.log.state.lock().unwrap();
        let end = state.transactions.len();
        let mut changes = Vec::new();
        let until = self.follow.until.as_ref().map(at);
        if self.next < end {
            let told = state.transactions[self.next].clone();
            drop(state);
            self.next += 1;
            self.tell(told, &mut changes);
        } else if until.is_none_or(|until| until > end) {
            return None;
        }
        changes.push(Ok(Change::Barrier {
            position: position(self.next),
            committed_at: None,
        }));
        self.done = until.is_some_and(|until| self.next >= until);
        if let Some(left) = &mut self.breaks {
            *left = left.saturating_sub(changes.len());
            if *left == 0 {
                self.done = true;
                changes.pop();
                changes.push(Err(Error::unavailable("the connection broke off")));
            }
        }
        Some(changes)
    }

    fn tell(&mut self, told: Vec<(String, Told)>, changes: &mut Vec<Result<Change>>) {
        let mut widened = Vec::new();
        for (name, told) in told {
            if matches!(told, Told::Widen { .. }) {
                widened.push(name.clone());
            }
            let followed = self.follow.tables.iter();
            let Some(followed) = followed.clone().find(|table| table.table.id.name == name) else {
                continue;
            };
            let id = followed.table.id.clone();
            if at(&followed.from) >= self.next || self.reshaped.contains(&id) {
                continue;
            }
            let wide_since = self.log.state.lock().unwrap().wide.get(&name).copied();
            // Within the transaction that widens it a table has had both shapes.
            let before = wide_since.is_some_and(|since| self.next > since + 1);
            let wide = before || widened.contains(&name);
            let expected = followed.table.columns.len() == 4;
            let change = match told {
                Told::Widen { .. } if expected => continue,
                Told::Widen { rewritten } => Change::Reshaped {
                    table: id.clone(),
                    now: Some(table(&name, true, 0)),
                    rewritten,
                },
                // Followed with a shape that it did not have here.
                _ if wide != expected => Change::Reshaped {
                    table: id.clone(),
                    now: Some(table(&name, wide, 0)),
                    rewritten: false,
                },
                Told::Truncate => Change::Truncate(id.clone()),
                Told::Spoil => Change::Failed {
                    table: id.clone(),
                    error: Error::data("a value cannot be read"),
                },
                Told::Row { op, row, kept } => Change::Rows {
                    table: id.clone(),
                    batch: told_row(followed, op, row, kept),
                },
            };
            if matches!(change, Change::Reshaped { .. } | Change::Failed { .. }) {
                self.reshaped.push(id);
            }
            changes.push(Ok(change));
        }
    }
}

/// What `rows` holds at a kept value means nothing.
fn told_row(followed: &Followed, op: Op, row: Row, kept: bool) -> Batch {
    let columns = &followed.columns;
    let rows = record_batch(columns, &[row]);
    let kept = columns
        .iter()
        .position(|column: &Column| column.name == "v")
        .filter(|_| kept);
    let garbage: ArrayRef = Arc::new(Int64Array::from(vec![-9]));
    let told = rows.columns().iter().enumerate().map(|(index, values)| {
        if Some(index) == kept {
            garbage.clone()
        } else {
            values.clone()
        }
    });
    Batch {
        rows: RecordBatch::try_new(rows.schema(), told.collect()).unwrap(),
        ops: Ops::Each(UInt8Array::from(vec![op as u8])),
        kept: kept
            .map(|column| (column, BooleanArray::from(vec![true])))
            .into_iter()
            .collect(),
        notes: Vec::new(),
    }
}
