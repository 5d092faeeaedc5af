//! API keys. Only their SHA-256 is stored: the keys are random, so a slow hash would
//! protect nothing more. The row is found by the hash's beginning and compared whole in
//! constant time.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tideway_core::{Error, Result, Secret};
use uuid::Uuid;

use crate::{
    Store, clock,
    db::{Tx, values},
    people::{Actor, ActorKind, user_of},
    row::Row,
};

/// Shorter ones could be guessed.
const SHORTEST_KEY: usize = 16;
const LOOKUP_DIGITS: usize = 16;
/// `last_used_at` is kept to this precision, so that not every request writes.
const USE_PRECISION: TimeDelta = TimeDelta::minutes(1);

/// A key as lists show it; its value is known to nobody but its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    pub id: Uuid,
    /// None for a deployment key.
    pub organization_id: Option<Uuid>,
    pub user_id: Option<Uuid>,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A new random key of 256 bits, not stored yet.
pub fn generate() -> Result<Secret> {
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    crate::keyring::fill(bytes.as_mut_slice())?;
    Ok(Secret::new(format!(
        "tideway_{}",
        URL_SAFE_NO_PAD.encode(*bytes)
    )))
}

pub struct Keys<'a>(pub(crate) &'a Store);

impl Keys<'_> {
    /// Whose key this is: a user's, or the deployment's ([`ActorKind::System`]).
    pub async fn authenticate(&self, key: &str) -> Result<Option<Actor>> {
        let Some(found) = self.find(key).await? else {
            return Ok(None);
        };
        self.touch(&found).await?;
        let Some(user_id) = found.user_id else {
            return Ok(Some(Actor {
                kind: ActorKind::System,
                organization_id: None,
                organization_name: None,
                user: None,
                key_id: found.id,
            }));
        };
        let row = self
            .0
            .db()
            .maybe(
                "SELECT users.*, organizations.name AS organization_name FROM users
                 JOIN organizations ON organizations.id = users.organization_id
                 WHERE users.id = $1",
                values![user_id],
            )
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let user = user_of(&row)?;
        Ok(Some(Actor {
            kind: ActorKind::User,
            organization_id: Some(user.organization_id),
            organization_name: Some(row.text("organization_name")?),
            user: Some(user),
            key_id: found.id,
        }))
    }

    /// The deployment key used for one organization, which must exist.
    pub async fn authenticate_for(&self, organization: Uuid, key: &str) -> Result<Option<Actor>> {
        let found = self
            .find(key)
            .await?
            .filter(|key| key.organization_id.is_none());
        let Some(found) = found else {
            return Ok(None);
        };
        let sql = "SELECT name FROM organizations WHERE id = $1";
        let Some(row) = self.0.db().maybe(sql, values![organization]).await? else {
            return Ok(None);
        };
        self.touch(&found).await?;
        Ok(Some(Actor {
            kind: ActorKind::Organization,
            organization_id: Some(organization),
            organization_name: Some(row.text("name")?),
            user: None,
            key_id: found.id,
        }))
    }

    /// A new key of a user, and its value, which cannot be had again.
    pub async fn create(
        &self,
        organization: Uuid,
        user: Uuid,
        name: &str,
    ) -> Result<(ApiKey, Secret)> {
        let secret = generate()?;
        let mut tx = self.0.db().begin().await?;
        let sql = "SELECT id FROM users WHERE organization_id = $1 AND id = $2";
        tx.one("user", sql, values![organization, user]).await?;
        let owner = Owner::User { organization, user };
        let key = insert(&mut tx, owner, name, &secret, false).await?;
        tx.commit().await?;
        Ok((key, secret))
    }

    /// The keys of the organization's users, oldest first.
    pub async fn list(&self, organization: Uuid) -> Result<Vec<ApiKey>> {
        let sql = "SELECT * FROM api_keys WHERE organization_id = $1 ORDER BY created_at, id";
        self.0
            .db()
            .all(sql, values![organization])
            .await?
            .iter()
            .map(key_of)
            .collect()
    }

    pub async fn revoke(&self, organization: Uuid, id: Uuid) -> Result<()> {
        let sql = "DELETE FROM api_keys WHERE organization_id = $1 AND id = $2";
        match self.0.db().execute(sql, values![organization, id]).await? {
            0 => Err(crate::db::missing("API key")),
            _ => Ok(()),
        }
    }

    async fn find(&self, key: &str) -> Result<Option<ApiKey>> {
        let hash = hash(key);
        let sql = "SELECT * FROM api_keys WHERE lookup = $1";
        for row in self.0.db().all(sql, values![lookup(&hash)]).await? {
            let stored = row.text("hash")?;
            if bool::from(stored.as_bytes().ct_eq(hash.as_bytes())) {
                return key_of(&row).map(Some);
            }
        }
        Ok(None)
    }

    async fn touch(&self, key: &ApiKey) -> Result<()> {
        let now = clock::now();
        if key
            .last_used_at
            .is_some_and(|used| now - used < USE_PRECISION)
        {
            return Ok(());
        }
        let sql = "UPDATE api_keys SET last_used_at = $1 WHERE id = $2";
        self.0.db().execute(sql, values![now, key.id]).await?;
        Ok(())
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Owner {
    User { organization: Uuid, user: Uuid },
    Deployment,
}

impl Owner {
    fn ids(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Owner::User { organization, user } => (Some(organization), Some(user)),
            Owner::Deployment => (None, None),
        }
    }
}

/// Makes `secret` the one key that the settings fix for this owner.
pub(crate) async fn fix(tx: &mut Tx, owner: Owner, secret: &Secret, field: &str) -> Result<()> {
    if secret.expose().len() < SHORTEST_KEY {
        return Err(
            Error::config(format!("a key needs at least {SHORTEST_KEY} characters"))
                .hint("make one with: openssl rand -hex 32")
                .field(field),
        );
    }
    let hash = hash(secret.expose());
    let (_, user) = owner.ids();
    tx.execute(
        "DELETE FROM api_keys WHERE fixed = TRUE AND hash <> $1
         AND (user_id = $2 OR (user_id IS NULL AND $2 IS NULL))",
        values![&hash, user],
    )
    .await?;
    let sql = "SELECT user_id FROM api_keys WHERE hash = $1";
    match tx.maybe(sql, values![&hash]).await? {
        None => insert(tx, owner, "fixed by the settings", secret, true)
            .await
            .map(drop),
        Some(row) if row.maybe_id("user_id")? == user => Ok(()),
        Some(_) => Err(Error::config("this key is somebody else's already")
            .hint("choose different values for TIDEWAY_API_KEY and TIDEWAY_DEPLOYMENT_KEY")
            .field(field)),
    }
}

pub(crate) async fn insert(
    tx: &mut Tx,
    owner: Owner,
    name: &str,
    secret: &Secret,
    fixed: bool,
) -> Result<ApiKey> {
    let hash = hash(secret.expose());
    let (organization, user) = owner.ids();
    let row = tx
        .one(
            "API key",
            "INSERT INTO api_keys
               (id, organization_id, user_id, name, lookup, hash, fixed, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *",
            values![
                Uuid::now_v7(),
                organization,
                user,
                name,
                lookup(&hash),
                &hash,
                fixed,
                clock::now()
            ],
        )
        .await?;
    key_of(&row)
}

fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

fn lookup(hash: &str) -> &str {
    hash.get(..LOOKUP_DIGITS).unwrap_or(hash)
}

fn key_of(row: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.id("id")?,
        organization_id: row.maybe_id("organization_id")?,
        user_id: row.maybe_id("user_id")?,
        name: row.text("name")?,
        created_at: row.time("created_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
    })
}
