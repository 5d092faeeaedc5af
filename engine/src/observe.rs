//! What a run tells the world while it goes on.

use serde_json::Value;
use tideway_core::destination::Outcome;

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

/// Listens to a run. Calls come from many tasks and must not block.
pub trait Observer: Send + Sync {
    fn table(&self, schema_id: &str, output_name: &str, state: TableState);

    /// A line of the console log; `schema_id` is empty for lines about the whole run.
    fn log(&self, level: Level, schema_id: &str, message: String, payload: Value);
}

/// Listens to nothing.
pub struct Silent;

impl Observer for Silent {
    fn table(&self, _: &str, _: &str, _: TableState) {}
    fn log(&self, _: Level, _: &str, _: String, _: Value) {}
}
