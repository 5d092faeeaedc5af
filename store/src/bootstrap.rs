//! The first start: an organization, its owner and a key, so that the server can be
//! used at once.

use tideway_core::{Result, Secret};

use crate::{
    Store,
    db::{Tx, values},
    keys::{self, Owner},
    migrate,
    people::{Organization, User, insert_organization, insert_user, organization_of, user_of},
};

/// What the first organization is called, and which keys the settings fix.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub organization_name: String,
    pub owner_email: String,
    pub owner_name: String,
    /// The owner's key (`TIDEWAY_API_KEY`); it takes the place of an earlier fixed one.
    /// Without it one is generated, at the first start only.
    pub api_key: Option<Secret>,
    /// `TIDEWAY_DEPLOYMENT_KEY`.
    pub deployment_key: Option<Secret>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap {
            organization_name: "Default organization".to_owned(),
            owner_email: "owner@localhost".to_owned(),
            owner_name: "Owner".to_owned(),
            api_key: None,
            deployment_key: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Bootstrapped {
    pub organization: Organization,
    pub owner: User,
    /// A key that was just generated. It is stored nowhere else in readable form.
    pub new_key: Option<Secret>,
}

impl Store {
    /// Sets up what is missing. Later calls, and those of other processes, find it there.
    pub async fn bootstrap(&self, wanted: &Bootstrap) -> Result<Bootstrapped> {
        let mut tx = self.db().begin().await?;
        migrate::lock(&mut tx).await?;
        let (organization, owner, fresh) = match find(&mut tx).await? {
            Some((organization, owner)) => (organization, owner, false),
            None => {
                let organization = insert_organization(&mut tx, &wanted.organization_name).await?;
                let owner = insert_user(
                    &mut tx,
                    organization.id,
                    &wanted.owner_email,
                    &wanted.owner_name,
                    "admin",
                )
                .await?;
                (organization, owner, true)
            }
        };
        let user = Owner::User {
            organization: organization.id,
            user: owner.id,
        };
        let mut new_key = None;
        if let Some(key) = &wanted.api_key {
            keys::fix(&mut tx, user, key, "api_key").await?;
        } else if fresh {
            let key = keys::generate()?;
            keys::insert(&mut tx, user, "first key", &key, false).await?;
            new_key = Some(key);
        }
        if let Some(key) = &wanted.deployment_key {
            keys::fix(&mut tx, Owner::Deployment, key, "deployment_key").await?;
        }
        tx.commit().await?;
        Ok(Bootstrapped {
            organization,
            owner,
            new_key,
        })
    }
}

/// The oldest organization and its oldest user.
async fn find(tx: &mut Tx) -> Result<Option<(Organization, User)>> {
    let sql = "SELECT * FROM organizations ORDER BY created_at, id LIMIT 1";
    let Some(row) = tx.maybe(sql, values![]).await? else {
        return Ok(None);
    };
    let organization = organization_of(&row)?;
    let sql = "SELECT * FROM users WHERE organization_id = $1 ORDER BY created_at, id LIMIT 1";
    let owner = tx.one("owner", sql, values![organization.id]).await?;
    Ok(Some((organization, user_of(&owner)?)))
}
