//! Connection URLs, as MySQL's users write them.

use std::{fs, net::IpAddr};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use tideway_core::{Error, Result, connector::Endpoint};
use tideway_network::tls::SslMode;
use url::Url;

/// Reads `mysql://user:password@host:port/database?sslmode=…`. Understood besides: `ssl-mode`
/// with MySQL's own words, `ssl-ca`, `ssl-cert`, `ssl-key` (paths of files), `ssh=user@host:port`
/// with `ssh_key` (a path) and `schema` (goes
/// to the sync's options). Without a mode, TLS is required unless the host is this machine.
///
/// # Errors
/// `Config` naming the field.
pub fn parse(url: &Url) -> Result<Endpoint> {
    let mut settings = Map::new();
    let mut options = Map::new();
    let host = decoded("hostname", url.host_str().unwrap_or_default())?;
    // An IPv6 address stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let account = decoded("account", url.username())?;
    for (field, value) in [("hostname", host), ("account", &account)] {
        if value.is_empty() {
            return Err(Error::config(format!("the URL names no {field}"))
                .field(field)
                .hint("write mysql://account:password@host:port/database"));
        }
        settings.insert(field.into(), value.into());
    }
    let password = decoded("passwd", url.password().unwrap_or_default())?;
    settings.insert("passwd".into(), password.into());
    let database = decoded("dbname", url.path().trim_start_matches('/'))?;
    if !database.is_empty() {
        settings.insert("dbname".into(), database.into());
    }
    settings.insert("port".into(), url.port().unwrap_or(3306).into());
    for (name, value) in url.query_pairs() {
        parameter(&name, &value, &mut settings, &mut options)?;
    }
    if !settings.contains_key("sslmode") {
        settings.insert("ssl".into(), (!is_this_machine(host)).into());
    }
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
        "sslmode" | "ssl-mode" => ("sslmode", sslmode(value)?.word().into()),
        "ssl-ca" | "sslrootcert" => ("ca_cert", file(name, value)?.into()),
        "ssl-cert" | "sslcert" => ("client_certificate", file(name, value)?.into()),
        "ssl-key" | "sslkey" => ("client_key", file(name, value)?.into()),
        "schema" => {
            options.insert("schema".into(), value.into());
            return Ok(());
        }
        // Every session speaks utf8mb4 and waits ten seconds, whatever is asked for.
        "charset" | "connect_timeout" | "timeout" => return Ok(()),
        _ => {
            return Err(
                Error::config(format!("{name} is not a parameter of a MySQL URL"))
                    .hint("use sslmode, ssl-ca, ssl-cert, ssl-key, ssh, ssh_key or schema"),
            );
        }
    };
    settings.insert(field.into(), value);
    Ok(())
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn decoded(field: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded
        .map_err(|_| Error::config(format!("the {field} of the URL is not UTF-8")).field(field))?;
    Ok(decoded.into_owned())
}

fn sslmode(word: &str) -> Result<SslMode> {
    let spelled = word.to_ascii_lowercase().replace('_', "-");
    let spelled = match spelled.as_str() {
        "disabled" => "disable",
        "required" => "require",
        "verify-identity" => "verify-full",
        other => other,
    };
    let known = SslMode::ALL.into_iter().find(|mode| mode.word() == spelled);
    known.ok_or_else(|| {
        let words = SslMode::ALL.map(SslMode::word).join(", ");
        Error::config(format!("sslmode {word} is not offered"))
            .field("sslmode")
            .hint(format!("use one of {words}"))
    })
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
    use serde_json::json;

    use super::*;

    fn parsed(url: &str) -> Result<Endpoint> {
        parse(&Url::parse(url).unwrap())
    }

    #[test]
    fn a_whole_url_is_read() {
        let url = "mysql://bob%40corp:p%3Ass%2F@db.example.com:3307/my%20db?ssl-mode=VERIFY_IDENTITY&schema=x";
        let endpoint = parsed(url).unwrap();
        assert_eq!(
            endpoint.configuration,
            json!({
                "hostname": "db.example.com", "account": "bob@corp", "passwd": "p:ss/",
                "dbname": "my db", "port": 3307, "sslmode": "verify-full"
            })
        );
        assert_eq!(endpoint.options, json!({"schema": "x"}));
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_tls_unasked() {
        for (host, expected) in [
            ("localhost", false),
            ("127.0.0.1", false),
            ("[::1]:3307", false),
            ("db.example.com", true),
            ("10.0.0.7", true),
        ] {
            let endpoint = parsed(&format!("mariadb://u@{host}/d")).unwrap();
            assert_eq!(endpoint.configuration["ssl"], expected, "{host}");
        }
        let endpoint = parsed("mysql://u@[::1]:3307").unwrap();
        assert_eq!(endpoint.configuration["hostname"], "::1");
        assert!(endpoint.configuration.get("dbname").is_none());
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_field() {
        for (url, field) in [
            ("mysql://u@h/d?sslmode=preferred", "sslmode"),
            ("mysql://h/d", "account"),
            ("mysql://u@h/d?ssl-ca=/nowhere/ca.crt", "ssl-ca"),
        ] {
            let error = parsed(url).unwrap_err();
            assert_eq!(error.blamed_field(), Some(field), "{url}: {error}");
        }
        assert!(parsed("mysql://u@h/d?colour=red").is_err());
    }
}
