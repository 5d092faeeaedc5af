//! What is remembered between runs, and within a run that may die. All of it is
//! stored as versioned JSON; a released version's state stays readable.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// The version written by this release.
pub const CHECKPOINT_VERSION: u16 = 1;

/// A piece of a table that is read by one lane and becomes durable as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Stable within the load; for sources with [`crate::capability::Replay::Stable`]
    /// also across loads.
    pub id: String,
    /// What the source needs to find the rows again; opaque to everyone else.
    pub spec: serde_json::Value,
    pub row_estimate: Option<u64>,
}

/// A place in a change stream (LSN, GTID set, resume token); opaque to the engine,
/// ordered only by the source that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub v: u16,
    pub kind: String,
    pub at: serde_json::Value,
}

impl fmt::Display for Position {
    /// For people: the place itself, or what the kind calls so (`lsn` of `postgresql.lsn`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.kind.rsplit('.').next().unwrap_or_default();
        match (&self.at, self.at.get(word)) {
            (serde_json::Value::String(at), _) | (_, Some(serde_json::Value::String(at))) => {
                f.write_str(at)
            }
            (at, _) => write!(f, "{at}"),
        }
    }
}

/// The highest value of the tracking field seen by a run that began at `at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Microseconds since 1970 on the *source's* clock when its snapshot was taken.
    pub at: i64,
    /// The value in the source's own text form.
    pub value: String,
}

/// How far an incremental table has been read.
///
/// A row may commit after a run that should have seen it: its tracking value was
/// taken while its transaction was still open. So the source keeps the marks of
/// some earlier runs, and reads again from the newest mark that is older than every
/// transaction that was open then (`from`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub column: String,
    /// The next run reads rows whose value is at least this; `None` reads all.
    pub from: Option<String>,
    /// Newest last.
    pub marks: Vec<Mark>,
    /// Hashes of the rows at or above `from` that are at the destination already;
    /// kept only for append, where reading a row twice would store it twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boundary: Vec<String>,
}

/// Where a load in progress stands. Present only between `begin` and the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub load_id: String,
    /// The plan that the parts belong to, frozen: a resumed run does not plan anew.
    pub parts: Vec<Part>,
    pub landed: BTreeSet<String>,
    /// Becomes the table's cursor once the load has finished.
    pub cursor: Option<Cursor>,
    /// Becomes the table's place in the change stream once the load has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Position>,
}

/// The memory of one table of one sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub v: u16,
    pub cursor: Option<Cursor>,
    /// Up to where in the change stream the destination has this table; `None` for a table
    /// that is not streamed, or needs a snapshot first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Position>,
    /// What was chosen of the table when it was read for the stream, one fingerprint per
    /// column and one for the rest. What is chosen since is at the destination only after
    /// the table has been read anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<String>,
    /// What the table's membership in the stream was known by when it was read
    /// ([`crate::changes::Attached::marks`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    pub progress: Option<Progress>,
    /// The last load that finished; a destination that has seen it does nothing twice.
    pub finished_load: Option<String>,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint {
            v: CHECKPOINT_VERSION,
            cursor: None,
            stream: None,
            shape: Vec::new(),
            mark: None,
            progress: None,
            finished_load: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_position_is_shown_by_its_own_word() {
        let shown = |kind: &str, at| {
            let kind = kind.to_owned();
            Position { v: 1, kind, at }.to_string()
        };
        assert_eq!(
            shown("postgresql.lsn", json!({"lsn": "0/1", "timeline": 1})),
            "0/1"
        );
        assert_eq!(shown("mysql.gtid", json!("a:1-5")), "a:1-5");
        assert_eq!(shown("queue", json!(7)), "7");
    }
}
