//! The list of all connectors: the only place that names every one of them.

pub mod settings;

use tideway_core::{Connector, Error, Result, connector::Endpoint};
use url::Url;

static ALL: [&dyn Connector; 9] = [
    &tideway_files::CsvConnector,
    &tideway_adbc::DuckDbConnector,
    &tideway_files::FilesConnector,
    &tideway_mysql::GOOGLE_CLOUD_MYSQL,
    &tideway_postgres::GOOGLE_CLOUD_SQL,
    &tideway_mysql::MYSQL,
    &tideway_postgres::POSTGRESQL,
    &tideway_files::S3Connector,
    &tideway_sqlite::Sqlite,
];

/// Every kind of system this build can connect to, sorted by id.
pub fn all() -> &'static [&'static dyn Connector] {
    &ALL
}

pub fn find(id: &str) -> Option<&'static dyn Connector> {
    all()
        .iter()
        .copied()
        .find(|connector| connector.about().id == id)
}

/// The connector that a URL's scheme stands for, and what the URL says.
pub fn from_url(text: &str) -> Result<(&'static dyn Connector, Endpoint)> {
    let scheme = text
        .split_once(':')
        .map(|(scheme, _)| scheme)
        .unwrap_or_default();
    let connector = all()
        .iter()
        .copied()
        .find(|c| c.about().schemes.contains(&scheme));
    let Some(connector) = connector else {
        let known: Vec<&str> = all()
            .iter()
            .flat_map(|c| c.about().schemes.iter().copied())
            .collect();
        return Err(
            Error::config(format!("no connector knows the scheme {scheme:?}"))
                .hint(format!("use one of {}", known.join(", "))),
        );
    };
    let url = Url::parse(text)
        .map_err(|error| Error::config(format!("this is not a {scheme} URL: {error}")))?;
    Ok((connector, connector.parse_url(&url)?))
}
