//! Writing: rows are loaded into a staging table, part by part and through several sessions,
//! and become the target by renaming or are merged into it in one transaction.

mod changes;
mod ddl;
mod encode;
mod evolve;
mod finish;
mod history;
mod json;
mod lane;
mod ledger;
mod lock;
mod merge;
mod read_back;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::Value;
use tideway_core::{
    Column, Error, Kind, Result,
    destination::{Destination, Lane, Load, Outcome, ReadBack, SchemaChange, TableLoad, Write},
    form,
    sums::Sums,
};

use crate::{
    config::DestinationOptions,
    connect::{MySql, Session},
    discover::{Described, OWN_PREFIX, describe},
    sql::ident,
};

use ddl::{KEPT, OP, PART, Place, ROW, create_stage, drop_tables, has_changes, token};
use finish::takes_place;
use lane::MySqlLane;
use ledger::Ledger;

/// Ledgers are swept this often by loads that come one after the other.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);

#[async_trait]
impl Destination for MySql {
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>> {
        check_options(&load.options)?;
        check_target(&load)?;
        let place = Place::of(&load, &self.config)?;
        let mut session = self.session().await?;
        let begun = self.prepare_load(&mut session, &load, &place).await;
        let begun = begun.map_err(|error| self.advised(&place, error))?;
        self.keep(session);
        Ok(Box::new(MySqlLoad {
            mysql: self.clone(),
            load: Arc::new(load),
            place,
            begun,
            repeated: Arc::default(),
        }))
    }

    async fn withdraw(&self, load: Load) -> Result<bool> {
        let place = Place::of(&load, &self.config)?;
        let mut session = self.session().await?;
        Ledger::beside(&place).ensure(&mut session).await?;
        lock::take_turn(&mut session, &place).await?;
        let withdrawn = withdraw(&mut session, &load, &place).await;
        if session.settled() {
            lock::give_up_turn(&mut session, &place).await?;
        }
        let finished = withdrawn?;
        self.keep(session);
        Ok(finished)
    }
}

async fn withdraw(session: &mut Session, load: &Load, place: &Place) -> Result<bool> {
    let finished = finish::is_finished(session, load, place).await?;
    match finished {
        true => finish::settle(session, load, place, 0).await?,
        false => discard(session, load, place).await?,
    }
    Ok(finished)
}

impl MySql {
    async fn prepare_load(
        &self,
        session: &mut Session,
        load: &Load,
        place: &Place,
    ) -> Result<Begun> {
        if has_changes(load)
            && self.knows_ledger(place)
            && let Some(begun) = changes::begin(session, load, place).await?
        {
            return Ok(begun);
        }
        let begun = begin(session, load, place).await?;
        self.swept().insert(place.database.clone(), Instant::now());
        Ok(begun)
    }

    /// Whether the database's ledger is there and was swept not long ago.
    fn knows_ledger(&self, place: &Place) -> bool {
        let swept = self.swept().get(&place.database).copied();
        swept.is_some_and(|at| at.elapsed() < SWEEP_PAUSE)
    }

    /// The error with what to do about it.
    fn advised(&self, place: &Place, error: Error) -> Error {
        match error.kind {
            Kind::Permission => error.while_(place).hint(format!(
                "GRANT CREATE, ALTER, DROP, INDEX, SELECT, INSERT, UPDATE, DELETE ON {}.* TO '{}'@'%'",
                ident(&place.database),
                self.config.account
            )),
            _ => error,
        }
    }
}

fn check_options(options: &Value) -> Result<()> {
    if options.is_null() {
        return Ok(());
    }
    let DestinationOptions { .. } =
        form::parse(options).map_err(|error| error.while_("destination_configuration"))?;
    Ok(())
}

/// What the server does not take as a name.
fn odd(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("the name is empty")
    } else if name.ends_with(' ') {
        Some("the name ends with a space")
    } else if name.chars().any(|c| c == '\0' || u32::from(c) > 0xffff) {
        Some("the name has a character that MySQL's names cannot have")
    } else {
        None
    }
}

fn check_target(load: &Load) -> Result<()> {
    let target = &load.target;
    let name = &target.name;
    let wrong = |what: &str| {
        Error::config(format!("a table cannot be called {name:?}: {what}"))
            .field("output_name")
            .hint("give the table another output name, or set a table prefix")
    };
    if let Some(what) = odd(name) {
        return Err(wrong(what));
    }
    if name.starts_with(OWN_PREFIX) {
        return Err(wrong(
            "names that begin with _tideway_ are kept for bookkeeping",
        ));
    }
    for column in &target.columns {
        if let Some(what) = odd(&column.name) {
            return Err(Error::config(format!(
                "a field of {name} cannot be called {:?}: {what}",
                column.name
            ))
            .field("output_name")
            .hint("give the field another output name"));
        }
    }
    let is_column = |key: &String| target.columns.iter().any(|column| column.name == *key);
    let by_key = matches!(load.write, Write::Merge { .. } | Write::Changes { .. });
    if by_key && target.key.is_empty() {
        return Err(Error::bug(format!("{name} has no key to be merged by")));
    }
    let is_ours = |column: &&Column| {
        let ours = [PART, ROW, OP, KEPT];
        has_changes(load)
            && ours
                .iter()
                .any(|ours| ours.eq_ignore_ascii_case(&column.name))
    };
    if let Some(column) = target.columns.iter().find(is_ours) {
        return Err(Error::config(format!(
            "a column of {name} cannot be called {}: the name is kept for bookkeeping",
            column.name
        ))
        .hint("give the field another output name, or leave it out"));
    }
    if !target.key.iter().all(is_column) {
        return Err(Error::bug(format!(
            "a key column of {name} is not among its columns"
        )));
    }
    Ok(())
}

/// What a load found and prepared.
#[derive(Default)]
struct Begun {
    changes: Vec<SchemaChange>,
    landed: BTreeSet<String>,
    finished: bool,
    /// The table that is there is kept, for something depends on it.
    in_place: bool,
}

async fn begin(session: &mut Session, load: &Load, place: &Place) -> Result<Begun> {
    // A worker that died may have sent the end of this very load, and the server be at it.
    lock::take_turn(session, place).await?;
    let begun = prepare(session, load, place).await;
    if session.settled() {
        lock::give_up_turn(session, place).await?;
    }
    begun
}

async fn prepare(session: &mut Session, load: &Load, place: &Place) -> Result<Begun> {
    let ledger = Ledger::beside(place);
    ledger.ensure(session).await?;
    if finish::is_finished(session, load, place).await? {
        return Ok(Begun {
            finished: true,
            ..Begun::default()
        });
    }
    let mut begun = match describe(session, &place.database, &place.name).await? {
        Some(target) => prepare_target(session, load, place, &target).await?,
        None => Begun::default(),
    };
    if let Some(column) = &load.target.partition_key {
        begun.changes.push(SchemaChange(format!(
            "partition key {column} not applied: MySQL tables are not partitioned"
        )));
    }
    let stage = place.stage(&load.id);
    let earlier = describe(session, &stage.database, &stage.name).await?;
    let wanted = token(load, &session.server);
    let fits = earlier.is_some_and(|earlier| earlier.comment == wanted);
    if !(load.resume && fits) {
        discard(session, load, place).await?;
        create_stage(session, load, &stage)
            .await
            .map_err(|error| error.while_(place))?;
    }
    (begun.landed, _) = ledger.landed(session, &load.id).await?;
    ledger.prune(session).await?;
    Ok(begun)
}

/// Brings the target up to date, or says what will be different when it is replaced.
async fn prepare_target(
    session: &mut Session,
    load: &Load,
    place: &Place,
    target: &Described,
) -> Result<Begun> {
    if target.view {
        return Err(
            Error::conflict(format!("{place} is not a table and cannot be loaded"))
                .hint("give the table another output name, or drop what has its name"),
        );
    }
    let mut begun = Begun::default();
    if takes_place(load, true) {
        let dependents = evolve::dependents(session, place).await?;
        if dependents.is_empty() {
            begun.changes = evolve::replacement(target, load);
            return Ok(begun);
        }
        begun.changes.push(SchemaChange(format!(
            "the table is emptied and refilled rather than replaced: {} depends on it",
            dependents.join(", ")
        )));
        begun.in_place = true;
    }
    let evolution = evolve::evolution(target, load, &session.server)?;
    evolve::apply(session, place, &evolution).await?;
    begun.changes.extend(evolution.changes);
    if let Some(target) = describe(session, &place.database, &place.name).await? {
        let index = evolve::index_key(session, place, load, &target).await?;
        begun.changes.extend(index);
    }
    Ok(begun)
}

/// Removes what was staged and the tokens of its parts; the tokens first, so that nobody takes
/// rows for staged that are gone.
async fn discard(session: &mut Session, load: &Load, place: &Place) -> Result<()> {
    Ledger::beside(place)
        .forget_parts(session, &load.id)
        .await?;
    let staged = [place.stage(&load.id), place.made(&load.id)];
    drop_tables(session, &staged).await
}

struct MySqlLoad {
    mysql: MySql,
    load: Arc<Load>,
    place: Place,
    begun: Begun,
    /// Rows that took the place of a staged one with the same key.
    repeated: Arc<AtomicU64>,
}

#[async_trait]
impl TableLoad for MySqlLoad {
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
        let session = self.mysql.session().await?;
        Ok(Box::new(MySqlLane::open(
            session,
            self.load.clone(),
            &self.place,
            self.repeated.clone(),
        )))
    }

    async fn read_back(&self, how: &ReadBack<'_>) -> Result<Option<Sums>> {
        let repeated = self.repeated.load(Relaxed);
        if repeated > 0 {
            return Err(Error::unsupported(format!(
                "{repeated} rows repeat a key, of which only the last row is staged"
            )));
        }
        let stage = self.place.stage(&self.load.id);
        let sums = read_back::read_back(&self.mysql, &self.load, &stage, how).await;
        let sums = sums.map_err(|error| self.mysql.advised(&self.place, error))?;
        Ok(Some(sums))
    }

    async fn finish(&self) -> Result<Outcome> {
        let mut session = self.mysql.session().await?;
        let (load, place) = (&self.load, &self.place);
        let outcome = finish::finish(&mut session, load, place, self.begun.in_place).await;
        let outcome = outcome.map_err(|error| self.mysql.advised(place, error))?;
        self.mysql.keep(session);
        Ok(outcome)
    }

    async fn abandon(&self) -> Result<()> {
        let mut session = self.mysql.session().await?;
        discard(&mut session, &self.load, &self.place).await?;
        self.mysql.keep(session);
        Ok(())
    }
}
