//! A bare session through which tests look at a server, so that they need no second driver.

use serde_json::Value;
use tideway_core::{Result, connector::ConnectCx, form};

use crate::connect::{MySql, Session};

pub struct Eyes(Session);

impl Eyes {
    /// With the settings of a connection.
    pub async fn open(configuration: &Value) -> Result<Eyes> {
        let mysql = MySql::open(form::parse(configuration)?, &ConnectCx::default()).await?;
        Ok(Eyes(mysql.session().await?))
    }

    pub async fn run(&mut self, sql: &str) -> Result<()> {
        self.0.run(sql).await.map(|_| ())
    }

    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.0.rows(sql).await
    }
}
