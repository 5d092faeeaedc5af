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
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use tideway_core::{Error, Result};
use tideway_store::LogEntry;
use uuid::Uuid;

use super::console::line;
use crate::{
    body::{Path, Query},
    problem::{Answer, Problem},
    state::ApiState,
};

/// How long a link works.
const LIFETIME: TimeDelta = TimeDelta::hours(1);
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
    pub fn link(&self, state: &ApiState, now: DateTime<Utc>) -> Result<(String, DateTime<Utc>)> {
        let expires = now + LIFETIME;
        let signature = self.signature(&state.settings.link_key, expires.timestamp())?;
        let url = format!(
            "{}/files/{}/{}/{}/console.ndjson?expires={}&signature={}",
            state.settings.public_url,
            self.organization,
            self.sync,
            self.execution,
            expires.timestamp(),
            hex::encode(signature.finalize().into_bytes()),
        );
        Ok((url, expires))
    }

    fn check(&self, key: &[u8], signed: &Signed, now: DateTime<Utc>) -> Answer<()> {
        let given = hex::decode(&signed.signature).unwrap_or_default();
        if self
            .signature(key, signed.expires)?
            .verify_slice(&given)
            .is_err()
        {
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

    fn signature(&self, key: &[u8], expires: i64) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key)
            .map_err(|error| Error::bug("the key for links cannot be used").because(error))?;
        let LogFile {
            organization,
            sync,
            execution,
        } = self;
        mac.update(format!("console {organization} {sync} {execution} {expires}").as_bytes());
        Ok(mac)
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
    file.check(&state.settings.link_key, &signed, Utc::now())?;
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
    use super::*;

    const KEY: &[u8] = b"key of a test";

    fn file() -> LogFile {
        LogFile {
            organization: Uuid::nil(),
            sync: Uuid::max(),
            execution: Uuid::nil(),
        }
    }

    fn signed(file: LogFile, expires: i64) -> Signed {
        let mac = file.signature(KEY, expires).unwrap();
        Signed {
            expires,
            signature: hex::encode(mac.finalize().into_bytes()),
        }
    }

    #[test]
    fn a_link_works_until_it_expires_and_for_its_file_only() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let link = signed(file(), 1000);
        assert!(file().check(KEY, &link, at(999)).is_ok());
        assert!(file().check(KEY, &link, at(1000)).is_err());
        let other = LogFile {
            execution: Uuid::max(),
            ..file()
        };
        assert!(other.check(KEY, &link, at(0)).is_err());
        assert!(file().check(b"another key", &link, at(0)).is_err());
        let longer = Signed {
            expires: 2000,
            ..signed(file(), 1000)
        };
        assert!(file().check(KEY, &longer, at(0)).is_err());
        let none = Signed {
            expires: 1000,
            signature: String::new(),
        };
        assert!(file().check(KEY, &none, at(0)).is_err());
    }
}
