//! The settings of a DuckDB connection and of syncs that read from or write to it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use tideway_core::{Error, Result};

/// What DuckDB may use of the machine's memory; larger operations go through files.
const MEMORY_LIMIT: &str = "1GB";

#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Config {
    /// Path of the database file on the server. A file that is written to is created if
    /// its folder exists.
    #[schemars(title = "Path", length(min = 1), extend("examples" = ["/var/lib/tideway/shop.duckdb"]))]
    pub path: String,
    /// Memory that DuckDB may use for the file, such as 512MB or 4GB. What does not fit
    /// goes through a folder beside the file.
    #[serde(default = "default_memory_limit")]
    #[schemars(
        title = "Memory limit",
        regex(pattern = r"^[0-9]+(\.[0-9]+)? ?([KMGT]i?B|%)$")
    )]
    pub memory_limit: String,
    /// Threads that DuckDB may use for the file; one for each core unless given.
    #[schemars(title = "Threads", range(min = 1, max = 256))]
    pub threads: Option<u16>,
}

impl Config {
    /// The absolute path of the file, with links resolved as far as it exists.
    pub fn file(&self) -> Result<PathBuf> {
        let path = self.path.trim();
        let refuse = |what: &str| {
            Error::config(format!("path: {what}"))
                .field("path")
                .hint("give the path of a database file, such as /var/lib/shop/shop.duckdb")
        };
        if path.is_empty() {
            return Err(refuse("no file is named"));
        }
        if path.starts_with(":memory:") {
            return Err(refuse(
                "a database in memory is empty for everyone but the program that made it",
            ));
        }
        if path.contains('\0') {
            return Err(refuse("a NUL character cannot be part of a path"));
        }
        let path = std::path::absolute(path).map_err(|error| refuse(&error.to_string()))?;
        if let Ok(path) = path.canonicalize() {
            return Ok(path);
        }
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(refuse("this is no path of a file"));
        };
        Ok(folder
            .canonicalize()
            .map_or_else(|_| path.clone(), |folder| folder.join(file)))
    }

    /// The memory limit as DuckDB understands it, which would not say what is wrong with it.
    pub fn memory(&self) -> Result<String> {
        let limit = self.memory_limit.trim();
        let is_digit = |letter: char| letter.is_ascii_digit() || letter == '.';
        let end = limit.find(|letter| !is_digit(letter));
        let (digits, unit) = limit.split_at(end.unwrap_or(limit.len()));
        let unit = unit.trim_start().to_ascii_uppercase();
        let number = digits.parse::<f64>().ok().filter(|number| *number > 0.0);
        let known = ["KB", "MB", "GB", "TB", "KIB", "MIB", "GIB", "TIB", "%"];
        if number.is_none() || !known.contains(&unit.as_str()) {
            return Err(Error::config("memory_limit is not a size")
                .field("memory_limit")
                .hint("write a number and a unit, such as 512MB or 4GB"));
        }
        Ok(limit.to_owned())
    }
}

/// A sync reads every table and view as it is; nothing to choose.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct SourceOptions {}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DestinationOptions {
    /// Schema that the tables are written to; `main` unless given.
    #[schemars(title = "Schema")]
    pub schema: Option<String>,
    /// Write each table to a schema named as the one that it comes from.
    #[schemars(title = "Mirror schemas")]
    pub mirror_schemas: bool,
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

fn default_memory_limit() -> String {
    MEMORY_LIMIT.to_owned()
}
