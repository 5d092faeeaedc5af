//! What a connector is: a kind of system ([`Connector`], one value per kind, listed in
//! the registry) and a live link to one such system ([`Connection`]) with its roles.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::{
    Capabilities, Error, Result,
    changes::Changes,
    destination::Destination,
    form::Form,
    outbound::Outbound,
    query::{Enrich, Query},
    source::Source,
    target::Target,
};

/// What a kind of system is called and can be, before anyone connects.
pub struct About {
    /// Id in the API (`postgresql`).
    pub id: &'static str,
    pub name: &'static str,
    /// File name of the logo, without folder.
    pub logo: &'static str,
    /// `database`, `warehouse`, `file`; for grouping in pages.
    pub category: &'static str,
    pub source: bool,
    pub destination: bool,
    pub enrichment: bool,
    /// Record logs can be delivered there.
    pub logging: bool,
    /// As a destination it can keep the history of a table ([`crate::history`]).
    pub history: bool,
    /// The API's `envConfig` and `initialConfiguration`, as JSON objects.
    pub env_config: fn() -> Value,
    pub initial_configuration: fn() -> Value,
    /// URL schemes that `tideway copy` knows this kind by.
    pub schemes: &'static [&'static str],
}

/// The three forms of a kind: its connection, and a bulk sync's
/// `source_configuration` and `destination_configuration`.
pub struct Forms {
    pub connection: Form,
    pub source: Form,
    pub destination: Form,
}

/// What a URL says.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub configuration: Value,
    /// Goes into `source_configuration` or `destination_configuration`.
    pub options: Value,
}

/// One entry of a pick list (`parameter_values`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    pub value: Value,
    pub label: String,
}

/// The surroundings of a connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectCx {
    /// Where the connector may put files of its own.
    pub data_dir: Option<PathBuf>,
    /// Shown to servers that list their clients (`application_name`).
    pub purpose: String,
    /// What may be connected to.
    pub outbound: Outbound,
}

#[async_trait]
pub trait Connector: Send + Sync + 'static {
    fn about(&self) -> &'static About;

    fn forms(&self) -> &Forms;

    /// Opens a connection. Settings have been checked against the form; both
    /// spellings of a field may occur. Must fail within about ten seconds where
    /// nobody answers.
    async fn connect(&self, configuration: &Value, cx: &ConnectCx) -> Result<Arc<dyn Connection>>;

    /// Reads a URL of one of [`About::schemes`].
    fn parse_url(&self, url: &Url) -> Result<Endpoint>;

    /// Choices for a field whose values only the system knows. `configuration` may be
    /// incomplete, as the user is still filling in the form.
    async fn choices(
        &self,
        field: &str,
        _configuration: &Value,
        _cx: &ConnectCx,
    ) -> Result<Vec<Choice>> {
        Err(Error::config(format!("{field} has no list of values")).field(field))
    }
}

/// What a connection can be used as. New roles are added here and nowhere else, so
/// that a connector names only those that it has: `Roles { source: Some(self), ..Roles::default() }`.
#[derive(Default, Clone, Copy)]
pub struct Roles<'a> {
    pub source: Option<&'a dyn Source>,
    pub changes: Option<&'a dyn Changes>,
    pub destination: Option<&'a dyn Destination>,
    pub target: Option<&'a dyn Target>,
    pub query: Option<&'a dyn Query>,
    pub enrich: Option<&'a dyn Enrich>,
}

#[async_trait]
pub trait Connection: Send + Sync {
    fn capabilities(&self) -> &Capabilities;

    fn roles(&self) -> Roles<'_>;

    /// Tries, step by step, what the connection will need. Does not fail: what fails
    /// is a probe.
    async fn check(&self) -> CheckReport;
}

/// One thing that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// Short, the same each time: `reach`, `sign in`, `list tables`.
    pub name: String,
    pub passed: bool,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    pub probes: Vec<Probe>,
}

impl CheckReport {
    pub fn passed(&self) -> bool {
        self.probes.iter().all(|probe| probe.passed)
    }

    pub fn pass(&mut self, name: &str, detail: impl Into<String>) {
        self.probes.push(Probe {
            name: name.into(),
            passed: true,
            detail: detail.into(),
            hint: None,
        });
    }

    pub fn fail(&mut self, name: &str, error: &Error) {
        self.probes.push(Probe {
            name: name.into(),
            passed: false,
            detail: error.to_string(),
            hint: Some(error.advice().to_owned()),
        });
    }

    pub fn first_failure(&self) -> Option<&Probe> {
        self.probes.iter().find(|probe| !probe.passed)
    }
}

impl<'a> Roles<'a> {
    pub fn need_source(&self, id: &str) -> Result<&'a dyn Source> {
        self.source
            .ok_or_else(|| Error::unsupported(format!("{id} cannot be a bulk sync source")))
    }

    pub fn need_destination(&self, id: &str) -> Result<&'a dyn Destination> {
        self.destination
            .ok_or_else(|| Error::unsupported(format!("{id} cannot be a bulk sync destination")))
    }
}
