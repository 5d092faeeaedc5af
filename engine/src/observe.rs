//! What a run tells the world while it goes on.

use serde_json::Value;
use tideway_core::{Position, changes::Lag, destination::Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// The state of one table within a run.
#[derive(Debug, Clone, PartialEq)]
pub enum TableState {
    Running,
    /// Everything has been read; the destination is putting it in place.
    Processing,
    Completed(Outcome),
    Failed {
        message: String,
        hint: String,
    },
    Canceled,
}

/// Where a change stream stands.
#[derive(Debug, Clone, Default)]
pub struct StreamState {
    /// Up to here the destination has every table.
    pub position: Option<Position>,
    /// When what lies before it was committed, in microseconds since 1970.
    pub committed_at: Option<i64>,
    pub lag_seconds: Option<u64>,
    pub lag: Lag,
    /// Why it does not go on.
    pub error: Option<String>,
}

/// Listens to a run. Calls come from many tasks and must not block.
pub trait Observer: Send + Sync {
    fn table(&self, schema_id: &str, output_name: &str, state: TableState);

    /// A line of the console log; `schema_id` is empty for lines about the whole run.
    fn log(&self, level: Level, schema_id: &str, message: String, payload: Value);

    /// A line about the change stream, which belongs to the source as well as to the run.
    fn ingest(&self, level: Level, schema_id: &str, message: String, payload: Value) {
        self.log(level, schema_id, message, payload);
    }

    /// Told every few seconds while a change stream is followed, and at its end.
    fn stream(&self, _state: &StreamState) {}
}

/// Listens to nothing.
pub struct Silent;

impl Observer for Silent {
    fn table(&self, _: &str, _: &str, _: TableState) {}
    fn log(&self, _: Level, _: &str, _: String, _: Value) {}
}
