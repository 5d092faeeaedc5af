//! Instances of Google's Cloud SQL, which speak the protocols of PostgreSQL and MySQL.

use std::net::IpAddr;

use tideway_core::{Error, Result, Secret};

/// The host and port that a `connection_name` leads to.
///
/// # Errors
/// `Config` for what is no address, `Unsupported` for `project:region:instance`, whose address
/// Google alone can tell; both name the field.
pub fn address(connection_name: &str, usual_port: u16) -> Result<(String, u16)> {
    const FIELD: &str = "connection_name";
    const HINT: &str =
        "give the address of the instance or of a Cloud SQL Auth Proxy, as host or host:port";
    let name = connection_name.trim();
    let wrong = || {
        Error::config(format!("{FIELD} is no address"))
            .field(FIELD)
            .hint(HINT)
    };
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let bare = bracketed.unwrap_or(name);
    let (host, port) = match name.rsplit_once(':') {
        _ if bare.parse::<IpAddr>().is_ok() => (bare, usual_port),
        None => (name, usual_port),
        Some((host, port)) => {
            let host = match host.strip_prefix('[') {
                Some(host) => host.strip_suffix(']').ok_or_else(wrong)?,
                None if host.contains(':') => {
                    return Err(Error::unsupported(format!(
                        "the address of {name} would have to be asked of Google, which is not built"
                    ))
                    .field(FIELD)
                    .hint(HINT));
                }
                None => host,
            };
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, port.ok_or_else(wrong)?)
        }
    };
    match host.is_empty() || host.contains(['/', '\0']) {
        true => Err(wrong()),
        false => Ok((host.to_owned(), port)),
    }
}

/// Refuses to sign in without a password.
///
/// # Errors
/// `Unsupported` naming the field.
pub fn needed(password: &Secret) -> Result<()> {
    match password.is_empty() {
        false => Ok(()),
        true => Err(Error::unsupported(
            "signing in by the service account key would go through Google, which is not built",
        )
        .field("password")
        .hint("give the user a password at the instance, and give it here")),
    }
}

#[cfg(test)]
mod tests {
    use tideway_core::Kind;

    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_a_port() {
        for (name, host, port) in [
            ("10.1.2.3", "10.1.2.3", 5432),
            (" sql.example.com ", "sql.example.com", 5432),
            ("127.0.0.1:6543", "127.0.0.1", 6543),
            ("fd00::3", "fd00::3", 5432),
            ("[fd00::3]", "fd00::3", 5432),
            ("[fd00::3]:6543", "fd00::3", 6543),
        ] {
            let found = address(name, 5432).unwrap();
            assert_eq!(found, (host.to_owned(), port), "{name}");
        }
    }

    #[test]
    fn what_google_alone_can_tell_is_refused_and_so_is_what_is_no_address() {
        for (name, kind) in [
            ("shop:europe-west1:orders", Kind::Unsupported),
            ("example.com:shop:europe-west1:orders", Kind::Unsupported),
            ("", Kind::Config),
            (":5432", Kind::Config),
            ("db:", Kind::Config),
            ("db:0", Kind::Config),
            ("db:65536", Kind::Config),
            ("[fd00::3:5432", Kind::Config),
            ("/cloudsql/shop", Kind::Config),
        ] {
            let error = address(name, 5432).unwrap_err();
            assert_eq!(error.kind, kind, "{name}: {error}");
            assert_eq!(error.blamed_field(), Some("connection_name"), "{name}");
        }
    }
}
