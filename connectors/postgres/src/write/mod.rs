//! Writing: rows are copied into a staging table, part by part and through several
//! sessions, and become the target or are merged into it in one transaction.

mod changes;
mod copy;
mod ddl;
mod evolve;
mod finish;
mod history;
pub(crate) mod interval;
mod lane;
mod ledger;
mod lock;
mod merge;
pub(crate) mod numeric;
mod operations;
mod read_back;
mod text;
mod transaction;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::Value;
use tideway_core::{
    Column, Error, Kind, Result,
    destination::{Destination, Lane, Load, Outcome, ReadBack, SchemaChange, TableLoad, Write},
    form,
    payload::Format,
    sums::Sums,
};
use tokio_postgres::Transaction;

use crate::{
    config::DestinationOptions,
    connect::{Postgres, Session, explain, unbroken},
    sql::ident,
    types,
};

use ddl::{Described, KEPT, OP, OWN_PREFIX, Place, describe, is_laid_out, stage_sql};
use finish::takes_place;
use lane::PostgresLane;
use ledger::Ledger;
use merge::Moving;

/// Ledgers are swept this often by loads that come one after the other.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);

#[async_trait]
impl Destination for Postgres {
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>> {
        check_options(&load.options)?;
        check_target(&load)?;
        let place = Place::of(&load);
        let mut session = self.client().await?;
        let begun = match self.prepare_load(&mut session, &load, &place).await {
            Ok(begun) => begun,
            Err(error) => return Err(self.advised(&session, &load, &place, error).await),
        };
        let version = session.version;
        self.keep(session);
        Ok(Box::new(PostgresLoad {
            postgres: self.clone(),
            version,
            load: Arc::new(load),
            place,
            begun,
        }))
    }

    async fn withdraw(&self, load: Load) -> Result<bool> {
        let place = Place::of(&load);
        let ledger = Ledger::beside(&place);
        let mut session = self.client().await?;
        let mut finished = false;
        if ledger.is_there(&session).await? {
            // Waits for whoever is in the load's last step, and takes its staging away from
            // whoever is not there yet.
            let transaction = transaction::begin(&mut session).await?;
            discard(&transaction, &load, &place).await?;
            finished = ledger.finished(&transaction, &load.id).await?;
            transaction.commit().await.map_err(explain)?;
        }
        self.keep(session);
        Ok(finished)
    }
}

impl Postgres {
    async fn prepare_load(
        &self,
        session: &mut Session,
        load: &Load,
        place: &Place,
    ) -> Result<Begun> {
        if let Write::Changes { .. } = load.write
            && self.knows_ledger(place)
            && let Some(begun) = changes::begin(session, load, place).await?
        {
            return Ok(begun);
        }
        let begun = begin(session, load, place).await?;
        unbroken(&self.swept).insert(place.schema.clone(), Instant::now());
        Ok(begun)
    }

    /// Whether the schema's ledger is there and was swept not long ago.
    fn knows_ledger(&self, place: &Place) -> bool {
        let swept = unbroken(&self.swept).get(&place.schema).copied();
        swept.is_some_and(|at| at.elapsed() < SWEEP_PAUSE)
    }

    /// The error with what to do about it.
    async fn advised(&self, session: &Session, load: &Load, place: &Place, error: Error) -> Error {
        match error.kind {
            Kind::Permission => error.while_(place).hint(format!(
                "GRANT USAGE, CREATE ON SCHEMA {} TO {}; tables in it that are to be altered or \
                 replaced must belong to that role",
                ident(&place.schema),
                ident(&self.config.username)
            )),
            _ => lock::name_blocker(session, place, &place.stage(&load.id), error).await,
        }
    }
}

fn check_options(options: &Value) -> Result<()> {
    let DestinationOptions { .. } =
        form::parse(options).map_err(|error| error.while_("destination_configuration"))?;
    Ok(())
}

fn check_target(load: &Load) -> Result<()> {
    let target = &load.target;
    let name = &target.name;
    let wrong = |what: &str| {
        Error::config(format!("a table cannot be called {name:?}: {what}"))
            .field("output_name")
            .hint("give the table another output name, or set a table prefix")
    };
    if name.is_empty() || name.contains('\0') {
        return Err(wrong("the name is empty or has a NUL character"));
    }
    if name.starts_with(OWN_PREFIX) {
        return Err(wrong(
            "names that begin with _tideway_ are kept for bookkeeping",
        ));
    }
    let is_column = |key: &String| target.columns.iter().any(|column| column.name == *key);
    let by_key = matches!(load.write, Write::Merge { .. } | Write::Changes { .. });
    if by_key && target.key.is_empty() {
        return Err(Error::bug(format!("{name} has no key to be merged by")));
    }
    let is_ours = |column: &&Column| [OP, KEPT].contains(&column.name.as_str());
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
    let ledger = Ledger::beside(place);
    ledger.ensure(session).await?;
    let mut transaction = transaction::begin(session).await?;
    // A worker that died may have sent the end of this very load, and the server be at it.
    lock::take_turn(&transaction, place).await?;
    if ledger.finished(&transaction, &load.id).await? {
        return Ok(Begun {
            finished: true,
            ..Begun::default()
        });
    }
    let mut begun = match describe(&transaction, place).await? {
        Some(target) => prepare_target(&mut transaction, load, place, &target).await?,
        None => Begun::default(),
    };
    if let Some(column) = &load.target.partition_key {
        begun.changes.push(SchemaChange(format!(
            "partition key {column} not applied: PostgreSQL tables are not partitioned"
        )));
    }
    let stage = place.stage(&load.id);
    let earlier = describe(&transaction, &stage).await?;
    let fits = |earlier: &Described| is_laid_out(earlier, load);
    if !(load.resume && earlier.as_ref().is_some_and(fits)) {
        discard(&transaction, load, place).await?;
        let made = transaction.batch_execute(&stage_sql(load, &stage)).await;
        made.map_err(explain)?;
    }
    (begun.landed, _) = ledger.landed(&transaction, &load.id).await?;
    ledger.prune(&transaction, place).await?;
    transaction.commit().await.map_err(explain)?;
    Ok(begun)
}

/// Brings the target up to date, or says what will be different when it is replaced.
async fn prepare_target(
    transaction: &mut Transaction<'_>,
    load: &Load,
    place: &Place,
    target: &Described,
) -> Result<Begun> {
    let mut begun = Begun::default();
    if takes_place(load, true) {
        let dependents = evolve::dependents(transaction, target).await?;
        if dependents.is_empty() && !target.partitioned() {
            begun.changes = evolve::replacement(target, load);
            return Ok(begun);
        }
        let why = match dependents.as_slice() {
            [] => "it is partitioned".to_owned(),
            names => format!("{} depends on it", names.join(", ")),
        };
        begun.changes.push(SchemaChange(format!(
            "the table is emptied and refilled rather than replaced: {why}"
        )));
        begun.in_place = true;
    }
    let evolution = evolve::evolution(target, load)?;
    evolve::apply(transaction, place, &evolution).await?;
    begun.changes.extend(evolution.changes);
    begun
        .changes
        .extend(evolve::index_key(transaction, place, target, load).await?);
    if let Some(target) = describe(transaction, place).await? {
        Moving::new(load, place, &target)?
            .check_conversions(transaction)
            .await?;
    }
    Ok(begun)
}

/// Removes what was staged and the tokens of its parts.
async fn discard(transaction: &Transaction<'_>, load: &Load, place: &Place) -> Result<()> {
    let sql = format!("DROP TABLE IF EXISTS {}", place.stage(&load.id).sql());
    transaction.batch_execute(&sql).await.map_err(explain)?;
    Ledger::beside(place)
        .forget_parts(transaction, &load.id)
        .await
}

struct PostgresLoad {
    postgres: Postgres,
    load: Arc<Load>,
    place: Place,
    begun: Begun,
    /// The server's `server_version_num`.
    version: u32,
}

#[async_trait]
impl TableLoad for PostgresLoad {
    fn schema_changes(&self) -> &[SchemaChange] {
        &self.begun.changes
    }

    fn landed(&self) -> &BTreeSet<String> {
        &self.begun.landed
    }

    fn finished(&self) -> bool {
        self.begun.finished
    }

    /// The staging table's columns are made for the load's logical types, so that a form in
    /// which those are sent is taken as it is. Rows without a key, which are told of when
    /// they are merged, must not be among those that nobody looks at.
    fn takes(&self, format: &Format) -> bool {
        let target = &self.load.target;
        let merged = matches!(self.load.write, Write::Merge { .. });
        let whole_key = || {
            let mut columns = target.columns.iter();
            columns.all(|column| !column.nullable || !target.key.contains(&column.name))
        };
        format.name == types::COPY
            && format.columns.len() == target.columns.len()
            && (!merged || whole_key())
            && !matches!(self.load.write, Write::Changes { .. })
            && target
                .columns
                .iter()
                .zip(&format.columns)
                .all(|(column, sent)| types::takes(column.logical, self.version, sent))
    }

    async fn lane(&self) -> Result<Box<dyn Lane>> {
        let (postgres, load) = (self.postgres.clone(), self.load.clone());
        Ok(Box::new(
            PostgresLane::open(postgres, load, &self.place).await?,
        ))
    }

    async fn read_back(&self, how: &ReadBack<'_>) -> Result<Option<Sums>> {
        let stage = self.place.stage(&self.load.id);
        let sums = read_back::read_back(&self.postgres, &self.load, &stage, how).await;
        sums.map(Some).map_err(|error| error.while_(&self.place))
    }

    async fn finish(&self) -> Result<Outcome> {
        let mut session = self.postgres.client().await?;
        let (load, place) = (&self.load, &self.place);
        match finish::finish(&mut session, load, place, self.begun.in_place).await {
            Ok(outcome) => {
                self.postgres.keep(session);
                Ok(outcome)
            }
            Err(error) => Err(self.postgres.advised(&session, load, place, error).await),
        }
    }

    async fn abandon(&self) -> Result<()> {
        let mut session = self.postgres.client().await?;
        let transaction = transaction::begin(&mut session).await?;
        discard(&transaction, &self.load, &self.place).await?;
        transaction.commit().await.map_err(explain)?;
        self.postgres.keep(session);
        Ok(())
    }
}
