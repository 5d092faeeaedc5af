//! What the driver's and the server's errors mean for the person who runs the sync.

use std::{error::Error as _, io};

use tideway_core::{Error, Kind};
use tideway_network::{
    of_network,
    tls::{Handshake, SslMode},
};
use tokio_postgres::error::{DbError, SqlState};

use crate::config::Config;

/// An error of an open session.
pub fn explain(error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        // The driver's error is not kept: its details may hold values of rows.
        return of_server(db);
    }
    if let Some(tls) = cause::<rustls::Error>(&error) {
        return Error::unavailable(format!("the TLS session broke: {tls}")).because(error);
    }
    if let Some(io) = cause::<io::Error>(&error) {
        return Error::unavailable(format!("the session broke: {io}")).because(error);
    }
    if error.is_closed() {
        return Error::unavailable("the server closed the session")
            .hint("look into the server's log for the reason");
    }
    Error::bug(format!("PostgreSQL driver: {error}")).because(error)
}

/// An error of signing in, which can be blamed on a setting.
pub fn sign_in(config: &Config, error: tokio_postgres::Error) -> Error {
    let address = config.address();
    if let Some(db) = error.as_db_error() {
        return of_sign_in(config, db);
    }
    if let Some(tls) = cause::<rustls::Error>(&error) {
        return of_tls(config, tls).because(error);
    }
    if let Some(io) = cause::<io::Error>(&error) {
        return of_network(config.words, &address, io).because(error);
    }
    let source = error
        .source()
        .map(|source| source.to_string())
        .unwrap_or_default();
    if source.contains("does not support TLS") {
        return Error::config(format!("{address} does not offer TLS"))
            .field("sslmode")
            .hint("choose sslmode disable, or switch TLS on at the server (ssl = on)");
    }
    match error.to_string().as_str() {
        "authentication error" | "invalid configuration" => Error::auth(format!(
            "{address} asks for another way to sign in: {source}"
        ))
        .field("password")
        .hint("use a role with a password (scram-sha-256 or md5), or a client certificate"),
        "connection closed" => Error::unavailable(format!("{address} hung up during sign-in"))
            .field(config.words.port)
            .hint("check that a PostgreSQL server listens there, and look into its log"),
        _ => Error::config(format!(
            "what answers at {address} is not a PostgreSQL server"
        ))
        .field(config.words.port)
        .hint(format!("check {}", config.words.place())),
    }
    .because(error)
}

/// The first error of that type among the causes, I/O errors looked into.
fn cause<T: std::error::Error + 'static>(error: &tokio_postgres::Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn of_tls(config: &Config, error: &rustls::Error) -> Error {
    let handshake = Handshake {
        host: &config.host,
        address: &config.address(),
        scrutiny: "sslmode",
        switch: "sslmode",
        authorities: "ssl_ca_file",
        versions: "ssl_min_protocol_version",
    };
    handshake.failed(error)
}

fn of_sign_in(config: &Config, db: &DbError) -> Error {
    let (address, message) = (config.address(), db.message());
    let certificate =
        message.contains("client certificate") || message.contains("certificate authentication");
    match db.code().code() {
        "28P01" => Error::auth(format!("{address}: {message}"))
            .field("password")
            .hint("check username and password"),
        "28000" if certificate => Error::auth(format!("{address}: {message}"))
            .field("client_certificate")
            .hint("give a client certificate made out to the role, and switch client_certs on"),
        "28000" if message.contains("no pg_hba.conf entry") => {
            let plain = config.sslmode() == SslMode::Disable;
            let field = if plain { "sslmode" } else { "username" };
            Error::auth(format!("{address}: {message}"))
                .field(field)
                .hint(if plain {
                    "choose sslmode require, or let this machine in without TLS in pg_hba.conf"
                } else {
                    "let this machine, role and database in with a line in the server's pg_hba.conf"
                })
        }
        "28000" => Error::auth(format!("{address}: {message}"))
            .field("username")
            .hint("check that the role exists and may log in (ALTER ROLE … LOGIN)"),
        "3D000" => Error::missing(format!("{address}: {message}"))
            .field("database")
            .hint("check the name of the database; capitals count"),
        "42501" => Error::permission(format!("{address}: {message}"))
            .field("database")
            .hint(format!(
                "GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"",
                config.database, config.username
            )),
        _ => of_server(db).while_(address),
    }
}

/// An error that the server reports, by its SQLSTATE.
fn of_server(db: &DbError) -> Error {
    // Two sessions made something of one name: a table and the type of another's rows.
    if db.code() == &SqlState::UNIQUE_VIOLATION && db.schema() == Some("pg_catalog") {
        return Error::unavailable("another session has just made something of the same name");
    }
    of_sqlstate(db.code().code(), db.message())
}

/// An error by its SQLSTATE and message.
pub fn of_sqlstate(code: &str, message: &str) -> Error {
    let (kind, hint): (Kind, Option<&str>) = match code {
        "42501" => (
            Kind::Permission,
            Some("GRANT the role of this connection what is missing"),
        ),
        "42P01" | "3F000" | "3D000" | "57P04" => (Kind::Missing, None),
        "42703" | "42804" | "42P10" => (Kind::Drift, None),
        "25006" => (
            Kind::Permission,
            Some("the server is read-only, as a standby is: connect to the primary"),
        ),
        "42883" | "0A000" => (Kind::Unsupported, None),
        "42P07" | "42710" | "42P06" | "55006" | "55000" | "2BP01" => (Kind::Conflict, None),
        "53100" => (
            Kind::Full,
            Some("free some room on the server's disk, then start the sync again"),
        ),
        "53300" => (
            Kind::RateLimited { after: None },
            Some("close other sessions, or raise max_connections or the role's CONNECTION LIMIT"),
        ),
        "54011" => (
            Kind::Unsupported,
            Some("leave fields out of the sync until they are few enough"),
        ),
        "55P03" => (
            Kind::Timeout,
            Some("end the session that holds the lock, or wait for it"),
        ),
        "57014" if message.contains("timeout") => (Kind::Timeout, None),
        "57014" => (Kind::Cancelled, None),
        "40001" | "40P01" | "40002" | "40003" | "25P03" | "72000" => (Kind::Unavailable, None),
        code => (by_class(code), None),
    };
    // Messages about values quote them.
    let shown = if kind == Kind::Data {
        unquoted(message)
    } else {
        message.to_owned()
    };
    let error = Error::new(kind, format!("{shown} (SQLSTATE {code})"));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn by_class(code: &str) -> Kind {
    match code.get(..2).unwrap_or_default() {
        "08" | "53" | "57" | "58" | "HV" | "XX" => Kind::Unavailable,
        "28" => Kind::Auth,
        // Values, constraints, limits of a row, and what a user's own function raises.
        "21" | "22" | "23" | "38" | "39" | "44" | "54" | "P0" => Kind::Data,
        _ => Kind::Bug,
    }
}

/// The message with everything in quotes left out.
fn unquoted(message: &str) -> String {
    let quoted = message.matches('"').count() >= 2;
    if !quoted {
        return message.to_owned();
    }
    let parts = message.split('"').enumerate();
    let outside: Vec<&str> = parts
        .filter(|(at, _)| at % 2 == 0)
        .map(|(_, part)| part)
        .collect();
    outside.join("…")
}
