//! Places in the write-ahead log.
//!
//! A place means something only on the server, and on the timeline, that it was taken from:
//! a restored backup and a standby that took over count on from the same numbers with other
//! contents.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use tideway_core::{Error, Position, Result};

use crate::connect::{Session, explain};

const KIND: &str = "postgresql.lsn";
const VERSION: u16 = 1;

/// A log sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    pub fn parse(text: &str) -> Option<Lsn> {
        let (high, low) = text.split_once('/')?;
        let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
        Some(Lsn(half(high)? << 32 | half(low)?))
    }
}

/// Which log a place is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The cluster's `system_identifier`, its digits.
    pub system: String,
    pub timeline: u32,
}

#[derive(Serialize, Deserialize)]
struct At {
    lsn: String,
    #[serde(flatten)]
    log: Log,
}

impl Log {
    pub fn position(&self, lsn: Lsn) -> Position {
        let at = At {
            lsn: lsn.to_string(),
            log: self.clone(),
        };
        Position {
            v: VERSION,
            kind: KIND.to_owned(),
            // A struct of texts and numbers is always JSON.
            at: serde_json::to_value(at).unwrap_or_default(),
        }
    }

    /// The place in this log.
    ///
    /// # Errors
    /// `Drift` where it is of another log, or no place of ours.
    pub fn place(&self, position: &Position) -> Result<Lsn> {
        let (lsn, log) = read(position)
            .ok_or_else(|| Error::drift("the position is not one of a PostgreSQL log"))?;
        if log.system != self.system {
            return Err(Error::drift(
                "the position is of another server: this one was restored or replaced",
            ));
        }
        if log.timeline != self.timeline {
            return Err(Error::drift(format!(
                "the position is of timeline {}, the server is on {}: another server took over",
                log.timeline, self.timeline
            )));
        }
        Ok(lsn)
    }
}

fn read(position: &Position) -> Option<(Lsn, Log)> {
    if position.kind != KIND || position.v != VERSION {
        return None;
    }
    let at: At = serde_json::from_value(position.at.clone()).ok()?;
    Some((Lsn::parse(&at.lsn)?, at.log))
}

/// The older one first. What is of another log than the right one is older than it: its
/// changes cannot be told any more.
pub fn compare(left: &Position, right: &Position) -> Ordering {
    match (read(left), read(right)) {
        (Some((left, of_left)), Some((right, of_right))) if of_left == of_right => left.cmp(&right),
        (Some((left, of_left)), Some((right, of_right))) if of_left.system == of_right.system => {
            (of_left.timeline, left).cmp(&(of_right.timeline, right))
        }
        (None, Some(_)) | (Some(_), Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// The end of the log.
pub struct End {
    pub log: Log,
    pub lsn: Lsn,
}

impl End {
    pub async fn of(session: &Session) -> Result<End> {
        const NOW: &str = "\
            SELECT pg_catalog.pg_is_in_recovery(), \
              CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
                THEN pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text END, \
              CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
                THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn()) END, \
              (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system())";
        let row = session.query_one(NOW, &[]).await.map_err(explain)?;
        if row.try_get(0).map_err(explain)? {
            return Err(Error::unsupported("the server is a standby")
                .hint("change detection reads from the primary: connect to it"));
        }
        let (lsn, file): (&str, &str) = (
            row.try_get(1).map_err(explain)?,
            row.try_get(2).map_err(explain)?,
        );
        // A log file's name begins with the timeline.
        let timeline = file
            .get(..8)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (Some(timeline), Some(lsn)) = (timeline, Lsn::parse(lsn)) else {
            return Err(Error::bug("the server names its log in another way"));
        };
        Ok(End {
            log: Log {
                system: row.try_get(3).map_err(explain)?,
                timeline,
            },
            lsn,
        })
    }

    pub fn position(&self) -> Position {
        self.log.position(self.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(system: &str, timeline: u32) -> Log {
        Log {
            system: system.to_owned(),
            timeline,
        }
    }

    #[test]
    fn places_are_written_and_read_as_the_server_does() {
        let lsn = Lsn(0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(Lsn::parse("16/B374D848"), Some(lsn));
        assert_eq!(log("7", 1).place(&log("7", 1).position(lsn)).unwrap(), lsn);
        for bad in ["", "/", "1", "1/", "x/1", "1/123456789"] {
            assert_eq!(Lsn::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_of_another_log_is_older_and_refused() {
        let (here, restored, promoted) = (log("7", 1), log("8", 1), log("7", 2));
        let (early, late) = (here.position(Lsn(1)), here.position(Lsn(2)));
        assert_eq!(compare(&early, &late), Ordering::Less);
        assert_eq!(compare(&late, &late), Ordering::Equal);
        assert_eq!(compare(&late, &restored.position(Lsn(1))), Ordering::Less);
        assert_eq!(compare(&late, &promoted.position(Lsn(1))), Ordering::Less);
        for other in [restored, promoted] {
            let error = other.place(&late).unwrap_err();
            assert_eq!(error.kind, tideway_core::Kind::Drift);
        }
    }
}
