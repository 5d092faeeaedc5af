//! The settings of a MySQL connection and of syncs that read from or write to it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use tideway_core::{Error, Result, Secret};
use tideway_network::{
    SshSettings, Words, address,
    tls::{SslMode, TlsSettings},
};

/// What the form calls the fields that errors name.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    pub network: Words,
    pub account: &'static str,
    pub passwd: &'static str,
    pub dbname: &'static str,
    /// What switches TLS on and off.
    pub ssl: &'static str,
}

impl Default for Names {
    fn default() -> Names {
        Names {
            network: Words {
                host: "hostname",
                port: "port",
                listens: "bind_address",
            },
            account: "account",
            passwd: "passwd",
            dbname: "dbname",
            ssl: "ssl",
        }
    }
}

/// Fields without a doc comment have no description in the form.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["hostname", "account", "passwd", "port"]))]
pub struct Config {
    #[serde(skip)]
    pub names: Names,
    #[serde(alias = "host")]
    #[schemars(title = "Hostname", extend("aliases" = ["host"], "examples" = ["database.example.com"]))]
    pub hostname: String,
    #[serde(alias = "username")]
    #[schemars(title = "Username", extend("aliases" = ["username"], "examples" = ["admin"]))]
    pub account: String,
    #[serde(default, alias = "password")]
    #[schemars(
        title = "Password",
        extend("aliases" = ["password"], "examples" = ["password"], "password" = true, "sensitive" = true)
    )]
    pub passwd: Secret,
    #[serde(alias = "database")]
    #[schemars(title = "Database (optional)", extend("aliases" = ["database"], "examples" = ["mydb"]))]
    pub dbname: Option<String>,
    #[serde(default = "default_port", deserialize_with = "port_number")]
    #[schemars(title = "Port", range(min = 1, max = 65535), extend("examples" = [3306]))]
    pub port: u16,
    #[serde(default = "yes")]
    #[schemars(title = "Use SSL")]
    pub ssl: bool,
    // How far the server's certificate is looked at; counts more than `ssl`.
    #[schemars(title = "SSL Mode", extend("hidden" = true))]
    pub sslmode: Option<SslMode>,
    #[schemars(title = "CA certificate", extend("sensitive" = true, "hidden" = true))]
    pub ca_cert: Option<Secret>,
    #[schemars(title = "Client certificate", extend("sensitive" = true, "hidden" = true))]
    pub client_certificate: Option<Secret>,
    #[schemars(title = "Client key", extend("sensitive" = true, "hidden" = true))]
    pub client_key: Option<Secret>,
    // Rows are written as statements where it is off, as they are where the server takes no files.
    #[serde(default = "yes")]
    #[schemars(title = "Write by LOAD DATA LOCAL", extend("hidden" = true))]
    pub local_infile: bool,
    #[serde(default)]
    #[schemars(title = "Connect over SSH tunnel")]
    pub ssh: bool,
    #[serde(default = "default_ssh_user")]
    #[schemars(title = "SSH user")]
    pub ssh_user: String,
    #[schemars(title = "SSH host", extend("examples" = ["bastion.example.com"]))]
    pub ssh_host: Option<String>,
    #[serde(default = "default_ssh_port", deserialize_with = "port_number")]
    #[schemars(title = "SSH port", range(min = 1, max = 65535), extend("examples" = [22]))]
    pub ssh_port: u16,
    #[schemars(title = "Private key", extend("sensitive" = true, "widget" = "textarea"))]
    pub ssh_private_key: Option<Secret>,
    // Ours: what the SSH server has to show.
    #[schemars(title = "SSH host key", extend("hidden" = true))]
    pub ssh_host_key: Option<String>,
    #[serde(default)]
    #[schemars(title = "Use replication for bulk syncs")]
    pub change_detection: bool,
}

impl Config {
    /// `sslmode`, else what `ssl` says.
    pub fn sslmode(&self) -> SslMode {
        self.sslmode.unwrap_or(if self.ssl {
            SslMode::Require
        } else {
            SslMode::Disable
        })
    }

    /// The database that is named, if one is.
    pub fn database(&self) -> Option<&str> {
        self.dbname
            .as_deref()
            .map(str::trim)
            .filter(|name| !name.is_empty())
    }

    /// Refuses what the form cannot rule out.
    pub fn validate(&self) -> Result<()> {
        let names = self.names;
        for (field, value) in [
            (names.network.host, &self.hostname),
            (names.account, &self.account),
        ] {
            if value.trim().is_empty() {
                return Err(Error::config(format!("{field} is empty")).field(field));
            }
        }
        for (field, value) in [
            (names.network.host, self.hostname.as_str()),
            (names.account, &self.account),
            (names.passwd, self.passwd.expose()),
            (names.dbname, self.database().unwrap_or_default()),
        ] {
            if value.contains('\0') {
                return Err(Error::config(format!("{field} holds a NUL character")).field(field));
            }
        }
        if self.hostname.starts_with('/') {
            return Err(Error::unsupported("Unix sockets cannot be connected to")
                .field(names.network.host)
                .hint("give the server's host name or IP address"));
        }
        Ok(())
    }

    /// How the server is reached, where it is through a tunnel.
    pub fn tunnel(&self) -> Option<SshSettings> {
        self.ssh.then(|| SshSettings {
            user: self.ssh_user.clone(),
            host: self.ssh_host.clone(),
            port: self.ssh_port,
            private_key: self.ssh_private_key.clone(),
            host_key: self.ssh_host_key.clone(),
        })
    }

    /// How the way there is secured.
    pub fn tls(&self) -> TlsSettings {
        let given = |value: &Option<Secret>| value.as_ref().is_some_and(|value| !value.is_empty());
        TlsSettings {
            mode: self.sslmode(),
            ca_cert: self.ca_cert.clone(),
            identified: given(&self.client_certificate) || given(&self.client_key),
            client_certificate: self.client_certificate.clone(),
            client_key: self.client_key.clone(),
        }
    }

    /// `host:port`, for people.
    pub fn address(&self) -> String {
        address(&self.hostname, self.port)
    }
}

/// A bulk sync has nothing to say about reading.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceOptions {}

/// What a bulk sync may say about writing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
// The engine reads them; they stand here for the form.
#[allow(dead_code)]
pub struct DestinationOptions {
    /// Database that the tables are written to; the connection's unless given.
    #[schemars(title = "Schema")]
    pub schema: Option<String>,
    /// Write each table to a database named as the schema that it comes from.
    #[schemars(title = "Mirror schemas")]
    pub mirror_schemas: bool,
    #[schemars(title = "Advanced")]
    pub advanced: Advanced,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[allow(dead_code)]
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

fn default_port() -> u16 {
    3306
}

fn default_ssh_port() -> u16 {
    22
}

fn default_ssh_user() -> String {
    "root".to_owned()
}

fn yes() -> bool {
    true
}

/// A port, as a number or as its digits in a string.
fn port_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        Number(i64),
        Digits(String),
    }
    const RANGE: &str = "a port is a number from 1 to 65535";
    let number = match Spelling::deserialize(deserializer) {
        Ok(Spelling::Number(number)) => Some(number),
        Ok(Spelling::Digits(digits)) => digits.trim().parse().ok(),
        Err(_) => None,
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|port| *port > 0)
        .ok_or_else(|| de::Error::custom(RANGE))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tideway_core::form::{self, Form};

    use super::*;

    fn settings(extra: Value) -> Value {
        let mut settings = json!({"hostname": "db", "port": 3306, "account": "u", "passwd": "p"});
        for (key, value) in extra.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings
    }

    fn parsed(extra: Value) -> Config {
        form::parse(&settings(extra)).unwrap()
    }

    #[test]
    fn the_form_has_the_reference_s_fields_in_its_order() {
        let form = Form::of::<Config>();
        let names: Vec<&String> = form
            .properties()
            .filter(|(_, property)| property["hidden"] != true)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "hostname",
                "account",
                "passwd",
                "dbname",
                "port",
                "ssl",
                "ssh",
                "ssh_user",
                "ssh_host",
                "ssh_port",
                "ssh_private_key",
                "change_detection"
            ]
        );
        assert_eq!(
            form.json_schema["required"],
            json!(["hostname", "account", "passwd", "port"])
        );
        assert_eq!(form.json_schema["properties"]["ssl"]["default"], true);
        assert_eq!(form.json_schema["properties"]["port"]["default"], 3306);
    }

    #[test]
    fn secrets_are_never_read_back() {
        let form = Form::of::<Config>();
        for field in [
            "passwd",
            "ssh_private_key",
            "client_certificate",
            "client_key",
            "ca_cert",
        ] {
            let shown = form.redacted(&settings(json!({field: "s3cret"})));
            assert_eq!(shown[field], form::MASK, "{field}");
        }
    }

    #[test]
    fn tls_is_used_unless_switched_off() {
        assert_eq!(parsed(json!({})).sslmode(), SslMode::Require);
        assert_eq!(parsed(json!({"ssl": false})).sslmode(), SslMode::Disable);
        let both = json!({"ssl": false, "sslmode": "verify-full"});
        assert_eq!(parsed(both).sslmode(), SslMode::VerifyFull);
    }

    #[test]
    fn what_cannot_be_is_refused_by_field() {
        for port in [json!(0), json!(65536), json!("x"), json!(1.5)] {
            let error = form::parse::<Config>(&settings(json!({"port": port}))).unwrap_err();
            assert_eq!(error.blamed_field(), Some("port"));
        }
        for (extra, field) in [
            (json!({"hostname": "/run/mysqld/mysqld.sock"}), "hostname"),
            (json!({"account": " "}), "account"),
            (json!({"dbname": "a\0b"}), "dbname"),
        ] {
            let error = parsed(extra).validate().unwrap_err();
            assert_eq!(error.blamed_field(), Some(field));
        }
    }
}
