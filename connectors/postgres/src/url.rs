//! Connection URLs, as libpq's users write them.

use std::{fs, net::IpAddr};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use tideway_core::{Error, Result, connector::Endpoint};
use tideway_network::tls::SslMode;
use url::Url;

/// Reads `postgresql://user:password@host:port/database?sslmode=…`. Understood besides:
/// `sslrootcert`, `sslcert`, `sslkey` (paths of files), `ssh=user@host:port` with `ssh_key` (a
/// path), `schema` (goes to the sync's
/// options), `user`, `password`, `dbname`. Without `sslmode`, TLS is required unless the
/// host is this machine.
///
/// # Errors
/// `Config` naming the field, `Unsupported` for Unix sockets.
pub fn parse(url: &Url) -> Result<Endpoint> {
    let mut settings = Map::new();
    let mut options = Map::new();
    let host = decoded("host", url.host_str().unwrap_or_default())?;
    // An IPv6 address stands in brackets.
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let username = decoded("username", url.username())?;
    let password = decoded("password", url.password().unwrap_or_default())?;
    let database = decoded("database", url.path().trim_start_matches('/'))?;
    let parts = [
        ("host", host),
        ("username", username),
        ("password", password),
        ("database", database),
    ];
    for (field, value) in parts {
        settings.insert(field.into(), value.into());
    }
    settings.insert("port".into(), url.port().unwrap_or(5432).into());
    for (name, value) in url.query_pairs() {
        parameter(&name, &value, &mut settings, &mut options)?;
    }
    complete(&mut settings)?;
    Ok(Endpoint {
        configuration: settings.into(),
        options: options.into(),
    })
}

fn parameter(
    name: &str,
    value: &str,
    settings: &mut Map<String, Value>,
    options: &mut Map<String, Value>,
) -> Result<()> {
    if tideway_network::url::parameter(name, value, settings)? {
        return Ok(());
    }
    let (field, value): (&str, Value) = match name {
        "sslmode" => ("sslmode", sslmode(value)?.word().into()),
        "sslrootcert" if value == "system" => return Ok(()),
        "sslrootcert" => ("ca_cert", file(name, value)?.into()),
        "sslcert" => {
            settings.insert("client_certs".into(), true.into());
            ("client_certificate", file(name, value)?.into())
        }
        "sslkey" => ("client_key", file(name, value)?.into()),
        "user" => ("username", value.into()),
        "password" => ("password", value.into()),
        "dbname" => ("database", value.into()),
        "host" if value.starts_with('/') => return Err(no_sockets()),
        "host" => ("host", value.into()),
        "port" => ("port", json!(port(value)?)),
        "schema" => {
            options.insert("schema".into(), value.into());
            return Ok(());
        }
        // They change nothing about what is read or written.
        "application_name" | "connect_timeout" | "channel_binding" | "gssencmode" => return Ok(()),
        _ => {
            return Err(
                Error::config(format!("{name} is not a parameter of a PostgreSQL URL"))
                    .hint("use sslmode, sslrootcert, sslcert, sslkey, ssh, ssh_key or schema"),
            );
        }
    };
    settings.insert(field.into(), value);
    Ok(())
}

fn complete(settings: &mut Map<String, Value>) -> Result<()> {
    let text = |settings: &Map<String, Value>, field: &str| {
        settings
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let host = text(settings, "host");
    if host.starts_with('/') {
        return Err(no_sockets());
    }
    for field in ["host", "username", "database"] {
        if text(settings, field).is_empty() {
            return Err(Error::config(format!("the URL names no {field}"))
                .field(field)
                .hint("write postgresql://username:password@host:port/database"));
        }
    }
    let default = if is_this_machine(&host) {
        SslMode::Disable
    } else {
        SslMode::Require
    };
    settings
        .entry("sslmode")
        .or_insert_with(|| default.word().into());
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn no_sockets() -> Error {
    Error::unsupported("Unix sockets cannot be connected to")
        .field("host")
        .hint("give the server's host name or IP address")
}

fn decoded(field: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded
        .map_err(|_| Error::config(format!("the {field} of the URL is not UTF-8")).field(field))?;
    Ok(decoded.into_owned())
}

fn sslmode(word: &str) -> Result<SslMode> {
    let known = SslMode::ALL.into_iter().find(|mode| mode.word() == word);
    known.ok_or_else(|| {
        let words = SslMode::ALL.map(SslMode::word).join(", ");
        Error::config(format!("sslmode {word} is not offered"))
            .field("sslmode")
            .hint(format!("use one of {words}"))
    })
}

fn port(digits: &str) -> Result<u16> {
    let port = digits.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Error::config("a port is a number from 1 to 65535").field("port"))
}

fn file(parameter: &str, path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        Error::from(error)
            .while_(format!("{parameter} {path}"))
            .field(parameter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Endpoint> {
        parse(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_whole_url_is_read() {
        let endpoint =
            parsed("postgresql://bob%40corp:p%3Ass%2F@db.example.com:6432/my%20db?sslmode=verify-full&schema=sales")
                .unwrap();
        assert_eq!(
            endpoint.configuration,
            json!({
                "host": "db.example.com", "username": "bob@corp", "password": "p:ss/",
                "database": "my db", "port": 6432, "sslmode": "verify-full"
            })
        );
        assert_eq!(endpoint.options, json!({"schema": "sales"}));
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls_unasked() {
        for (host, expected) in [
            ("localhost", "disable"),
            ("127.0.0.1", "disable"),
            ("[::1]:5433", "disable"),
            ("db.example.com", "require"),
            ("10.0.0.7", "require"),
        ] {
            let endpoint = parsed(&format!("postgres://u@{host}/d")).unwrap();
            assert_eq!(endpoint.configuration["sslmode"], expected, "{host}");
        }
        let endpoint = parsed("postgres://u@[::1]:5433/d").unwrap();
        assert_eq!(
            (
                &endpoint.configuration["host"],
                &endpoint.configuration["port"]
            ),
            (&json!("::1"), &json!(5433))
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_field() {
        for (url, field) in [
            ("postgresql:///d?host=/var/run/postgresql&user=u", "host"),
            ("postgresql://u@%2Fvar%2Frun/d", "host"),
            ("postgresql://u@h/d?sslmode=prefer", "sslmode"),
            ("postgresql://u@h/", "database"),
            ("postgresql://h/d", "username"),
            (
                "postgresql://u@h/d?sslrootcert=/nowhere/ca.crt",
                "sslrootcert",
            ),
        ] {
            let error = parsed(url).unwrap_err();
            assert_eq!(error.blamed_field(), Some(field), "{url}: {error}");
        }
        assert!(parsed("postgresql://u@h/d?colour=red").is_err());
    }

    #[test]
    fn certificates_are_read_from_their_files() {
        let path = std::env::temp_dir().join(format!("tideway-{}.pem", uuid::Uuid::new_v4()));
        fs::write(&path, "PEM").unwrap();
        let endpoint = parsed(&format!(
            "postgresql://u@h/d?sslrootcert={}",
            path.display()
        ));
        fs::remove_file(&path).unwrap();
        assert_eq!(endpoint.unwrap().configuration["ca_cert"], "PEM");
    }
}
