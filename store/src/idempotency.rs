//! Requests that may be sent twice and are answered once: the first answer is kept,
//! encrypted, and given again.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tideway_core::{Error, Result};
use uuid::Uuid;

use crate::{
    Store, clock,
    db::{Tx, values},
    row::Row,
    secrets::{self, RESPONSE},
};

const FIELD: &str = "Idempotency-Key";
/// A request that has no answer after this long died with its process.
const IN_FLIGHT: TimeDelta = TimeDelta::minutes(15);

/// What a key is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// With its query.
    pub path: String,
    /// A hash of the body; never the body itself.
    pub fingerprint: String,
}

/// The right to answer a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    scope: Uuid,
    key: String,
    id: Uuid,
}

/// An answer to be given again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "StoredResponse({}, {} bytes)",
            self.status,
            self.body.len()
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nobody has sent it before. End it with `finish` or `abandon`.
    Fresh(Ticket),
    Replay(StoredResponse),
}

pub struct Idempotency<'a>(pub(crate) &'a Store);

impl Idempotency<'_> {
    /// `scope` is the caller's organization, or the zero id. Fails with Conflict while the
    /// first request has no answer yet, and with Config (field `Idempotency-Key`) if the
    /// key came with another request.
    pub async fn begin(&self, scope: Uuid, key: &str, request: &Request) -> Result<Begun> {
        let ticket = Ticket {
            scope,
            key: key.to_owned(),
            id: Uuid::now_v7(),
        };
        let mut tx = self.0.db().begin().await?;
        let inserted = insert(&mut tx, &ticket, request).await?;
        let sql = format!(
            "SELECT idempotency_keys.*, {} FROM idempotency_keys
             LEFT JOIN secrets ON record_id = ticket AND purpose = '{RESPONSE}'
             WHERE scope = $1 AND idempotency_keys.key = $2",
            secrets::COLUMNS
        );
        let row = tx.one("request", &sql, values![scope, key]).await?;
        tx.commit().await?;
        if inserted {
            return Ok(Begun::Fresh(ticket));
        }
        if !same_request(&row, request)? {
            return Err(
                Error::config("this key was sent with a different request before")
                    .hint("use a new key for a new request")
                    .field(FIELD),
            );
        }
        if row.maybe_time("finished_at")?.is_none() {
            return Err(
                Error::conflict("the first request with this key is being worked on").field(FIELD),
            );
        }
        let sealed = secrets::of_row(&row)?;
        let plain = self
            .0
            .open_secret(row.id("ticket")?, RESPONSE, &sealed)
            .await?;
        let response = serde_json::from_slice(&plain)
            .map_err(|_| Error::bug("a stored answer cannot be read"))?;
        Ok(Begun::Replay(response))
    }

    /// Keeps the answer. Nothing happens if the ticket has run out meanwhile.
    pub async fn finish(&self, ticket: &Ticket, response: &StoredResponse) -> Result<()> {
        let plain = zeroize::Zeroizing::new(crate::json(response)?);
        let mut tx = self.0.db().begin().await?;
        let mine = tx
            .execute(
                "UPDATE idempotency_keys SET finished_at = $4
                 WHERE scope = $1 AND key = $2 AND ticket = $3 AND finished_at IS NULL",
                values![ticket.scope, &ticket.key, ticket.id, clock::now()],
            )
            .await?;
        if mine > 0 {
            self.0
                .put_secret(&mut tx, ticket.id, RESPONSE, plain.as_bytes())
                .await?;
        }
        tx.commit().await
    }

    /// Lets the request be sent again, as when no answer was made at all.
    pub async fn abandon(&self, ticket: &Ticket) -> Result<()> {
        let sql = "DELETE FROM idempotency_keys
                   WHERE scope = $1 AND key = $2 AND ticket = $3 AND finished_at IS NULL";
        self.0
            .db()
            .execute(sql, values![ticket.scope, &ticket.key, ticket.id])
            .await?;
        Ok(())
    }
}

/// False if the key is there already; one whose process died is taken over by a repetition
/// of its request.
async fn insert(tx: &mut Tx, ticket: &Ticket, request: &Request) -> Result<bool> {
    let now = clock::now();
    let inserted = tx
        .execute(
            "INSERT INTO idempotency_keys
               (scope, key, method, path, fingerprint, ticket, started_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (scope, key) DO UPDATE SET
               ticket = excluded.ticket, started_at = excluded.started_at
             WHERE idempotency_keys.finished_at IS NULL AND idempotency_keys.started_at < $8
               AND idempotency_keys.method = excluded.method
               AND idempotency_keys.path = excluded.path
               AND idempotency_keys.fingerprint = excluded.fingerprint",
            values![
                ticket.scope,
                &ticket.key,
                &request.method,
                &request.path,
                &request.fingerprint,
                ticket.id,
                now,
                now - IN_FLIGHT
            ],
        )
        .await?;
    Ok(inserted > 0)
}

fn same_request(row: &Row, request: &Request) -> Result<bool> {
    Ok(row.text("method")? == request.method
        && row.text("path")? == request.path
        && row.text("fingerprint")? == request.fingerprint)
}
