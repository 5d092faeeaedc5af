//! The statements that move staged rows (`s`) into the target (`t`).

mod changes;

use tideway_core::{
    Column, Error, Result,
    destination::{CREATED_AT, DELETED_AT, Deletes, Disposition, Load, Outcome, UPDATED_AT, Write},
};
use tokio_postgres::{Client, GenericClient, Transaction, error::SqlState};

pub use self::changes::StagedPart;

use crate::{connect::explain, sql::ident, types};

use super::{
    ddl::{Described, DescribedColumn, Place, list},
    evolve::spelled,
};

/// A column on its way from the staging table into the target.
struct Landing {
    name: String,
    /// The type of the target's column.
    declared: String,
    /// The staged value as it is assigned.
    put: String,
    /// The target's and the staged value, equal where nothing would change.
    same: (String, String),
    /// The staged value as a key of the target.
    key: String,
    converted: bool,
}

impl Landing {
    fn new(column: &Column, found: &DescribedColumn) -> Landing {
        let name = ident(&column.name);
        let (there, here) = (format!("t.{name}"), format!("s.{name}"));
        let converted = found.declared != spelled(column);
        let (put, same, key) = match (converted, found.textual) {
            (false, _) => (here.clone(), (there, here.clone()), here),
            // Assigned text that is too long for the column is an error; an explicit cast
            // to its type would cut it.
            (true, true) => {
                let bare = format!("{here}::{}", found.bare);
                let same = (format!("{there}::text"), format!("{bare}::text"));
                (format!("{here}::text"), same, bare)
            }
            (true, false) => {
                let put = format!("{here}::{}", found.declared);
                (put.clone(), (there, put.clone()), put)
            }
        };
        Landing {
            name,
            declared: found.declared.clone(),
            put,
            same,
            key,
            converted,
        }
    }
}

/// A staged load on its way into an existing target.
pub struct Moving<'a> {
    load: &'a Load,
    place: &'a Place,
    table: String,
    stage: String,
    landings: Vec<Landing>,
    target: &'a Described,
}

impl<'a> Moving<'a> {
    /// # Errors
    /// `Drift` where the target lacks a column of the load.
    pub fn new(load: &'a Load, place: &'a Place, target: &'a Described) -> Result<Moving<'a>> {
        let landing = |column: &Column| match target.column(&column.name) {
            Some(found) => Ok(Landing::new(column, found)),
            None => Err(Error::drift(format!(
                "{place} has lost its column {}",
                column.name
            ))),
        };
        let landings = load.target.columns.iter().map(landing);
        Ok(Moving {
            load,
            place,
            table: place.sql(),
            stage: place.stage(&load.id).sql(),
            landings: landings.collect::<Result<_>>()?,
            target,
        })
    }

    /// Asks the server whether it can convert what is staged at all, before any row is.
    pub async fn check_conversions<C: GenericClient>(&self, client: &C) -> Result<()> {
        for (column, landing) in self.load.target.columns.iter().zip(&self.landings) {
            if !landing.converted {
                continue;
            }
            let (from, to) = (types::ddl(column.logical), &landing.declared);
            let probe = format!("SELECT NULL::{from}::{to}");
            let Err(error) = client.prepare(&probe).await else {
                continue;
            };
            if error.code() != Some(&SqlState::CANNOT_COERCE) {
                return Err(explain(error));
            }
            return Err(Error::data(format!(
                "column {} of {} is {to}, to which {from} cannot be converted",
                column.name, self.place
            ))
            .hint("change the type of the column, rebuild the table, or leave the field out"));
        }
        Ok(())
    }

    /// Moves the rows, of which there are `staged`, as the load asks for.
    pub async fn run(&self, transaction: &Transaction<'_>, staged: u64) -> Result<Outcome> {
        let load = self.load;
        if load.write == Write::Replace || load.disposition == Disposition::Truncate {
            self.empty(transaction).await?;
        }
        let Write::Merge { .. } = load.write else {
            return Ok(Outcome {
                inserted: execute(transaction, &self.insert("")).await?,
                ..Outcome::default()
            });
        };
        let updated = match self.update() {
            Some(sql) => execute(transaction, &sql).await?,
            None => 0,
        };
        let absent = format!("WHERE NOT EXISTS ({})", self.matches(&self.table, "t"));
        let inserted = execute(transaction, &self.insert(&absent)).await?;
        let deleted = self.delete_vanished(transaction).await?;
        Ok(Outcome {
            inserted,
            updated,
            deleted,
            unchanged: staged.saturating_sub(inserted).saturating_sub(updated),
            ..Outcome::default()
        })
    }

    /// Empties the target. Where foreign keys or missing rights rule TRUNCATE out, the
    /// rows are deleted one by one.
    pub async fn empty(&self, transaction: &Transaction<'_>) -> Result<()> {
        let table = &self.table;
        let run = |sql: String| async move { transaction.batch_execute(&sql).await };
        run("SAVEPOINT filled".to_owned()).await.map_err(explain)?;
        match run(format!("TRUNCATE {table}")).await {
            Ok(()) => {}
            Err(error) if matches!(error.code().map(SqlState::code), Some("0A000" | "42501")) => {
                let sql = format!("ROLLBACK TO SAVEPOINT filled; DELETE FROM {table}");
                run(sql).await.map_err(explain)?;
            }
            Err(error) => return Err(explain(error)),
        }
        run("RELEASE SAVEPOINT filled".to_owned())
            .await
            .map_err(explain)
    }

    fn insert(&self, which: &str) -> String {
        let names = self.landings.iter().map(|landing| landing.name.clone());
        let values = self.landings.iter().map(|landing| landing.put.clone());
        let stamps = self.stamps(&[CREATED_AT, UPDATED_AT]);
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {} s {which}",
            self.table,
            list(names.chain(stamps.iter().map(|name| ident(name)))),
            list(values.chain(stamps.iter().map(|_| "now()".to_owned()))),
            self.stage
        )
    }

    /// Brings rows up to date that differ from what was staged, or were marked deleted.
    /// Values are compared by their stored image, so that no change is too small.
    fn update(&self) -> Option<String> {
        let set = |_, landing: &Landing| format!("{} = {}", landing.name, landing.put);
        self.update_where(set, |_, value| value.to_owned(), "true")
    }

    /// The same for the staged rows for which `which` is true: `set` assigns to a column,
    /// and `told` is what its values are compared as.
    fn update_where(
        &self,
        set: impl Fn(usize, &Landing) -> String,
        told: impl Fn(usize, &str) -> String,
        which: &str,
    ) -> Option<String> {
        let key = &self.load.target.key;
        let data = || {
            let columns = self.load.target.columns.iter().zip(&self.landings);
            let columns = columns.enumerate();
            columns
                .filter(|(_, (column, _))| !key.contains(&column.name))
                .map(|(at, (_, landing))| (at, landing))
        };
        let mut sets: Vec<String> = data().map(|(at, landing)| set(at, landing)).collect();
        let mut differs = Vec::new();
        if !sets.is_empty() {
            differs.push(format!(
                "ROW({})::record *<> ROW({})::record",
                list(data().map(|(at, landing)| told(at, &landing.same.0))),
                list(data().map(|(at, landing)| told(at, &landing.same.1)))
            ));
        }
        if self.target.column(DELETED_AT).is_some() {
            let name = ident(DELETED_AT);
            sets.push(format!("{name} = NULL"));
            differs.push(format!("t.{name} IS NOT NULL"));
        }
        if differs.is_empty() {
            return None;
        }
        sets.extend(self.set_now(&[UPDATED_AT]));
        Some(format!(
            "UPDATE {} t SET {} FROM {} s WHERE {} AND {which} AND ({})",
            self.table,
            list(sets),
            self.stage,
            self.same_key(),
            differs.join(" OR ")
        ))
    }

    /// Handles the rows whose keys the source has no more.
    /// Handles the rows whose keys the source has no more, if the load tells of all of them.
    pub async fn delete_vanished(&self, transaction: &Transaction<'_>) -> Result<u64> {
        match self.load.vanished() {
            Some(deletes) => execute(transaction, &self.delete(deletes)).await,
            None => Ok(0),
        }
    }

    fn delete(&self, deletes: Deletes) -> String {
        let gone = format!("NOT EXISTS ({})", self.matches(&self.stage, "s"));
        match deletes {
            Deletes::Hard => format!("DELETE FROM {} t WHERE {gone}", self.table),
            Deletes::Soft => {
                let name = ident(DELETED_AT);
                let mut sets = vec![format!("{name} = now()")];
                sets.extend(self.set_now(&[UPDATED_AT]));
                let (table, sets) = (&self.table, list(sets));
                format!("UPDATE {table} t SET {sets} WHERE t.{name} IS NULL AND {gone}")
            }
        }
    }

    fn matches(&self, table: &str, alias: &str) -> String {
        format!("SELECT FROM {table} {alias} WHERE {}", self.same_key())
    }

    fn same_key(&self) -> String {
        self.same_key_as("t")
    }

    /// The condition that a row was staged for the key of the one that goes by this name.
    pub fn is_staged(&self, row: &str) -> String {
        let (stage, same_key) = (&self.stage, self.same_key_as(row));
        format!("EXISTS (SELECT FROM {stage} s WHERE {same_key})")
    }

    fn same_key_as(&self, row: &str) -> String {
        let columns = self.load.target.columns.iter().zip(&self.landings);
        let of_key = columns.filter(|(column, _)| self.load.target.key.contains(&column.name));
        let pairs = of_key.map(|(_, landing)| format!("{row}.{} = {}", landing.name, landing.key));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    /// Columns set to the current time, of those that the target has.
    fn stamps(&self, names: &[&'static str]) -> Vec<&'static str> {
        let kept = |name: &&&str| self.load.record_timestamps && self.target.column(name).is_some();
        names.iter().filter(kept).copied().collect()
    }

    fn set_now(&self, names: &[&'static str]) -> Vec<String> {
        let stamps = self.stamps(names).into_iter();
        stamps
            .map(|name| format!("{} = now()", ident(name)))
            .collect()
    }

    /// The error with the column whose values the target does not take, where a conversion
    /// is to blame. Comes after the transaction was rolled back.
    pub async fn name_column(&self, client: &mut Client, error: Error) -> Error {
        for (column, landing) in self.load.target.columns.iter().zip(&self.landings) {
            let refused = landing.converted && self.refuses(client, landing).await.unwrap_or(false);
            if refused {
                let (name, to) = (&column.name, &landing.declared);
                return error
                    .while_(format!("{}: column {name} ({to})", self.place))
                    .hint("correct the value at the source, or change the type of the column");
            }
        }
        error.while_(self.place)
    }

    /// Tries the assignment of one column alone, into a table that nobody sees.
    async fn refuses(&self, client: &mut Client, landing: &Landing) -> Result<bool> {
        let transaction = client.transaction().await.map_err(explain)?;
        let sql = format!(
            "CREATE TEMPORARY TABLE pg_temp._tideway_trial (value {}) ON COMMIT DROP; \
             INSERT INTO pg_temp._tideway_trial SELECT {} FROM {} s",
            landing.declared, landing.put, self.stage
        );
        let tried = transaction.batch_execute(&sql).await;
        transaction.rollback().await.map_err(explain)?;
        Ok(tried.is_err())
    }
}

async fn execute(transaction: &Transaction<'_>, sql: &str) -> Result<u64> {
    transaction.execute(sql, &[]).await.map_err(explain)
}
