//! What the server says of its binary log.

use std::collections::HashMap;

use tideway_core::{Error, Kind, Result};

use super::position::{FILE_START, Log, Place};
use crate::{
    connect::{Flavor, Session},
    discover::{number, text},
    sql::{list, literal},
};

const NAMES: &[&str] = &[
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_checksum",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "innodb_native_foreign_keys",
    "lower_case_table_names",
    "server_uuid",
    "gtid_mode",
    "gtid_executed",
    "gtid_purged",
    "gtid_binlog_pos",
    "server_id",
    "hostname",
    "port",
];

/// The server's settings.
pub struct Variables(HashMap<String, String>);

impl Variables {
    pub async fn of(session: &mut Session) -> Result<Variables> {
        let names = list(NAMES.iter().map(|name| literal(name)));
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
        let rows = session.rows(&sql).await?;
        let pairs = rows.iter().map(|row| (text(row, 0), text(row, 1)));
        Ok(Variables(pairs.collect()))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn log(&self) -> Log {
        let of = |name: &str| self.get(name).unwrap_or_default();
        let server = match self.get("server_uuid") {
            Some(uuid) => uuid.to_owned(),
            None => format!("{}@{}:{}", of("server_id"), of("hostname"), of("port")),
        };
        Log { server }
    }

    /// The transactions that the log holds or has held, where the server numbers them.
    pub fn executed(&self) -> Option<String> {
        let text = match self.get("gtid_binlog_pos") {
            Some(last) => last,
            None if self.get("gtid_mode") == Some("ON") => self.get("gtid_executed")?,
            None => return None,
        };
        Some(text.replace('\n', ""))
    }

    pub fn checksums(&self) -> bool {
        self.get("binlog_checksum")
            .is_some_and(|algorithm| algorithm != "NONE")
    }

    /// Names of tables know no case, and the log may have them in another one.
    pub fn caseless(&self) -> bool {
        self.get("lower_case_table_names")
            .is_some_and(|fold| fold != "0")
    }

    /// Seconds after which files of the log are deleted; `None`: never.
    pub fn retention(&self) -> Option<u64> {
        let of = |name: &str| -> Option<f64> { self.get(name)?.parse().ok() };
        let seconds = of("binlog_expire_logs_seconds").unwrap_or_default();
        let days = of("expire_logs_days").unwrap_or_default();
        let kept = if seconds > 0.0 {
            seconds
        } else {
            days * 86_400.0
        };
        (kept > 0.0).then_some(kept as u64)
    }

    /// What the server is not set up for, with what to do.
    pub fn check(&self, flavor: Flavor) -> Result<()> {
        let keep = match flavor {
            Flavor::MySql => "SET PERSIST",
            Flavor::MariaDb => "SET GLOBAL (and in the server's configuration)",
        };
        if self.get("log_bin") != Some("ON") {
            return Err(
                Error::config("the server writes no binary log: log_bin is OFF")
                    .field("change_detection")
                    .hint("start the server with --log-bin and a server id (on managed servers: switch backups on)"),
            );
        }
        for (name, wanted) in [
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
        ] {
            let found = match self.get(name) {
                Some(found) => found,
                // Servers without the choice hold whole rows, and no names of columns.
                None if name == "binlog_row_metadata" => {
                    return Err(Error::unsupported(
                        "the server is too old for change detection: its binary log does not name columns",
                    )
                    .field("change_detection")
                    .hint("MySQL 8.0.1, MariaDB 10.5 or newer is needed"));
                }
                None => continue,
            };
            if !found.eq_ignore_ascii_case(wanted) {
                return Err(Error::config(format!(
                    "the server does not log what change detection reads: {name} is {found}"
                ))
                .field("change_detection")
                .hint(format!(
                    "{keep} {name} = {wanted}, then end sessions that are open"
                )));
            }
        }
        if self
            .get("binlog_row_value_options")
            .is_some_and(|options| options.contains("PARTIAL_JSON"))
        {
            return Err(super::json::partial());
        }
        Ok(())
    }
}

/// The files of the log, the oldest first, with their sizes in bytes.
pub async fn files(session: &mut Session) -> Result<Vec<Place>> {
    let account_field = session.account_field;
    let rows = session.rows("SHOW BINARY LOGS").await.map_err(|error| {
        // No log at all.
        match error.kind {
            Kind::Permission => may_look(account_field, error),
            _ => error.while_("looking at the binary log"),
        }
    })?;
    Ok(rows
        .iter()
        .map(|row| Place {
            file: text(row, 0),
            at: number(row, 1).unwrap_or_default(),
        })
        .collect())
}

/// The end of the log, and the databases that it leaves out or is limited to.
pub struct End {
    pub place: Place,
    pub only: Vec<String>,
    pub without: Vec<String>,
    /// The transactions up to there, where the server numbers them.
    pub gtid: Option<String>,
}

/// The transactions up to a place, where the server numbers them.
pub async fn gtid_at(session: &mut Session, place: &Place) -> Result<Option<String>> {
    if session.server.flavor != Flavor::MariaDb {
        return Ok(None);
    }
    let sql = format!(
        "SELECT BINLOG_GTID_POS({}, {})",
        literal(&place.file),
        place.at
    );
    session.value(&sql).await
}

impl End {
    pub async fn of(session: &mut Session) -> Result<End> {
        let renamed = session.server.flavor == Flavor::MySql && session.server.version >= (8, 2, 0);
        let sql = match renamed {
            true => "SHOW BINARY LOG STATUS",
            false => "SHOW MASTER STATUS",
        };
        let account_field = session.account_field;
        let rows = session.rows(sql).await.map_err(|error| match error.kind {
            Kind::Permission => may_look(account_field, error),
            _ => error,
        })?;
        let row = rows.first().ok_or_else(|| {
            Error::config("the server writes no binary log").field("change_detection")
        })?;
        let names = |at: usize| -> Vec<String> {
            let names = text(row, at);
            let names = names.split(',').map(str::trim);
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let place = Place {
            file: text(row, 0),
            at: number(row, 1).unwrap_or(FILE_START),
        };
        let executed = text(row, 4).replace('\n', "");
        let gtid = match executed.is_empty() {
            true => gtid_at(session, &place).await?,
            false => Some(executed),
        };
        Ok(End {
            place,
            gtid,
            only: names(2),
            without: names(3),
        })
    }

    /// Whether changes in the database are logged.
    pub fn tells_of(&self, database: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == database);
        (self.only.is_empty() || named(&self.only)) && !named(&self.without)
    }
}

fn may_look(account_field: &str, error: Error) -> Error {
    error.field(account_field).hint(
        "GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* to the account of this connection",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(changes: &[(&str, &str)]) -> Variables {
        let base = [
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("binlog_row_value_options", ""),
        ];
        let pairs = base.iter().chain(changes);
        Variables(
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn what_the_server_is_not_set_up_for_is_named() {
        assert!(of(&[]).check(Flavor::MySql).is_ok());
        for (name, value) in [
            ("log_bin", "OFF"),
            ("binlog_format", "MIXED"),
            ("binlog_row_image", "MINIMAL"),
            ("binlog_row_metadata", "NO_LOG"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
        ] {
            let error = of(&[(name, value)]).check(Flavor::MariaDb).unwrap_err();
            assert_eq!(error.blamed_field(), Some("change_detection"));
            let words = format!("{} {}", error.what(), error.advice());
            assert!(words.contains(name), "{words}");
        }
        let mut old = of(&[]);
        old.0.remove("binlog_row_metadata");
        let error = old.check(Flavor::MySql).unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported);
    }

    #[test]
    fn the_log_is_kept_by_seconds_or_else_by_days() {
        assert_eq!(of(&[]).retention(), None);
        let kept = of(&[
            ("binlog_expire_logs_seconds", "60"),
            ("expire_logs_days", "0.000694"),
        ]);
        assert_eq!(kept.retention(), Some(60));
        assert_eq!(of(&[("expire_logs_days", "2")]).retention(), Some(172_800));
    }
}
