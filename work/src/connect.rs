//! From a stored connection, or settings not stored yet, to a live one.

use std::sync::Arc;

use serde_json::Value;
use tideway_core::{
    CheckReport, Connection, Connector, Error, Result, connector::ConnectCx, form::FieldError,
};

use crate::Work;

/// The connector of that type id.
pub fn connector(kind: &str) -> Result<&'static dyn Connector> {
    tideway_registry::find(kind).ok_or_else(|| {
        let known: Vec<&str> = tideway_registry::all()
            .iter()
            .map(|c| c.about().id)
            .collect();
        Error::missing(format!("there is no connection type {kind}"))
            .field("type")
            .hint(format!("use one of {}", known.join(", ")))
    })
}

/// One error for all troubles of a form; the first field is the one blamed.
pub fn refused(troubles: &[FieldError]) -> Error {
    let messages: Vec<&str> = troubles
        .iter()
        .map(|trouble| trouble.message.as_str())
        .collect();
    let field = troubles
        .first()
        .map(|trouble| trouble.field.clone())
        .unwrap_or_default();
    Error::config(messages.join("; "))
        .field(field)
        .hint("correct the named settings")
}

impl Work {
    /// Opens a link with settings as a client wrote them.
    pub async fn open(
        &self,
        kind: &str,
        configuration: &Value,
        purpose: &str,
    ) -> Result<Arc<dyn Connection>> {
        let connector = connector(kind)?;
        let settings =
            tideway_registry::settings::checked(&connector.forms().connection, configuration)
                .map_err(|troubles| refused(&troubles))?;
        connector
            .connect(&settings, &self.connect_cx(purpose))
            .await
    }

    pub fn connect_cx(&self, purpose: &str) -> ConnectCx {
        ConnectCx {
            data_dir: Some(self.settings.data_dir.clone()),
            purpose: format!("tideway {purpose}"),
            outbound: self.settings.outbound.clone(),
        }
    }

    /// Tries the connection out. Failing to open it is a failed probe, not an error.
    pub async fn check(&self, kind: &str, configuration: &Value) -> CheckReport {
        match self.open(kind, configuration, "check").await {
            Ok(connection) => connection.check().await,
            Err(error) => {
                let mut report = CheckReport::default();
                report.fail("connect", &error);
                report
            }
        }
    }
}
