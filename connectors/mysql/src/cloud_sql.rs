//! The settings of a connection to MySQL in Google's Cloud SQL.

use schemars::JsonSchema;
use serde::Deserialize;
use tideway_core::{Result, Secret};
use tideway_network::{Words, cloud_sql, tls::SslMode};

use crate::config::{Config, Names};

const NAMES: Names = Names {
    network: Words {
        host: "connection_name",
        port: "connection_name",
        listens: "authorized networks",
    },
    account: "username",
    passwd: "password",
    dbname: "database",
    ssl: "sslmode",
};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["connection_name", "database"]))]
pub struct CloudSql {
    /// Address of the instance or of a Cloud SQL Auth Proxy, as host or host:port.
    /// project:region:instance is not built.
    #[schemars(title = "Cloud SQL connection name", extend("examples" = ["10.0.0.3:3306"]))]
    connection_name: String,
    #[serde(default)]
    #[schemars(title = "Database", extend("examples" = ["sampledb"]))]
    database: String,
    #[serde(default)]
    #[schemars(title = "Username", extend("examples" = ["cloudsql"]))]
    username: String,
    #[serde(default)]
    #[schemars(
        title = "Password",
        extend("examples" = ["secret"], "password" = true, "sensitive" = true)
    )]
    password: Secret,
    /// Not used: signing in is by password.
    // Clients of the contract always send one.
    #[schemars(title = "Service account key", extend("sensitive" = true, "widget" = "file"))]
    #[serde(rename = "credentials")]
    _credentials: Option<Secret>,
    #[serde(default)]
    #[schemars(title = "Use replication for bulk syncs")]
    change_detection: bool,
    // Ours: an instance has an authority of its own, and may ask for client certificates.
    #[schemars(title = "SSL Mode", extend("default" = "require", "hidden" = true))]
    sslmode: Option<SslMode>,
    #[schemars(title = "CA certificate", extend("sensitive" = true, "hidden" = true))]
    ca_cert: Option<Secret>,
    #[schemars(title = "Client certificate", extend("sensitive" = true, "hidden" = true))]
    client_certificate: Option<Secret>,
    #[schemars(title = "Client key", extend("sensitive" = true, "hidden" = true))]
    client_key: Option<Secret>,
}

impl CloudSql {
    /// The same as settings of MySQL.
    pub fn config(self) -> Result<Config> {
        let (hostname, port) = cloud_sql::address(&self.connection_name, 3306)?;
        cloud_sql::needed(&self.password)?;
        Ok(Config {
            names: NAMES,
            hostname,
            port,
            account: self.username,
            passwd: self.password,
            dbname: Some(self.database),
            ssl: true,
            sslmode: self.sslmode,
            ca_cert: self.ca_cert,
            client_certificate: self.client_certificate,
            client_key: self.client_key,
            local_infile: true,
            ssh: false,
            ssh_user: String::new(),
            ssh_host: None,
            ssh_port: 22,
            ssh_private_key: None,
            ssh_host_key: None,
            change_detection: self.change_detection,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tideway_core::{
        Error, Kind,
        form::{self, Form},
    };

    use super::*;

    fn read(changes: Value) -> Result<Config, Error> {
        let mut settings = json!({
            "connection_name": "10.0.0.3", "database": "d", "username": "u", "password": "p",
            "credentials": "{}"
        });
        for (key, value) in changes.as_object().unwrap() {
            settings[key] = value.clone();
        }
        form::parse::<CloudSql>(&settings)?.config()
    }

    #[test]
    fn the_form_has_the_reference_s_fields_in_its_order() {
        let form = Form::of::<CloudSql>();
        let shown = form
            .properties()
            .filter(|(_, property)| property["hidden"] != true);
        let names: Vec<&String> = shown.map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "connection_name",
                "database",
                "username",
                "password",
                "credentials",
                "change_detection"
            ]
        );
        for field in [
            "password",
            "credentials",
            "ca_cert",
            "client_certificate",
            "client_key",
        ] {
            let shown = form.redacted(&json!({field: "s3cret"}));
            assert_eq!(shown[field], form::MASK, "{field}");
        }
    }

    #[test]
    fn it_becomes_settings_of_mysql() {
        let config = read(json!({"connection_name": "10.0.0.3:3307"})).unwrap();
        assert_eq!(config.address(), "10.0.0.3:3307");
        assert_eq!(config.sslmode(), SslMode::Require);
        assert_eq!(config.database(), Some("d"));
        assert!(config.tunnel().is_none() && config.local_infile);
        assert_eq!(read(json!({})).unwrap().port, 3306);
    }

    #[test]
    fn troubles_are_told_in_the_words_of_its_own_form() {
        for (changes, field) in [
            (json!({"username": " "}), "username"),
            (json!({"database": "a\0b"}), "database"),
        ] {
            let error = read(changes).unwrap().validate().unwrap_err();
            assert_eq!(error.blamed_field(), Some(field), "{error}");
        }
        for (changes, field) in [
            (json!({"connection_name": "a:b:c"}), "connection_name"),
            (json!({"password": ""}), "password"),
        ] {
            let error = read(changes).unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported, "{error}");
            assert_eq!(error.blamed_field(), Some(field));
        }
    }
}
