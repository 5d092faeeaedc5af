//! The key under which an organization's obfuscated values are hashed: made once, and
//! the same ever after, so that hashes of several runs and tables can be joined.

use tideway_core::Result;
use uuid::Uuid;

use crate::{
    Store,
    db::{missing, values},
    keyring::fill,
    secrets::{self, COLUMNS},
};

const PURPOSE: &str = "obfuscation";
const BYTES: usize = 32;

impl Store {
    /// 32 random bytes, kept encrypted.
    pub async fn obfuscation_key(&self, organization: Uuid) -> Result<Vec<u8>> {
        let mut tx = self.db().begin().await?;
        // Taking the row first keeps two processes from making a key each.
        let taken = tx
            .execute(
                "UPDATE organizations SET updated_at = updated_at WHERE id = $1",
                values![organization],
            )
            .await?;
        if taken == 0 {
            return Err(missing("organization"));
        }
        let kept = tx
            .maybe(
                &format!("SELECT {COLUMNS} FROM secrets WHERE record_id = $1 AND purpose = $2"),
                values![organization, PURPOSE],
            )
            .await?;
        if let Some(row) = kept {
            let sealed = secrets::of_row(&row)?;
            let key = self.open_secret(organization, PURPOSE, &sealed).await?;
            return Ok(key.to_vec());
        }
        let mut key = vec![0; BYTES];
        fill(&mut key)?;
        self.put_secret(&mut tx, organization, PURPOSE, &key)
            .await?;
        tx.commit().await?;
        Ok(key)
    }
}
