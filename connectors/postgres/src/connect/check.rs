//! The connection check, step by step.

use tideway_core::{CheckReport, Error, Probe, Result};

use super::{Postgres, Session, explain};
use crate::changes::check_server;

/// Counts what the role may read, and names where it may write.
const RIGHTS: &str = "\
SELECT pg_catalog.current_setting('server_version'), \
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c \
   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
   AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
   AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')), \
  pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
  ARRAY(SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n \
   WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
   AND pg_catalog.has_schema_privilege(n.oid, 'CREATE') ORDER BY 1), \
  pg_catalog.pg_is_in_recovery(), \
  pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')";

struct Rights {
    version: String,
    readable_tables: i64,
    may_create_schemas: bool,
    writable_schemas: Vec<String>,
    standby: bool,
    sees_transactions: bool,
}

pub async fn check(postgres: &Postgres) -> CheckReport {
    let mut report = CheckReport::default();
    match reach(postgres).await {
        Ok(address) => report.pass("reach", address),
        Err(error) => {
            report.fail("reach", &error);
            return report;
        }
    }
    let session = match postgres.client().await {
        Ok(session) => session,
        Err(error) => {
            report.fail("sign in", &error);
            return report;
        }
    };
    let config = &postgres.config;
    let (role, mode) = (&config.username, config.sslmode().word());
    report.pass("sign in", format!("as {role}, sslmode {mode}"));
    match Rights::of(&session).await {
        Ok(rights) => rights.report(role, &config.database, &mut report),
        Err(error) => report.fail("server version", &error),
    }
    if config.change_detection {
        match check_server(&session, role).await {
            Ok(()) => report.pass("change detection", "the log can be followed"),
            Err(error) => report.fail("change detection", &error),
        }
    }
    postgres.keep(session);
    report
}

async fn reach(postgres: &Postgres) -> Result<String> {
    let address = postgres.config.address();
    postgres.reach().await?;
    Ok(format!(
        "{address} accepts connections{}",
        postgres.dialler.way()
    ))
}

impl Rights {
    async fn of(session: &Session) -> Result<Rights> {
        let row = session.query_one(RIGHTS, &[]).await.map_err(explain)?;
        let rights = || -> Result<Rights, tokio_postgres::Error> {
            Ok(Rights {
                version: row.try_get(0)?,
                readable_tables: row.try_get(1)?,
                may_create_schemas: row.try_get(2)?,
                writable_schemas: row.try_get(3)?,
                standby: row.try_get(4)?,
                sees_transactions: row.try_get(5)?,
            })
        };
        rights().map_err(explain)
    }

    fn report(self, role: &str, database: &str, report: &mut CheckReport) {
        let standby = if self.standby { ", a standby" } else { "" };
        report.pass(
            "server version",
            format!("PostgreSQL {}{standby}", self.version),
        );
        report.probes.push(self.read_permission(role));
        report.probes.push(self.write_permission(role, database));
        report.probes.push(self.late_commits(role));
    }

    // A role is often meant for reading or for writing alone, so that lacking one right is
    // told and is no failure.
    fn read_permission(&self, role: &str) -> Probe {
        let none = self.readable_tables == 0;
        Probe {
            name: "read permission".to_owned(),
            passed: true,
            detail: if none {
                "none: the database has no table that this role may read".to_owned()
            } else {
                format!("{} tables and views", self.readable_tables)
            },
            hint: none.then(|| {
                format!("to read from it: GRANT USAGE ON SCHEMA … and GRANT SELECT ON ALL TABLES IN SCHEMA … TO \"{role}\"")
            }),
        }
    }

    fn write_permission(&self, role: &str, database: &str) -> Probe {
        let (detail, hint) = if self.standby {
            (
                "none: a standby is read-only".to_owned(),
                Some("to write to it, connect to the primary".to_owned()),
            )
        } else if self.may_create_schemas {
            ("any schema, new ones included".to_owned(), None)
        } else if !self.writable_schemas.is_empty() {
            (
                format!("schemas {}", self.writable_schemas.join(", ")),
                None,
            )
        } else {
            let hint =
                format!("to write to it: GRANT CREATE ON DATABASE \"{database}\" TO \"{role}\"");
            (
                "none: the database can be read from, but not be a destination".to_owned(),
                Some(hint),
            )
        };
        Probe {
            name: "write permission".to_owned(),
            passed: true,
            detail,
            hint,
        }
    }

    fn late_commits(&self, role: &str) -> Probe {
        let (detail, hint) = if self.sees_transactions && !self.standby {
            (
                "incremental reads see how long other transactions are open".to_owned(),
                None,
            )
        } else if self.standby {
            ("incremental reads go back an hour, for a standby does not show the primary's transactions".to_owned(), None)
        } else {
            let hint = format!("GRANT pg_read_all_stats TO \"{role}\"");
            (
                "incremental reads go back an hour while transactions of other roles are open"
                    .to_owned(),
                Some(hint),
            )
        };
        Probe {
            name: "late commits".to_owned(),
            passed: true,
            detail,
            hint,
        }
    }
}

/// Versions before this lack what reading is built on.
const OLDEST: u32 = 100_000;

pub fn new_enough(version: u32) -> Result<()> {
    if version >= OLDEST {
        return Ok(());
    }
    let major = version / 10_000;
    Err(Error::unsupported(format!(
        "the server is PostgreSQL {major}, which is too old"
    ))
    .hint("PostgreSQL 10 or newer is needed"))
}
