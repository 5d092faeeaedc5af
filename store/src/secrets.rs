//! Envelope encryption (AES-256-GCM). Every secret has a random data key of its own;
//! a master key of the [`crate::Keyring`] wraps that. Both ciphertexts are bound to the record
//! and the purpose they were made for, so one that is changed, or moved to another row,
//! does not open (invariant 9).

use std::fmt;

use aes_gcm::{
    Aes256Gcm, Key, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value as Json;
use tideway_core::{Error, Result};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    Store,
    db::{Tx, values},
    keyring::{KEY_BYTES, MasterKey, fill},
    row::Row,
};

/// The first byte of every ciphertext, so that another format can follow one day.
const FORMAT: u8 = 1;
const NONCE_BYTES: usize = 12;
/// Secrets that one transaction of a rotation re-wraps.
const ROTATION_BATCH: i64 = if cfg!(test) { 4 } else { 200 };

pub(crate) const CONFIGURATION: &str = "connection-configuration";
pub(crate) const RESPONSE: &str = "idempotent-response";
const CANARY: &str = "canary";

/// The columns that [`of_row`] reads, of a table or alias `secrets`.
pub(crate) const COLUMNS: &str = "secrets.key_id, secrets.wrapped_key, secrets.ciphertext";

/// A connection's settings, passwords included. Kept encrypted; prints as `***`.
#[derive(Clone, PartialEq)]
pub struct Configuration(Json);

impl Configuration {
    pub fn new(settings: Json) -> Self {
        Configuration(settings)
    }

    /// The settings themselves, for the connector or for redaction.
    pub fn expose(&self) -> &Json {
        &self.0
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The id of the master key that wraps everything now.
    pub key_id: String,
    /// Data keys that were wrapped anew.
    pub rewrapped: u64,
    /// Secrets that are stored.
    pub total: u64,
}

pub(crate) struct Sealed {
    key_id: String,
    wrapped_key: String,
    ciphertext: String,
}

pub(crate) fn of_row(row: &Row) -> Result<Sealed> {
    Ok(Sealed {
        key_id: row.text("key_id")?,
        wrapped_key: row.text("wrapped_key")?,
        ciphertext: row.text("ciphertext")?,
    })
}

impl Store {
    /// Stores a secret in place of the record's earlier one.
    pub(crate) async fn put_secret(
        &self,
        tx: &mut Tx,
        record: Uuid,
        purpose: &str,
        plain: &[u8],
    ) -> Result<()> {
        self.keyring().refresh().await?;
        let sealed = seal(&self.keyring().first(), record, purpose, plain)?;
        tx.execute(
            "INSERT INTO secrets (record_id, purpose, key_id, wrapped_key, ciphertext)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (record_id, purpose) DO UPDATE SET key_id = excluded.key_id,
               wrapped_key = excluded.wrapped_key, ciphertext = excluded.ciphertext",
            values![
                record,
                purpose,
                sealed.key_id,
                sealed.wrapped_key,
                sealed.ciphertext
            ],
        )
        .await?;
        Ok(())
    }

    pub(crate) async fn open_secret(
        &self,
        record: Uuid,
        purpose: &str,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let key = self.master_key(&sealed.key_id).await?;
        let data_key = unwrap_key(&key, record, purpose, &sealed.wrapped_key)?;
        decrypt(
            &data_key,
            &payload_context(record, purpose),
            &sealed.ciphertext,
        )
    }

    async fn master_key(&self, id: &str) -> Result<MasterKey> {
        if let Some(key) = self.keyring().find(id) {
            return Ok(key);
        }
        self.keyring().refresh().await?;
        self.keyring().find(id).ok_or_else(|| {
            Error::config(format!(
                "the encryption key {id} that the database uses is missing"
            ))
            .hint("start with the encryption key or the key file of this database")
            .field("encryption_key")
        })
    }

    /// Fails where the keys are not those that the database was written with, before
    /// anything is written with the wrong ones.
    pub(crate) async fn check_keyring(&self) -> Result<()> {
        let mut tx = self.db().begin().await?;
        crate::migrate::lock(&mut tx).await?;
        let sql = format!("SELECT {COLUMNS} FROM secrets WHERE record_id = $1 AND purpose = $2");
        let Some(row) = tx.maybe(&sql, values![Uuid::nil(), CANARY]).await? else {
            self.put_secret(&mut tx, Uuid::nil(), CANARY, b"tideway")
                .await?;
            return tx.commit().await;
        };
        self.open_secret(Uuid::nil(), CANARY, &of_row(&row)?)
            .await
            .map(drop)
    }

    /// Wraps every data key with the newest master key. Safe to stop and repeat at any
    /// point: each secret can be opened before and after its turn.
    pub async fn rotate(&self) -> Result<Rotation> {
        self.keyring().refresh().await?;
        let newest = self.keyring().first();
        let mut rewrapped = 0;
        loop {
            let batch = self.rotate_batch(&newest).await?;
            rewrapped += batch;
            if batch == 0 {
                break;
            }
        }
        let row = self
            .db()
            .one("count", "SELECT COUNT(*) AS total FROM secrets", values![]);
        let total = u64::try_from(row.await?.int("total")?).unwrap_or_default();
        Ok(Rotation {
            key_id: newest.id,
            rewrapped,
            total,
        })
    }

    async fn rotate_batch(&self, newest: &MasterKey) -> Result<u64> {
        let mut tx = self.db().begin().await?;
        let sql = format!(
            "SELECT record_id, purpose, {COLUMNS} FROM secrets WHERE key_id <> $1
             ORDER BY record_id, purpose LIMIT $2 {{for_update}}"
        );
        let rows = tx.all(&sql, values![&newest.id, ROTATION_BATCH]).await?;
        for row in &rows {
            let (record, purpose) = (row.id("record_id")?, row.text("purpose")?);
            let sealed = of_row(row)?;
            let old = self.master_key(&sealed.key_id).await?;
            let data_key = unwrap_key(&old, record, &purpose, &sealed.wrapped_key)?;
            let wrapped = wrap_key(newest, record, &purpose, &data_key)?;
            tx.execute(
                "UPDATE secrets SET key_id = $1, wrapped_key = $2
                 WHERE record_id = $3 AND purpose = $4",
                values![&newest.id, wrapped, record, purpose],
            )
            .await?;
        }
        tx.commit().await?;
        Ok(rows.len() as u64)
    }
}

/// To be called where the record itself is deleted.
pub(crate) async fn forget(tx: &mut Tx, record: Uuid) -> Result<()> {
    tx.execute("DELETE FROM secrets WHERE record_id = $1", values![record])
        .await?;
    Ok(())
}

fn seal(key: &MasterKey, record: Uuid, purpose: &str, plain: &[u8]) -> Result<Sealed> {
    let mut data_key = Zeroizing::new([0u8; KEY_BYTES]);
    fill(data_key.as_mut_slice())?;
    Ok(Sealed {
        key_id: key.id.clone(),
        wrapped_key: wrap_key(key, record, purpose, data_key.as_slice())?,
        ciphertext: encrypt(
            data_key.as_slice(),
            &payload_context(record, purpose),
            plain,
        )?,
    })
}

fn wrap_key(key: &MasterKey, record: Uuid, purpose: &str, data_key: &[u8]) -> Result<String> {
    encrypt(
        key.bytes.as_slice(),
        &key_context(record, purpose, &key.id),
        data_key,
    )
}

fn unwrap_key(
    key: &MasterKey,
    record: Uuid,
    purpose: &str,
    wrapped: &str,
) -> Result<Zeroizing<Vec<u8>>> {
    decrypt(
        key.bytes.as_slice(),
        &key_context(record, purpose, &key.id),
        wrapped,
    )
}

fn payload_context(record: Uuid, purpose: &str) -> String {
    format!("tideway secret {FORMAT} {purpose} {record}")
}

fn key_context(record: Uuid, purpose: &str, key_id: &str) -> String {
    format!("tideway data key {FORMAT} {purpose} {record} {key_id}")
}

/// Format byte, nonce and ciphertext with its tag, in base64.
fn encrypt(key: &[u8], context: &str, plain: &[u8]) -> Result<String> {
    let mut nonce = [0u8; NONCE_BYTES];
    fill(&mut nonce)?;
    let payload = Payload {
        msg: plain,
        aad: context.as_bytes(),
    };
    let body = cipher(key)?
        .encrypt(Nonce::from_slice(&nonce), payload)
        .map_err(|_| Error::bug("a secret could not be encrypted"))?;
    Ok(STANDARD.encode([&[FORMAT], nonce.as_slice(), &body].concat()))
}

fn decrypt(key: &[u8], context: &str, text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let damaged = || {
        Error::data("a stored secret is damaged or belongs to another record")
            .hint("restore the database from a backup, or enter the connection's secrets again")
    };
    let bytes = STANDARD.decode(text).map_err(|_| damaged())?;
    let (format, rest) = bytes.split_first().ok_or_else(damaged)?;
    if *format != FORMAT || rest.len() < NONCE_BYTES {
        return Err(damaged());
    }
    let (nonce, body) = rest.split_at(NONCE_BYTES);
    let payload = Payload {
        msg: body,
        aad: context.as_bytes(),
    };
    let plain = cipher(key)?.decrypt(Nonce::from_slice(nonce), payload);
    plain.map(Zeroizing::new).map_err(|_| damaged())
}

fn cipher(key: &[u8]) -> Result<Aes256Gcm> {
    if key.len() != KEY_BYTES {
        return Err(Error::bug("an encryption key has the wrong length"));
    }
    Ok(Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(key)))
}
