//! Organizations and their users, and who is named as the author of a change.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tideway_core::{Error, Result};
use uuid::Uuid;

use crate::{
    Store, clock,
    db::{Tx, values},
    row::Row,
    words::words,
};

/// A tenant: everything else belongs to exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Organization {
    pub id: Uuid,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub email: String,
    pub name: String,
    /// `admin` or `member`.
    pub role: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

words! {
    /// As what somebody acts.
    pub enum ActorKind {
        /// With a user's API key.
        User = "user",
        /// With the deployment key, for one organization.
        Organization = "organization",
        /// With the deployment key, for the deployment; or Tideway itself.
        System = "system",
    }
}

/// Who made or changed something, as it is stored with it (`created_by`, `updated_by`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    #[serde(rename = "type")]
    pub kind: ActorKind,
    /// The user or organization; the zero id for the system.
    pub id: Uuid,
    pub name: String,
}

impl Author {
    /// Tideway itself, for instance its scheduler.
    pub fn system() -> Self {
        Author {
            kind: ActorKind::System,
            id: Uuid::nil(),
            name: "Tideway".to_owned(),
        }
    }

    pub(crate) fn json(&self) -> Result<String> {
        crate::json(self)
    }
}

/// Whoever a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    /// None for a deployment key that names no organization.
    pub organization_id: Option<Uuid>,
    pub organization_name: Option<String>,
    /// For [`ActorKind::User`].
    pub user: Option<User>,
    pub key_id: Uuid,
}

impl Actor {
    /// The organization that a request concerns.
    pub fn organization(&self) -> Result<Uuid> {
        self.organization_id.ok_or_else(|| {
            Error::permission("this key belongs to no organization")
                .hint("send it as Basic authentication, with the organization's id as user name")
        })
    }

    pub fn author(&self) -> Author {
        let (id, name) = match (&self.user, self.organization_id) {
            (Some(user), _) => (user.id, user.name.clone()),
            (None, Some(id)) => (id, self.organization_name.clone().unwrap_or_default()),
            (None, None) => return Author::system(),
        };
        Author {
            kind: self.kind,
            id,
            name,
        }
    }
}

pub struct Organizations<'a>(pub(crate) &'a Store);

impl Organizations<'_> {
    pub async fn get(&self, id: Uuid) -> Result<Organization> {
        let sql = "SELECT * FROM organizations WHERE id = $1";
        organization_of(&self.0.db().one("organization", sql, values![id]).await?)
    }

    /// All, oldest first.
    pub async fn list(&self) -> Result<Vec<Organization>> {
        let sql = "SELECT * FROM organizations ORDER BY created_at, id";
        self.0
            .db()
            .all(sql, values![])
            .await?
            .iter()
            .map(organization_of)
            .collect()
    }

    pub async fn create(&self, name: &str) -> Result<Organization> {
        let mut tx = self.0.db().begin().await?;
        let organization = insert_organization(&mut tx, name).await?;
        tx.commit().await?;
        Ok(organization)
    }

    pub async fn user(&self, organization: Uuid, id: Uuid) -> Result<User> {
        let sql = "SELECT * FROM users WHERE organization_id = $1 AND id = $2";
        user_of(
            &self
                .0
                .db()
                .one("user", sql, values![organization, id])
                .await?,
        )
    }

    /// All of the organization, oldest first.
    pub async fn users(&self, organization: Uuid) -> Result<Vec<User>> {
        let sql = "SELECT * FROM users WHERE organization_id = $1 ORDER BY created_at, id";
        self.0
            .db()
            .all(sql, values![organization])
            .await?
            .iter()
            .map(user_of)
            .collect()
    }

    /// Fails with Conflict if the organization has a user of this address.
    pub async fn create_user(
        &self,
        organization: Uuid,
        email: &str,
        name: &str,
        role: &str,
    ) -> Result<User> {
        let mut tx = self.0.db().begin().await?;
        let user = insert_user(&mut tx, organization, email, name, role).await?;
        tx.commit().await?;
        Ok(user)
    }
}

pub(crate) async fn insert_organization(tx: &mut Tx, name: &str) -> Result<Organization> {
    let row = tx
        .one(
            "organization",
            "INSERT INTO organizations (id, name, created_at, updated_at)
             VALUES ($1, $2, $3, $3) RETURNING *",
            values![Uuid::now_v7(), name, clock::now()],
        )
        .await?;
    organization_of(&row)
}

pub(crate) async fn insert_user(
    tx: &mut Tx,
    organization: Uuid,
    email: &str,
    name: &str,
    role: &str,
) -> Result<User> {
    let row = tx
        .one(
            "user",
            "INSERT INTO users (id, organization_id, email, name, role, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING *",
            values![
                Uuid::now_v7(),
                organization,
                email,
                name,
                role,
                clock::now()
            ],
        )
        .await?;
    user_of(&row)
}

pub(crate) fn organization_of(row: &Row) -> Result<Organization> {
    Ok(Organization {
        id: row.id("id")?,
        name: row.text("name")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}

pub(crate) fn user_of(row: &Row) -> Result<User> {
    Ok(User {
        id: row.id("id")?,
        organization_id: row.id("organization_id")?,
        email: row.text("email")?,
        name: row.text("name")?,
        role: row.text("role")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
