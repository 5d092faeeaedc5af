//! The connection check, step by step.

use tideway_core::{CheckReport, Error, Probe, Result};

use super::{Flavor, MySql, ServerInfo, Session};
use crate::changes::{End, Variables};

pub async fn check(mysql: &MySql) -> CheckReport {
    let mut report = CheckReport::default();
    let address = mysql.config.address();
    match mysql.reach().await {
        Ok(_) => report.pass(
            "reach",
            format!("{address} accepts connections{}", mysql.dialler.way()),
        ),
        Err(error) => {
            report.fail("reach", &error);
            return report;
        }
    }
    let mut session = match mysql.session().await {
        Ok(session) => session,
        Err(error) => {
            report.fail("sign in", &error);
            return report;
        }
    };
    let (account, mode) = (&mysql.config.account, mysql.config.sslmode().word());
    report.pass("sign in", format!("as {account}, sslmode {mode}"));
    let relative = match session.server.flavor {
        Flavor::MySql => "MySQL",
        Flavor::MariaDb => "MariaDB",
    };
    report.pass(
        "server version",
        format!("{relative} {}", session.server.shown),
    );
    match tables(&mut session).await {
        Ok(0) => report.probes.push(Probe {
            name: "read permission".to_owned(),
            passed: true,
            detail: "none: there is no table that this account may read".to_owned(),
            hint: Some(format!(
                "to read from it: GRANT SELECT ON `database`.* TO '{account}'@'%'"
            )),
        }),
        Ok(count) => report.pass("read permission", format!("{count} tables and views")),
        Err(error) => report.fail("read permission", &error),
    }
    report.probes.push(lanes(&mut session, account).await);
    report
        .probes
        .push(late_commits(&mut session, account).await);
    if mysql.config.change_detection {
        change_detection(&mut session, account, &mut report).await;
    }
    if session.settled() {
        mysql.keep(session);
    }
    report
}

/// A log that is kept for less is easily gone when a sync stands still over night.
const KEPT_SECONDS: u64 = 86_400;

async fn change_detection(session: &mut Session, account: &str, report: &mut CheckReport) {
    let looked = async {
        let variables = Variables::of(session).await?;
        variables.check(session.server.flavor)?;
        let end = End::of(session).await?;
        let may = has_global(session, &["REPLICATION SLAVE"]).await?;
        Ok::<_, Error>((variables.retention(), end.place, may))
    };
    let (retention, end, may) = match looked.await {
        Ok(looked) => looked,
        Err(error) => return report.fail("change detection", &error),
    };
    report.pass("change detection", format!("the binary log is at {end}"));
    report.probes.push(Probe {
        name: "replication permission".to_owned(),
        passed: true,
        detail: if may {
            "the account may read the binary log".to_owned()
        } else {
            "not seen: it may come with a role".to_owned()
        },
        hint: (!may).then(|| format!("GRANT REPLICATION SLAVE ON *.* TO '{account}'@'%'")),
    });
    let short = retention.is_some_and(|seconds| seconds < KEPT_SECONDS);
    report.probes.push(Probe {
        name: "log retention".to_owned(),
        passed: true,
        detail: match retention {
            Some(seconds) => format!("{} hours", seconds / 3600),
            None => "the server purges nothing by itself".to_owned(),
        },
        hint: short.then(|| "SET GLOBAL binlog_expire_logs_seconds = 259200".to_owned()),
    });
}

async fn tables(session: &mut Session) -> Result<u64> {
    let count = session
        .value(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN \
             ('information_schema', 'mysql', 'performance_schema', 'sys')",
        )
        .await?;
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// A right to lock the server for an instant lets several sessions share one view.
async fn lanes(session: &mut Session, account: &str) -> Probe {
    let may = may_lock(session).await.unwrap_or(false);
    Probe {
        name: "parallel reads".to_owned(),
        passed: true,
        detail: if may {
            "several sessions read one snapshot".to_owned()
        } else {
            "one session reads: the account may not lock the server for an instant".to_owned()
        },
        hint: (!may).then(|| format!("GRANT RELOAD ON *.* TO '{account}'@'%'")),
    }
}

async fn late_commits(session: &mut Session, account: &str) -> Probe {
    let sees = sees_transactions(session).await.unwrap_or(false);
    Probe {
        name: "late commits".to_owned(),
        passed: true,
        detail: if sees {
            "incremental reads see how long other transactions are open".to_owned()
        } else {
            "incremental reads go back an hour, for other transactions cannot be seen".to_owned()
        },
        hint: (!sees).then(|| format!("GRANT PROCESS ON *.* TO '{account}'@'%'")),
    }
}

async fn has_global(session: &mut Session, rights: &[&str]) -> Result<bool> {
    let rows = session
        .rows("SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES")
        .await?;
    let held = rows.iter().filter_map(|row| row.first()?.as_deref());
    let mut held = held.filter(|right| rights.contains(right));
    Ok(held.next().is_some())
}

pub async fn may_lock(session: &mut Session) -> Result<bool> {
    has_global(session, &["RELOAD", "FLUSH_TABLES"]).await
}

/// Whether transactions and statements of other accounts show.
pub async fn sees_transactions(session: &mut Session) -> Result<bool> {
    has_global(session, &["PROCESS"]).await
}

/// Versions before these lack what reading is built on.
pub fn new_enough(server: &ServerInfo) -> Result<()> {
    let oldest = match server.flavor {
        Flavor::MySql => (5, 7, 0),
        Flavor::MariaDb => (10, 3, 0),
    };
    if server.version >= oldest {
        return Ok(());
    }
    Err(
        Error::unsupported(format!("the server is {}, which is too old", server.shown))
            .hint("MySQL 5.7, MariaDB 10.3 or newer is needed"),
    )
}
