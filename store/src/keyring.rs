//! Master keys. The first one wraps, all of them unwrap, so a key is changed by
//! putting a new one in front and re-wrapping (`tideway key rotate`).
//!
//! They come from `TIDEWAY_ENCRYPTION_KEY`, or else from a key file of mode 0600 in the
//! data folder that is made at the first start. A running server reads the file anew
//! before it encrypts and when it meets a key that it does not know, so a rotation
//! needs no restart.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose};
use rand::{TryRngCore, rngs::OsRng};
use sha2::{Digest, Sha256};
use tideway_core::{Error, Result};
use zeroize::Zeroizing;

/// The key file's name within the data folder.
pub const KEY_FILE: &str = "encryption.key";
const FIELD: &str = "encryption_key";

pub(crate) const KEY_BYTES: usize = 32;

/// One master key. Its id tells nothing about it and is stored beside what it wraps.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MasterKey {
    pub id: String,
    pub bytes: Zeroizing<[u8; KEY_BYTES]>,
}

#[derive(Clone)]
pub struct Keyring {
    keys: Arc<RwLock<Vec<MasterKey>>>,
    file: Option<PathBuf>,
}

impl Keyring {
    /// `setting` is the value of `TIDEWAY_ENCRYPTION_KEY`: one key or several with
    /// commas between them, each 32 bytes as hex or base64. Without it the key file in
    /// `data_dir` is read, or made.
    pub fn load(setting: Option<&str>, data_dir: &Path) -> Result<Keyring> {
        if let Some(list) = setting.filter(|list| !list.trim().is_empty()) {
            return Keyring::parse(list);
        }
        let file = data_dir.join(KEY_FILE);
        if !file.exists() {
            make_key_file(data_dir, &file)?;
        }
        require_private(&file)?;
        let keys = parse(&read(&file)?)?;
        Ok(Keyring {
            keys: Arc::new(RwLock::new(keys)),
            file: Some(file),
        })
    }

    /// Keys as `TIDEWAY_ENCRYPTION_KEY` lists them.
    pub fn parse(list: &str) -> Result<Keyring> {
        Ok(Keyring {
            keys: Arc::new(RwLock::new(parse(list)?)),
            file: None,
        })
    }

    /// A key that lives as long as this process, for tests.
    pub fn generate() -> Result<Keyring> {
        Keyring::parse(&fresh_key()?)
    }

    /// Puts a new key first in the key file of `data_dir`. What is stored is wrapped by
    /// it after [`crate::Store::rotate`].
    pub fn renew(data_dir: &Path) -> Result<Keyring> {
        let keyring = Keyring::load(None, data_dir)?;
        let file = data_dir.join(KEY_FILE);
        let list = Zeroizing::new(format!("{}\n{}", *fresh_key()?, *read(&file)?));
        replace(&file, &list)?;
        *keyring.keys.write().unwrap_or_else(PoisonError::into_inner) = parse(&list)?;
        Ok(keyring)
    }

    /// Leaves only the first key in the key file. To be called when a rotation has
    /// re-wrapped everything; what an older key wraps can never be read again.
    pub fn retire(data_dir: &Path) -> Result<Keyring> {
        let file = data_dir.join(KEY_FILE);
        let list = read(&file)?;
        let first = list.split_whitespace().next().unwrap_or_default();
        parse(first)?;
        replace(&file, &format!("{first}\n"))?;
        Keyring::load(None, data_dir)
    }

    /// The id of the key that wraps what is written now.
    pub fn newest(&self) -> String {
        self.first().id
    }

    pub(crate) fn first(&self) -> MasterKey {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys[0].clone()
    }

    pub(crate) fn all(&self) -> Vec<MasterKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    pub(crate) fn find(&self, id: &str) -> Option<MasterKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| key.id == id).cloned()
    }

    /// Reads the key file again, if the keys come from one.
    pub(crate) async fn refresh(&self) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let text = tokio::fs::read_to_string(file).await.map(Zeroizing::new);
        let keys = parse(&text.map_err(|error| unreadable(file, error))?)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.newest())
    }
}

/// At least one key, each once.
fn parse(list: &str) -> Result<Vec<MasterKey>> {
    let mut keys: Vec<MasterKey> = Vec::new();
    for word in list
        .split([',', '\n', '\r', ' ', '\t'])
        .filter(|word| !word.is_empty())
    {
        let key = MasterKey::new(decode(word)?);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(Error::config("there is no encryption key").field(FIELD));
    }
    Ok(keys)
}

impl MasterKey {
    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest = Sha256::new()
            .chain_update("tideway key id")
            .chain_update(*bytes)
            .finalize();
        MasterKey {
            id: hex::encode(&digest[..8]),
            bytes,
        }
    }
}

fn decode(word: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let bytes = hex::decode(word)
        .ok()
        .or_else(|| general_purpose::STANDARD.decode(word).ok())
        .or_else(|| general_purpose::STANDARD_NO_PAD.decode(word).ok())
        .or_else(|| general_purpose::URL_SAFE_NO_PAD.decode(word).ok())
        .map(Zeroizing::new);
    let key = bytes.and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok());
    key.map(Zeroizing::new).ok_or_else(|| {
        Error::config("an encryption key is not 32 bytes written as hex or base64")
            .hint("make one with: openssl rand -base64 32")
            .field(FIELD)
    })
}

fn fresh_key() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
    fill(bytes.as_mut_slice())?;
    Ok(Zeroizing::new(general_purpose::STANDARD.encode(*bytes)))
}

/// Bytes from the operating system's generator.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    OsRng
        .try_fill_bytes(bytes)
        .map_err(|error| Error::unavailable("the system gives no random numbers").because(error))
}

/// Of two processes that start together one makes the file and both read it: a link to
/// a finished file either succeeds whole or finds the other's.
fn make_key_file(data_dir: &Path, file: &Path) -> Result<()> {
    fs::create_dir_all(data_dir).map_err(|error| unreadable(data_dir, error))?;
    let draft = draft_of(file);
    write_private(&draft, &format!("{}\n", *fresh_key()?))?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft).map_err(|error| unreadable(&draft, error))?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(unreadable(file, error))
        }
        _ => sync_folder(file),
    }
}

/// Swaps the file's content in one step.
fn replace(file: &Path, content: &str) -> Result<()> {
    let draft = draft_of(file);
    write_private(&draft, content)?;
    fs::rename(&draft, file).map_err(|error| unreadable(file, error))?;
    sync_folder(file)
}

fn draft_of(file: &Path) -> PathBuf {
    file.with_extension(format!("key.{}", uuid::Uuid::now_v7().simple()))
}

fn write_private(file: &Path, content: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(file).and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| unreadable(file, error))
}

/// Makes a new name in a folder survive a power failure.
fn sync_folder(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| unreadable(folder, error))
}

fn read(file: &Path) -> Result<Zeroizing<String>> {
    fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|error| unreadable(file, error))
}

#[cfg(unix)]
fn require_private(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(file)
        .map_err(|error| unreadable(file, error))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::config(format!(
        "others can read the encryption key in {}",
        file.display()
    ))
    .hint(format!("chmod 600 {}", file.display()))
    .field(FIELD))
}

#[cfg(not(unix))]
fn require_private(_: &Path) -> Result<()> {
    Ok(())
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::from(error).while_(path.display()).field(FIELD)
}
