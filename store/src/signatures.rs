//! Signatures of what clients carry about, such as links that work without a key. The keys
//! are derived from the master keys, so a signature holds in every process that shares
//! them, after every restart, and until the master key it stems from is retired.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tideway_core::{Error, Result};
use zeroize::Zeroizing;

use crate::{Store, keyring::MasterKey};

impl Store {
    /// Signs the message by the newest key. A signature for one purpose is none for another.
    pub async fn sign(&self, purpose: &str, message: &str) -> Result<Vec<u8>> {
        self.keyring().refresh().await?;
        let mac = mac(&self.keyring().first(), purpose, message)?;
        Ok(mac.finalize().into_bytes().to_vec())
    }

    /// Whether any of the keys made the signature.
    pub async fn verify(&self, purpose: &str, message: &str, signature: &[u8]) -> Result<bool> {
        if self.made_by_one_of_ours(purpose, message, signature)? {
            return Ok(true);
        }
        // Another process may have signed with a key that was put into the file since.
        self.keyring().refresh().await?;
        self.made_by_one_of_ours(purpose, message, signature)
    }

    fn made_by_one_of_ours(&self, purpose: &str, message: &str, signature: &[u8]) -> Result<bool> {
        for key in self.keyring().all() {
            if mac(&key, purpose, message)?.verify_slice(signature).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A key of its own for every purpose, so that the master key itself signs nothing.
fn mac(key: &MasterKey, purpose: &str, message: &str) -> Result<Hmac<Sha256>> {
    let mut derived = keyed(key.bytes.as_slice())?;
    derived.update(b"tideway signatures: ");
    derived.update(purpose.as_bytes());
    let derived = Zeroizing::new(<[u8; 32]>::from(derived.finalize().into_bytes()));
    let mut mac = keyed(derived.as_slice())?;
    mac.update(message.as_bytes());
    Ok(mac)
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>> {
    Hmac::new_from_slice(key)
        .map_err(|error| Error::bug("a key cannot be used for signatures").because(error))
}
