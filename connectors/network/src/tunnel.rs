//! SSH tunnels: one SSH session for each connection, so that a lane that stands still holds up
//! no other.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use russh::{
    ChannelOpenFailure, client,
    keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, ssh_key},
};
use tideway_core::{Error, Result, Secret};
use tokio::{sync::Semaphore, time::timeout};

use crate::{Names, Stream, Words, address, direct, of_network};

/// For the handshake and the sign-in.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one's turn to begin with that.
const QUEUE: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Servers turn away some of those who come while ten others have not signed in yet
/// (`MaxStartups`).
const HANDSHAKES: usize = 5;

const WORDS: Words = Words {
    host: "ssh_host",
    port: "ssh_port",
    listens: "ListenAddress",
};

/// The fields of a form.
#[derive(Debug, Clone, Default)]
pub struct SshSettings {
    pub user: String,
    pub host: Option<String>,
    pub port: u16,
    pub private_key: Option<Secret>,
    /// The server's public key, as in `known_hosts`, or its fingerprint (`SHA256:…`). Without it
    /// the key that is seen first is held to.
    pub host_key: Option<String>,
}

#[derive(Clone)]
pub struct Tunnel {
    user: String,
    host: String,
    port: u16,
    key: Arc<PrivateKey>,
    /// The fingerprint that was given.
    expected: Option<String>,
    server: Arc<Server>,
}

/// What is known of an SSH server as long as this process runs.
struct Server {
    /// The fingerprint of the key that was seen first.
    seen: Mutex<Option<String>>,
    handshakes: Semaphore,
}

static SERVERS: LazyLock<Mutex<HashMap<String, Arc<Server>>>> = LazyLock::new(Mutex::default);

impl Server {
    fn of(address: &str) -> Arc<Server> {
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(address.to_owned()).or_insert_with(|| {
            Arc::new(Server {
                seen: Mutex::default(),
                handshakes: Semaphore::new(HANDSHAKES),
            })
        });
        server.clone()
    }

    fn seen(&self) -> Option<String> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether this is the key that was seen first, which it is if none was.
    fn holds_to(&self, fingerprint: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get_or_insert_with(|| {
            tracing::info!(key = fingerprint, "an SSH server's key, which is held to");
            fingerprint.to_owned()
        });
        seen == fingerprint
    }
}

impl Tunnel {
    pub fn new(settings: SshSettings) -> Result<Tunnel> {
        let host = settings.host.filter(|host| !host.trim().is_empty());
        let host = host.ok_or_else(|| needed("ssh_host"))?;
        let key = settings.private_key.filter(|key| !key.is_empty());
        let key = private_key(&key.ok_or_else(|| needed("ssh_private_key"))?)?;
        let expected = settings.host_key.filter(|key| !key.trim().is_empty());
        Ok(Tunnel {
            server: Server::of(&address(&host, settings.port)),
            user: settings.user,
            host,
            port: settings.port,
            key: Arc::new(key),
            expected: expected.map(|key| fingerprint_of(&key)).transpose()?,
        })
    }

    fn address(&self) -> String {
        address(&self.host, self.port)
    }

    pub fn way(&self) -> String {
        let key = self.expected.clone().or_else(|| self.server.seen());
        let key = key.map_or_else(String::new, |key| format!(", whose key is {key}"));
        format!(" through {}@{}{key}", self.user, self.address())
    }

    /// A connection from the SSH server to `host`.
    pub async fn open(&self, names: &Names, words: Words, host: &str, port: u16) -> Result<Stream> {
        let session = self.session(names).await?;
        let opened = session.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0);
        let opened = timeout(PATIENCE, opened).await;
        let shown = address(host, port);
        match opened.unwrap_or(Err(russh::Error::ConnectionTimeout)) {
            Ok(channel) => Ok(Stream::through(channel.into_stream(), Carrier(session))),
            Err(error) => Err(self.not_forwarded(words, &shown, error)),
        }
    }

    async fn session(&self, names: &Names) -> Result<client::Handle<Judge>> {
        let Ok(_turn) = timeout(QUEUE, self.server.handshakes.acquire()).await else {
            return Err(self.no_turn());
        };
        let tcp = direct(names, WORDS, &self.host, self.port).await?;
        let config = client::Config {
            keepalive_interval: Some(KEEPALIVE),
            nodelay: true,
            ..client::Config::default()
        };
        let found = Arc::new(Mutex::new(None));
        let judge = Judge {
            expected: self.expected.clone().or_else(|| self.server.seen()),
            found: found.clone(),
        };
        let signing_in = async {
            let mut session = client::connect_stream(Arc::new(config), tcp, judge)
                .await
                .map_err(|error| self.no_handshake(error, &found))?;
            let accepted = self.sign_in(&mut session).await?;
            Ok((session, accepted))
        };
        let signed_in = timeout(PATIENCE, signing_in).await;
        let (session, accepted) = signed_in.unwrap_or_else(|_| {
            let late = std::io::ErrorKind::TimedOut.into();
            Err(of_network(WORDS, &self.address(), &late))
        })?;
        if !accepted {
            return Err(Error::auth(format!(
                "the SSH server at {} does not take this key for user {}",
                self.address(),
                self.user
            ))
            .field("ssh_private_key")
            .hint(format!(
                "add the key's public half to ~{}/.ssh/authorized_keys there, and check ssh_user",
                self.user
            )));
        }
        let shown = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Of several that came first together, one may have seen another key.
        if self.expected.is_none() && !shown.is_some_and(|shown| self.server.holds_to(&shown)) {
            return Err(self.no_handshake(russh::Error::UnknownKey, &found));
        }
        Ok(session)
    }

    async fn sign_in(&self, session: &mut client::Handle<Judge>) -> Result<bool> {
        let hung_up = |error: russh::Error| {
            Error::unavailable(format!(
                "the SSH server at {} hung up during sign-in: {error}",
                self.address()
            ))
            .field("ssh_host")
            .hint("look into the server's log; MaxStartups and MaxSessions limit how many may come")
        };
        let hash = match self.key.algorithm().is_rsa() {
            true => session
                .best_supported_rsa_hash()
                .await
                .map_err(hung_up)?
                .flatten(),
            false => None,
        };
        let key = PrivateKeyWithHashAlg::new(self.key.clone(), hash);
        let answer = session.authenticate_publickey(&self.user, key).await;
        let accepted = answer.map_err(hung_up)?.success();
        // A server that goes away in the middle looks as if it had refused.
        match !accepted && session.is_closed() {
            true => Err(hung_up(russh::Error::Disconnect)),
            false => Ok(accepted),
        }
    }

    fn no_turn(&self) -> Error {
        Error::timeout(format!(
            "{HANDSHAKES} others have been signing in at the SSH server at {} for {} seconds",
            self.address(),
            QUEUE.as_secs()
        ))
        .field("ssh_host")
        .hint("look into the server's log: it is slow, or does not answer")
    }

    fn no_handshake(&self, error: russh::Error, found: &Mutex<Option<String>>) -> Error {
        let shown = self.address();
        match error {
            russh::Error::UnknownKey => {
                let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
                let found = found.unwrap_or_default();
                Error::config(format!(
                    "the SSH server at {shown} shows another key than expected: {found}"
                ))
                .field("ssh_host_key")
                .hint(
                    "somebody may be in between; if the server's key was changed, give the new one \
                     as ssh_host_key, or start this server again",
                )
            }
            russh::Error::IO(error) => of_network(WORDS, &shown, &error),
            error => Error::unavailable(format!(
                "what answers at {shown} does not agree on SSH with us: {error}"
            ))
            .field("ssh_port")
            .hint("check ssh_host and ssh_port, and that an SSH server listens there"),
        }
    }

    fn not_forwarded(&self, words: Words, target: &str, error: russh::Error) -> Error {
        let ssh = self.address();
        match error {
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
                Error::permission(format!(
                    "the SSH server at {ssh} does not let {} connect to {target}",
                    self.user
                ))
                .field("ssh_user")
                .hint("allow it there: AllowTcpForwarding and PermitOpen in sshd_config, no restrict in authorized_keys")
            }
            russh::Error::ChannelOpenFailure(_) => {
                Error::unavailable(format!("{target} cannot be reached from {ssh}"))
                    .field(words.host)
                    .hint(format!(
                        "check {} as the SSH server sees them, and that the server is up",
                        words.place()
                    ))
            }
            error => Error::unavailable(format!("the SSH session to {ssh} broke: {error}"))
                .field("ssh_host"),
        }
    }
}

fn needed(field: &'static str) -> Error {
    Error::config(format!("{field} is needed for a tunnel"))
        .field(field)
        .hint("give it, or switch ssh off")
}

fn private_key(pem: &Secret) -> Result<PrivateKey> {
    let wrong = |what: &str, hint: &str| Error::config(what).field("ssh_private_key").hint(hint);
    match russh::keys::decode_secret_key(pem.expose(), None) {
        Ok(key) if !key.is_encrypted() => Ok(key),
        Ok(_) | Err(russh::keys::Error::KeyIsEncrypted) => Err(wrong(
            "ssh_private_key is protected by a passphrase",
            "take it off with ssh-keygen -p, or make a key without one for this connection",
        )),
        Err(_) => Err(wrong(
            "ssh_private_key is no private key that can be read",
            "paste the whole file, from BEGIN to END, in OpenSSH's or PEM form",
        )),
    }
}

fn fingerprint_of(text: &str) -> Result<String> {
    let text = text.trim();
    if text.starts_with("SHA256:") {
        return Ok(text.to_owned());
    }
    let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| {
        Error::config("ssh_host_key is neither a public key nor a fingerprint")
            .field("ssh_host_key")
            .hint("paste what ssh-keyscan prints behind the host, or SHA256:… of ssh-keygen -l")
    })?;
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

/// Keeps the SSH session of a connection going.
pub struct Carrier(#[allow(dead_code)] client::Handle<Judge>);

/// Judges the key that a server shows.
pub struct Judge {
    expected: Option<String>,
    found: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Judge {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        let found = key.fingerprint(HashAlg::Sha256).to_string();
        let fits = self
            .expected
            .as_ref()
            .is_none_or(|expected| *expected == found);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(fits)
    }
}
