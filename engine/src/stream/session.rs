//! From where the tables stand to where the following of the log ends, for whatever
//! reason: the end is reached, a table has changed its shape, or the source broke off.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use futures::{StreamExt, stream};
use serde_json::json;
use tideway_core::{
    Checkpoint, Error, Kind, Position, Result,
    changes::{Follow, Followed as FollowedTable},
    checkpoint::Progress,
    destination::{Disposition, Outcome},
    failpoint,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Streams,
    follow::{Followed, Ready, Reshape, Until, follow},
    table::{Ended, Streamed},
    unit,
    watch::Watch,
};
use crate::{
    load::{load_stem, load_table},
    observe::{Level, StreamState},
    plan::{FieldSpec, PlannedWrite, TablePlan, plan},
};

pub struct Session<'a> {
    streams: &'a mut Streams,
    watch: Arc<Watch>,
}

/// How a session ended.
pub struct SessionEnd {
    pub state: StreamState,
    /// Why it has to be tried again.
    pub error: Option<Error>,
    /// Tables have changed their shape: another session goes on.
    pub again: bool,
    /// Something was put in place.
    pub moved: bool,
}

impl<'a> Session<'a> {
    pub fn of(streams: &'a mut Streams) -> Self {
        let watch = Watch::new(streams.cx.clone(), streams.stream.clone());
        Session {
            streams,
            watch: Arc::new(watch),
        }
    }

    pub async fn run(mut self) -> SessionEnd {
        let (mut again, mut read) = (false, 0);
        let result = match self.prepare().await {
            Ok(anew) => {
                failpoint::reach("stream.prepared");
                read = self.read_anew(anew).await;
                failpoint::reach("stream.read");
                self.follow(&mut again).await
            }
            Err(error) => Err(error),
        };
        let (moved, error) = match result {
            Ok((moved, error)) => (moved || read > 0, error),
            Err(error) => (read > 0, Some(error)),
        };
        SessionEnd {
            state: self.watch.state(),
            error,
            again,
            moved,
        }
    }

    /// Settles what an earlier attempt left, and finds the tables that are to be read anew.
    async fn prepare(&mut self) -> Result<BTreeSet<String>> {
        let attached = self.streams.attached.take();
        if let Some(reason) = attached
            .as_ref()
            .and_then(|attached| attached.fresh.as_ref())
        {
            self.log(Level::Info, "", reason.clone());
        }
        let lost = |streams: &Streams, position: &Position| -> Result<bool> {
            let Some(attached) = &attached else {
                return Ok(false);
            };
            let changes = streams.changes()?;
            Ok(attached.fresh.is_some()
                || changes.compare(position, &attached.position) == Ordering::Less)
        };
        for member in self.streams.members.values_mut() {
            if let Some(attached) = &attached {
                let mark = attached.marks.get(&member.plan.table.id).cloned();
                member.plan.stream.get_or_insert_default().mark = mark;
            }
        }
        let mut anew = BTreeSet::new();
        for schema_id in self.streams.members.keys().cloned().collect::<Vec<_>>() {
            let mut checkpoint = match self.recovered(&schema_id).await {
                Ok(checkpoint) => checkpoint,
                Err(error) if error.kind == Kind::Fenced => return Err(error),
                Err(error) => {
                    self.fail(&schema_id, error).await;
                    continue;
                }
            };
            if let Some(position) = &checkpoint.stream {
                let gap = lost(self.streams, position)? || self.left(&schema_id, &checkpoint);
                let grown = self.grown(&schema_id, &checkpoint);
                if !gap && !grown && !self.asked_anew(&schema_id, &checkpoint) {
                    continue;
                }
                if gap {
                    self.log_gap(&schema_id);
                } else if grown {
                    let why = "fields, key or filters are not those of the last run; the table is read anew";
                    self.log(Level::Info, &schema_id, why.to_owned());
                }
                checkpoint.stream = None;
                self.streams.cx.ledger.save(&schema_id, &checkpoint).await?;
            }
            anew.insert(schema_id);
        }
        for schema_id in &self.streams.spec.others {
            let mut checkpoint = self.streams.cx.ledger.load(schema_id).await?;
            let Some(position) = checkpoint.stream.take() else {
                continue;
            };
            if lost(self.streams, &position)? {
                self.log_gap(schema_id);
                self.streams.cx.ledger.save(schema_id, &checkpoint).await?;
            } else {
                self.watch.positions.set(schema_id, position);
            }
        }
        Ok(anew)
    }

    async fn recovered(&self, schema_id: &str) -> Result<Checkpoint> {
        let cx = &self.streams.cx;
        let mut checkpoint = cx.ledger.load(schema_id).await?;
        if let Some(member) = self.streams.members.get(schema_id) {
            unit::recover(cx, &member.plan, &mut checkpoint).await?;
        }
        Ok(checkpoint)
    }

    /// The run is to read everything again, and has not done so with this table.
    fn asked_anew(&self, schema_id: &str, checkpoint: &Checkpoint) -> bool {
        let spec = &self.streams.cx.spec;
        let stem = load_stem(&spec.execution_id, schema_id);
        let done = checkpoint.finished_load.as_ref();
        spec.resync.is_some() && !done.is_some_and(|load| load.starts_with(&stem))
    }

    /// The table may have been out of the stream for a while.
    fn left(&self, schema_id: &str, checkpoint: &Checkpoint) -> bool {
        let member = self.streams.members.get(schema_id);
        let mark = member.and_then(|member| member.plan.stream.as_ref()?.mark.as_ref());
        mark.is_some() && mark != checkpoint.mark.as_ref()
    }

    /// More is chosen of the table than was when it was read: the rows that have not changed
    /// since lack it. Rows that were appended stay as they are.
    fn grown(&self, schema_id: &str, checkpoint: &Checkpoint) -> bool {
        let member = self.streams.members.get(schema_id);
        member.is_some_and(|member| {
            member.plan.write != PlannedWrite::Append
                && !member
                    .plan
                    .shape()
                    .iter()
                    .all(|print| checkpoint.shape.contains(print))
        })
    }

    fn log_gap(&self, schema_id: &str) {
        let why = "the log since the table's position is gone; the table is read anew";
        self.log(Level::Warn, schema_id, why.to_owned());
    }

    fn log(&self, level: Level, schema_id: &str, message: String) {
        let observer = &self.streams.cx.observer;
        observer.ingest(level, schema_id, message, json!({}));
    }

    /// Reads the tables from a snapshot whose position becomes theirs. Tells how many were.
    async fn read_anew(&mut self, anew: BTreeSet<String>) -> usize {
        let cx = self.streams.cx.clone();
        let loads: Vec<(String, TablePlan, _)> = anew
            .into_iter()
            .filter_map(|schema_id| {
                let member = self.streams.members.get(&schema_id)?;
                Some((schema_id, member.plan.clone(), member.cancel.clone()))
            })
            .collect();
        let at_once = cx.spec.budget.tables_at_once.max(1);
        let done: Vec<(String, Result<Outcome>)> = stream::iter(loads)
            .map(|(schema_id, plan, cancel)| {
                let cx = cx.clone();
                async move {
                    let load = tokio::spawn(async move { load_table(&cx, plan, &cancel).await });
                    let done = AbortOnDropHandle::new(load).await;
                    let done = done.unwrap_or_else(|panic| {
                        Err(Error::bug(format!("the load stopped: {panic}")))
                    });
                    (schema_id, done)
                }
            })
            .buffer_unordered(at_once)
            .collect()
            .await;
        // The source keeps what the snapshot shows for as long as it is held.
        self.streams.cx.anchors.release().await;
        let mut read = 0;
        for (schema_id, result) in done {
            let Some(member) = self.streams.members.get_mut(&schema_id) else {
                continue;
            };
            match result {
                Ok(outcome) => {
                    unit::add(&mut member.outcome, &outcome);
                    member.plan.stream.get_or_insert_default().again += 1;
                    member.plan.disposition = Disposition::Retain;
                    read += 1;
                }
                Err(error) => self.fail(&schema_id, error).await,
            }
        }
        read
    }

    async fn follow(&mut self, again: &mut bool) -> Result<(bool, Option<Error>)> {
        let streams = &mut *self.streams;
        if streams.members.is_empty() {
            return Ok((false, None));
        }
        let cx = streams.cx.clone();
        let changes = cx
            .spec
            .source
            .roles()
            .changes
            .ok_or_else(|| Error::bug("the source has no change stream any more"))?;
        if streams.ends_at.is_none() && streams.until.is_none() {
            streams.until = Some(changes.end().await?);
        }
        let (mut ready, mut tables) = (Vec::new(), Vec::new());
        for (schema_id, member) in &streams.members {
            let checkpoint = cx.ledger.load(schema_id).await?;
            let from = checkpoint
                .stream
                .clone()
                .ok_or_else(|| Error::bug(format!("{schema_id} was read but has no position")))?;
            self.watch.positions.set(schema_id, from.clone());
            tables.push(FollowedTable {
                table: member.plan.table.clone(),
                columns: member.plan.read.clone(),
                key: member.plan.source_key(),
                from,
            });
            ready.push(Ready {
                schema_id: schema_id.clone(),
                table: member.plan.table.id.clone(),
                streamed: Streamed::new(
                    cx.clone(),
                    member.plan.clone(),
                    checkpoint,
                    member.next.clone(),
                    self.watch.positions.clone(),
                )?,
                cancel: member.cancel.clone(),
            });
        }
        let request = Follow {
            tables,
            until: streams.until.clone(),
            batch_bytes: cx.batch_bytes,
        };
        let until = Until {
            position: streams.until.clone(),
            time: streams.ends_at,
        };
        let before = self.watch.positions.seen();
        let watching = AbortOnDropHandle::new(tokio::spawn(self.watch.clone().go_on()));
        let cancel = streams.controls.token();
        let (stream, watch) = (&streams.stream, &self.watch);
        let followed = follow(&cx, changes, stream, request, ready, until, watch, cancel).await;
        drop(watching);
        let moved = self.watch.positions.seen() != before;
        let error = self.take_in(followed, again).await?;
        if let Err(error) = self.watch.look().await {
            tracing::warn!(%error, "what the source may forget could not be told");
        }
        if self.watch.positions.seen().is_empty() && !*again {
            // No table needs the log: all of them will be read anew.
            let end = changes.end().await?;
            changes.confirm(&self.streams.stream, &end).await?;
        }
        Ok((moved, error))
    }

    /// Sees to each table that left the stream.
    async fn take_in(&mut self, followed: Followed, again: &mut bool) -> Result<Option<Error>> {
        let Followed {
            ended,
            mut reshaped,
            mut untold,
            broken,
            error,
        } = followed;
        *again |= !untold.is_empty();
        for (schema_id, error) in broken {
            self.fail(&schema_id, error).await;
        }
        for (schema_id, mut ended) in ended {
            if let Some(member) = self.streams.members.get_mut(&schema_id) {
                unit::add(&mut member.outcome, &ended.outcome);
                member.next = ended.next.clone();
            }
            let result = std::mem::replace(&mut ended.result, Ok(()));
            let result = result.and(untold.remove(&schema_id).map_or(Ok(()), Err));
            let result = match (result, reshaped.remove(&schema_id)) {
                (Err(error), _) if error.kind == Kind::Fenced => return Err(error),
                (Ok(()), Some(reshape)) => {
                    let replanned = self.reshape(&schema_id, reshape, &ended).await;
                    *again |= replanned.is_ok();
                    replanned
                }
                (result, _) => result,
            };
            if let Err(error) = result {
                self.fail(&schema_id, error).await;
            }
        }
        Ok(error)
    }

    /// Plans the table as it has become. Where changes alone cannot show what it holds
    /// now, it is read anew.
    async fn reshape(&mut self, schema_id: &str, reshape: Reshape, ended: &Ended) -> Result<()> {
        let now = reshape.now.ok_or_else(|| {
            Error::missing(format!("{schema_id} was dropped at the source"))
                .hint("switch it off in the sync; its rows at the destination stay")
        })?;
        let streams = &mut *self.streams;
        let Some(member) = streams.members.get_mut(schema_id) else {
            return Ok(());
        };
        // Twice at the same place: its rows there have both shapes.
        let stuck = member.reshaped_at == ended.checkpoint.stream;
        member.reshaped_at = ended.checkpoint.stream.clone();
        let append = member.plan.write == PlannedWrite::Append;
        let anew = ended.dirty || stuck || (reshape.rewritten && !append);

        let specs = &mut streams.planning.tables;
        let known = |name: &str| member.plan.table.column(name).is_some();
        if let Some(fields) = specs
            .iter_mut()
            .find(|table| table.schema_id == schema_id)
            .and_then(|table| table.fields.as_mut())
        {
            for column in now.columns.iter().filter(|column| !known(&column.name)) {
                if fields.iter().all(|field| field.id != column.name) {
                    fields.push(FieldSpec {
                        id: column.name.clone(),
                        enabled: streams.spec.new_fields.adds(true),
                        obfuscate: false,
                        output_name: None,
                    });
                }
            }
        }
        let tables = &mut streams.catalog.tables;
        match tables.iter_mut().find(|table| table.id == now.id) {
            Some(table) => *table = now,
            None => tables.push(now),
        }
        let (_, planned) = plan(&streams.planning, &streams.catalog)?
            .into_iter()
            .find(|(id, _)| id == schema_id)
            .ok_or_else(|| Error::bug("a streamed table is not in the plan"))?;
        let planned = planned?;
        if !planned.can_stream() {
            return Err(Error::config(format!("{schema_id} has lost its key"))
                .hint("start the sync again: the table is then read as a whole"));
        }
        let stream = member.plan.stream.clone();
        member.plan = TablePlan {
            stream,
            disposition: Disposition::Retain,
            ..planned
        };
        let mut checkpoint = streams.cx.ledger.load(schema_id).await?;
        if anew {
            checkpoint.stream = None;
        } else {
            // What is new shows in the changes that follow; older rows have nothing there.
            checkpoint.shape = member.plan.shape();
        }
        streams.cx.ledger.save(schema_id, &checkpoint).await?;
        let what = if anew {
            "the table has changed its shape and is read anew"
        } else {
            "the table has changed its shape"
        };
        self.log(Level::Info, schema_id, what.to_owned());
        Ok(())
    }

    /// The table leaves the stream. Where nothing but a change to the table or its settings
    /// can help, the log is not held for it: it will be read anew.
    async fn fail(&mut self, schema_id: &str, error: Error) {
        let Some(member) = self.streams.members.remove(schema_id) else {
            return;
        };
        if gives_up(&error) {
            let cx = &self.streams.cx;
            let given_up = async {
                let mut checkpoint = cx.ledger.load(schema_id).await?;
                let mut left = None;
                if let Err(error) = unit::recover(cx, &member.plan, &mut checkpoint).await {
                    tracing::warn!(table = schema_id, %error, "staging not removed");
                    // The next run removes it. Should it be in place already, that leads
                    // nowhere any more.
                    left = checkpoint.progress.take().map(|progress| Progress {
                        stream: None,
                        cursor: None,
                        ..progress
                    });
                }
                (checkpoint.stream, checkpoint.progress) = (None, left);
                cx.ledger.save(schema_id, &checkpoint).await
            };
            match given_up.await {
                Ok(()) => self.watch.positions.give_up(schema_id),
                Err(second) => {
                    tracing::warn!(table = schema_id, error = %second, "position not given up");
                }
            }
        }
        let name = &member.plan.target.name;
        self.streams.conclude(schema_id, name, Err(error));
    }
}

/// Errors of the table itself; the others pass, or concern all tables alike.
fn gives_up(error: &Error) -> bool {
    matches!(
        error.kind,
        Kind::Config
            | Kind::Permission
            | Kind::Missing
            | Kind::Data
            | Kind::Drift
            | Kind::Unsupported
            | Kind::Bug
    )
}
