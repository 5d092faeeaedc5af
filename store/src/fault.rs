//! What the metadata database's errors mean. Its own words go to the log only.

use tideway_core::{Error, Kind};

const BROKEN_DISK: &str = "the metadata database's disk gave an error";

/// An error of a statement.
pub(crate) fn of(error: sqlx::Error) -> Error {
    let (kind, what) = meaning(&error);
    told(kind, what).because(error)
}

/// An error of the first connection, when the address itself may be wrong.
pub(crate) fn of_opening(error: sqlx::Error) -> Error {
    let (kind, what) = match &error {
        sqlx::Error::Configuration(_) => (Kind::Config, "the database URL cannot be used"),
        other => meaning(other),
    };
    told(kind, what).field("database_url").because(error)
}

fn told(kind: Kind, what: &'static str) -> Error {
    let error = Error::new(kind, what);
    match what {
        BROKEN_DISK => error.hint("look whether the disk of the data folder is full or failing"),
        _ => error,
    }
}

fn meaning(error: &sqlx::Error) -> (Kind, &'static str) {
    match error {
        sqlx::Error::Database(inner) => of_database(inner.as_ref()),
        sqlx::Error::PoolTimedOut => (
            Kind::Timeout,
            "the metadata database had no free connection in time",
        ),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => {
            (Kind::Unavailable, "the metadata database cannot be reached")
        }
        sqlx::Error::Tls(_) => (
            Kind::Unavailable,
            "the metadata database cannot be reached by TLS",
        ),
        _ => (Kind::Bug, "the metadata database refused a statement"),
    }
}

fn of_database(error: &dyn sqlx::error::DatabaseError) -> (Kind, &'static str) {
    if error.is_unique_violation() {
        return (Kind::Conflict, "this exists already");
    }
    if error.is_foreign_key_violation() {
        return (
            Kind::Conflict,
            "something that this belongs to is gone or still in use",
        );
    }
    let code = error.code().unwrap_or_default();
    let postgres = error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some();
    if postgres {
        of_sqlstate(&code)
    } else {
        of_sqlite(&code)
    }
}

fn of_sqlstate(code: &str) -> (Kind, &'static str) {
    match code {
        "28000" | "28P01" => (
            Kind::Auth,
            "the metadata database refuses our user or password",
        ),
        "3D000" => (Kind::Missing, "the metadata database does not exist"),
        "42501" => (
            Kind::Permission,
            "the metadata database does not let us do this",
        ),
        "40001" | "40P01" | "55P03" | "57014" => (
            Kind::Unavailable,
            "the metadata database gave up on a statement",
        ),
        "53100" => (
            Kind::Full,
            "the metadata database has no room left on its disk",
        ),
        "22021" | "22P05" => (Kind::Config, "text holds a character that cannot be stored"),
        // 55000 is what a database that takes no connections answers.
        "55000" => (
            Kind::Unavailable,
            "the metadata database is not available now",
        ),
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => (
            Kind::Unavailable,
            "the metadata database is not available now",
        ),
        _ => (Kind::Bug, "the metadata database refused a statement"),
    }
}

/// SQLite's extended result codes keep the plain one in their lowest byte.
fn of_sqlite(code: &str) -> (Kind, &'static str) {
    match code.parse::<u32>().unwrap_or_default() & 0xff {
        5 | 6 => (
            Kind::Unavailable,
            "the metadata database is locked by another process",
        ),
        3 | 8 => (Kind::Permission, "the metadata database cannot be written"),
        10 => (Kind::Unavailable, BROKEN_DISK),
        11 | 26 => (Kind::Data, "the file is not an intact SQLite database"),
        13 => (
            Kind::Full,
            "the metadata database has no room left on its disk",
        ),
        14 => (Kind::Unavailable, "the metadata database cannot be opened"),
        _ => (Kind::Bug, "the metadata database refused a statement"),
    }
}
