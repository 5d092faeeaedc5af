//! Views that begin at a place in the binary log that is known.
//!
//! A transaction stands in the log before its rows can be seen, so a place that is read while
//! others commit belongs to no view. Everybody is kept from committing for an instant: by a
//! lock of the server, or of the tables where the account may not lock the server. MariaDB
//! can do without: it tells which place a session's view is of.

use tideway_core::{Error, Kind, Result, TableId};

use super::{BEGIN, LOCK_SECONDS, others};
use crate::{
    changes::{End, Place, gtid_at},
    connect::{Flavor, MySql, Session},
    discover::{describe, text},
    sql::{list, qualified},
};

/// Tables that others hold on to are asked for again, for while we wait for them, everybody
/// queues up behind us.
const TRIES: u32 = 5;
const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

pub async fn begin_at(
    mysql: &MySql,
    mut holder: Session,
    tables: &[TableId],
) -> Result<(Vec<Session>, Place, Option<String>)> {
    let mut sessions = others(mysql).await;
    if sessions.is_empty() {
        return Err(Error::new(
            Kind::RateLimited { after: None },
            "the server has no room for a second session",
        ));
    }
    holder
        .run(&format!("SET SESSION lock_wait_timeout = {LOCK_SECONDS}"))
        .await?;
    let locked = holder.run("FLUSH TABLES WITH READ LOCK").await;
    if let Err(refused) = locked {
        if holder.server.flavor == Flavor::MariaDb {
            return alone(holder).await;
        }
        tracing::info!(%refused, "the tables are locked for an instant instead of the server");
        lock_tables(&mut holder, tables).await?;
    }
    let begun = async {
        let end = End::of(&mut holder).await?;
        let all = sessions.iter_mut().map(|session| session.run(BEGIN));
        futures::future::try_join_all(all).await?;
        Ok(end)
    };
    let begun: Result<End> = begun.await;
    // Whatever has happened, nobody waits for us any longer.
    let unlocked = holder.run("UNLOCK TABLES").await;
    let end = begun?;
    unlocked?;
    holder.run("SET SESSION lock_wait_timeout = 120").await?;
    mysql.keep(holder);
    Ok((sessions, end.place, end.gtid))
}

/// MariaDB notes the place that a view is of with the session that has it.
async fn alone(mut session: Session) -> Result<(Vec<Session>, Place, Option<String>)> {
    session.run("SET SESSION lock_wait_timeout = 120").await?;
    session.run(BEGIN).await?;
    let rows = session
        .rows("SHOW STATUS WHERE Variable_name IN ('binlog_snapshot_file', 'binlog_snapshot_position')")
        .await?;
    let value = |name: &str| {
        let mut rows = rows.iter();
        let row = rows.find(|row| text(row, 0).eq_ignore_ascii_case(name));
        row.map(|row| text(row, 1)).unwrap_or_default()
    };
    let (file, at) = (
        value("binlog_snapshot_file"),
        value("binlog_snapshot_position"),
    );
    let at = at.parse().ok().filter(|_| !file.is_empty());
    let at = at.ok_or_else(|| Error::bug("the server does not tell where its snapshot stands"))?;
    let place = Place { file, at };
    let gtid = gtid_at(&mut session, &place).await?;
    Ok((vec![session], place, gtid))
}

async fn lock_tables(holder: &mut Session, tables: &[TableId]) -> Result<()> {
    let mut names = Vec::new();
    for table in tables {
        let database = table.namespace.as_deref().unwrap_or_default();
        // What is gone, or no table, fails alone, when it is read.
        if describe(holder, database, &table.name)
            .await?
            .is_some_and(|found| !found.view)
        {
            names.push(format!("{} READ", qualified(database, &table.name)));
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let sql = format!("LOCK TABLES {}", list(names));
    for tried in 1.. {
        let error = match holder.run(&sql).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match error.kind {
            Kind::Timeout if tried < TRIES => tokio::time::sleep(PAUSE).await,
            Kind::Timeout => {
                return Err(error
                    .while_("locking the tables for an instant")
                    .hint("end transactions that hold them for long, or GRANT RELOAD ON *.*"));
            }
            Kind::Permission => {
                return Err(error
                    .while_("locking the tables for an instant")
                    .field(holder.account_field)
                    .hint("GRANT RELOAD ON *.*, or LOCK TABLES on the databases, to the account of this connection"));
            }
            _ => return Err(error.while_("locking the tables for an instant")),
        }
    }
    Ok(())
}
