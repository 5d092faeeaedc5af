//! Places in the binary log.
//!
//! A file and an offset in it mean something on the server only that wrote them. What was
//! executed up to there, in the server's own transaction ids, is kept beside them, so that a
//! server whose log was begun anew is told from the one that the place is of.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use tideway_core::{Error, Position, Result};

use super::gtid::Gtids;
use crate::connect::Flavor;

const KIND: &str = "mysql.binlog";
const VERSION: u16 = 1;
/// Where the first event of a file stands.
pub const FILE_START: u64 = 4;

/// A place between two events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub at: u64,
}

/// Where a position is for whoever reads a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located {
    /// In that very log.
    Here(Place),
    /// In another one: what had been executed there.
    Elsewhere(Gtids),
}

/// Which log a place is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// What the server is known by: its UUID, or number and name where it has none.
    pub server: String,
}

#[derive(Serialize, Deserialize)]
struct At {
    binlog: String,
    #[serde(flatten)]
    log: Log,
    /// The transactions up to the place, where the server numbers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gtid: Option<String>,
}

impl Place {
    /// The number that ends the file's name, by which files follow on each other.
    fn number(&self) -> u64 {
        let digits = self.file.rsplit('.').next().unwrap_or_default();
        digits.parse().unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Place> {
        let (file, at) = text.rsplit_once(':')?;
        let at = at.parse().ok()?;
        Some(Place {
            file: file.to_owned(),
            at,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.at)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Place) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Place) -> Ordering {
        let file = self.number().cmp(&other.number());
        file.then(self.at.cmp(&other.at))
            .then_with(|| self.file.cmp(&other.file))
    }
}

impl Log {
    pub fn position(&self, place: &Place, gtid: Option<String>) -> Position {
        let at = At {
            binlog: place.to_string(),
            log: self.clone(),
            gtid,
        };
        Position {
            v: VERSION,
            kind: KIND.to_owned(),
            // A struct of texts is always JSON.
            at: serde_json::to_value(at).unwrap_or_default(),
        }
    }

    /// What the position says to whoever reads this log, and the transactions up to it.
    ///
    /// # Errors
    /// `Drift` where it is of another log and names no transactions, or is no place of ours.
    pub fn locate(&self, position: &Position) -> Result<(Located, Option<String>)> {
        let (place, at) = read(position)
            .ok_or_else(|| Error::drift("the position is not one of a MySQL binary log"))?;
        if at.log == *self {
            return Ok((Located::Here(place), at.gtid));
        }
        let gtids = at.gtid.as_deref().and_then(gtids).ok_or_else(|| {
            Error::drift(
                "the position is of another server: this one was restored, replaced or took over",
            )
        })?;
        Ok((Located::Elsewhere(gtids), at.gtid))
    }

    /// The place in this log.
    ///
    /// # Errors
    /// `Drift` where it is of another log, or no place of ours.
    pub fn place(&self, position: &Position) -> Result<Place> {
        match self.locate(position)? {
            (Located::Here(place), _) => Ok(place),
            (Located::Elsewhere(_), _) => Err(Error::drift("the position is of another server")),
        }
    }
}

fn read(position: &Position) -> Option<(Place, At)> {
    if position.kind != KIND || position.v != VERSION {
        return None;
    }
    let at: At = serde_json::from_value(position.at.clone()).ok()?;
    Some((Place::parse(&at.binlog)?, at))
}

/// The set as either kind of server writes it.
pub fn gtids(text: &str) -> Option<Gtids> {
    let flavor = match text.contains(':') {
        true => Flavor::MySql,
        false => Flavor::MariaDb,
    };
    Gtids::parse(flavor, text)
}

/// Whether all transactions on the right are among those on the left.
pub fn hold_all(left: &str, right: &str) -> bool {
    if right.is_empty() {
        return true;
    }
    match (gtids(left), gtids(right)) {
        (Some(left), Some(right)) => left.hold_all(&right),
        _ => false,
    }
}

/// The older one first. What is of another log than the right one is older than it, for its
/// changes cannot be told any more, unless it names all transactions that the right one does.
pub fn compare(left: &Position, right: &Position) -> Ordering {
    match (read(left), read(right)) {
        (Some((left, of_left)), Some((right, of_right))) if of_left.log == of_right.log => {
            left.cmp(&right)
        }
        (Some((_, left)), Some((_, right))) if left.gtid.is_some() && right.gtid.is_some() => {
            let (left, right) = (
                left.gtid.unwrap_or_default(),
                right.gtid.unwrap_or_default(),
            );
            match (hold_all(&left, &right), hold_all(&right, &left)) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, _) => Ordering::Less,
            }
        }
        (None, Some(_)) | (Some(_), Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, at: u64) -> Place {
        Place {
            file: file.to_owned(),
            at,
        }
    }

    fn log(server: &str) -> Log {
        Log {
            server: server.to_owned(),
        }
    }

    #[test]
    fn files_follow_on_each_other_by_their_number() {
        let places = [
            place("binlog.999999", 9),
            place("binlog.1000000", 4),
            place("binlog.1000000", 5),
        ];
        assert!(places.is_sorted());
        let shown = log("a").position(&places[0], None);
        assert_eq!(shown.to_string(), "binlog.999999:9");
        assert_eq!(log("a").place(&shown).unwrap(), places[0]);
        for bad in ["", ":", "file", "file:x"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_of_another_server_is_older_and_refused() {
        let late = log("a").position(&place("b.000002", 4), None);
        let early = log("b").position(&place("b.000001", 4), None);
        assert_eq!(compare(&late, &early), Ordering::Less);
        assert_eq!(compare(&early, &late), Ordering::Less);
        let error = log("b").place(&late).unwrap_err();
        assert_eq!(error.kind, tideway_core::Kind::Drift);
    }

    #[test]
    fn transactions_mean_the_same_on_every_server() {
        let at = |server: &str, gtid: &str| {
            log(server).position(&place("b.000002", 4), Some(gtid.to_owned()))
        };
        let known = at("a", "0-1-5");
        assert_eq!(compare(&known, &at("b", "0-1-4")), Ordering::Greater);
        assert_eq!(compare(&known, &at("b", "")), Ordering::Greater);
        assert_eq!(compare(&known, &at("b", "0-2-5")), Ordering::Equal);
        assert_eq!(compare(&known, &at("b", "0-1-6")), Ordering::Less);
        assert!(matches!(
            log("b").locate(&known).unwrap().0,
            Located::Elsewhere(_)
        ));
    }
}
