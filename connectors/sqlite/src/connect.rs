//! Opening the file, what its errors mean, and the connection check.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, Params, Row, Rows, Statement, ffi, types::FromSql,
};
use tideway_core::{CheckReport, Error, Kind, Result};

/// How long a reader waits for a writer to let go of the file.
const READER_PATIENCE: Duration = Duration::from_secs(10);
const WRITER_PATIENCE: Duration = Duration::from_secs(30);
/// Switching to WAL needs the file for oneself, and is not worth a long wait.
const SWITCH_PATIENCE: Duration = Duration::from_secs(2);

/// An open database that explains its errors.
pub struct Handle {
    conn: Connection,
    file: PathBuf,
}

impl Handle {
    /// Opens for reading only; a file that is not there is never made.
    pub fn reader(file: &Path) -> Result<Handle> {
        if let Err(error) = fs::metadata(file) {
            return Err(not_accessible(file, error));
        }
        let handle = Handle::open(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        handle.wait_at_most(READER_PATIENCE)?;
        handle.one::<i64>("SELECT count(*) FROM sqlite_schema", [])?;
        Ok(handle)
    }

    /// Opens for writing; the file is made if its folder exists.
    pub fn writer(file: &Path) -> Result<Handle> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        if let Err(error) = fs::metadata(folder) {
            return Err(not_accessible(folder, error));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let handle = Handle::open(file, flags)?;
        handle.switch_to_wal()?;
        handle.wait_at_most(WRITER_PATIENCE)?;
        // Tables arrive in any order, and a table that is replaced must not take the rows
        // that refer to it along. A table that takes another's place keeps the views and
        // foreign keys that name it (legacy_alter_table). What is committed survives a
        // power cut (synchronous).
        handle.run(
            "PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; \
             PRAGMA synchronous = FULL; PRAGMA cache_size = -16384",
        )?;
        Ok(handle)
    }

    fn open(file: &Path, flags: OpenFlags) -> Result<Handle> {
        if file.is_dir() {
            return Err(Error::config(format!("{} is a folder", file.display()))
                .field("path")
                .hint("give the path of a database file"));
        }
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn =
            Connection::open_with_flags(file, flags).map_err(|error| explain(file, error))?;
        Ok(Handle {
            conn,
            file: file.to_owned(),
        })
    }

    /// In WAL mode readers see the table as it was until a load is finished, and do not
    /// keep it waiting. Where that is not possible the load works all the same.
    fn switch_to_wal(&self) -> Result<()> {
        self.wait_at_most(SWITCH_PATIENCE)?;
        let mode: Option<String> = self.one("PRAGMA journal_mode", [])?;
        if mode.as_deref() == Some("wal") {
            return Ok(());
        }
        match self.one::<String>("PRAGMA journal_mode = WAL", []) {
            Err(error) if error.kind != Kind::Timeout => Err(error),
            _ => Ok(()),
        }
    }

    fn wait_at_most(&self, patience: Duration) -> Result<()> {
        let set = self.conn.busy_timeout(patience);
        set.map_err(|error| self.explain(error))
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn explain(&self, error: rusqlite::Error) -> Error {
        explain(&self.file, error)
    }

    /// Runs statements that give no rows.
    pub fn run(&self, sql: &str) -> Result<()> {
        let ran = self.conn.execute_batch(sql);
        ran.map_err(|error| self.explain(error))
    }

    /// Runs one statement; how many rows it changed.
    pub fn change(&self, sql: &str, params: impl Params) -> Result<u64> {
        let changed = self.conn.execute(sql, params);
        changed
            .map(|rows| rows as u64)
            .map_err(|error| self.explain(error))
    }

    /// The first value of the first row.
    pub fn one<T: FromSql>(&self, sql: &str, params: impl Params) -> Result<Option<T>> {
        let mut found = self.all(sql, params, |row| row.get(0))?;
        Ok(if found.is_empty() {
            None
        } else {
            Some(found.swap_remove(0))
        })
    }

    pub fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        of_row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(params, of_row);
        rows.and_then(Iterator::collect)
            .map_err(|error| self.explain(error))
    }

    pub fn prepare(&self, sql: &str) -> Result<Statement<'_>> {
        let prepared = self.conn.prepare(sql);
        prepared.map_err(|error| self.explain(error))
    }

    /// Calls `visit` with each row until it says that it has enough.
    pub fn visit(
        &self,
        rows: &mut Rows<'_>,
        mut visit: impl FnMut(&Row<'_>) -> Result<Visit>,
    ) -> Result<Visit> {
        while let Some(row) = rows.next().map_err(|error| self.explain(error))? {
            if visit(row)? == Visit::Enough {
                return Ok(Visit::Enough);
            }
        }
        Ok(Visit::More)
    }

    /// All or nothing. The write lock is taken at once, so that what is looked up first
    /// still holds when it is acted on.
    pub fn in_transaction<T>(&self, steps: impl FnOnce(&Handle) -> Result<T>) -> Result<T> {
        self.run("BEGIN IMMEDIATE")?;
        let done = steps(self).and_then(|value| self.run("COMMIT").map(|()| value));
        if done.is_err() {
            self.roll_back();
        }
        done
    }

    pub fn transaction_is_open(&self) -> bool {
        !self.conn.is_autocommit()
    }

    pub fn roll_back(&self) {
        if self.transaction_is_open()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    More,
    Enough,
}

/// Runs blocking work away from the async threads.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::bug(format!("a SQLite task stopped: {error}"))))
}

fn not_accessible(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let failed = match error.kind() {
        io::ErrorKind::NotFound => Error::missing(format!("{path} does not exist"))
            .hint("check the path; it is looked up where the server runs"),
        io::ErrorKind::PermissionDenied => Error::permission(format!("{path} may not be accessed"))
            .hint("give the user that the server runs as access to the file and its folder"),
        _ => Error::from(error).while_(path),
    };
    failed.field("path")
}

/// What SQLite's error means for the person who runs the sync.
fn explain(file: &Path, error: rusqlite::Error) -> Error {
    let name = file.display();
    let (code, extended, message) = match &error {
        rusqlite::Error::SqliteFailure(failure, message) => (
            failure.code,
            failure.extended_code,
            message.clone().unwrap_or_else(|| failure.to_string()),
        ),
        rusqlite::Error::SqlInputError { error, msg, .. } => {
            (error.code, error.extended_code, msg.clone())
        }
        other => return Error::bug(format!("{name}: {other}")).because(error),
    };
    let explained = match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Error::timeout(format!("{name} is locked by another program")).hint(format!(
                "wait until it is done, or close what has {name} open"
            ))
        }
        ErrorCode::ReadOnly if extended == ffi::SQLITE_READONLY_ROLLBACK => {
            Error::permission(format!("{name} was left half-written by another program"))
                .hint("open it once with a program that may write to it, which puts it right")
        }
        ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::AuthorizationForStatementDenied => {
            Error::permission(format!("{name} may not be written")).hint(format!(
                "make {name} and its folder writable for the user that the server runs as"
            ))
        }
        ErrorCode::CannotOpen => cannot_open(file),
        ErrorCode::DiskFull => Error::full(format!("no room left to write {name}")).hint(format!(
            "free some room on the disk of {name}, then start the sync again"
        )),
        ErrorCode::DatabaseCorrupt => Error::data(format!("{name} is damaged: {message}")).hint(
            format!("run PRAGMA integrity_check on {name}, and restore it from a backup"),
        ),
        ErrorCode::NotADatabase => Error::config(format!("{name} is not a SQLite database"))
            .field("path")
            .hint("check the path; an encrypted database cannot be read"),
        ErrorCode::SystemIoFailure => Error::unavailable(format!("{name}: {message}"))
            .hint(format!("check the disk that holds {name}")),
        ErrorCode::ConstraintViolation => Error::data(format!("{name}: {message}")).hint(
            "a constraint of the table does not allow the row; change the constraint or the key",
        ),
        ErrorCode::TooBig => Error::data(format!(
            "{name}: a value or row is larger than SQLite can hold"
        ))
        .hint("leave the field out"),
        ErrorCode::OperationInterrupted => Error::cancelled(),
        ErrorCode::TypeMismatch => Error::data(format!("{name}: {message}"))
            .hint("a column of the table takes only values of its type; change the table"),
        ErrorCode::OutOfMemory => Error::unavailable(format!("{name}: out of memory")),
        ErrorCode::FileLockingProtocolFailed => {
            Error::unavailable(format!("{name}: its file system cannot lock files"))
                .hint("keep the database on a local disk")
        }
        ErrorCode::SchemaChanged => Error::drift(format!("{name}: {message}")),
        _ if message.contains("no such table") || message.contains("no such column") => {
            Error::drift(format!("{name}: {message}"))
        }
        _ => Error::bug(format!("{name}: {message}")),
    };
    explained.because(error)
}

/// SQLite only says that it could not open some file; which, has to be found out.
fn cannot_open(file: &Path) -> Error {
    let name = file.display();
    if let Err(error) = fs::File::open(file) {
        return not_accessible(file, error);
    }
    Error::permission(format!(
        "{name} could not be opened with the files beside it"
    ))
    .hint("the folder must be writable, for SQLite keeps its log next to the file")
}

/// Tries what a source and what a destination needs.
pub fn check(file: &Path) -> CheckReport {
    let mut report = CheckReport::default();
    if matches!(fs::metadata(file), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        check_folder(file, &mut report);
        return report;
    }
    let handle = match Handle::reader(file) {
        Ok(handle) => handle,
        Err(error) => {
            report.fail("open file", &error);
            return report;
        }
    };
    report.pass(
        "open file",
        format!("{} is a SQLite database", file.display()),
    );
    match tables_and_mode(&handle) {
        Ok(detail) => report.pass("list tables", detail),
        Err(error) => report.fail("list tables", &error),
    }
    match try_writing(file) {
        Ok(()) => report.pass("write permission", "the file and its folder can be written"),
        // Reading works without it, so this alone is no failure.
        Err(error) => report.pass(
            "write permission",
            format!("none ({error}): it can be read from, but not be a destination"),
        ),
    }
    report
}

fn tables_and_mode(handle: &Handle) -> Result<String> {
    let count: Option<i64> = handle.one(
        "SELECT count(*) FROM sqlite_schema WHERE type IN ('table', 'view') \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        [],
    )?;
    let mode: Option<String> = handle.one("PRAGMA journal_mode", [])?;
    let count = count.unwrap_or(0);
    Ok(match mode.as_deref() {
        Some("wal") => format!("{count} tables and views"),
        _ => format!(
            "{count} tables and views; programs that write to them wait while a sync reads, \
             unless the file is in WAL mode (PRAGMA journal_mode = WAL)"
        ),
    })
}

fn check_folder(file: &Path, report: &mut CheckReport) {
    let folder = file.parent().unwrap_or(Path::new("/"));
    match fs::metadata(folder).map_err(|error| not_accessible(folder, error)) {
        Err(error) => report.fail("open file", &error),
        Ok(_) => report.pass(
            "open file",
            format!(
                "{} does not exist; the first sync into it makes it, and nothing can be read from it",
                file.display()
            ),
        ),
    }
}

/// Goes as far as a write can without leaving anything behind.
fn try_writing(file: &Path) -> Result<()> {
    let handle = Handle::open(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    handle.wait_at_most(SWITCH_PATIENCE)?;
    let written = handle.run("BEGIN IMMEDIATE; CREATE TABLE _tideway_probe (x)");
    handle.roll_back();
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> Error {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        explain(Path::new("/data/shop.db"), failure)
    }

    #[test]
    fn failures_have_kinds_and_advice_that_names_the_file() {
        for (code, kind) in [
            (ffi::SQLITE_BUSY, Kind::Timeout),
            (ffi::SQLITE_LOCKED, Kind::Timeout),
            (ffi::SQLITE_READONLY, Kind::Permission),
            (ffi::SQLITE_PERM, Kind::Permission),
            (ffi::SQLITE_FULL, Kind::Full),
            (ffi::SQLITE_CORRUPT, Kind::Data),
            (ffi::SQLITE_IOERR, Kind::Unavailable),
        ] {
            let error = failure(code);
            assert_eq!(error.kind, kind, "{code}");
            assert!(error.what().contains("/data/shop.db"), "{error:?}");
            assert_ne!(error.advice(), kind.remedy(), "{error:?}");
        }
        assert_eq!(failure(ffi::SQLITE_NOTADB).kind, Kind::Config);
        assert_eq!(failure(ffi::SQLITE_CANTOPEN).kind, Kind::Missing);
        assert_eq!(failure(ffi::SQLITE_INTERRUPT).kind, Kind::Cancelled);
        assert_eq!(failure(ffi::SQLITE_TOOBIG).kind, Kind::Data);
        assert_eq!(failure(ffi::SQLITE_CONSTRAINT_UNIQUE).kind, Kind::Data);
        assert!(
            failure(ffi::SQLITE_READONLY_ROLLBACK)
                .advice()
                .contains("open it once")
        );
    }
}
