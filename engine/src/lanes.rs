//! Lanes: each takes parts from the table's queue, reads and shapes on one task and
//! writes on another, and makes part after part durable. Memory is bounded by bytes in
//! flight over the whole run, not by rows or by the size of tables.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use arrow_select::filter::filter_record_batch;
use futures::StreamExt;
use tideway_core::{
    Batch, Error, Note, Part, Payload, Result,
    destination::{Accepted, Lane, TableLoad},
    payload::Format,
    source::{Read, Snapshot},
    sums::Sums,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{boundary::Boundary, load::Kept, meter::TableMeter, shape::Shaper, staged::Tally};

/// Permits are counted in this many bytes.
const UNIT: usize = 1024;

/// The bytes that may be in flight in a run.
#[derive(Clone)]
pub struct Memory {
    permits: Arc<Semaphore>,
    total: u32,
}

impl Memory {
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Memory {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits until so much fits. What is larger than everything passes alone.
    pub async fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let permits = self.permits_for(bytes);
        let permit = self.permits.clone().acquire_many_owned(permits).await;
        permit.map_err(|_| Error::cancelled())
    }

    /// Admits so much if it fits at once.
    pub fn try_admit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = self.permits_for(bytes);
        self.permits.clone().try_acquire_many_owned(permits).ok()
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        let wanted = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        wanted.clamp(1, self.total)
    }
}

/// What all lanes of one table share.
pub struct TableFlow {
    pub snapshot: Arc<dyn Snapshot>,
    pub read: Arc<Read>,
    /// Rows pass in this form as they are; otherwise as batches, through the shaper.
    pub passing: Option<Format>,
    pub shaper: Shaper,
    pub boundary: Option<Boundary>,
    pub queue: Mutex<VecDeque<Part>>,
    pub memory: Memory,
    pub meter: Arc<TableMeter>,
    pub cancel: CancellationToken,
    /// Rows that may still pass in a test run.
    pub remaining: Option<AtomicI64>,
    pub notes: Mutex<BTreeMap<(String, String), u64>>,
    /// What has been read, where it is to be compared with what is staged.
    pub tally: Option<Tally>,
}

/// Rows between reader and writer, with their share of the memory.
struct Cargo {
    rows: Rows,
    _room: OwnedSemaphorePermit,
}

enum Rows {
    Batch(Batch),
    Payload(Payload),
}

impl Rows {
    fn row_count(&self) -> u64 {
        match self {
            Rows::Batch(batch) => batch.row_count() as u64,
            Rows::Payload(payload) => payload.row_count,
        }
    }

    fn byte_count(&self) -> usize {
        match self {
            Rows::Batch(batch) => batch.byte_count(),
            Rows::Payload(payload) => payload.byte_count(),
        }
    }

    async fn write(self, lane: &mut dyn Lane) -> Result<Accepted> {
        match self {
            Rows::Batch(batch) => lane.write(batch).await,
            Rows::Payload(payload) => lane.write_payload(payload).await,
        }
    }
}

/// Loads every part in the queue through as many lanes as there are slots for; at
/// least one. `kept` hears of each part that has become durable.
pub async fn load_parts(
    flow: &Arc<TableFlow>,
    load: &dyn TableLoad,
    slots: &Arc<Semaphore>,
    most_lanes: usize,
    kept: &mut Kept<'_>,
) -> Result<()> {
    let parts = flow
        .queue
        .lock()
        .unwrap_or_else(|broken| broken.into_inner())
        .len();
    let (done, mut finished) = mpsc::unbounded_channel();
    let mut lanes = JoinSet::new();
    for index in 0..most_lanes.clamp(1, parts.max(1)) {
        let slot = if index == 0 {
            slots
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| Error::cancelled())?
        } else {
            match slots.clone().try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => break,
            }
        };
        let lane = load.lane().await?;
        let (flow, done) = (flow.clone(), done.clone());
        lanes.spawn(async move {
            let result = drive(&flow, lane, &done).await;
            drop(slot);
            result
        });
    }
    drop(done);
    // A failing lane drops its sender; the set is aborted when this function returns.
    loop {
        tokio::select! {
            biased;
            part = finished.recv() => match part {
                Some(part) => kept.landed(&part).await?,
                None => break,
            },
            Some(lane) = lanes.join_next() => joined(lane)?,
        }
    }
    while let Some(lane) = lanes.join_next().await {
        joined(lane)?;
    }
    Ok(())
}

fn joined(lane: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    lane.unwrap_or_else(|error| Err(Error::bug(format!("a lane stopped: {error}"))))
}

async fn drive(
    flow: &Arc<TableFlow>,
    mut lane: Box<dyn Lane>,
    done: &mpsc::UnboundedSender<Part>,
) -> Result<()> {
    loop {
        let part = flow
            .queue
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
            .pop_front();
        let Some(part) = part else { return Ok(()) };
        tokio::select! {
            biased;
            () = flow.cancel.cancelled() => return Err(Error::cancelled()),
            result = carry(flow, lane.as_mut(), &part) => result?,
        }
        let _ = done.send(part);
    }
}

/// Carries one part from the source to durable.
async fn carry(flow: &Arc<TableFlow>, lane: &mut dyn Lane, part: &Part) -> Result<()> {
    let (sender, mut cargo) = mpsc::channel(1);
    let reader = tokio::spawn(read_part(flow.clone(), part.clone(), sender));
    // Aborts the reader if the writer fails first.
    let reader = AbortOnDropHandle::new(reader);
    let mut written = 0_u64;
    while let Some(Cargo { rows, _room }) = cargo.recv().await {
        written += rows.row_count();
        let accepted = rows.write(lane).await?;
        if let Some(tally) = &flow.tally {
            accepted
                .notes
                .iter()
                .for_each(|note| tally.note(&note.column));
        }
        flow.take_notes(accepted.notes);
    }
    reader
        .await
        .map_err(|error| Error::bug(format!("a reader stopped: {error}")))??;
    let durable = lane.commit(&part.id).await?;
    if durable.rows != written {
        return Err(Error::bug(format!(
            "part {}: {written} rows were written but {} became durable",
            part.id, durable.rows
        )));
    }
    flow.meter.rows_landed.fetch_add(written, Relaxed);
    Ok(())
}

async fn read_part(flow: Arc<TableFlow>, part: Part, sender: mpsc::Sender<Cargo>) -> Result<()> {
    let (snapshot, read) = (flow.snapshot.clone(), flow.read.clone());
    let tally = flow.tally.as_ref();
    let mut sums = Sums::new(tally.map_or(0, |tally| tally.types.len()));
    if let Some(format) = &flow.passing {
        let mut payloads = snapshot.clone().read_as(read, part, format);
        while let Some(payload) = payloads.next().await {
            let payload = payload?;
            if tally.is_some() {
                snapshot.add_up(format, &payload, &mut sums)?;
            }
            if !flow.hand_on(Rows::Payload(payload), &sender).await? {
                break;
            }
        }
        tally.inspect(|tally| tally.join(&sums));
        return Ok(());
    }
    let mut batches = snapshot.read(read, part);
    while let Some(batch) = batches.next().await {
        let mut batch = batch?;
        flow.take_notes(std::mem::take(&mut batch.notes));
        let (mut batch, last) = flow.shape(batch)?;
        flow.take_notes(std::mem::take(&mut batch.notes));
        if let Some(tally) = tally {
            sums.add_batch(&batch.rows, &tally.types)?;
        }
        if !flow.hand_on(Rows::Batch(batch), &sender).await? || last {
            break;
        }
    }
    tally.inspect(|tally| tally.join(&sums));
    Ok(())
}

impl TableFlow {
    /// Counts rows and gives them to the writer, once there is room for them. False where the
    /// writer has failed, and will tell why.
    async fn hand_on(&self, rows: Rows, sender: &mpsc::Sender<Cargo>) -> Result<bool> {
        let (row_count, byte_count) = (rows.row_count(), rows.byte_count());
        self.meter.rows_read.fetch_add(row_count, Relaxed);
        self.meter.bytes_read.fetch_add(byte_count as u64, Relaxed);
        if row_count == 0 {
            return Ok(true);
        }
        let _room = self.memory.admit(byte_count).await?;
        Ok(sender.send(Cargo { rows, _room }).await.is_ok())
    }

    /// The batch as the destination gets it, and whether a test run has seen enough.
    fn shape(&self, batch: Batch) -> Result<(Batch, bool)> {
        let mut batch = self.shaper.filter(batch)?;
        let mut last = false;
        if let Some(remaining) = &self.remaining {
            let rows = batch.row_count() as i64;
            let left = remaining.fetch_sub(rows, Relaxed).max(0);
            last = left <= rows;
            batch.rows = batch.rows.slice(0, rows.min(left) as usize);
        }
        if let Some(boundary) = &self.boundary {
            let fresh = boundary.pass(&batch.rows)?;
            batch.rows = filter_record_batch(&batch.rows, &fresh)
                .map_err(|error| Error::bug(format!("dropping rows seen before: {error}")))?;
        }
        Ok((self.shaper.project(batch)?, last))
    }

    fn take_notes(&self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let mut kept = self
            .notes
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        for note in notes {
            self.meter.warnings.fetch_add(note.rows, Relaxed);
            *kept.entry((note.column, note.what)).or_insert(0) += note.rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_much_is_in_flight_at_once_and_what_is_larger_passes_alone() {
        let memory = Memory::new(10 * UNIT);
        let first = memory.admit(8 * UNIT).await.unwrap();
        assert!(memory.try_admit(3 * UNIT).is_none());
        let second = memory.try_admit(2 * UNIT).unwrap();
        assert!(memory.try_admit(1).is_none());
        drop((first, second));
        let huge = memory.admit(1000 * UNIT).await.unwrap();
        assert!(memory.try_admit(1).is_none());
        drop(huge);
        assert!(memory.try_admit(10 * UNIT).is_some());
    }
}
