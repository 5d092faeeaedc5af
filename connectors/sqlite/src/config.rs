//! The settings of a SQLite connection and of syncs that read from or write to it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tideway_core::{Error, Result};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Config {
    /// Path of the database file on the server. A file that is written to is created if
    /// its folder exists.
    #[schemars(title = "Path", length(min = 1))]
    pub path: String,
}

impl Config {
    /// The absolute path of the file.
    pub fn file(&self) -> Result<PathBuf> {
        let path = self.path.trim();
        let refuse = |what: &str| {
            Error::config(format!("path: {what}"))
                .field("path")
                .hint("give the path of a database file, such as /var/lib/shop/shop.db")
        };
        if path.is_empty() {
            return Err(refuse("no file is named"));
        }
        if path.eq_ignore_ascii_case(":memory:") {
            return Err(refuse(
                "a database in memory is empty for everyone but the program that made it",
            ));
        }
        if path.contains('\0') {
            return Err(refuse("a NUL character cannot be part of a path"));
        }
        // An absolute path is never taken for one of SQLite's `file:` URIs.
        std::path::absolute(path).map_err(|error| refuse(&error.to_string()))
    }
}

/// A sync reads every table and view as it is; nothing to choose.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct SourceOptions {}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DestinationOptions {
    #[schemars(title = "Advanced")]
    pub advanced: Advanced,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Advanced {
    /// Put before the name of every table.
    #[schemars(title = "Table prefix")]
    pub table_prefix: Option<String>,
    /// Empty and refill tables that are replaced instead of making them anew.
    #[schemars(title = "Truncate existing tables")]
    pub truncate_existing: bool,
    /// Delete rows that vanished from the source instead of marking them.
    #[schemars(title = "Hard deletes")]
    pub hard_deletes: bool,
}
