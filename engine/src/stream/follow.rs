//! One following of the log: hands each change to its table, and each barrier to the
//! tables that it concerns.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use tideway_core::{
    Batch, Error, Position, Result, Table, TableId,
    changes::{Change, Changes, Follow, Stream},
};
use tokio::{
    sync::mpsc,
    task::{Id, JoinSet},
    time::{Instant, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    table::{Ended, Streamed, Told},
    watch::Watch,
};
use crate::run::RunCx;

/// Tables to which nothing happens have their position written down so often, and a
/// little less often where they are many.
const ADVANCE_EVERY: Duration = Duration::from_secs(2);
const ADVANCE_PER_TABLE: Duration = Duration::from_millis(5);

/// A table ready to be followed.
pub struct Ready {
    pub schema_id: String,
    pub table: TableId,
    pub streamed: Streamed,
    pub cancel: CancellationToken,
}

/// What a table has become.
pub struct Reshape {
    pub now: Option<Table>,
    pub rewritten: bool,
}

/// What came of it.
#[derive(Default)]
pub struct Followed {
    pub ended: HashMap<String, Ended>,
    pub reshaped: HashMap<String, Reshape>,
    /// Tables that the source cannot tell of any more.
    pub untold: HashMap<String, Error>,
    /// Tables whose task broke down.
    pub broken: HashMap<String, Error>,
    /// Why the following stopped before its time.
    pub error: Option<Error>,
}

/// When it is over.
pub struct Until {
    pub position: Option<Position>,
    pub time: Option<Instant>,
}

struct Tables {
    inboxes: HashMap<String, mpsc::UnboundedSender<Told>>,
    names: HashMap<TableId, String>,
    /// Those told something since the last barrier.
    touched: HashSet<String>,
    tasks: JoinSet<Ended>,
    ids: HashMap<Id, String>,
    followed: Followed,
}

#[allow(clippy::too_many_arguments)] // one caller; a struct would only rename them
pub async fn follow(
    cx: &Arc<RunCx>,
    changes: &dyn Changes,
    stream: &Stream,
    request: Follow,
    ready: Vec<Ready>,
    until: Until,
    watch: &Watch,
    cancel: &CancellationToken,
) -> Followed {
    let mut tables = Tables::start(ready);
    let mut log = changes.follow(stream, request);
    let pause = ADVANCE_EVERY + ADVANCE_PER_TABLE * u32::try_from(tables.ids.len()).unwrap_or(9999);
    let mut advance = interval(pause);
    advance.tick().await;
    let (mut advancing, mut stopping, mut last) = (false, false, None);
    let result = loop {
        let between = tables.touched.is_empty();
        if tables.inboxes.is_empty() || (stopping && between) {
            break Ok(());
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => break Err(Error::cancelled()),
            Some(ended) = tables.tasks.join_next_with_id() => tables.left(ended),
            _ = advance.tick() => advancing = true,
            () = at(until.time), if !stopping => stopping = true,
            change = log.next() => match change {
                None if until.position.is_some() => break Ok(()),
                None => break Err(Error::unavailable("the change stream ended")),
                Some(Err(error)) => break Err(error),
                Some(Ok(Change::Rows { table, batch })) => {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => break Err(Error::cancelled()),
                        told = tables.rows(cx, &table, batch) => if let Err(error) = told {
                            break Err(error);
                        },
                    }
                }
                Some(Ok(Change::Truncate(table))) => tables.tell(&table, Told::Truncate),
                Some(Ok(Change::Reshaped { table, now, rewritten })) => {
                    tables.reshaped(&table, Reshape { now, rewritten }, last.as_ref());
                }
                Some(Ok(Change::Failed { table, error })) => tables.failed(&table, error),
                Some(Ok(Change::Barrier { position, committed_at })) => {
                    watch.barrier(&position, committed_at);
                    tables.barrier(&position, std::mem::take(&mut advancing));
                    last = Some(position);
                    // The others go on from here, in a new following.
                    if !tables.followed.reshaped.is_empty() || !tables.followed.untold.is_empty() {
                        break Ok(());
                    }
                }
            },
        }
    };
    drop(log);
    tables.end(result, last).await
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

impl Tables {
    fn start(ready: Vec<Ready>) -> Self {
        let mut tables = Tables {
            inboxes: HashMap::new(),
            names: HashMap::new(),
            touched: HashSet::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
            followed: Followed::default(),
        };
        for table in ready {
            let (inbox, told) = mpsc::unbounded_channel();
            let task = tables.tasks.spawn(table.streamed.run(told, table.cancel));
            tables.ids.insert(task.id(), table.schema_id.clone());
            tables.names.insert(table.table, table.schema_id.clone());
            tables.inboxes.insert(table.schema_id, inbox);
        }
        tables
    }

    async fn rows(&mut self, cx: &RunCx, table: &TableId, batch: Batch) -> Result<()> {
        let permit = match cx.memory.try_admit(batch.byte_count()) {
            Some(permit) => permit,
            None => {
                // What the tables hold would otherwise wait for a barrier that cannot come.
                for inbox in self.inboxes.values() {
                    let _ = inbox.send(Told::Relieve);
                }
                cx.memory.admit(batch.byte_count()).await?
            }
        };
        self.tell(table, Told::Rows(batch, permit));
        Ok(())
    }

    /// A table that has left the stream is told nothing any more.
    fn tell(&mut self, table: &TableId, told: Told) {
        let Some(schema_id) = self.names.get(table) else {
            return;
        };
        if let Some(inbox) = self.inboxes.get(schema_id) {
            self.touched.insert(schema_id.clone());
            let _ = inbox.send(told);
        }
    }

    fn reshaped(&mut self, table: &TableId, reshape: Reshape, last: Option<&Position>) {
        let Some(schema_id) = self.names.get(table).cloned() else {
            return;
        };
        if let Some(inbox) = self.inboxes.remove(&schema_id) {
            let touched = self.touched.remove(&schema_id);
            if let Some(last) = last.filter(|_| !touched) {
                let _ = inbox.send(Told::Barrier(last.clone()));
            }
            let _ = inbox.send(Told::End);
            self.followed.reshaped.insert(schema_id, reshape);
        }
    }

    /// What it was told since the last barrier is half of something, and thrown away.
    fn failed(&mut self, table: &TableId, error: Error) {
        let Some(schema_id) = self.names.get(table).cloned() else {
            return;
        };
        if let Some(inbox) = self.inboxes.remove(&schema_id) {
            self.touched.remove(&schema_id);
            let _ = inbox.send(Told::End);
            self.followed.untold.insert(schema_id, error);
        }
    }

    fn barrier(&mut self, position: &Position, advance: bool) {
        for (schema_id, inbox) in &self.inboxes {
            let told = match advance {
                true => Told::Advance(position.clone()),
                false if self.touched.contains(schema_id) => Told::Barrier(position.clone()),
                false => continue,
            };
            let _ = inbox.send(told);
        }
        self.touched.clear();
    }

    fn left(&mut self, ended: Result<(Id, Ended), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(schema_id) = self.ids.remove(&id) else {
            return;
        };
        self.inboxes.remove(&schema_id);
        self.touched.remove(&schema_id);
        match ended {
            Ok((_, ended)) => drop(self.followed.ended.insert(schema_id, ended)),
            Err(error) => {
                let error = Error::bug(format!("following the table stopped: {error}"));
                self.followed.broken.insert(schema_id, error);
            }
        }
    }

    async fn end(mut self, result: Result<()>, last: Option<Position>) -> Followed {
        let last = last.filter(|_| self.touched.is_empty());
        for inbox in self.inboxes.values() {
            if let Some(last) = &last {
                let _ = inbox.send(Told::Barrier(last.clone()));
            }
            let _ = inbox.send(Told::End);
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            self.left(ended);
        }
        self.followed.error = result.err();
        self.followed
    }
}
