//! Reading: a snapshot is a set of sessions whose transactions began at the same state of
//! the file; each reads one part at a time.

pub mod decode;
pub mod plan;

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use async_trait::async_trait;
use futures::{StreamExt, stream};
use tideway_core::{
    Batch, Column, Error, Part, Result,
    source::{BatchStream, Read, Scan, Snapshot},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{LANES, file::File, sql, types};
use crate::session::{Rows, Session};
use decode::Decoder;

pub struct DuckDbSnapshot {
    file: Arc<File>,
    /// Sessions that read nothing at the moment.
    idle: Arc<Mutex<Vec<Session>>>,
    free: Arc<Semaphore>,
    /// When it was taken, in microseconds since 1970.
    taken_at: i64,
}

impl DuckDbSnapshot {
    pub async fn open(file: Arc<File>) -> Result<DuckDbSnapshot> {
        // One more than lanes, so that a table can be planned while others are read.
        let count = LANES + 1;
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            sessions.push(file.session().await?);
        }
        // Nobody in this process commits meanwhile and no other process can: all see the
        // same. A transaction begins with its first look at the database.
        let gate = file.gate().await;
        for session in &sessions {
            session.execute("BEGIN TRANSACTION READ ONLY").await?;
            session
                .fetch("SELECT count(*) FROM duckdb_tables()")
                .await?;
        }
        drop(gate);
        Ok(DuckDbSnapshot {
            file,
            idle: Arc::new(Mutex::new(sessions)),
            free: Arc::new(Semaphore::new(count)),
            taken_at: chrono::Utc::now().timestamp_micros(),
        })
    }

    async fn borrow(&self) -> Result<Borrowed> {
        let permit = self.free.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Error::bug("the snapshot is closed"))?;
        let session = self
            .idle
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
            .pop();
        Ok(Borrowed {
            session: Some(session.ok_or_else(|| Error::bug("the snapshot has no session left"))?),
            idle: self.idle.clone(),
            _file: self.file.clone(),
            _permit: permit,
        })
    }
}

/// A session of the snapshot, given back when dropped.
struct Borrowed {
    session: Option<Session>,
    idle: Arc<Mutex<Vec<Session>>>,
    // The order of the fields matters: the session is back before the permit is.
    _permit: OwnedSemaphorePermit,
    _file: Arc<File>,
}

impl Borrowed {
    fn session(&self) -> Result<&Session> {
        self.session
            .as_ref()
            .ok_or_else(|| Error::bug("the session was given back"))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut idle = self
            .idle
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        idle.extend(self.session.take());
    }
}

#[async_trait]
impl Snapshot for DuckDbSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let borrowed = self.borrow().await?;
        plan::plan(borrowed.session()?, &self.file.catalog, read, self.taken_at).await
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        let begin = async move {
            let sql = statement(&self.file.catalog, &read, &part)?;
            let mut gathering = Gathering::new(&read)?;
            let borrowed = self.borrow().await?;
            let rows = borrowed
                .session()?
                .stream(sql, move |batch| gathering.push(batch))?;
            Ok((rows, borrowed))
        };
        stream::once(begin)
            .flat_map(|begun: Result<_>| match begun {
                Ok(reading) => stream::unfold(Some(reading), following).boxed(),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            })
            .boxed()
    }
}

type Reading = (Rows<Batch>, Borrowed);

async fn following(reading: Option<Reading>) -> Option<(Result<Batch>, Option<Reading>)> {
    let (mut rows, borrowed) = reading?;
    match rows.next().await {
        Ok(Some(batch)) => Some((Ok(batch), Some((rows, borrowed)))),
        Ok(None) => None,
        Err(error) => Some((Err(error), None)),
    }
}

fn statement(catalog: &str, read: &Read, part: &Part) -> Result<String> {
    let spec = plan::Spec::of(part)?;
    let from = plan::place(catalog, &read.table).sql();
    let columns = selected(&read.columns);
    let conditions = plan::conditions(read, &spec)?;
    let limit = read
        .limit
        .map_or_else(String::new, |rows| format!(" LIMIT {rows}"));
    Ok(format!("SELECT {columns} FROM {from}{conditions}{limit}"))
}

/// What to select. Without columns the rows still count.
pub fn selected(columns: &[Column]) -> String {
    match columns.is_empty() {
        true => "NULL".to_owned(),
        false => sql::list(columns, types::selected),
    }
}

/// Gathers the driver's small batches until they are as large as asked for.
struct Gathering {
    decoder: Decoder,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    batch_bytes: usize,
}

impl Gathering {
    fn new(read: &Read) -> Result<Self> {
        Ok(Gathering {
            decoder: Decoder::new(&read.columns),
            held: Vec::new(),
            held_bytes: 0,
            batch_bytes: read.batch_bytes,
        })
    }

    fn push(&mut self, batch: Option<RecordBatch>) -> Result<Option<Batch>> {
        let last = batch.is_none();
        if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
            self.held_bytes += batch.get_array_memory_size();
            self.held.push(batch);
        }
        if self.held.is_empty() || (!last && self.held_bytes < self.batch_bytes) {
            return Ok(None);
        }
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        let rows = match held.as_slice() {
            [only] => only.clone(),
            [first, ..] => concat_batches(&first.schema(), &held)
                .map_err(|error| Error::bug(format!("joining batches: {error}")))?,
            [] => return Ok(None),
        };
        self.decoder.decode(&rows).map(Some)
    }
}
