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
    Open { turn: Turn, rows: u64 },
    /// A write failed and undid the rows before it as well.
    Broken,
}

/// How rows get into the staging table.
struct Staging {
    load_id: String,
    layout: Layout,
    /// The statement for a row; where there is a key, it does nothing for a repeated one.
    insert: String,
    /// Puts a row in the place of the one with its key.
    replace: String,
}

impl Staging {
    fn new(load: &Load, layout: &Layout) -> Staging {
        let names = layout.columns.iter().map(|column| quoted(&column.name));
        let system = layout.system.iter().map(|name| quoted(name));
        let holders = (1..=layout.columns.len()).map(|at| format!("?{at}"));
        let time = literal(&now());
        let stamps = layout.system.iter().map(|name| match *name {
            CREATED_AT | UPDATED_AT => time.clone(),
            _ => "NULL".to_owned(),
        });
        let into = format!(
            "INTO main.{} ({}) VALUES ({})",
            quoted(&stage_name(&load.id)),
            list(names.chain(system)),
            list(holders.chain(stamps))
        );
        let insert = if layout.key.is_empty() { "INSERT" } else { "INSERT OR IGNORE" };
        Staging {
            load_id: load.id.clone(),
            layout: layout.clone(),
            insert: format!("{insert} {into}"),
            replace: format!("INSERT OR REPLACE {into}"),
        }
    }

    fn stage(&self, handle: &Handle, batch: &Batch) -> Result<Vec<Note>> {
        if let Ops::Each(_) = batch.ops {
            return Err(Error::unsupported("SQLite cannot take a change stream"));
        }
        let mut encoders = encoders(&batch.rows, &self.layout.columns)?;
        let required: Vec<usize> = (0..encoders.len())
            .filter(|at| encoders.get(*at).is_some_and(|e| self.layout.requires(e.name())))
            .collect();
        let mut insert = handle.prepare(&self.insert)?;
        let mut replace = None;
        let (mut keyless, mut repeated) = (0_u64, 0_u64);
        for row in 0..batch.row_count() {
            let is_null = |at: &usize| encoders.get(*at).is_some_and(|e| e.is_null(row));
            if required.iter().any(is_null) {
                keyless += 1;
                continue;
            }
            if bind_and_run(handle, &mut insert, &mut encoders, row)? == 0 {
                let replace = match &mut replace {
                    Some(replace) => replace,
                    none => none.insert(handle.prepare(&self.replace)?),
                };
                bind_and_run(handle, replace, &mut encoders, row)?;
                repeated += 1;
            }
        }
        let mut notes: Vec<Note> = encoders.iter().flat_map(|encoder| encoder.notes()).collect();
        let mut tell = |names: &[String], what: &str, rows: u64| {
            if rows > 0 {
                notes.push(Note { column: list(names), what: what.to_owned(), rows });
            }
        };
        tell(&self.layout.required, "row without a key not written", keyless);
        tell(&self.layout.key, "key repeated, the last row kept", repeated);
        Ok(notes)
    }
}

fn bind_and_run(
    handle: &Handle,
    statement: &mut Statement<'_>,
    encoders: &mut [Encoder<'_>],
    row: usize,
) -> Result<usize> {
    for (at, encoder) in encoders.iter_mut().enumerate() {
        let bound = statement.raw_bind_parameter(at + 1, encoder.stored(row)?);
        bound.map_err(|error| handle.explain(error))?;
    }
    statement.raw_execute().map_err(|error| handle.explain(error))
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
