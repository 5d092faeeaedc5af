//! A lane: a session that takes rows into the staging table, a part per transaction.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arrow_array::{Array, RecordBatch};
use async_trait::async_trait;
use tideway_core::{
    Batch, Error, LogicalType, Note, Ops, Result,
    destination::{Accepted, Durable, Lane, Load},
    failpoint,
    operations::Operations,
};

use super::{
    ddl::{KEPT, OP, PART, PART_END, Place, ROW, has_changes, in_key, is_keyed},
    encode::{Encoder, Style},
    ledger::Ledger,
};
use crate::{
    connect::{Flavor, Session},
    discover::number,
    sql::{binary, ident, list},
};

/// Rows are sent when about this many bytes have come together.
const CHUNK: usize = 512 << 10;

pub const BEGIN: [&str; 2] = [
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "START TRANSACTION",
];

pub struct MySqlLane {
    session: Session,
    load: Arc<Load>,
    place: Place,
    encoder: Encoder,
    style: Style,
    /// The `LOAD DATA`, or the beginning of each `INSERT`.
    sql: String,
    /// Indexes of the key columns, where rows without a key cannot be staged.
    key: Vec<usize>,
    /// The rows are changes.
    changes: bool,
    buffer: Vec<u8>,
    part: Part,
    /// The number of the open part of changes, unlike that of any other part of the load.
    number: u64,
    /// A row takes the place of a staged one with the same key.
    replaces: bool,
    /// How many have, of all lanes.
    repeated: Arc<AtomicU64>,
    /// [`replaced`] when the open part began.
    replaced_before: u64,
}

/// What a lane has done since its last commit.
#[derive(Clone, Copy)]
enum Part {
    None,
    Open {
        /// Rows that came.
        rows: u64,
        /// Of those, the ones that were sent.
        sent: u64,
    },
    /// A write failed and undid the rows before it as well.
    Broken,
}

impl MySqlLane {
    pub fn open(
        session: Session,
        load: Arc<Load>,
        place: &Place,
        repeated: Arc<AtomicU64>,
    ) -> MySqlLane {
        let columns = &load.target.columns;
        // Servers may refuse files from clients; then rows go as statements.
        let style = if session.takes_files {
            Style::File
        } else {
            Style::Values
        };
        let changes = has_changes(&load);
        // Of changes each state counts, and no key comes twice in a part.
        let replaces = is_keyed(&load) && !changes;
        let sql = match style {
            Style::File => load_sql(&load, place, replaces),
            Style::Values => insert_sql(&load, place, replaces),
        };
        let key = (0..columns.len()).filter(|at| {
            let column = columns.get(*at);
            is_keyed(&load) && column.is_some_and(|column| in_key(&load, &column.name))
        });
        MySqlLane {
            key: key.collect(),
            encoder: Encoder::new(
                columns,
                style,
                session.server.flavor == Flavor::MySql,
                // A statement holds two digits per byte.
                match style {
                    Style::File => session.most_bytes,
                    Style::Values => session.most_bytes / 2,
                },
            ),
            place: place.clone(),
            session,
            load,
            style,
            sql,
            changes,
            buffer: Vec::new(),
            part: Part::None,
            number: 0,
            replaces,
            repeated,
            replaced_before: 0,
        }
    }

    /// The open part, or a new one; broken until it is put back.
    async fn take_part(&mut self) -> Result<(u64, u64)> {
        match std::mem::replace(&mut self.part, Part::Broken) {
            Part::Open { rows, sent } => Ok((rows, sent)),
            Part::Broken => Err(Error::bug("a part goes on after a write of it failed")),
            Part::None => {
                if self.replaces {
                    self.replaced_before = replaced(&mut self.session).await?;
                }
                for sql in BEGIN {
                    self.session.run(sql).await?;
                }
                self.buffer.clear();
                (_, self.number) = uuid::Uuid::new_v4().as_u64_pair();
                if self.style == Style::File {
                    self.session.load(&self.sql).await?;
                }
                Ok((0, 0))
            }
        }
    }

    /// Encodes all rows of a batch, sending what comes together. Gives how many were sent;
    /// `before` is how many of the part there are already.
    async fn send_rows(&mut self, batch: &Batch, before: u64) -> Result<(u64, Vec<Note>)> {
        if matches!(batch.ops, Ops::Each(_)) != self.changes {
            return Err(Error::bug("rows and changes came for the other's load"));
        }
        let key = self.key.clone();
        let operations = match self.changes {
            true => Some(Operations::of(batch, &key)?),
            false => None,
        };
        let encoder = self.encoder.clone();
        let mut rows = encoder.rows(&batch.rows)?;
        let mut sent = 0;
        for row in 0..batch.row_count() {
            if self.lacks_key(&batch.rows, row) {
                continue;
            }
            if self.style == Style::Values {
                let opening: &[u8] = if self.buffer.is_empty() {
                    self.sql.as_bytes()
                } else {
                    b","
                };
                self.buffer.extend_from_slice(opening);
            }
            match &operations {
                Some(operations) => {
                    let place = (self.number, before + sent);
                    rows.put_change(row, place, operations, &mut self.buffer)?;
                }
                None => rows.put(row, &mut self.buffer)?,
            }
            sent += 1;
            if self.buffer.len() >= CHUNK.min(self.session.most_bytes / 4) {
                self.flush().await?;
            }
        }
        let mut notes = rows.notes();
        let without = batch.row_count() as u64 - sent;
        if without > 0 {
            notes.push(Note {
                column: self.load.target.key.join(", "),
                what: "row without a key not written".to_owned(),
                rows: without,
            });
        }
        Ok((sent, notes))
    }

    fn lacks_key(&self, batch: &RecordBatch, row: usize) -> bool {
        let mut columns = self.key.iter().filter_map(|at| batch.columns().get(*at));
        columns.any(|column| column.is_null(row))
    }

    async fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        match self.style {
            Style::File => self.session.file(&self.buffer).await?,
            Style::Values => {
                let (size, most) = (self.buffer.len(), self.session.most_bytes);
                // The server would hang up instead of saying so.
                if size >= most {
                    return Err(Error::data(format!(
                        "{}: a row takes {size} bytes in a statement, and the server takes {most}",
                        self.place
                    ))
                    .hint("raise max_allowed_packet or switch local_infile on at the server, or leave large fields out"));
                }
                let done = self.session.run_bytes(&self.buffer).await;
                done.map_err(|error| error.while_(&self.place))?;
            }
        }
        self.buffer.clear();
        // One huge row must not keep its room.
        self.buffer.shrink_to(4 * CHUNK);
        Ok(())
    }

    /// Ends the file and makes sure that the server took each row as it is: what it has to
    /// change it only warns of.
    async fn close(&mut self, sent: u64) -> Result<()> {
        self.flush().await?;
        if self.style == Style::Values {
            return Ok(());
        }
        let done = self.session.file_end().await;
        let done = done.map_err(|error| error.while_(&self.place))?;
        if done.warnings > 0 {
            let warning = self.session.first_warning().await?;
            let error = warning.unwrap_or_else(|| Error::data("the server altered values"));
            return Err(error.while_(&self.place));
        }
        let taken = done.records.unwrap_or(done.rows);
        if taken != sent {
            return Err(Error::bug(format!(
                "{}: {sent} rows were sent but {taken} were taken",
                self.place
            )));
        }
        Ok(())
    }

    /// Says where a part of changes ends, and what it is called.
    async fn end_changes(&mut self, part_id: &str, sent: u64) -> Result<()> {
        let sql = format!(
            "INSERT INTO {} ({PART}, {ROW}, {OP}, {KEPT}) VALUES ({}, {sent}, {PART_END}, {})",
            self.place.stage(&self.load.id).sql(),
            self.number,
            binary(part_id.as_bytes())
        );
        self.session.run(&sql).await.map(|_| ())
    }
}

/// How many rows the session has replaced so far. What a statement says of itself leaves out
/// those that were replaced by their like.
async fn replaced(session: &mut Session) -> Result<u64> {
    let sql = "SHOW SESSION STATUS WHERE Variable_name IN ('Handler_update', 'Handler_delete')";
    let rows = session.rows(sql).await?;
    let counts = rows.iter().filter_map(|row| number(row, 1));
    Ok(counts.sum())
}

/// The columns of a row as it is sent, `spelled` as the statement wants each data column.
fn sent_columns(load: &Load, spelled: impl IntoIterator<Item = String>) -> String {
    if !has_changes(load) {
        return list(spelled);
    }
    let front = [PART, ROW, OP].map(str::to_owned);
    list(front.into_iter().chain(spelled).chain([KEPT.to_owned()]))
}

fn insert_sql(load: &Load, place: &Place, replaces: bool) -> String {
    let verb = if replaces { "REPLACE" } else { "INSERT" };
    let names = load.target.columns.iter().map(|column| ident(&column.name));
    let (stage, names) = (place.stage(&load.id).sql(), sent_columns(load, names));
    format!("{verb} INTO {stage} ({names}) VALUES ")
}

/// Delimiters as hexadecimal digits: sessions know no backslash escapes.
fn load_sql(load: &Load, place: &Place, replaces: bool) -> String {
    let mut fields = Vec::new();
    let mut sets = Vec::new();
    for (at, column) in load.target.columns.iter().enumerate() {
        let name = ident(&column.name);
        if column.logical == LogicalType::Binary {
            fields.push(format!("@tideway_{at}"));
            sets.push(format!("{name} = UNHEX(@tideway_{at})"));
        } else {
            fields.push(name);
        }
    }
    let replace = if replaces { "REPLACE " } else { "" };
    let mut sql = format!(
        "LOAD DATA LOCAL INFILE 'tideway' {replace}INTO TABLE {} CHARACTER SET utf8mb4 \
         FIELDS TERMINATED BY 0x09 ESCAPED BY 0x5C LINES TERMINATED BY 0x0A ({})",
        place.stage(&load.id).sql(),
        sent_columns(load, fields)
    );
    if !sets.is_empty() {
        sql.push_str(&format!(" SET {}", list(sets)));
    }
    sql
}

#[async_trait]
impl Lane for MySqlLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        let (rows, sent) = self.take_part().await?;
        let (more, notes) = self.send_rows(&batch, sent).await?;
        self.part = Part::Open {
            rows: rows + batch.row_count() as u64,
            sent: sent + more,
        };
        Ok(Accepted { notes })
    }

    async fn commit(&mut self, part_id: &str) -> Result<Durable> {
        let (rows, sent) = self.take_part().await?;
        self.close(sent).await?;
        if self.changes {
            self.end_changes(part_id, sent).await?;
        }
        let ledger = Ledger::beside(&self.place);
        let session = &mut self.session;
        let repeated = match self.replaces {
            true => replaced(session)
                .await?
                .saturating_sub(self.replaced_before),
            false => 0,
        };
        let fresh = ledger.record(session, &self.load.id, part_id, sent).await?;
        // The rows of a part that has landed before are undone (invariant 4).
        session
            .run(if fresh { "COMMIT" } else { "ROLLBACK" })
            .await?;
        if fresh {
            self.repeated.fetch_add(repeated, Relaxed);
        }
        failpoint::reach("mysql.landed");
        self.part = Part::None;
        Ok(Durable { rows })
    }
}
