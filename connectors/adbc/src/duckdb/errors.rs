//! What DuckDB's errors mean. Its messages may quote values, so those of kinds that do
//! are replaced, and no message is kept beyond its first line.

use std::path::Path;

use adbc_core::error::Error as DriverError;
use tideway_core::{Error, Kind};

/// DuckDB refuses everything after such an error until the file is opened again.
pub fn fatal(error: &DriverError) -> bool {
    error.message.starts_with("FATAL Error") || error.message.contains("has been invalidated")
}

pub fn translated(error: &DriverError, path: &Path) -> Error {
    let line = error.message.lines().next().unwrap_or_default();
    // `Catalog Error: Table with name x does not exist!`
    let (category, words) = match line.split_once(" Error: ") {
        Some((category, words)) if category.len() < 24 => (category, words),
        _ => ("", line),
    };
    let words = words.trim_end_matches('!');
    let shown = path.display();
    if let Some(error) = of_the_machine(words, &shown.to_string()) {
        return error;
    }
    match category {
        "Out of Memory" => Error::config(format!(
            "{shown}: the memory limit is too low for this operation"
        ))
        .field("memory_limit")
        .hint("raise memory_limit, or lower threads"),
        "INTERRUPT" | "Interrupt" => Error::cancelled(),
        "Conversion" | "Out of Range" | "Invalid Input" => {
            Error::data(format!("{shown}: {}", without_values(words)))
        }
        "Constraint" => Error::data(format!(
            "{shown}: rows break a constraint of the table ({})",
            constraint(words)
        ))
        .hint("drop the constraint, or correct the rows at the source"),
        "Catalog" if words.contains("does not exist") => {
            Error::missing(format!("{shown}: {words}"))
        }
        "Catalog" if words.contains("already exists") => {
            Error::conflict(format!("{shown}: {words}"))
        }
        "Dependency" | "Catalog" => Error::conflict(format!("{shown}: {words}"))
            .hint("drop the indexes and foreign keys of the table, then run the sync again"),
        "Binder" => Error::drift(format!("{shown}: {}", without_values(words))),
        "TransactionContext" | "Transaction" => Error::unavailable(format!(
            "{shown}: another transaction changed the same table"
        ))
        .hint("nothing to do: it is tried again after a pause"),
        "Permission" => Error::permission(format!("{shown}: {words}")),
        "IO" => Error::unavailable(format!("{shown}: {words}"))
            .hint("check the disk and the rights on the file and its folder"),
        "FATAL" => Error::unavailable(format!("{shown}: DuckDB gave the file up"))
            .hint("nothing to do: the file is opened anew; if it goes on, check the disk"),
        _ => Error::bug(format!(
            "{shown}: {category} error of DuckDB: {}",
            without_values(words)
        )),
    }
}

/// Locks, disks, rights: whatever the category that DuckDB puts them under.
fn of_the_machine(words: &str, shown: &str) -> Option<Error> {
    if words.contains("Could not set lock") {
        // `Conflicting lock is held in /usr/bin/duckdb (PID 42) by user ann.`
        let holder = words
            .split_once("lock is held in ")
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(holder, _)| format!(" ({holder}))"));
        return Some(
            Error::unavailable(format!(
                "{shown} is in use by another process{}",
                holder.unwrap_or_default()
            ))
            .hint("close the file in the other program: DuckDB lets one process at a time write"),
        );
    }
    let full = ["No space left", "max_temp_directory_size", "quota exceeded"];
    if full.iter().any(|sign| words.contains(sign)) {
        return Some(Error::full(format!("{shown}: no room left on the disk")));
    }
    if words.contains("Permission denied") || words.contains("Read-only file system") {
        return Some(
            Error::permission(format!("{shown} cannot be opened"))
                .field("path")
                .hint(
                    "grant the server's user the right to read and write the file and its folder",
                ),
        );
    }
    if words.contains("not a valid DuckDB database")
        || words.contains("Corrupt database file")
        || words.contains("database with version number")
    {
        return Some(
            Error::config(format!(
                "{shown} is not a database that this DuckDB can read"
            ))
            .field("path")
            .hint("it is damaged, or was written by a newer version of DuckDB"),
        );
    }
    if words.contains("in read-only mode") {
        return Some(Error::new(
            Kind::Permission,
            format!("{shown} is read-only"),
        ));
    }
    None
}

/// DuckDB quotes values in single or double quotes; names come along with them.
fn without_values(words: &str) -> String {
    let mut kept = String::with_capacity(words.len());
    let mut quote = None;
    for letter in words.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => continue,
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                kept.push('…');
            }
            None => kept.push(letter),
        }
    }
    kept
}

fn constraint(words: &str) -> &'static str {
    let known = ["NOT NULL", "PRIMARY KEY", "UNIQUE", "FOREIGN KEY", "CHECK"];
    let upper = words.to_uppercase();
    known
        .into_iter()
        .find(|name| upper.contains(name))
        .unwrap_or(match upper.contains("DUPLICATE KEY") {
            true => "UNIQUE",
            false => "constraint",
        })
}

#[cfg(test)]
mod tests {
    use adbc_core::error::Status;

    use super::*;

    fn of(message: &str) -> Error {
        let error = DriverError::with_message_and_status(message, Status::Internal);
        translated(&error, Path::new("/x.duckdb"))
    }

    #[test]
    fn a_lock_names_the_file_and_the_process() {
        let error = of(
            "IO Error: Could not set lock on file \"/x.duckdb\": Conflicting lock is held in /usr/bin/duckdb (PID 42). See also https://duckdb.org",
        );
        assert_eq!(error.kind, Kind::Unavailable);
        assert_eq!(
            error.what(),
            "/x.duckdb is in use by another process (/usr/bin/duckdb (PID 42))"
        );
    }

    #[test]
    fn no_value_is_quoted() {
        for message in [
            "Conversion Error: Could not convert string 's3cret' to INT32\n\nLINE 1: 's3cret'",
            "Constraint Error: Duplicate key \"id: s3cret\" violates primary key constraint.",
            "Invalid Input Error: Malformed JSON at byte 0 of input: unexpected. Input: \"s3cret\"",
        ] {
            let error = of(message);
            assert_eq!(error.kind, Kind::Data, "{message}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn kinds_follow_the_categories() {
        for (message, kind) in [
            (
                "IO Error: Could not write all required bytes: No space left on device",
                Kind::Full,
            ),
            (
                "Out of Memory Error: could not allocate block",
                Kind::Config,
            ),
            (
                "Catalog Error: Table with name t does not exist!",
                Kind::Missing,
            ),
            (
                "Binder Error: Referenced column \"a\" not found in FROM clause!",
                Kind::Drift,
            ),
            (
                "TransactionContext Error: Conflict on update!",
                Kind::Unavailable,
            ),
            ("INTERRUPT Error: Interrupted!", Kind::Cancelled),
            (
                "IO Error: Cannot open file \"/x\": Permission denied",
                Kind::Permission,
            ),
            ("INTERNAL Error: Attempted to access index 3", Kind::Bug),
        ] {
            assert_eq!(of(message).kind, kind, "{message}");
        }
    }
}
