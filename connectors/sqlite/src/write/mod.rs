//! Writing: rows are staged in a table of their own, part by part, and become the target
//! or are merged into it in one transaction.
//!
//! SQLite lets one connection write at a time, so all loads of a file share one and take
//! turns. A turn lasts from the first row of a part to its commit.

mod encode;
mod evolve;
mod finish;
mod history;
mod lane;
mod layout;
mod ledger;
mod read_back;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use serde_json::Value;
use tideway_core::{
    Column, Error, Result,
    destination::{
        Destination, Disposition, Lane, Load, Outcome, ReadBack, SchemaChange, TableLoad,
        TargetTable, Write,
    },
    failpoint,
    sums::{Sums, is_same_kept_as},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    Database,
    config::DestinationOptions,
    connect::{Handle, blocking},
    discover::{self, Described, OWN_PREFIX, Relation},
    moment::{self, Moment},
    sql::{quoted, same_name},
};

use lane::SqliteLane;
use layout::{KEPT, Layout, OP, ROW};

/// The one connection that writes to a file.
pub struct Writer {
    handle: Arc<Mutex<Handle>>,
}

/// The right to write, until it is dropped. What is not committed by then is undone.
struct Turn(OwnedMutexGuard<Handle>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.roll_back();
    }
}

impl Writer {
    async fn turn(&self) -> Turn {
        Turn(self.handle.clone().lock_owned().await)
    }

    /// Runs all steps in one transaction, or none.
    async fn transact<T: Send + 'static>(
        &self,
        steps: impl FnOnce(&Handle) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn().await;
        blocking(move || turn.0.in_transaction(steps)).await
    }
}

impl Database {
    /// The writer that other loads use already, or a new one.
    async fn writer(&self) -> Result<Arc<Writer>> {
        let mut shared = self.writer.lock().await;
        if let Some(writer) = shared.upgrade() {
            return Ok(writer);
        }
        let file = self.file.clone();
        let handle = blocking(move || Handle::writer(&file)).await?;
        let writer = Arc::new(Writer {
            handle: Arc::new(Mutex::new(handle)),
        });
        *shared = Arc::downgrade(&writer);
        Ok(writer)
    }
}

#[async_trait]
impl Destination for Database {
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>> {
        check_options(&load.options)?;
        check_target(&load.target)?;
        check_changes(&load)?;
        let writer = self.writer().await?;
        let load = Arc::new(load);
        let begun = writer
            .transact({
                let load = load.clone();
                move |handle| begin(handle, &load)
            })
            .await?;
        let file = self.file.display();
        Ok(Box::new(SqliteLoad {
            place: format!("{} in {file}", load.target.name),
            writer,
            load,
            begun,
            not_staged: Arc::default(),
        }))
    }

    async fn withdraw(&self, load: Load) -> Result<bool> {
        let writer = self.writer().await?;
        let steps = move |handle: &Handle| {
            ledger::prepare(handle)?;
            discard(handle, &load.id)?;
            ledger::finished(handle, &load.id)
        };
        writer.transact(steps).await
    }
}

fn check_options(options: &Value) -> Result<()> {
    let DestinationOptions { .. } = tideway_core::form::parse(options)
        .map_err(|error| error.while_("destination_configuration"))?;
    Ok(())
}

fn check_target(target: &TargetTable) -> Result<()> {
    let name = &target.name;
    let lower = name.to_ascii_lowercase();
    let wrong = |what: &str| {
        Error::config(format!("a table cannot be called {name:?}: {what}"))
            .field("output_name")
            .hint("give the table another output name, or set a table prefix")
    };
    if name.is_empty() || name.contains('\0') {
        return Err(wrong("the name is empty or has a NUL character"));
    }
    if lower.starts_with("sqlite_") {
        return Err(wrong(
            "SQLite keeps names that begin with sqlite_ for itself",
        ));
    }
    if lower.starts_with(OWN_PREFIX) {
        return Err(wrong(
            "names that begin with _tideway_ are kept for bookkeeping",
        ));
    }
    match target.namespace.as_deref() {
        None | Some("") | Some("main") => Ok(()),
        Some(namespace) => Err(Error::config(format!(
            "a SQLite file has no schemas, so tables cannot be put in {namespace}"
        ))
        .field("schema")
        .hint("leave the schema empty")),
    }
}

/// What loads of changes need beyond that.
fn check_changes(load: &Load) -> Result<()> {
    let target = &load.target;
    if !matches!(load.write, Write::Changes { .. }) {
        return Ok(());
    }
    if target.key.is_empty() {
        let name = &target.name;
        return Err(Error::bug(format!("{name} has no key to be merged by")));
    }
    let is_ours = |name: &str| [ROW, OP, KEPT].iter().any(|ours| same_name(ours, name));
    match target.columns.iter().find(|column| is_ours(&column.name)) {
        None => Ok(()),
        Some(column) => Err(Error::config(format!(
            "a column of {} cannot be called {}: the name is kept for bookkeeping",
            target.name, column.name
        ))
        .hint("give the field another output name, or leave it out")),
    }
}

/// What a load found and prepared.
struct Begun {
    layout: Layout,
    changes: Vec<SchemaChange>,
    landed: BTreeSet<String>,
    finished: bool,
}

fn begin(handle: &Handle, load: &Load) -> Result<Begun> {
    ledger::prepare(handle)?;
    if ledger::finished(handle, &load.id)? {
        return Ok(Begun {
            layout: Layout::fresh(load),
            changes: Vec::new(),
            landed: BTreeSet::new(),
            finished: true,
        });
    }
    let target = existing(handle, load)?;
    let (layout, changes) = evolve::prepare(handle, load, target.as_ref())?;
    let stage = stage_name(&load.id);
    let earlier = discover::describe(handle, &stage)?;
    let resumed = load.resume && earlier.is_some_and(|stage| layout.is_laid_out(&stage));
    if !resumed {
        discard(handle, &load.id)?;
        handle.run(&layout.create_stage(&stage))?;
    }
    Ok(Begun {
        layout,
        changes,
        landed: ledger::landed(handle, &load.id)?,
        finished: false,
    })
}

/// The target as it is, if it is there.
fn existing(handle: &Handle, load: &Load) -> Result<Option<Described>> {
    let target = discover::describe(handle, &load.target.name)?;
    match &target {
        Some(found) if found.kind != Relation::Table => Err(Error::conflict(format!(
            "{} is a view or a virtual table, which cannot be loaded",
            found.name
        ))
        .hint("give the table another output name")),
        _ => Ok(target),
    }
}

fn stage_name(load_id: &str) -> String {
    format!("{OWN_PREFIX}stage_{load_id}")
}

/// Removes what was staged and the tokens of its parts.
fn discard(handle: &Handle, load_id: &str) -> Result<()> {
    let stage = quoted(&stage_name(load_id));
    handle.run(&format!("DROP TABLE IF EXISTS main.{stage}"))?;
    ledger::forget_parts(handle, load_id)
}

/// Whether the staged rows become the table, rather than move into the one that is there.
fn takes_place(load: &Load, target: Option<&Described>) -> bool {
    let refill = load.truncate_existing || load.disposition == Disposition::Truncate;
    target.is_none()
        || load.disposition == Disposition::Rebuild
        || (load.write == Write::Replace && !refill)
}

/// The current time as it is stored in a system column.
fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(0);
    let mut text = String::new();
    moment::write_moment(
        Moment {
            micros,
            zoned: true,
        },
        &mut text,
    );
    text
}

struct SqliteLoad {
    writer: Arc<Writer>,
    load: Arc<Load>,
    begun: Begun,
    place: String,
    /// Rows that came without a key, or whose key another row came with.
    not_staged: Arc<AtomicU64>,
}

#[async_trait]
impl TableLoad for SqliteLoad {
    fn schema_changes(&self) -> &[SchemaChange] {
        &self.begun.changes
    }

    fn landed(&self) -> &BTreeSet<String> {
        &self.begun.landed
    }

    fn finished(&self) -> bool {
        self.begun.finished
    }

    async fn lane(&self) -> Result<Box<dyn Lane>> {
        Ok(Box::new(SqliteLane::new(
            self.writer.clone(),
            &self.load,
            &self.begun.layout,
            self.not_staged.clone(),
        )))
    }

    fn tells_apart(&self, column: &Column) -> bool {
        let mut columns = self.begun.layout.columns.iter();
        let landing = columns.find(|landing| landing.name == column.name);
        landing.is_some_and(|landing| is_same_kept_as(landing.from, landing.to))
    }

    async fn read_back(&self, how: &ReadBack<'_>) -> Result<Option<Sums>> {
        let not_staged = self.not_staged.load(Relaxed);
        if not_staged > 0 {
            return Err(Error::unsupported(format!(
                "{not_staged} rows lack a key or repeat one, and are not staged"
            )));
        }
        let (writer, layout) = (&self.writer, &self.begun.layout);
        let sums = read_back::read_back(writer, &self.load.id, layout, how.batch_bytes).await?;
        Ok(Some(sums))
    }

    async fn finish(&self) -> Result<Outcome> {
        let (load, layout) = (self.load.clone(), self.begun.layout.clone());
        let finished = self
            .writer
            .transact(move |handle| finish::finish(handle, &load, &layout))
            .await?;
        failpoint::reach("sqlite.committed");
        Ok(Outcome {
            place: self.place.clone(),
            ..finished
        })
    }

    async fn abandon(&self) -> Result<()> {
        let id = self.load.id.clone();
        self.writer
            .transact(move |handle| discard(handle, &id))
            .await
    }
}
