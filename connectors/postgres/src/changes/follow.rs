//! Following the log: transactions in the order of their commits, cut into batches, with
//! barriers between them.
//!
//! A task of its own reads from the server and answers it, also while nobody takes what it
//! has to say: a server that hears nothing for `wal_sender_timeout` hangs up.

use std::time::Duration;

use futures::{StreamExt, stream, stream::BoxStream};
use tideway_core::{
    Error, Kind, Result,
    changes::{Change, Follow, Stream},
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{
    Follower, Followers, Names, followers,
    pgoutput::Message,
    position::{End, Log, Lsn},
    publication,
    slot::{HANDOVER, Slot},
    tables::{BINARY, Tables, Tracked},
};
use crate::{
    connect::{Frame, Postgres, Replication},
    sql::ident,
};

/// Changes that wait to be taken.
const AHEAD: usize = 4;
/// Small transactions share a barrier, and their rows a batch, for at most so long.
const PACE: Duration = Duration::from_millis(10);
/// Barriers where nothing but the log moved.
const IDLE_PACE: Duration = Duration::from_secs(1);
/// How often the server hears from us.
const REPORT: Duration = Duration::from_secs(10);
/// How often the server is asked where it is, where an end is waited for.
const PROBE: Duration = Duration::from_millis(50);
/// A server that says nothing for so long, though asked, is gone.
const SILENCE: Duration = Duration::from_secs(300);
/// How often tables are looked for that were dropped, which the log does not tell.
const LOOK: Duration = Duration::from_secs(5);
const EPOCH_MICROS: i64 = 946_684_800_000_000;

pub fn follow(
    postgres: Postgres,
    stream: &Stream,
    follow: Follow,
) -> BoxStream<'static, Result<Change>> {
    let names = Names::of(&postgres, stream);
    let begin = async move {
        let (out, changes) = mpsc::channel(AHEAD);
        let task = tokio::spawn(async move {
            let failed = async {
                let mut task = Task::begin(&postgres, names?, follow, out.clone()).await?;
                task.run().await
            };
            if let Err(error) = failed.await {
                // Whoever does not listen any more needs no reason.
                let _ = out.send(Err(error)).await;
            }
        });
        Some((changes, Running(task.abort_handle())))
    };
    stream::once(begin)
        .map(|begun| {
            stream::unfold(begun, |state| async move {
                let (mut changes, running) = state?;
                let change = changes.recv().await?;
                Some((change, Some((changes, running))))
            })
        })
        .flatten()
        .boxed()
}

/// Ends the task with the stream.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes confirmations for as long as the stream is followed.
struct Registered {
    followers: Followers,
    slot: String,
    entry: Follower,
    durable: watch::Receiver<Lsn>,
    reported: watch::Sender<Lsn>,
}

impl Registered {
    fn new(all: &Followers, slot: &str, from: Lsn) -> Registered {
        let (to_tell, durable) = watch::channel(from);
        let (reported, told) = watch::channel(from);
        let entry = Follower {
            durable: to_tell,
            reported: told,
        };
        followers(all).insert(slot.to_owned(), entry.clone());
        Registered {
            followers: all.clone(),
            slot: slot.to_owned(),
            entry,
            durable,
            reported,
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut all = followers(&self.followers);
        // Another one may have taken the place.
        let ours = |entry: &Follower| entry.durable.same_channel(&self.entry.durable);
        if all.get(&self.slot).is_some_and(ours) {
            all.remove(&self.slot);
        }
    }
}

struct Task {
    session: Replication,
    tables: Tables,
    out: mpsc::Sender<Result<Change>>,
    registered: Registered,
    log: Log,
    until: Option<Lsn>,
    /// Commit of the transaction that is being told.
    transaction: Option<Lsn>,
    /// All that committed before here has been told.
    reached: Lsn,
    barrier_at: Lsn,
    committed_at: Option<i64>,
    told: Instant,
    heard: Instant,
    reported: Instant,
    looked: Instant,
    done: bool,
}

impl Task {
    async fn begin(
        postgres: &Postgres,
        names: Names,
        follow: Follow,
        out: mpsc::Sender<Result<Change>>,
    ) -> Result<Task> {
        let session = postgres.client().await?;
        let log = End::of(&session).await?.log;
        let until = follow.until.as_ref().map(|until| log.place(until));
        let until = until.transpose()?;
        let mut tables = Vec::with_capacity(follow.tables.len());
        for followed in follow.tables {
            let from = log.place(&followed.from);
            let from = from.map_err(|error| error.while_(&followed.table.id))?;
            tables.push(Tracked::new(followed, from));
        }
        let slot = Slot::free(&session, &names.slot).await?;
        if let Some(table) = tables.iter().find(|table| table.from < slot.confirmed) {
            return Err(Error::drift(format!(
                "{}: the server has released the log from {} on to {}",
                table.id(),
                table.from,
                slot.confirmed
            )));
        }
        let start = tables.iter().map(|table| table.from).min();
        let start = start.unwrap_or(slot.confirmed);
        let tables = Tables::new(session, &names.publication, tables, follow.batch_bytes).await?;
        let registered = Registered::new(&postgres.followers, &names.slot, slot.confirmed);
        let now = Instant::now();
        Ok(Task {
            session: started(postgres, &names, start, &tables).await?,
            tables,
            out,
            registered,
            log,
            until,
            transaction: None,
            reached: start,
            barrier_at: start,
            committed_at: None,
            told: now.checked_sub(IDLE_PACE).unwrap_or(now),
            heard: now,
            reported: now,
            looked: now.checked_sub(LOOK).unwrap_or(now),
            done: false,
        })
    }

    async fn run(&mut self) -> Result<()> {
        self.tick().await?;
        self.report(true).await?;
        loop {
            while let Some(frame) = self.session.frame()? {
                self.take(frame).await?;
                if self.done {
                    return Ok(());
                }
            }
            self.barrier_if_due().await?;
            if self.done {
                return Ok(());
            }
            let wake = self.wake();
            tokio::select! {
                // The server last: under load it always has something to say.
                biased;
                () = self.out.closed() => return Ok(()),
                // It cannot end, for its sender is kept too.
                _ = self.registered.durable.changed() => self.report(false).await?,
                () = sleep_until(wake) => self.tick().await?,
                arrived = self.session.wait() => {
                    arrived?;
                    self.heard = Instant::now();
                }
            }
        }
    }

    /// When something has to be done though nothing arrives.
    fn wake(&self) -> Instant {
        let report = self.reported + self.report_pace();
        let mut wake = report;
        if self.transaction.is_none() {
            wake = wake.min(self.looked + LOOK);
            if self.committed_at.is_some() {
                wake = wake.min(self.told + PACE);
            } else if self.reached > self.barrier_at {
                wake = wake.min(self.told + IDLE_PACE);
            }
        }
        wake
    }

    fn report_pace(&self) -> Duration {
        match self.until {
            Some(_) => PROBE,
            None => REPORT,
        }
    }

    async fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        if now.duration_since(self.heard) > SILENCE {
            return Err(Error::unavailable("the server says nothing any more"));
        }
        if now.duration_since(self.looked) >= LOOK && self.transaction.is_none() {
            self.looked = now;
            self.tables.end_dropped().await?;
            self.send_ready().await?;
        }
        if now.duration_since(self.reported) >= self.report_pace() {
            self.report(true).await?;
        }
        Ok(())
    }

    async fn report(&mut self, ask_reply: bool) -> Result<()> {
        let durable = *self.registered.durable.borrow_and_update();
        self.session
            .report(self.reached.0, durable.0, ask_reply)
            .await?;
        self.registered.reported.send_replace(durable);
        self.reported = Instant::now();
        Ok(())
    }

    async fn take(&mut self, frame: Frame) -> Result<()> {
        let bytes = match frame {
            Frame::Data(bytes) => bytes,
            Frame::KeepAlive { end, reply_wanted } => {
                // In the middle of a transaction it says nothing about what we have.
                if self.transaction.is_none() {
                    self.reached = self.reached.max(Lsn(end));
                }
                if reply_wanted {
                    self.report(false).await?;
                }
                return self.barrier_if_due().await;
            }
        };
        let message = Message::parse(&bytes)?;
        match message {
            Message::Begin { commit } => self.transaction = Some(Lsn(commit)),
            Message::Commit { end, at } => {
                self.transaction = None;
                self.reached = self.reached.max(Lsn(end));
                self.committed_at = Some(at.saturating_add(EPOCH_MICROS));
                return self.barrier_if_due().await;
            }
            Message::Relation(relation) => self.tables.relation(relation),
            message => {
                let Some(commit) = self.transaction else {
                    return Ok(());
                };
                if self.tables.change(commit, message).await? {
                    self.send_ready().await?;
                }
            }
        }
        Ok(())
    }

    async fn barrier_if_due(&mut self) -> Result<()> {
        let ended = self.until.is_some_and(|until| self.reached >= until);
        if self.transaction.is_some() || (self.reached <= self.barrier_at && !ended) {
            return Ok(());
        }
        let pace = match self.committed_at {
            Some(_) => PACE,
            None => IDLE_PACE,
        };
        if !ended && self.told.elapsed() < pace {
            return Ok(());
        }
        self.tables.flush().await?;
        self.send_ready().await?;
        let barrier = Change::Barrier {
            position: self.log.position(self.reached),
            committed_at: self.committed_at.take(),
        };
        self.send(barrier).await?;
        self.barrier_at = self.reached;
        self.told = Instant::now();
        self.done = ended;
        Ok(())
    }

    async fn send_ready(&mut self) -> Result<()> {
        while let Some(change) = self.tables.ready.pop_front() {
            self.send(change).await?;
        }
        Ok(())
    }

    /// Hands a change over, and keeps answering the server until it is taken.
    async fn send(&mut self, change: Change) -> Result<()> {
        loop {
            let report_at = self.reported + REPORT;
            tokio::select! {
                biased;
                room = self.out.reserve() => match room {
                    Ok(room) => {
                        room.send(Ok(change));
                        return Ok(());
                    }
                    Err(_) => return Err(Error::cancelled()),
                },
                Ok(()) = self.registered.durable.changed() => {}
                () = sleep_until(report_at) => {}
            }
            self.report(false).await?;
        }
    }
}

/// Begins to replicate.
async fn started(
    postgres: &Postgres,
    names: &Names,
    start: Lsn,
    tables: &Tables,
) -> Result<Replication> {
    let mut options = vec![format!(
        "publication_names {}",
        publication::option(&names.publication)
    )];
    options.push(match tables.version() {
        BINARY.. => "proto_version '2'".to_owned(),
        _ => "proto_version '1'".to_owned(),
    });
    if tables.binary {
        options.push("binary 'true'".to_owned());
    }
    let command = format!(
        "START_REPLICATION SLOT {} LOGICAL {start} ({})",
        ident(&names.slot),
        options.join(", ")
    );
    let deadline = Instant::now() + HANDOVER;
    let mut session = postgres.replication().await?;
    loop {
        match session.start(&command).await {
            Ok(()) => return Ok(session),
            // Someone else was faster, or it was lost meanwhile; that shows anew.
            Err(error) if error.kind == Kind::Conflict && Instant::now() < deadline => {
                Slot::free(tables.session(), &names.slot).await?;
                session = postgres.replication().await?;
            }
            Err(error) => {
                return Err(error.while_(format!("replication slot {}", names.slot)));
            }
        }
    }
}
