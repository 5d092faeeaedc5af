//! Following the log: transactions in the order of their commits, cut into batches, with
//! barriers between them.
//!
//! One task reads from the server, another one decodes what it has read, so that a slow
//! destination holds up the server's sending and nothing else.

use std::{collections::HashMap, fmt, time::Duration};

use futures::{StreamExt, stream, stream::BoxStream};
use tideway_core::{
    Error, Kind, Result,
    changes::{Change, Follow, Stream},
};
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{
    begin::Begin,
    event::{Event, MariaDbBegin, Payload, Rows, code, has_checksums, query, rotate, rows_kind},
    gtid::{Gtid, Gtids},
    position::{FILE_START, Located, Log, Place},
    server::Variables,
    tables::{Tables, Tracked},
};
use crate::connect::{Flavor, MySql, Session};

/// Changes that wait to be taken, and events that wait to be decoded.
const AHEAD: usize = 4;
const EVENTS_AHEAD: usize = 64;
/// Small transactions share a barrier, and their rows a batch, for at most so long.
const PACE: Duration = Duration::from_millis(10);
/// Barriers where nothing but the log moved.
const IDLE_PACE: Duration = Duration::from_secs(1);
/// The server says so often that nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(300);

pub fn follow(mysql: MySql, stream: &Stream, follow: Follow) -> BoxStream<'static, Result<Change>> {
    let replica = replica_number(&stream.id);
    let begin = async move {
        let (out, changes) = mpsc::channel(AHEAD);
        let task = tokio::spawn(async move {
            let failed = async {
                let mut task = Task::begin(&mysql, replica, follow, out.clone()).await?;
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

/// Ends the task with whoever wanted it.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The number under which the server knows us among its replicas. The same one for the same
/// stream: a session of ours that the server takes for alive is ended by the next one. Far
/// from those that people give.
pub fn replica_number(id: &str) -> u32 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes()) as u32 | 0x8000_0000
}

struct Task {
    events: mpsc::Receiver<Result<Vec<u8>>>,
    _reader: Running,
    tables: Tables,
    out: mpsc::Sender<Result<Change>>,
    log: Log,
    until: Option<Place>,
    /// Events end with checksums.
    checked: bool,
    /// Where the last event ended.
    place: Place,
    /// The place is one that all before it has been told of.
    settled: bool,
    /// The transactions up to where it has been told, where the server numbers them.
    executed: Option<Gtids>,
    /// A transaction goes on.
    group: Option<Group>,
    /// What the transactions that are prepared and not committed have touched.
    prepared: HashMap<String, Vec<usize>>,
    /// All that committed before here has been told.
    reached: Place,
    barrier_at: Place,
    committed_at: Option<i64>,
    told: Instant,
    heard: Instant,
    done: bool,
}

/// A transaction that goes on.
#[derive(Default)]
struct Group {
    /// It goes on until it says that it ends; otherwise it is one statement.
    open: bool,
    /// The name of a transaction in two phases: its rows are not told, for they may be
    /// undone; its tables are read anew when it is committed.
    prepares: Option<String>,
}

impl Task {
    async fn begin(
        mysql: &MySql,
        replica: u32,
        follow: Follow,
        out: mpsc::Sender<Result<Change>>,
    ) -> Result<Task> {
        let mut session = mysql.session().await?;
        let variables = Variables::of(&mut session).await?;
        let log = variables.log();
        let until = follow.until.as_ref().map(|until| log.place(until));
        let until = until.transpose()?;
        let begin = Begin::of(&mut session, &variables, &follow.tables).await?;
        let lost = begin.lost;
        let tracked = follow.tables.into_iter().zip(begin.located);
        let tracked = tracked.map(|(followed, from)| Tracked::new(followed, from));
        let mut tables = Tables::new(
            session,
            variables.caseless(),
            tracked.collect(),
            follow.batch_bytes,
        )
        .await?;
        for at in lost {
            tables.anew(at).await?;
        }
        let reader = started(mysql, replica, &begin.start, &variables).await?;
        let start = match begin.start {
            Located::Here(place) => place,
            Located::Elsewhere(_) => Place::default(),
        };
        let (send, events) = mpsc::channel(EVENTS_AHEAD);
        let reader = tokio::spawn(read(reader, send));
        let now = Instant::now();
        Ok(Task {
            events,
            _reader: Running(reader.abort_handle()),
            tables,
            out,
            log,
            until,
            checked: variables.checksums(),
            place: start.clone(),
            settled: start != Place::default(),
            executed: begin.executed,
            group: None,
            prepared: HashMap::new(),
            reached: start.clone(),
            barrier_at: start,
            committed_at: None,
            told: now.checked_sub(IDLE_PACE).unwrap_or(now),
            heard: now,
            done: false,
        })
    }

    async fn run(&mut self) -> Result<()> {
        self.send_ready().await?;
        loop {
            self.barrier_if_due().await?;
            if self.done {
                return Ok(());
            }
            let out = self.out.clone();
            let wake = self.wake();
            tokio::select! {
                biased;
                () = out.closed() => return Ok(()),
                event = self.events.recv() => {
                    let event = event.unwrap_or_else(|| Err(ended()))?;
                    self.heard = Instant::now();
                    self.take(&event).await?;
                    self.send_ready().await?;
                }
                () = sleep_until(wake) => {
                    if self.heard.elapsed() > SILENCE {
                        return Err(Error::unavailable("the server says nothing any more"));
                    }
                }
            }
        }
    }

    /// When something has to be done though nothing arrives.
    fn wake(&self) -> Instant {
        let mut wake = self.heard + SILENCE + PACE;
        if self.group.is_none() {
            if self.committed_at.is_some() {
                wake = wake.min(self.told + PACE);
            } else if self.reached > self.barrier_at {
                wake = wake.min(self.told + IDLE_PACE);
            }
        }
        wake
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.get(4) == Some(&code::FORMAT) {
            self.checked = has_checksums(bytes)?;
        }
        let event = Event::parse(bytes, self.checked)?;
        match event.code {
            code::ROTATE => {
                let (file, at) = rotate(event.body)?;
                self.place = Place { file, at };
                self.between();
                return Ok(());
            }
            code::HEARTBEAT => {
                let file = String::from_utf8_lossy(event.body).into_owned();
                let place = Place {
                    file,
                    at: event.end.into(),
                };
                if place >= self.place && place.at >= FILE_START {
                    self.place = place;
                    self.settled = true;
                    self.between();
                }
                return Ok(());
            }
            _ => {}
        }
        if !event.artificial && event.end != 0 {
            let next = self.place.at.saturating_add(event.size.into());
            // Beyond 4 GiB the log itself does not say.
            self.place.at = match u32::try_from(next) {
                Ok(_) => event.end.into(),
                Err(_) => next,
            };
        }
        if event.code == code::PAYLOAD {
            let mut payload = Payload::open(event.body)?;
            while let Some(inner) = payload.next()? {
                let inner = Event::parse(&inner, false)?;
                self.take_part(&inner).await?;
                self.send_ready().await?;
            }
            return Ok(());
        }
        self.take_part(&event).await
    }

    /// Takes an event of a transaction.
    async fn take_part(&mut self, event: &Event<'_>) -> Result<()> {
        match event.code {
            code::GTID => {
                self.tables.current = Some(Gtid::of_mysql(event.body)?);
                self.group = Some(Group::default());
            }
            code::ANONYMOUS_GTID | code::TAGGED_GTID => {
                // It cannot be noted, and so none after it.
                self.executed = None;
                self.tables.current = None;
                self.group = Some(Group::default());
            }
            code::MARIADB_GTID => {
                let begin = MariaDbBegin::parse(event.body)?;
                self.tables.current = Some(Gtid::of_mariadb(event.server, event.body)?);
                self.group = Some(Group {
                    open: !begin.alone,
                    prepares: begin.prepares,
                });
            }
            code::QUERY | code::COMPRESSED_QUERY => {
                let query = query(event.body, event.code == code::COMPRESSED_QUERY)?;
                self.statement(&query, event.at).await?;
            }
            code::TABLE_MAP => self.tables.map(event.body)?,
            code::XID => self.commit(event.at),
            code::XA_PREPARE => {
                let touched = std::mem::take(&mut self.tables.touched);
                let name = self.group.take().and_then(|group| group.prepares);
                if event.body.first() == Some(&1) {
                    for at in touched {
                        self.tables.anew(at).await?;
                    }
                } else if let Some(name) = name {
                    self.prepared.insert(name, touched.into_iter().collect());
                }
                self.commit(event.at);
            }
            code::PARTIAL_UPDATE => {
                let mut fields = crate::connect::Fields(event.body);
                let number = super::event::table_number(&mut fields)?;
                if let Some(at) = self.tables.whose(number, &self.place) {
                    // What changed within a document is told, and not the document.
                    self.tables.anew(at).await?;
                }
            }
            code => {
                let Some(kind) = rows_kind(code) else {
                    return Ok(());
                };
                let mut fields = crate::connect::Fields(event.body);
                let number = super::event::table_number(&mut fields)?;
                let Some(at) = self.tables.whose(number, &self.place) else {
                    return Ok(());
                };
                let undecided = self
                    .group
                    .as_ref()
                    .is_some_and(|group| group.prepares.is_some());
                if undecided {
                    self.tables.touched.insert(at);
                    return Ok(());
                }
                let rows = Rows::parse(event.body, kind)?;
                self.tables.rows(at, &rows).await?;
            }
        }
        Ok(())
    }

    async fn statement(&mut self, query: &super::event::Query, at: u32) -> Result<()> {
        let statement = query.statement.trim();
        let word = |word: &str| {
            let front = statement.get(..word.len());
            front.is_some_and(|front| front.eq_ignore_ascii_case(word))
        };
        let whole = |word: &str| statement.eq_ignore_ascii_case(word);
        if whole("BEGIN") || word("START TRANSACTION") {
            self.group.get_or_insert_default().open = true;
        } else if whole("COMMIT") {
            self.commit(at);
        } else if whole("ROLLBACK") {
            // Of what was told some is undone.
            for table in std::mem::take(&mut self.tables.touched) {
                self.tables.anew(table).await?;
            }
            self.commit(at);
        } else if word("XA START") || word("XA BEGIN") {
            let name = xa_name(statement);
            *self.group.get_or_insert_default() = Group {
                open: true,
                prepares: Some(name),
            };
        } else if word("XA COMMIT") {
            match self.prepared.remove(&xa_name(statement)) {
                Some(touched) => {
                    for table in touched {
                        self.tables.anew(table).await?;
                    }
                }
                // It was prepared before we came.
                None => self.tables.all_anew(&self.place.clone()).await?,
            }
            self.commit(at);
        } else if word("XA ROLLBACK") {
            self.prepared.remove(&xa_name(statement));
            self.commit(at);
        } else if word("XA ") || word("SAVEPOINT") || word("ROLLBACK TO") {
        } else {
            let place = self.place.clone();
            self.tables.statement(query, &place).await?;
            if !self.group.as_ref().is_some_and(|group| group.open) {
                self.commit(at);
            }
        }
        Ok(())
    }

    /// The transaction has ended.
    fn commit(&mut self, at: u32) {
        self.group = None;
        if let (Some(executed), Some(gtid)) = (&mut self.executed, self.tables.current.take()) {
            executed.add(&gtid);
        }
        self.tables.touched.clear();
        self.settled = true;
        self.committed_at = Some(i64::from(at).saturating_mul(1_000_000));
        self.between();
    }

    /// The place is one between transactions, unless one goes on.
    fn between(&mut self) {
        // Nobody can ask for a place beyond 4 GiB; the next file is not far.
        if self.settled && self.group.is_none() && self.place.at <= u32::MAX.into() {
            self.reached = self.reached.clone().max(self.place.clone());
        }
    }

    async fn barrier_if_due(&mut self) -> Result<()> {
        let ended = self
            .until
            .as_ref()
            .is_some_and(|until| self.reached >= *until);
        if self.group.is_some() || (self.reached <= self.barrier_at && !ended) {
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
            position: self
                .log
                .position(&self.reached, self.executed.as_ref().map(Gtids::to_string)),
            committed_at: self.committed_at.take(),
        };
        self.send(barrier).await?;
        self.barrier_at = self.reached.clone();
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

    async fn send(&mut self, change: Change) -> Result<()> {
        let sent = self.out.send(Ok(change)).await;
        sent.map_err(|_| Error::cancelled())
    }
}

/// What follows the verb, which names the transaction.
fn xa_name(statement: &str) -> String {
    let words = statement.split_whitespace().skip(2);
    words.take(1).collect()
}

fn ended() -> Error {
    Error::unavailable("the server ended the binary log's stream")
}

/// Has the server send its log from there on.
async fn started(
    mysql: &MySql,
    replica: u32,
    start: &Located,
    variables: &Variables,
) -> Result<Session> {
    // One of its own: it is of no use for anything else afterwards.
    let mut session = mysql.session().await?;
    let beat = HEARTBEAT.as_nanos();
    let checksum = variables.get("binlog_checksum").unwrap_or("NONE");
    let mut settings = format!(
        "SET @master_heartbeat_period = {beat}, @source_heartbeat_period = {beat}, \
         @master_binlog_checksum = '{checksum}', @source_binlog_checksum = '{checksum}'"
    );
    if session.server.flavor == Flavor::MariaDb {
        // It knows transactions by their numbers.
        settings.push_str(", @mariadb_slave_capability = 4");
    }
    let unknown =
        |what: &dyn fmt::Display| Error::drift(format!("{what}: the server does not go on there"));
    match start {
        Located::Here(start) => {
            session.run(&settings).await?;
            let at = u32::try_from(start.at).map_err(|_| unknown(start))?;
            session.dump(replica, &start.file, at).await?;
        }
        Located::Elsewhere(gtids) if session.server.flavor == Flavor::MariaDb => {
            settings.push_str(&format!(", @slave_connect_state = '{gtids}'"));
            session.run(&settings).await?;
            session.dump(replica, "", FILE_START as u32).await?;
        }
        Located::Elsewhere(gtids) => {
            session.run(&settings).await?;
            let encoded = gtids.encoded().ok_or_else(|| unknown(gtids))?;
            session.dump_after(replica, &encoded).await?;
        }
    }
    Ok(session)
}

async fn read(mut session: Session, send: mpsc::Sender<Result<Vec<u8>>>) {
    loop {
        let event = match session.event().await {
            Ok(Some(event)) => Ok(event.to_vec()),
            Ok(None) => Err(ended()),
            Err(error) => Err(explained(session.account_field, error)),
        };
        let over = event.is_err();
        if send.send(event).await.is_err() || over {
            return;
        }
    }
}

fn explained(account_field: &str, error: Error) -> Error {
    match error.kind {
        Kind::Permission => error
            .field(account_field)
            .hint("GRANT REPLICATION SLAVE ON *.* to the account of this connection"),
        Kind::Drift => error.hint(
            "the log was purged or begun anew: the tables are read anew; keep it longer (binlog_expire_logs_seconds)",
        ),
        _ => error,
    }
}
