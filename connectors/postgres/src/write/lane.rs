//! A lane: a session that takes rows into the staging table, a part per transaction.

use std::{pin::Pin, sync::Arc};

use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, future::try_join};
use tideway_core::{
    Batch, Error, Note, Ops, Payload, Result,
    destination::{Accepted, Durable, Lane, Load, Write},
    failpoint,
    operations::Operations,
};
use tokio_postgres::{CopyInSink, Statement};

use crate::{
    connect::{Postgres, Session, explain},
    sql::ident,
};

use super::{
    copy::{Encoder, HEADER, TRAILER},
    ddl::{KEPT, OP, Place, list},
    ledger::Ledger,
    transaction,
};

/// Rows are sent when about this many bytes have come together.
const CHUNK: usize = 512 << 10;
/// Fewer changes than these are staged as they come.
const SORTED_ROWS: usize = 512;
/// No message is larger than this; where it is cut means nothing to the server.
const MESSAGE: usize = 1 << 20;

pub struct PostgresLane {
    postgres: Postgres,
    /// Gone only when the lane is.
    session: Option<Session>,
    load: Arc<Load>,
    place: Place,
    encoder: Encoder,
    copy: Statement,
    record: Statement,
    /// Indexes of the key columns, where rows without a key cannot be merged.
    key: Vec<usize>,
    buffer: BytesMut,
    part: Part,
}

type Sink = Pin<Box<CopyInSink<Bytes>>>;

/// What a lane has done since its last commit.
enum Part {
    None,
    Open {
        sink: Sink,
        rows: Counts,
    },
    /// A write failed and undid the rows before it as well.
    Broken,
}

/// Rows of a part: those that came, and those of them that are staged.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    came: u64,
    staged: u64,
}

impl PostgresLane {
    pub async fn open(postgres: Postgres, load: Arc<Load>, place: &Place) -> Result<PostgresLane> {
        let session = postgres.client().await?;
        let columns = &load.target.columns;
        let data = columns.iter().map(|column| ident(&column.name));
        let names = match load.write {
            Write::Changes { .. } => {
                let first = std::iter::once(OP.to_owned());
                list(first.chain(data).chain([KEPT.to_owned()]))
            }
            _ => list(data),
        };
        let copy = format!(
            "COPY {} ({names}) FROM STDIN (FORMAT binary)",
            place.stage(&load.id).sql(),
        );
        let copy = async { session.prepare(&copy).await.map_err(explain) };
        let record = Ledger::beside(place).record_sql();
        let (copy, record) = try_join(copy, session.statement(&record)).await?;
        let in_key = |name| load.target.key.contains(name);
        let by_key = matches!(load.write, Write::Merge { .. } | Write::Changes { .. });
        let key = (0..columns.len()).filter(|at| columns.get(*at).is_some_and(|c| in_key(&c.name)));
        Ok(PostgresLane {
            key: key.filter(|_| by_key).collect(),
            encoder: Encoder::new(columns),
            place: place.clone(),
            session: Some(session),
            postgres,
            load,
            copy,
            record,
            buffer: BytesMut::new(),
            part: Part::None,
        })
    }

    fn session(&self) -> Result<&Session> {
        let gone = || Error::bug("a lane has no session");
        self.session.as_ref().ok_or_else(gone)
    }

    /// The open part, or a new one; broken until it is put back.
    async fn take_part(&mut self) -> Result<(Sink, Counts)> {
        match std::mem::replace(&mut self.part, Part::Broken) {
            Part::Open { sink, rows } => Ok((sink, rows)),
            Part::Broken => Err(Error::bug("a part goes on after a write of it failed")),
            Part::None => {
                let session = self.session()?;
                let copy = async { session.copy_in(&self.copy).await.map_err(explain) };
                let begun = try_join(transaction::begin_by_hand(session), copy).await;
                let ((), sink) = begun?;
                self.buffer.clear();
                self.buffer.extend_from_slice(HEADER);
                Ok((Box::pin(sink), Counts::default()))
            }
        }
    }

    /// Encodes all rows of a batch, sending what comes together.
    async fn send_rows(
        &mut self,
        sink: &mut Sink,
        batch: &Batch,
        left_out: Vec<usize>,
    ) -> Result<Vec<Note>> {
        let mut rows = self.encoder.rows(&batch.rows)?.without(left_out);
        if let Write::Changes { .. } = self.load.write {
            let order = by_key(&batch.rows, &self.key);
            rows = rows.with(Operations::of(batch, &self.key)?, order);
        }
        loop {
            self.buffer
                .reserve(CHUNK + CHUNK / 8 - self.buffer.len().min(CHUNK));
            let more = rows.encode(&mut self.buffer, CHUNK)?;
            if self.buffer.len() >= CHUNK {
                send(sink, self.buffer.split().freeze()).await?;
            }
            if !more {
                return Ok(rows.notes());
            }
        }
    }

    /// Ends the copying and says how many rows the server has taken.
    async fn close(&mut self, mut sink: Sink) -> Result<u64> {
        self.buffer.extend_from_slice(TRAILER);
        send(&mut sink, self.buffer.split().freeze()).await?;
        sink.as_mut()
            .finish()
            .await
            .map_err(|error| self.refused(error))
    }

    /// The error with the column in which it was. Only the last line of the server's
    /// context says that, and for the binary form it says no more; other lines may quote
    /// the value.
    fn refused(&self, error: tokio_postgres::Error) -> Error {
        let context = error.as_db_error().and_then(|db| db.where_());
        let place = context.and_then(|context| context.lines().last());
        let place = place.filter(|place| place.starts_with("COPY "));
        let column = place.and_then(|place| place.split_once(", column "));
        let column = column.map(|(_, column)| column.to_owned());
        let error = explain(error);
        match column {
            Some(column) => error.while_(format!("{}: column {column}", self.place)),
            None => error.while_(&self.place),
        }
    }

    /// Numbers of the rows that cannot be merged, for they have no key.
    fn keyless(&self, rows: &RecordBatch) -> Vec<usize> {
        let columns = || self.key.iter().filter_map(|at| rows.columns().get(*at));
        if columns().all(|column| column.null_count() == 0) {
            return Vec::new();
        }
        let without = |row: &usize| columns().any(|column| column.is_null(*row));
        (0..rows.num_rows()).filter(without).collect()
    }
}

/// The order of the rows by their keys, where it is worth it: the server then goes through
/// the target and its index from one end to the other, rather than back and forth.
fn by_key(rows: &RecordBatch, key: &[usize]) -> Option<UInt32Array> {
    if rows.num_rows() < SORTED_ROWS {
        return None;
    }
    let column = |at: &usize| {
        Some(SortColumn {
            values: rows.columns().get(*at)?.clone(),
            options: None,
        })
    };
    let columns: Option<Vec<SortColumn>> = key.iter().map(column).collect();
    // A type that has no order there leaves the rows as they came.
    lexsort_to_indices(&columns?, None).ok()
}

async fn send(sink: &mut Sink, mut bytes: Bytes) -> Result<()> {
    while !bytes.is_empty() {
        let message = bytes.split_to(bytes.len().min(MESSAGE));
        sink.feed(message).await.map_err(explain)?;
    }
    Ok(())
}

#[async_trait]
impl Lane for PostgresLane {
    async fn write(&mut self, batch: Batch) -> Result<Accepted> {
        let changes = matches!(self.load.write, Write::Changes { .. });
        if !changes && matches!(batch.ops, Ops::Each(_)) {
            return Err(Error::bug("changes arrived for a load of whole rows"));
        }
        let (mut sink, mut rows) = self.take_part().await?;
        let keyless = self.keyless(&batch.rows);
        let (came, without) = (batch.row_count() as u64, keyless.len() as u64);
        let mut notes = self.send_rows(&mut sink, &batch, keyless).await?;
        notes.extend((without > 0).then(|| Note {
            column: self.load.target.key.join(", "),
            what: "row without a key not written".to_owned(),
            rows: without,
        }));
        rows.came += came;
        rows.staged += came - without;
        self.part = Part::Open { sink, rows };
        Ok(Accepted { notes })
    }

    async fn write_payload(&mut self, payload: Payload) -> Result<Accepted> {
        let (mut sink, mut rows) = self.take_part().await?;
        if !self.buffer.is_empty() {
            send(&mut sink, self.buffer.split().freeze()).await?;
        }
        send(&mut sink, payload.bytes).await?;
        rows.came += payload.row_count;
        rows.staged += payload.row_count;
        self.part = Part::Open { sink, rows };
        Ok(Accepted::default())
    }

    async fn commit(&mut self, part_id: &str) -> Result<Durable> {
        let (sink, rows) = self.take_part().await?;
        let copied = self.close(sink).await?;
        if copied != rows.staged {
            return Err(Error::bug(format!(
                "{}: {} rows were sent but {copied} were taken",
                self.place, rows.staged
            )));
        }
        let count = i64::try_from(rows.staged).unwrap_or(i64::MAX);
        let session = self.session()?;
        let recorded = session
            .execute(&self.record, &[&self.load.id, &part_id, &count])
            .await
            .map_err(explain)?;
        // The rows of a part that has landed before are undone (invariant 4).
        let last = if recorded == 0 { "ROLLBACK" } else { "COMMIT" };
        session.run(last).await?;
        failpoint::reach("postgres.landed");
        self.part = Part::None;
        Ok(Durable { rows: rows.came })
    }
}

impl Drop for PostgresLane {
    fn drop(&mut self) {
        // In the middle of a part its transaction is undone with the session.
        if let (Part::None, Some(session)) = (&self.part, self.session.take()) {
            self.postgres.keep(session);
        }
    }
}
