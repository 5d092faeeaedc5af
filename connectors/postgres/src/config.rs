//! The settings of a PostgreSQL connection and of syncs that read from or write to it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use tideway_core::{Error, Result, Secret};
use tideway_network::{
    SshSettings, Words, address,
    tls::{SslMode, TlsSettings},
};

/// Fields without a doc comment have no description in the form.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["host", "port", "database", "username", "password"]))]
pub struct Config {
    /// What the form calls its fields.
    #[serde(skip, default = "words")]
    pub words: Words,
    /// Database server hostname or IP address
    #[serde(alias = "hostname")]
    #[schemars(title = "Host", extend("aliases" = ["hostname"]))]
    pub host: String,
    #[serde(default = "default_port", deserialize_with = "port_number")]
    #[schemars(title = "Port", range(min = 1, max = 65535))]
    pub port: u16,
    #[schemars(title = "Database Name")]
    pub database: String,
    #[schemars(title = "Username")]
    pub username: String,
    #[serde(default)]
    #[schemars(title = "Password", extend("sensitive" = true, "password" = true))]
    pub password: Secret,
    #[schemars(title = "SSL Mode", extend("default" = "require", "widget" = "select"))]
    pub sslmode: Option<SslMode>,
    // Older clients say only whether to use TLS; `sslmode` counts where both are given.
    #[schemars(title = "Use SSL", extend("hidden" = true))]
    pub ssl: Option<bool>,
    #[serde(default)]
    #[schemars(title = "Connect over SSH tunnel")]
    pub ssh: bool,
    #[serde(default = "default_ssh_user")]
    #[schemars(title = "SSH user")]
    pub ssh_user: String,
    #[schemars(title = "SSH host")]
    pub ssh_host: Option<String>,
    #[serde(default = "default_ssh_port", deserialize_with = "port_number")]
    #[schemars(title = "SSH port", range(min = 1, max = 65535))]
    pub ssh_port: u16,
    #[schemars(title = "Private key", extend("sensitive" = true, "widget" = "textarea"))]
    pub ssh_private_key: Option<Secret>,
    // Ours: what the SSH server has to show.
    #[schemars(title = "SSH host key", extend("hidden" = true))]
    pub ssh_host_key: Option<String>,
    #[serde(default)]
    #[schemars(title = "Use client certificates")]
    pub client_certs: bool,
    #[schemars(title = "Client certificate", extend("sensitive" = true, "widget" = "file"))]
    pub client_certificate: Option<Secret>,
    #[schemars(title = "Client key", extend("sensitive" = true, "widget" = "file"))]
    pub client_key: Option<Secret>,
    #[schemars(title = "CA certificate", extend("sensitive" = true, "widget" = "file"))]
    pub ca_cert: Option<Secret>,
    #[serde(default)]
    #[schemars(title = "Use logical replication for bulk syncs")]
    pub change_detection: bool,
    #[schemars(title = "Publication")]
    pub publication: Option<String>,
}

impl Config {
    /// `sslmode`, else what `ssl` says, else `require`.
    pub fn sslmode(&self) -> SslMode {
        self.sslmode.unwrap_or(match self.ssl {
            Some(false) => SslMode::Disable,
            _ => SslMode::Require,
        })
    }

    /// Refuses what the form cannot rule out.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [
            (self.words.host, &self.host),
            ("database", &self.database),
            ("username", &self.username),
        ] {
            if value.trim().is_empty() {
                return Err(Error::config(format!("{field} is empty")).field(field));
            }
            if value.contains('\0') {
                return Err(Error::config(format!("{field} holds a NUL character")).field(field));
            }
        }
        if self.host.starts_with('/') {
            return Err(Error::unsupported("Unix sockets cannot be connected to")
                .field(self.words.host)
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
        TlsSettings {
            mode: self.sslmode(),
            ca_cert: self.ca_cert.clone(),
            identified: self.client_certs,
            client_certificate: self.client_certificate.clone(),
            client_key: self.client_key.clone(),
        }
    }

    /// `host:port`, for people.
    pub fn address(&self) -> String {
        address(&self.host, self.port)
    }
}

/// What a bulk sync may say about reading.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceOptions {
    /// The slot that change detection reads from.
    #[schemars(title = "Replication slot")]
    pub replication_slot: Option<String>,
}

/// What a bulk sync may say about writing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DestinationOptions {
    /// Schema that the tables are written to; `public` unless given.
    #[schemars(title = "Schema")]
    pub schema: Option<String>,
    /// Write each table to a schema named as the one that it comes from.
    #[schemars(title = "Mirror schemas")]
    pub mirror_schemas: bool,
    #[schemars(title = "Advanced")]
    pub advanced: Advanced,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
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

fn words() -> Words {
    Words {
        host: "host",
        port: "port",
        listens: "listen_addresses",
    }
}

fn default_port() -> u16 {
    5432
}

fn default_ssh_port() -> u16 {
    22
}

fn default_ssh_user() -> String {
    "root".to_owned()
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
        let mut settings = json!({
            "host": "db", "port": 5432, "database": "d", "username": "u", "password": "p"
        });
        for (key, value) in extra.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings
    }

    fn mode(extra: Value) -> SslMode {
        form::parse::<Config>(&settings(extra)).unwrap().sslmode()
    }

    #[test]
    fn the_form_begins_as_the_reference_page_shows_it() {
        let form = Form::of::<Config>();
        let shown: Vec<(&String, &Value)> = form.properties().take(6).collect();
        let expected = json!({
            "host": {"type": "string", "title": "Host", "aliases": ["hostname"],
                     "description": "Database server hostname or IP address"},
            "port": {"type": "integer", "title": "Port", "default": 5432, "minimum": 1, "maximum": 65535},
            "database": {"type": "string", "title": "Database Name"},
            "username": {"type": "string", "title": "Username"},
            "password": {"type": "string", "title": "Password", "sensitive": true, "password": true},
            "sslmode": {"type": "string", "title": "SSL Mode", "widget": "select", "default": "require",
                        "enum": ["disable", "require", "verify-ca", "verify-full"]},
        });
        let expected: Vec<(&String, &Value)> = expected.as_object().unwrap().iter().collect();
        assert_eq!(shown, expected);
        assert_eq!(
            form.json_schema["required"],
            json!(["host", "port", "database", "username", "password"])
        );
        assert_eq!(form.ui_schema["password"], json!({"ui:widget": "password"}));
        assert_eq!(form.ui_schema["sslmode"], json!({"ui:widget": "select"}));
    }

    #[test]
    fn secrets_are_never_read_back() {
        let form = Form::of::<Config>();
        for field in [
            "password",
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
    fn the_older_spellings_are_understood() {
        let older = json!({
            "hostname": "db", "port": "6432", "database": "d", "username": "u", "password": "p", "ssl": false
        });
        let config: Config = form::parse(&older).unwrap();
        assert_eq!((config.host.as_str(), config.port), ("db", 6432));
        assert_eq!(config.sslmode(), SslMode::Disable);
    }

    #[test]
    fn sslmode_counts_more_than_ssl() {
        assert_eq!(mode(json!({})), SslMode::Require);
        assert_eq!(mode(json!({"ssl": true})), SslMode::Require);
        assert_eq!(
            mode(json!({"ssl": false, "sslmode": "verify-full"})),
            SslMode::VerifyFull
        );
        assert_eq!(
            mode(json!({"ssl": true, "sslmode": "disable"})),
            SslMode::Disable
        );
    }

    #[test]
    fn a_port_out_of_range_is_refused_by_name() {
        for port in [json!(0), json!(65536), json!("x"), json!(1.5), json!(-1)] {
            let error = form::parse::<Config>(&settings(json!({"port": port}))).unwrap_err();
            assert_eq!(error.blamed_field(), Some("port"));
        }
    }

    #[test]
    fn sockets_and_nothing_are_refused_by_field() {
        let refused = |extra| {
            let config: Config = form::parse(&settings(extra)).unwrap();
            config
                .validate()
                .unwrap_err()
                .blamed_field()
                .map(str::to_owned)
        };
        assert_eq!(
            refused(json!({"host": "/var/run/postgresql"})).as_deref(),
            Some("host")
        );
        assert_eq!(
            refused(json!({"database": " "})).as_deref(),
            Some("database")
        );
    }
}
