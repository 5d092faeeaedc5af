//! Waiting for locks: long enough for a report to end, never in the way of others for
//! long, and with the name of whoever is in the way.

use std::time::{Duration, Instant};

use tideway_core::{Error, Kind, Result};
use tokio_postgres::{Client, GenericClient, Row, Transaction};

use crate::connect::explain;

use super::ddl::{Place, cell};

/// All in all.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 4 } else { 120 });
/// While we wait for an exclusive lock, everybody else queues up behind us; so we step
/// back now and then to let them through.
const TURN: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
const PAUSE: Duration = Duration::from_millis(500);

/// The statement that gives up statements of a transaction which wait too long for a lock.
pub fn limit() -> String {
    timeout(PATIENCE)
}

fn timeout(time: Duration) -> String {
    format!("SET LOCAL lock_timeout = {}", time.as_millis())
}

async fn set(transaction: &Transaction<'_>, time: Duration) -> Result<()> {
    transaction
        .batch_execute(&timeout(time))
        .await
        .map_err(explain)
}

/// Waits until no other load of this table is in its last step, and keeps others out
/// until the transaction ends.
pub async fn take_turn(transaction: &Transaction<'_>, place: &Place) -> Result<()> {
    let locked = transaction.execute(TAKE_TURN, &[&turn(place)]).await;
    locked.map(|_| ()).map_err(explain)
}

/// The statement that takes the turn of this name.
pub const TAKE_TURN: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";

/// What the turn of a table is called.
pub fn turn(place: &Place) -> String {
    format!("tideway {}", place.sql())
}

async fn turn_key<C: GenericClient>(client: &C, place: &Place) -> Result<i64> {
    const HASH: &str = "SELECT pg_catalog.hashtextextended($1, 0)";
    let row = client.query_one(HASH, &[&turn(place)]).await;
    cell(&row.map_err(explain)?, 0)
}

/// Locks the table against everybody until the transaction ends.
pub async fn lock_table(transaction: &mut Transaction<'_>, place: &Place) -> Result<()> {
    let started = Instant::now();
    let sql = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", place.sql());
    set(transaction, TURN).await?;
    loop {
        let turn = transaction.transaction().await.map_err(explain)?;
        match turn.batch_execute(&sql).await {
            Ok(()) => {
                turn.commit().await.map_err(explain)?;
                return set(transaction, PATIENCE).await;
            }
            Err(error) if is_timeout(&error) && started.elapsed() + TURN < PATIENCE => {
                turn.rollback().await.map_err(explain)?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(explain(error)),
        }
    }
}

fn is_timeout(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code() == "55P03")
}

/// Another load's turn, or any lock on the table or on what is staged for it.
const HOLDERS: &str = "\
SELECT l.pid, a.usename::text, a.application_name FROM pg_catalog.pg_locks l \
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
WHERE l.granted AND l.pid IS NOT NULL AND l.pid <> pg_catalog.pg_backend_pid() \
AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
AND (l.locktype = 'advisory' AND l.objsubid = 1 \
AND ((l.classid::bigint << 32) | l.objid::bigint) = $1 \
OR l.locktype = 'relation' AND l.relation IN (SELECT c.oid FROM pg_catalog.pg_class c \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE n.nspname = $2 AND c.relname = ANY ($3))) \
ORDER BY l.locktype, a.xact_start LIMIT 1";

/// The error with the name of whoever holds what was waited for in vain. Comes after the
/// transaction was rolled back, so whoever it was may be gone.
pub async fn name_blocker(client: &Client, place: &Place, stage: &Place, error: Error) -> Error {
    if error.kind != Kind::Timeout {
        return error;
    }
    let Ok(Some((pid, name))) = holder(client, place, stage).await else {
        return error.while_(place);
    };
    Error::timeout(format!("{place} is locked by {name}")).hint(format!(
        "wait until that session is done, or end it: SELECT pg_terminate_backend({pid})"
    ))
}

async fn holder(client: &Client, place: &Place, stage: &Place) -> Result<Option<(i32, String)>> {
    let key = turn_key(client, place).await?;
    let names = [&place.name, &stage.name];
    let found = client
        .query_opt(HOLDERS, &[&key, &place.schema, &names.as_slice()])
        .await;
    found.map_err(explain)?.as_ref().map(described).transpose()
}

fn described(row: &Row) -> Result<(i32, String)> {
    let pid: i32 = cell(row, 0)?;
    let role: Option<String> = cell(row, 1)?;
    let application: Option<String> = cell(row, 2)?;
    let role = role.unwrap_or_else(|| "unknown".to_owned());
    let name = match application.filter(|application| !application.is_empty()) {
        Some(application) => format!("session {pid} of role {role} ({application})"),
        None => format!("session {pid} of role {role}"),
    };
    Ok((pid, name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tideway_core::{connector::ConnectCx, form};
    use url::Url;

    use super::*;
    use crate::{
        connect::{Postgres, Session},
        sql::ident,
    };

    async fn server(purpose: &str) -> Postgres {
        const NAME: &str = "TIDEWAY_TEST_POSTGRES_URL";
        let url = std::env::var(NAME)
            .unwrap_or_else(|_| panic!("{NAME} is not set: run through `make test`"));
        let url: Url = url.parse().unwrap();
        let config = json!({
            "host": url.host_str(),
            "port": url.port(),
            "database": url.path().trim_start_matches('/'),
            "username": url.username(),
            "password": url.password(),
            "sslmode": "disable",
        });
        let cx = ConnectCx {
            purpose: purpose.into(),
            ..ConnectCx::default()
        };
        Postgres::open(form::parse(&config).unwrap(), &cx)
            .await
            .unwrap()
    }

    /// A table in a schema of its own, and a session that can lock it.
    async fn locked_table() -> (Place, Session) {
        let place = Place {
            schema: format!("lock_{}", uuid::Uuid::new_v4().simple()),
            name: "it".into(),
        };
        let holder = server("a long report").await.client().await.unwrap();
        let (schema, table) = (ident(&place.schema), place.sql());
        holder
            .run(&format!("CREATE SCHEMA {schema}; CREATE TABLE {table} ()"))
            .await
            .unwrap();
        (place, holder)
    }

    async fn drop_table(place: &Place, holder: &Session) {
        holder.run("ROLLBACK").await.unwrap();
        let sql = format!("DROP SCHEMA {} CASCADE", ident(&place.schema));
        holder.run(&sql).await.unwrap();
    }

    #[tokio::test]
    async fn a_lock_that_is_held_too_long_is_given_up_with_the_holders_name() {
        let (place, holder) = locked_table().await;
        let sql = format!("BEGIN; SELECT FROM {}", place.sql());
        holder.run(&sql).await.unwrap();
        let mut session = server("us").await.client().await.unwrap();
        let mut transaction = session.transaction().await.unwrap();
        let error = lock_table(&mut transaction, &place).await.unwrap_err();
        drop(transaction);
        let error = name_blocker(&session, &place, &place, error).await;
        assert_eq!(error.kind, Kind::Timeout);
        assert!(
            error
                .what()
                .starts_with(&format!("{place} is locked by session ")),
            "{error}"
        );
        assert!(error.what().ends_with("(a long report)"), "{error}");
        assert!(error.advice().contains("pg_terminate_backend("));
        drop_table(&place, &holder).await;
    }

    #[tokio::test]
    async fn a_lock_that_is_let_go_in_time_is_taken() {
        let (place, holder) = locked_table().await;
        let sql = format!("BEGIN; SELECT FROM {}", place.sql());
        holder.run(&sql).await.unwrap();
        let mut session = server("us").await.client().await.unwrap();
        let mut transaction = session.transaction().await.unwrap();
        let release = async {
            tokio::time::sleep(TURN + PAUSE / 2).await;
            holder.run("COMMIT").await.unwrap();
        };
        let (locked, ()) = tokio::join!(lock_table(&mut transaction, &place), release);
        locked.unwrap();
        transaction.commit().await.unwrap();
        drop_table(&place, &holder).await;
    }

    #[tokio::test]
    async fn only_one_load_of_a_table_has_its_turn() {
        let (place, mut holder) = locked_table().await;
        let other = place.beside("other");
        let first = holder.transaction().await.unwrap();
        take_turn(&first, &place).await.unwrap();
        let mut session = server("us").await.client().await.unwrap();
        let transaction = session.transaction().await.unwrap();
        transaction.batch_execute(&limit()).await.unwrap();
        take_turn(&transaction, &other).await.unwrap();
        let error = take_turn(&transaction, &place).await.unwrap_err();
        drop(transaction);
        let error = name_blocker(&session, &place, &place, error).await;
        assert!(error.what().contains("(a long report)"), "{error}");
        drop(first);
        drop_table(&place, &holder).await;
    }
}
