//! A lane: takes rows into the staging table, a part per transaction.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Statement;
use tideway_core::{
    Batch, Error, Note, Ops, Result,
    destination::{Accepted, CREATED_AT, Durable, Lane, Load, UPDATED_AT},
};

use crate::{
    connect::{Handle, blocking},
    sql::{list, literal, quoted},
};

use super::{
    Turn, Writer,
    encode::{Encoder, encoders},
    layout::Layout,
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
}

/// Rows that go into one statement: fewer steps per row, up to a point.
const GROUP_ROWS: usize = 16;
/// SQLite takes 32,766 parameters in a statement.
const GROUP_VALUES: usize = 32_000;

impl Staging {
    fn new(load: &Load, layout: &Layout) -> Staging {
        let names = layout.columns.iter().map(|column| quoted(&column.name));
        let system = layout.system.iter().map(|name| quoted(name));
        let time = literal(&now());
        let stamps = layout.system.iter().map(|name| match *name {
            CREATED_AT | UPDATED_AT => time.clone(),
            _ => "NULL".to_owned(),
        });
        let stage = quoted(&stage_name(&load.id));
        Staging {
            load_id: load.id.clone(),
            layout: layout.clone(),
            into: format!("INTO main.{stage} ({})", list(names.chain(system))),
            stamps: stamps.collect(),
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
        if let Ops::Each(_) = batch.ops {
            return Err(Error::unsupported("SQLite cannot take a change stream"));
        }
        let mut encoders = encoders(&batch.rows, &self.layout.columns)?;
        let required: Vec<&Encoder<'_>> = encoders
            .iter()
            .filter(|encoder| self.layout.requires(encoder.name()))
            .collect();
        let rows: Vec<usize> = (0..batch.row_count())
            .filter(|row| !required.iter().any(|encoder| encoder.is_null(*row)))
            .collect();
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
        let mut tell = |names: &[String], what: &str, rows: usize| {
            if rows > 0 {
                notes.push(Note {
                    column: list(names),
                    what: what.to_owned(),
                    rows: rows as u64,
                });
            }
        };
        let keyless = batch.row_count() - rows.len();
        tell(
            &self.layout.required,
            "row without a key not written",
            keyless,
        );
        tell(
            &self.layout.key,
            "key repeated, the last row kept",
            repeated,
        );
        Ok(notes)
    }
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
    pub fn new(writer: Arc<Writer>, load: &Load, layout: &Layout) -> Self {
        SqliteLane {
            writer,
            staging: Arc::new(Staging::new(load, layout)),
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
        let (load_id, part_id) = (self.staging.load_id.clone(), part_id.to_owned());
        blocking(move || {
            let handle = &turn.0;
            // The rows of a part that has landed before are undone with the turn.
            if ledger::rows_of(handle, &load_id, &part_id)?.is_none() {
                ledger::record_part(handle, &load_id, &part_id, rows)?;
                handle.run("COMMIT")?;
            }
            Ok(())
        })
        .await?;
        self.part = Part::None;
        Ok(Durable { rows })
    }
}
