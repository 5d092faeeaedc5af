//! Writing. Lanes append to a staging table, each in transactions of its own session;
//! `finish` turns the staging table into the target or moves its rows there.
//!
//! Targets get no primary key: DuckDB's would cost an index in memory, and merging finds
//! keys by joins.

mod encode;
mod finish;
mod history;
mod merge;
mod read_back;
mod stage;
mod target;
mod tokens;

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use tideway_core::{
    Error, Result,
    destination::{Disposition, Lane, Load, Outcome, ReadBack, SchemaChange, TableLoad, Write},
    sums::Sums,
};

use super::{
    discover::{self, Described, Found},
    file::File,
    sql::{self, Place},
};
use crate::session::Session;
use stage::{KEPT, OP, ROW, Stage, StageLane};

const NAMESPACE: &str = "main";

pub struct DuckDbLoad {
    file: Arc<File>,
    /// Never has a transaction open between two calls.
    session: Arc<Session>,
    plan: Plan,
    stage: Stage,
    changes: Vec<SchemaChange>,
    landed: BTreeSet<String>,
    finished: bool,
}

/// What a load does, in DuckDB's terms.
pub struct Plan {
    pub load: Load,
    pub target: Place,
    pub stage: Place,
    pub tokens: Place,
}

impl Plan {
    fn new(load: Load, file: &File) -> Result<Plan> {
        let by_key = matches!(load.write, Write::Merge { .. } | Write::Changes { .. });
        if by_key && load.target.key.is_empty() {
            return Err(Error::config(format!(
                "{}: rows cannot be merged without key fields",
                load.target.name
            ))
            .field("primary_keys"));
        }
        let is_ours = |name: &str| {
            [ROW, OP, KEPT]
                .iter()
                .any(|ours| ours.eq_ignore_ascii_case(name))
        };
        if matches!(load.write, Write::Changes { .. })
            && let Some(column) = load.target.columns.iter().find(|c| is_ours(&c.name))
        {
            return Err(Error::config(format!(
                "a column of {} cannot be called {}: the name is kept for bookkeeping",
                load.target.name, column.name
            ))
            .hint("give the field another output name, or leave it out"));
        }
        let namespace = load
            .target
            .namespace
            .as_deref()
            .filter(|name| !name.is_empty());
        let target = Place {
            catalog: file.catalog.clone(),
            namespace: namespace.unwrap_or(NAMESPACE).to_owned(),
            table: load.target.name.clone(),
        };
        Ok(Plan {
            stage: target.beside(&format!("{}stage_{}", discover::OURS, load.id)),
            tokens: target.beside(&format!("{}loads", discover::OURS)),
            target,
            load,
        })
    }

    pub fn merges(&self) -> bool {
        matches!(self.load.write, Write::Merge { .. })
    }

    pub fn takes_changes(&self) -> bool {
        matches!(self.load.write, Write::Changes { .. })
    }

    /// Indexes of the key columns among those of the load.
    pub fn key_places(&self) -> Vec<usize> {
        let columns = self.load.target.columns.iter().enumerate();
        let in_key = columns.filter(|(_, column)| self.load.target.key.contains(&column.name));
        in_key.map(|(place, _)| place).collect()
    }

    /// The new rows go into the table that is there, rather than into one of their own.
    fn keeps_table(&self) -> bool {
        match (self.load.disposition, self.load.write) {
            (Disposition::Rebuild, _) => false,
            (Disposition::Retain, Write::Replace) => self.load.truncate_existing,
            _ => true,
        }
    }

    /// Rows that are there go away in the same step as the new ones appear.
    fn empties_table(&self) -> bool {
        self.load.disposition == Disposition::Truncate || self.load.write == Write::Replace
    }

    /// Columns of the table that this load neither brings nor keeps up.
    fn extras<'a>(&self, present: &'a [Described]) -> Vec<&'a Described> {
        let system = self.load.system_columns();
        present
            .iter()
            .filter(|column| {
                let ours = |name: &str| name.eq_ignore_ascii_case(&column.name);
                !system.iter().any(|name| ours(name))
                    && !self
                        .load
                        .target
                        .columns
                        .iter()
                        .any(|wanted| ours(&wanted.name))
            })
            .collect()
    }
}

/// Removes what an earlier attempt staged, behind the gate that its last step passes too.
pub async fn withdraw(file: Arc<File>, load: Load) -> Result<bool> {
    let plan = Plan::new(load, &file)?;
    let session = file.session().await?;
    let _gate = file.gate().await;
    prepare(&session, &plan).await?;
    transaction(&session, stage::removal(&plan)).await?;
    tokens::is_there(&session, &plan.tokens, &plan.load.id, "").await
}

async fn prepare(session: &Session, plan: &Plan) -> Result<()> {
    let namespace = format!(
        "{}.{}",
        sql::name(&plan.target.catalog),
        sql::name(&plan.target.namespace)
    );
    session
        .execute(format!("CREATE SCHEMA IF NOT EXISTS {namespace}"))
        .await?;
    tokens::prepare(session, &plan.tokens).await
}

pub async fn begin(file: Arc<File>, load: Load) -> Result<DuckDbLoad> {
    if file.read_only {
        return Err(Error::permission("the database file is read-only")
            .field("path")
            .hint("grant the server's user the right to write the file and its folder"));
    }
    let plan = Plan::new(load, &file)?;
    let session = Arc::new(file.session().await?);
    let gate = file.gate().await;
    prepare(&session, &plan).await?;
    let (mut landed, finished) = tokens::read(&session, &plan).await?;
    let mut changes = Vec::new();
    let mut layout = Stage::default();
    if !finished {
        let rebuilds = plan.load.disposition == Disposition::Rebuild;
        let present = match discover::find(&session, &plan.target).await? {
            Found::View => {
                return Err(
                    Error::conflict(format!("{} is a view", plan.target.shown()))
                        .hint("give the table another output name, or drop the view"),
                );
            }
            Found::Table(_) if rebuilds => None,
            Found::Table(columns) => {
                Some(target::evolve(&session, &plan, columns, &mut changes).await?)
            }
            Found::Nothing => None,
        };
        layout = Stage::layout(&plan, present.as_deref());
        let kept = plan.load.resume && stage::is_laid_out(&session, &plan.stage, &layout).await?;
        if !kept {
            stage::renew(&session, &plan, &layout).await?;
            landed.clear();
        }
        layout.go_on(&session, &plan.stage).await?;
    }
    drop(gate);
    Ok(DuckDbLoad {
        file,
        session,
        plan,
        stage: layout,
        changes,
        landed,
        finished,
    })
}

#[async_trait]
impl TableLoad for DuckDbLoad {
    fn schema_changes(&self) -> &[SchemaChange] {
        &self.changes
    }

    fn landed(&self) -> &BTreeSet<String> {
        &self.landed
    }

    fn finished(&self) -> bool {
        self.finished
    }

    async fn lane(&self) -> Result<Box<dyn Lane>> {
        let lane = StageLane::new(
            self.file.clone(),
            self.session.clone(),
            &self.plan,
            self.stage.clone(),
        )
        .await?;
        Ok(Box::new(lane))
    }

    async fn read_back(&self, how: &ReadBack<'_>) -> Result<Option<Sums>> {
        let (file, session) = (&self.file, &self.session);
        let sums = read_back::read_back(file, session, &self.plan, &self.stage, how).await?;
        Ok(Some(sums))
    }

    async fn finish(&self) -> Result<Outcome> {
        let _gate = self.file.gate().await;
        finish::finish(&self.session, &self.plan).await
    }

    async fn abandon(&self) -> Result<()> {
        let _gate = self.file.gate().await;
        transaction(&self.session, stage::removal(&self.plan)).await
    }
}

/// Runs all statements or none.
async fn transaction(
    session: &Session,
    statements: impl IntoIterator<Item = String>,
) -> Result<()> {
    session.execute("BEGIN TRANSACTION").await?;
    for statement in statements {
        if let Err(error) = session.execute(statement).await {
            // A rollback has nothing to add to why it came to it.
            let _ = session.execute("ROLLBACK").await;
            return Err(error);
        }
    }
    session.execute("COMMIT").await?;
    Ok(())
}
