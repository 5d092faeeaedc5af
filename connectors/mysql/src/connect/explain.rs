//! What the server's errors mean for the person who runs the sync.

use std::io;

use tideway_core::{Error, Kind};
use tideway_network::{of_network, tls::Handshake};

use super::packets::Fields;
use crate::config::Config;

/// An error as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    pub code: u16,
    pub state: String,
    pub message: String,
}

/// Reads an error packet.
pub fn server_error(payload: &[u8]) -> ServerError {
    let mut fields = Fields(payload);
    let code = fields.byte().and_then(|_| fields.u16()).unwrap_or_default();
    let mut state = "HY000".to_owned();
    if fields.0.first() == Some(&b'#')
        && let Ok(marked) = fields.bytes(6)
    {
        state = String::from_utf8_lossy(marked.get(1..).unwrap_or_default()).into_owned();
    }
    ServerError {
        code,
        state,
        message: String::from_utf8_lossy(fields.0).into_owned(),
    }
}

/// An error of an open session, by its number.
pub fn of_server(error: &ServerError) -> Error {
    let (kind, hint): (Kind, Option<&str>) = match error.code {
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 => (
            Kind::Permission,
            Some("GRANT the account of this connection what is missing"),
        ),
        1290 | 1792 | 1836 => (
            Kind::Permission,
            Some("the server is read-only, as a replica is: connect to its source"),
        ),
        1049 | 1051 | 1146 => (Kind::Missing, None),
        // The last one: the binary log is not there any more from where it is asked for.
        1054 | 1136 | 1412 | 1615 | 1236 => (Kind::Drift, None),
        1040 | 1203 | 1226 => (
            Kind::RateLimited { after: None },
            Some(
                "close other sessions, or raise max_connections or the account's MAX_USER_CONNECTIONS",
            ),
        ),
        1205 => (
            Kind::Timeout,
            Some("end the session that holds the lock, or wait for it"),
        ),
        1969 | 3024 => (Kind::Timeout, None),
        1213 | 1053 | 1077 | 1079 | 1152 | 1156..=1161 | 1184 | 1927 | 3948 | 4031 => {
            (Kind::Unavailable, None)
        }
        1021 | 1114 | 3675 => (
            Kind::Full,
            Some("free some room on the server's disk, then start the sync again"),
        ),
        1030 if error.message.contains("28") => (Kind::Full, None),
        1153 | 1301 => (
            Kind::Data,
            Some("raise max_allowed_packet at the server, or leave the field out"),
        ),
        1317 => (Kind::Cancelled, None),
        1007 | 1050 | 1061 => (Kind::Conflict, None),
        1059 | 1071 | 1103 | 1117 | 1118 | 1166 | 1170 => (
            Kind::Unsupported,
            Some("leave fields out, or give the table other key fields or shorter names"),
        ),
        3750 => (
            Kind::Config,
            Some("give the table key fields, or switch sql_require_primary_key off"),
        ),
        1045 | 1698 | 1820 | 1862 => (Kind::Auth, None),
        1048
        | 1062
        | 1138
        | 1216
        | 1217
        | 1264
        | 1265
        | 1292
        | 1364
        | 1366
        | 1406
        | 1411
        | 1426
        | 1451
        | 1452
        | 1690
        | 3140..=3160
        | 3819
        | 4025 => (Kind::Data, None),
        _ => (by_class(&error.state), None),
    };
    let shown = if kind == Kind::Data {
        without_values(&error.message)
    } else {
        error.message.clone()
    };
    let made = Error::new(kind, format!("{shown} (error {})", error.code));
    match hint {
        Some(hint) => made.hint(hint),
        None => made,
    }
}

fn by_class(state: &str) -> Kind {
    match state.get(..2).unwrap_or_default() {
        "08" | "40" | "70" => Kind::Unavailable,
        "22" | "23" | "45" => Kind::Data,
        "28" => Kind::Auth,
        _ => Kind::Bug,
    }
}

/// The message without the value that it quotes before it says of what.
fn without_values(message: &str) -> String {
    let quotes = ["' for ", "' and ", "' at ", "'"];
    let Some(from) = message.find('\'') else {
        return message.to_owned();
    };
    let quoting = [
        "Duplicate entry",
        "Incorrect",
        "Truncated",
        "Invalid",
        "Illegal",
        "Cannot convert",
    ];
    if !quoting.iter().any(|word| message.starts_with(word)) {
        return message.to_owned();
    }
    let to = quotes
        .iter()
        .find_map(|end| message.rfind(end))
        .filter(|to| *to > from);
    let before = message.get(..from).unwrap_or_default();
    let behind = to.and_then(|to| message.get(to + 1..)).unwrap_or_default();
    format!("{before}…{behind}")
}

/// An error that the server reports while we sign in, which can be blamed on a setting.
pub fn of_sign_in(config: &Config, error: &ServerError) -> Error {
    let (address, message, names) = (config.address(), &error.message, config.names);
    let certificate = config.client_certificate.is_none() && config.passwd.is_empty();
    match error.code {
        1045 | 1698 if certificate => Error::auth(format!("{address}: {message}"))
            .field(names.passwd)
            .hint("give the account's password; an account that asks for a certificate needs client_certificate"),
        1045 | 1698 => Error::auth(format!("{address}: {message}"))
            .field(names.passwd)
            .hint(format!(
                "check {} and {}, and whether the account asks for TLS",
                names.account, names.passwd
            )),
        1044 => Error::permission(format!("{address}: {message}"))
            .field(names.dbname)
            .hint("GRANT the account rights on the database"),
        1049 => Error::missing(format!("{address}: {message}"))
            .field(names.dbname)
            .hint("check the name of the database; capitals count"),
        1130 => Error::auth(format!("{address}: {message}"))
            .field(names.network.host)
            .hint("create the account for this machine's address ('user'@'%'), or let it in at the server"),
        1129 => Error::unavailable(format!("{address}: {message}"))
            .field(names.network.host)
            .hint("run FLUSH HOSTS at the server, or raise max_connect_errors"),
        1251 | 2059 => Error::auth(format!("{address}: {message}")).field(names.account),
        3118 | 4151 => Error::auth(format!("{address}: {message}"))
            .field(names.account)
            .hint("ALTER USER … ACCOUNT UNLOCK"),
        1820 | 1862 => Error::auth(format!("{address}: {message}"))
            .field(names.passwd)
            .hint("the password has expired: ALTER USER … IDENTIFIED BY …"),
        3159 => Error::config(format!("{address}: {message}"))
            .field(names.ssl)
            .hint("switch TLS on: the server speaks nothing else"),
        _ => of_server(error).while_(address),
    }
}

pub fn not_mysql(config: &Config) -> Error {
    let (address, network) = (config.address(), config.names.network);
    Error::config(format!("what answers at {address} is not a MySQL server"))
        .field(network.port)
        .hint(format!("check {}", network.place()))
}

/// A failure of the TLS handshake.
pub fn of_handshake(config: &Config, error: io::Error) -> Error {
    let address = config.address();
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        return of_network(config.names.network, &address, &error);
    };
    let handshake = Handshake {
        host: &config.hostname,
        address: &address,
        scrutiny: if config.sslmode().verifies() {
            "sslmode"
        } else {
            "ca_cert"
        },
        switch: config.names.ssl,
        authorities: "ssl_ca",
        versions: "tls_version",
    };
    handshake.failed(tls).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_quoted() {
        for (message, expected) in [
            (
                "Duplicate entry 'se'cret' for key 't.PRIMARY'",
                "Duplicate entry … for key 't.PRIMARY'",
            ),
            (
                "Incorrect integer value: 'secret' for column `d`.`t`.`c` at row 1",
                "Incorrect integer value: … for column `d`.`t`.`c` at row 1",
            ),
            (
                "Truncated incorrect DOUBLE value: 'secret'",
                "Truncated incorrect DOUBLE value: …",
            ),
            (
                "Data too long for column 'c' at row 1",
                "Data too long for column 'c' at row 1",
            ),
            ("Column 'c' cannot be null", "Column 'c' cannot be null"),
        ] {
            assert_eq!(without_values(message), expected);
        }
    }
}
