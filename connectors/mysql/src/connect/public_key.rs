//! The server's public key, under which a password goes over a connection in clear. How to
//! seal is known to `mysql_common`; but it takes the key for well-formed, and the key comes
//! from the network.

use std::ops::RangeInclusive;

use mysql_common::crypto::{
    der::{PubKeyFileType, parse_pub_key},
    rsa::{GetRandom, Pkcs1OaepPadding, PublicKey},
};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};

/// Smaller keys protect nothing; larger ones would keep us busy.
const MODULUS_BITS: RangeInclusive<u64> = 1024..=16_384;
const EXPONENT_BITS: RangeInclusive<u64> = 1..=64;
/// What the padding needs of the key's bytes.
const PADDING: usize = 42;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// Why a secret was not sealed.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// It is no key, or none of a sensible size.
    BadKey,
    /// The secret is longer than what fits under the key.
    TooLong,
}

pub fn seal(secret: &[u8], pem: &[u8]) -> Result<Vec<u8>, Unsealed> {
    let key = public_key(pem).ok_or(Unsealed::BadKey)?;
    if secret.len() + PADDING > key.num_octets() {
        return Err(Unsealed::TooLong);
    }
    let sealed = key.encrypt_block(secret, Pkcs1OaepPadding::new(GetRandom));
    sealed.map_err(|_| Unsealed::BadKey)
}

fn public_key(pem: &[u8]) -> Option<PublicKey> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    well_formed(&der)?;
    let (modulus, exponent) = parse_pub_key(&der, PubKeyFileType::Pkcs8).ok()?;
    let sensible =
        MODULUS_BITS.contains(&modulus.bits()) && EXPONENT_BITS.contains(&exponent.bits());
    sensible.then(|| PublicKey::new(modulus, exponent))
}

/// Whether the parser that follows finds everything in its place.
fn well_formed(der: &[u8]) -> Option<()> {
    let (info, _) = element(SEQUENCE, der)?;
    let (_algorithm, rest) = element(SEQUENCE, info)?;
    let (bits, _) = element(BIT_STRING, rest)?;
    let (_unused, key) = bits.split_first()?;
    let (numbers, _) = element(SEQUENCE, key)?;
    let (_modulus, rest) = element(INTEGER, numbers)?;
    element(INTEGER, rest).map(|_| ())
}

/// The content of the element at the front, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(*short), rest),
        // How many bytes the length has.
        long @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let add = |length, byte: &u8| length << 8 | usize::from(*byte);
            (length.iter().fold(0, add), rest)
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of 2048 bits.
    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxSKOcxiet8lLMn8ImyUE
bGGKob5EdRz/4wdiw12ED0GfKKTKhVnodFCfm1mdy7bKOX5QxL9skrvYodpW43eR
R5bfOzIgy1qIB8RYb6qOXRBw1oA4snBDqtUjDv/lbHLJN+IbzM4oU+e3Lt9rXyLX
VY289ewONPweXHqSCnTL91w+wkU1peIFV2QhZ+upUCdCtwOn5hnJPNgxtbklFoya
C8W3Z7Xx7He2QDJsEWAqX197efw0L6j8X8Tyd8Uwb7zUB1tfMGhHfm9EwejPAtzx
4GztQNtNMtGS2oGZLQBLV9hib4dDL92iiZeckg2LAf4GsJofLLR8mcHCRoqVbQJ1
YQIDAQAB
-----END PUBLIC KEY-----
";

    #[test]
    fn a_secret_that_is_too_long_for_the_key_is_refused() {
        assert_eq!(seal(&[7; 214], KEY.as_bytes()).unwrap().len(), 256);
        assert_eq!(seal(&[7; 215], KEY.as_bytes()), Err(Unsealed::TooLong));
        assert_eq!(seal(&[7; 300], KEY.as_bytes()), Err(Unsealed::TooLong));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let of = |base64: &str| {
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n");
            seal(b"secret", pem.as_bytes())
        };
        // Nothing, a sequence without a content, a length that is not there.
        for base64 in ["", "MAA=", "MIT/////", "MP8="] {
            assert_eq!(of(base64), Err(Unsealed::BadKey), "{base64}");
        }
        assert_eq!(seal(b"secret", b"secret"), Err(Unsealed::BadKey));
    }

    proptest! {
        #[test]
        fn a_damaged_key_is_a_key_or_none(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(KEY.as_bytes()).unwrap();
            let mut der = der.as_ref().to_vec();
            for (at, byte) in damage {
                let at = at.index(der.len());
                der[at] = byte;
            }
            if well_formed(&der).is_some() {
                let _ = parse_pub_key(&der, PubKeyFileType::Pkcs8);
            }
        }
    }
}
