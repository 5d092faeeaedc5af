//! Tunnels in connection URLs.

use std::fs;

use serde_json::{Map, Value};
use tideway_core::{Error, Result};

/// Takes the parameters of a URL that tell of a tunnel: `ssh=user@host:port`, `ssh_key=path` and
/// `ssh_host_key`. False for any other.
///
/// # Errors
/// `Config` naming the field.
pub fn parameter(name: &str, value: &str, settings: &mut Map<String, Value>) -> Result<bool> {
    match name {
        "ssh" => server(value, settings)?,
        "ssh_key" => {
            let key = fs::read_to_string(value).map_err(|error| {
                let error = Error::from(error).while_(format!("ssh_key {value}"));
                error.field("ssh_private_key")
            })?;
            settings.insert("ssh_private_key".into(), key.into());
        }
        "ssh_host_key" => {
            settings.insert("ssh_host_key".into(), value.into());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn server(value: &str, settings: &mut Map<String, Value>) -> Result<()> {
    let wrong = || {
        Error::config(format!("{value:?} names no SSH server"))
            .field("ssh_host")
            .hint("write ssh=user@host or ssh=user@host:port")
    };
    let (user, place) = value.rsplit_once('@').ok_or_else(wrong)?;
    // An IPv6 address stands in brackets.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (place, 22_u16),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if user.is_empty() || host.is_empty() || port == 0 {
        return Err(wrong());
    }
    settings.insert("ssh".into(), true.into());
    settings.insert("ssh_user".into(), user.into());
    settings.insert("ssh_host".into(), host.into());
    settings.insert("ssh_port".into(), port.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_read_as_people_write_them() {
        for (value, host, port) in [
            ("me@bastion", "bastion", 22),
            ("me@bastion:2222", "bastion", 2222),
            ("me@[fd00::1]", "fd00::1", 22),
            ("me@[fd00::1]:2222", "fd00::1", 2222),
        ] {
            let mut settings = Map::new();
            assert!(parameter("ssh", value, &mut settings).unwrap());
            let expected =
                json!({"ssh": true, "ssh_user": "me", "ssh_host": host, "ssh_port": port});
            assert_eq!(Value::from(settings), expected);
        }
        for value in ["bastion", "@bastion", "me@", "me@h:0", "me@h:x", ""] {
            let error = parameter("ssh", value, &mut Map::new()).unwrap_err();
            assert_eq!(error.blamed_field(), Some("ssh_host"), "{value}");
        }
        assert!(!parameter("sslmode", "require", &mut Map::new()).unwrap());
    }
}
