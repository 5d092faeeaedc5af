//! Log files: links that work without a key for a while, and what they lead to.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream;
use serde::Deserialize;
use tideway_core::{Error, Result};
use tideway_store::{LogEntry, Store};
use uuid::Uuid;

use super::console::line;
use crate::{
    body::{Path, Query},
    problem::{Answer, Problem},
    state::ApiState,
};

/// How long a link works.
const LIFETIME: TimeDelta = TimeDelta::hours(1);
const PURPOSE: &str = "links to log files";
/// Lines that are read at once.
const PAGE: u32 = 1000;

pub fn routes() -> Router<ApiState> {
    Router::new().route(
        "/files/{organization}/{sync}/{execution}/console.ndjson",
        get(console_log),
    )
}

/// An execution whose log is linked to.
#[derive(Debug, Clone, Copy)]
pub struct LogFile {
    pub organization: Uuid,
    pub sync: Uuid,
    pub execution: Uuid,
}

#[derive(Deserialize)]
struct Signed {
    /// Seconds since 1970.
    expires: i64,
    /// In hexadecimal digits.
    signature: String,
}

impl LogFile {
    /// A link to the file and the moment it stops working.
    pub async fn link(
        &self,
        state: &ApiState,
        now: DateTime<Utc>,
    ) -> Result<(String, DateTime<Utc>)> {
        let expires = now + LIFETIME;
        let message = self.message(expires.timestamp());
        let signature = state.store().sign(PURPOSE, &message).await?;
        let url = format!(
            "{}/files/{}/{}/{}/console.ndjson?expires={}&signature={}",
            state.settings.public_url,
            self.organization,
            self.sync,
            self.execution,
            expires.timestamp(),
            hex::encode(signature),
        );
        Ok((url, expires))
    }

    async fn check(&self, store: &Store, signed: &Signed, now: DateTime<Utc>) -> Answer<()> {
        let given = hex::decode(&signed.signature).unwrap_or_default();
        let message = self.message(signed.expires);
        if !store.verify(PURPOSE, &message, &given).await? {
            return Err(Problem::forbidden(
                "the link is not one that this server gave",
            ));
        }
        if now.timestamp() >= signed.expires {
            return Err(Problem::forbidden(
                "the link has expired; ask for the logs again",
            ));
        }
        Ok(())
    }

    /// What is signed.
    fn message(&self, expires: i64) -> String {
        let LogFile {
            organization,
            sync,
            execution,
        } = self;
        format!("console {organization} {sync} {execution} {expires}")
    }
}

async fn console_log(
    State(state): State<ApiState>,
    Path((organization, sync, execution)): Path<(Uuid, Uuid, Uuid)>,
    Query(signed): Query<Signed>,
) -> Answer<Response> {
    let file = LogFile {
        organization,
        sync,
        execution,
    };
    file.check(state.store(), &signed, Utc::now()).await?;
    state
        .store()
        .executions()
        .get(organization, sync, execution)
        .await?;
    let pages = stream::try_unfold(Some(0), move |after| next_page(state.clone(), file, after));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// The lines after the id `after`, and the last one's id unless they were the last.
async fn next_page(
    state: ApiState,
    file: LogFile,
    after: Option<i64>,
) -> Result<Option<(Bytes, Option<i64>)>> {
    let Some(after) = after else { return Ok(None) };
    let LogFile {
        organization,
        sync,
        execution,
    } = file;
    let logs = state.store().logs();
    let entries = logs
        .list(organization, sync, execution, None, Some(after), PAGE)
        .await?;
    let next = entries
        .last()
        .map(|entry| entry.id)
        .filter(|_| entries.len() == PAGE as usize);
    let mut text = Vec::new();
    for entry in entries {
        write_line(&mut text, entry)?;
    }
    Ok(Some((text.into(), next)))
}

fn write_line(text: &mut Vec<u8>, entry: LogEntry) -> Result<()> {
    let schema = entry.schema_id.clone();
    let mut shown = serde_json::to_value(line(entry))
        .map_err(|error| Error::bug("a log entry cannot be written").because(error))?;
    if let (Some(fields), Some(schema)) = (shown.as_object_mut(), schema) {
        fields.insert("schema".to_owned(), schema.into());
    }
    text.extend_from_slice(shown.to_string().as_bytes());
    text.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use tideway_store::Keyring;

    use super::*;

    async fn store(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}/tideway.db", folder.path().display());
        Store::open(&url, Keyring::generate().unwrap())
            .await
            .unwrap()
    }

    fn file() -> LogFile {
        LogFile {
            organization: Uuid::nil(),
            sync: Uuid::max(),
            execution: Uuid::nil(),
        }
    }

    #[tokio::test]
    async fn a_link_works_until_it_expires_and_for_its_file_only() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (ours, another) = (store(&folders[0]).await, store(&folders[1]).await);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let signature = ours.sign(PURPOSE, &file().message(1000)).await.unwrap();
        let link = |expires| Signed {
            expires,
            signature: hex::encode(&signature),
        };
        assert!(file().check(&ours, &link(1000), at(999)).await.is_ok());
        assert!(file().check(&ours, &link(1000), at(1000)).await.is_err());
        assert!(file().check(&another, &link(1000), at(0)).await.is_err());
        assert!(file().check(&ours, &link(2000), at(0)).await.is_err());
        let other = LogFile {
            execution: Uuid::max(),
            ..file()
        };
        assert!(other.check(&ours, &link(1000), at(0)).await.is_err());
        let none = Signed {
            expires: 1000,
            signature: String::new(),
        };
        assert!(file().check(&ours, &none, at(0)).await.is_err());
    }
}
