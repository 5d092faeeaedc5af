//! A lane: takes rows into the staging table, a part per transaction.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use async_trait::async_trait;
use rusqlite::{
    Statement,
    types::{Null, ToSqlOutput},
};
use tideway_core::{
    Batch, Error, Note, Ops, Result,
    destination::{Accepted, CREATED_AT, Durable, Lane, Load, UPDATED_AT},
    failpoint,
    operations::Operations,
};

use crate::{
    connect::{Handle, blocking},
    sql::{list, literal, quoted},
};

use super::{
    Turn, Writer,
    encode::{Encoder, encoders},
    layout::{KEPT, Layout, OP, PART_END},
    ledger, now, stage_name,
};

pub struct SqliteLane {
    writer: Arc<Writer>,
    staging: Arc<Staging>,
    part: Part,
}

/// What a lane has done since its last commit.
enum Part {
    None,
    Open {
        turn: Turn,
        rows: u64,
    },
    /// A write failed and undid the rows before it as well.
    Broken,
}

/// How rows get into the staging table.
struct Staging {
    load_id: String,
    layout: Layout,
    /// `INTO` the table and its columns.
    into: String,
    /// Values of the system columns, the same for every row.
    stamps: Vec<String>,
    /// Rows that were left out or gave way to others, of all lanes.
    not_staged: Arc<AtomicU64>,
}

/// Rows that go into one statement: fewer steps per row, up to a point.
const GROUP_ROWS: usize = 16;
/// SQLite takes 32,766 parameters in a statement.
const GROUP_VALUES: usize = 32_000;

impl Staging {
    fn new(load: &Load, layout: &Layout, not_staged: Arc<AtomicU64>) -> Staging {
        let names = layout.columns.iter().map(|column| quoted(&column.name));
        let system = layout.system.iter().map(|name| quoted(name));
        let time = literal(&now());
        let stamps = layout.system.iter().map(|name| match *name {
            CREATED_AT | UPDATED_AT => time.clone(),
            _ => "NULL".to_owned(),
        });
        let stage = quoted(&stage_name(&load.id));
        let into = match layout.changes {
            true => list(
                [OP.to_owned()]
                    .into_iter()
                    .chain(names)
                    .chain([KEPT.to_owned()]),
            ),
            false => list(names.chain(system)),
        };
        Staging {
            load_id: load.id.clone(),
            layout: layout.clone(),
            into: format!("INTO main.{stage} ({into})"),
            stamps: stamps.collect(),
            not_staged,
        }
    }

    fn prepare<'h>(&self, handle: &'h Handle, verb: &str, rows: usize) -> Result<Statement<'h>> {
        let row = vec!["?".to_owned(); self.layout.columns.len()];
        let row = format!("({})", list(row.iter().chain(&self.stamps)));
        handle.prepare(&format!(
            "{verb} {} VALUES {}",
            self.into,
            list(vec![row; rows])
        ))
    }

    fn stage(&self, handle: &Handle, batch: &Batch) -> Result<Vec<Note>> {
        if matches!(batch.ops, Ops::Each(_)) != self.layout.changes {
            return Err(Error::bug("rows and changes came for the other's load"));
        }
        let mut encoders = encoders(&batch.rows, &self.layout.columns)?;
        let required: Vec<&Encoder<'_>> = encoders
            .iter()
            .filter(|encoder| self.layout.requires(encoder.name()))
            .collect();
        let rows: Vec<usize> = (0..batch.row_count())
            .filter(|row| !required.iter().any(|encoder| encoder.is_null(*row)))
            .collect();
        if self.layout.changes {
            let mut notes = self.stage_changes(handle, batch, &mut encoders, &rows)?;
            notes.extend(self.keyless(batch.row_count() - rows.len()));
            return Ok(notes);
        }
        let group_rows = GROUP_ROWS.min(GROUP_VALUES / encoders.len().max(1)).max(1);
        // Where there is a key, a row does not go in if one with its key is there.
        let verb = if self.layout.key.is_empty() {
            "INSERT"
        } else {
            "INSERT OR IGNORE"
        };
        let mut insert = self.prepare(handle, verb, group_rows)?;
        let mut repeated = 0;
        for group in rows.chunks(group_rows) {
            if group.len() < group_rows {
                insert = self.prepare(handle, verb, group.len())?;
            }
            let inserted = bind_and_run(handle, &mut insert, &mut encoders, group)?;
            if inserted < group.len() {
                let mut replace = self.prepare(handle, "INSERT OR REPLACE", group.len())?;
                bind_and_run(handle, &mut replace, &mut encoders, group)?;
                repeated += group.len() - inserted;
            }
        }
        let mut notes: Vec<Note> = encoders
            .iter()
            .flat_map(|encoder| encoder.notes(&rows))
            .collect();
        let keyless = batch.row_count() - rows.len();
        notes.extend(self.keyless(keyless));
        let what = "key repeated, the last row kept";
        self.not_staged
            .fetch_add((keyless + repeated) as u64, Relaxed);
        notes.extend(told(&self.layout.key, what, repeated));
        Ok(notes)
    }

    fn keyless(&self, rows: usize) -> Option<Note> {
        let what = "row without a key not written";
        told(&self.layout.required, what, rows)
    }

    fn stage_changes(
        &self,
        handle: &Handle,
        batch: &Batch,
        encoders: &mut [Encoder<'_>],
        rows: &[usize],
    ) -> Result<Vec<Note>> {
        let columns = self.layout.columns.iter().enumerate();
        let key = columns.filter(|(_, column)| self.layout.is_key(&column.name));
        let key: Vec<usize> = key.map(|(at, _)| at).collect();
        let operations = Operations::of(batch, &key)?;
        let values = vec!["?"; encoders.len() + 2];
        let explain = |error| handle.explain(error);
        let mut insert =
            handle.prepare(&format!("INSERT {} VALUES ({})", self.into, list(values)))?;
        for row in rows {
            let mut bind = |at: usize, value: ToSqlOutput<'_>| {
                insert.raw_bind_parameter(at + 1, value).map_err(explain)
            };
            bind(0, ToSqlOutput::from(operations.code(*row)))?;
            for (at, encoder) in encoders.iter_mut().enumerate() {
                match operations.lacks(*row, at) {
                    true => bind(at + 1, ToSqlOutput::from(Null))?,
                    false => bind(at + 1, encoder.stored(*row)?)?,
                }
            }
            let kept = operations.kept(*row);
            bind(
                encoders.len() + 1,
                kept.map_or(ToSqlOutput::from(Null), ToSqlOutput::from),
            )?;
            insert.raw_execute().map_err(explain)?;
        }
        let mut notes = Vec::new();
        for (at, encoder) in encoders.iter().enumerate() {
            let told = rows.iter().filter(|row| !operations.lacks(**row, at));
            notes.extend(encoder.notes(&told.copied().collect::<Vec<usize>>()));
        }
        Ok(notes)
    }

    /// Ends a part of changes.
    fn end_part(&self, handle: &Handle, part_id: &str) -> Result<()> {
        if self.layout.changes {
            let stage = quoted(&stage_name(&self.load_id));
            let sql = format!("INSERT INTO main.{stage} ({OP}, {KEPT}) VALUES ({PART_END}, ?1)");
            handle.change(&sql, [part_id])?;
        }
        Ok(())
    }
}

fn told(names: &[String], what: &str, rows: usize) -> Option<Note> {
    (rows > 0).then(|| Note {
        column: list(names),
        what: what.to_owned(),
        rows: rows as u64,
    })
}

/// How many of the rows went in.
fn bind_and_run(
    handle: &Handle,
    statement: &mut Statement<'_>,
    encoders: &mut [Encoder<'_>],
    rows: &[usize],
) -> Result<usize> {
    let mut place = 1;
    for row in rows {
        for encoder in encoders.iter_mut() {
            let bound = statement.raw_bind_parameter(place, encoder.stored(*row)?);
            bound.map_err(|error| handle.explain(error))?;
            place += 1;
        }
    }
    statement
        .raw_execute()
        .map_err(|error| handle.explain(error))
}

impl SqliteLane {
    pub fn new(
        writer: Arc<Writer>,
        load: &Load,
        layout: &Layout,
        not_staged: Arc<AtomicU64>,
    ) -> Self {
        SqliteLane {
            writer,
            staging: Arc::new(Staging::new(load, layout, not_staged)),
            part: Part::None,
        }
    }

    /// The open part, or a new one; broken until it is put back.
    async fn take_part(&mut self) -> Result<(Turn, u64)> {
        match std::mem::replace(&mut self.part, Part::Broken) {
            Part::Open { turn, rows } => Ok((turn, rows)),
            Part::Broken => Err(Error::bug("a part goes on after a write of it failed")),
            Part::None => {
                let turn = self.writer.turn().await;
                let turn = blocking(move || turn.0.run("BEGIN IMMEDIATE").map(|()| turn)).await?;
                Ok((turn, 0))
            }
        }
    }
}

#[async_trait]
impl Lane for SqliteLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        let (turn, rows) = self.take_part().await?;
        let staging = self.staging.clone();
        let (turn, notes, written) = blocking(move || {
            let notes = staging.stage(&turn.0, &batch)?;
            Ok((turn, notes, batch.row_count() as u64))
        })
        .await?;
        self.part = Part::Open {
            turn,
            rows: rows + written,
        };
        Ok(Accepted { notes })
    }

    async fn commit(&mut self, part_id: &str) -> Result<Durable> {
        let (turn, rows) = self.take_part().await?;
        let (staging, part_id) = (self.staging.clone(), part_id.to_owned());
        blocking(move || {
            let handle = &turn.0;
            // The rows of a part that has landed before are undone with the turn.
            let load_id = &staging.load_id;
            if ledger::rows_of(handle, load_id, &part_id)?.is_none() {
                staging.end_part(handle, &part_id)?;
                ledger::record_part(handle, load_id, &part_id, rows)?;
                handle.run("COMMIT")?;
            }
            failpoint::reach("sqlite.landed");
            Ok(())
        })
        .await?;
        self.part = Part::None;
        Ok(Durable { rows })
    }
}
