//! How connectors reach servers: every connection of a database connector is dialled here, by
//! one policy ([`Names`]), directly or through an SSH tunnel.

pub mod cloud_sql;
pub mod http;
mod names;
mod stream;
pub mod tls;
mod tunnel;
pub mod url;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tideway_core::{Error, Result};
use tokio::{net::TcpStream, time::timeout};

use self::{names::Nowhere, tunnel::Tunnel};
pub use self::{
    names::{Names, Resolver},
    stream::Stream,
    tunnel::SshSettings,
};

/// For all addresses of a name together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Through a tunnel there is another server to sign in at, and a queue before it.
const DETOUR: Duration = Duration::from_secs(20);
/// Sessions that wait for hours (a snapshot's holder) must not be forgotten by routers.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What the fields are called in the connector's form, and the server's setting to look at.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    pub host: &'static str,
    pub port: &'static str,
    /// What may be wrong at a server where nothing listens.
    pub listens: &'static str,
}

impl Words {
    /// Both fields, for people, who may have both in one.
    pub fn place(self) -> String {
        match self.host == self.port {
            true => self.host.to_owned(),
            false => format!("{} and {}", self.host, self.port),
        }
    }
}

#[derive(Clone)]
pub struct Dialler {
    words: Words,
    names: Names,
    tunnel: Option<Tunnel>,
}

impl Dialler {
    /// # Errors
    /// `Config` for settings of the tunnel that cannot work.
    pub fn new(words: Words, names: impl Into<Names>, ssh: Option<SshSettings>) -> Result<Dialler> {
        Ok(Dialler {
            words,
            names: names.into(),
            tunnel: ssh.map(Tunnel::new).transpose()?,
        })
    }

    /// A connection to the server of that name. Through a tunnel it is the SSH server that looks
    /// the name up.
    ///
    /// # Errors
    /// `Unavailable`, `Timeout`, `Auth` (SSH) or `Config` (policy, keys); each names its field.
    pub async fn dial(&self, host: &str, port: u16) -> Result<Stream> {
        match &self.tunnel {
            None => {
                let stream = direct(&self.names, self.words, host, port).await?;
                Ok(Stream::direct(stream))
            }
            Some(tunnel) => tunnel.open(&self.names, self.words, host, port).await,
        }
    }

    /// How much longer than directly it may take to get there.
    pub fn detour(&self) -> Duration {
        self.tunnel.as_ref().map_or(Duration::ZERO, |_| DETOUR)
    }

    /// The way there, for people; empty where there is no tunnel.
    pub fn way(&self) -> String {
        self.tunnel.as_ref().map(Tunnel::way).unwrap_or_default()
    }
}

/// `host:port`, for people.
pub fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// A connection to the first of the name's addresses that takes one. Each gets its share of the
/// time that is left.
async fn direct(names: &Names, words: Words, host: &str, port: u16) -> Result<TcpStream> {
    let end = Instant::now() + PATIENCE;
    let found = timeout(PATIENCE, addresses(names, words, host, port)).await;
    let addresses = found.unwrap_or_else(|_| Err(unknown_host(words, host, port)))?;
    let (shown, mut failed) = (address(host, port), None);
    let mut left = addresses.len() as u32;
    for address in addresses {
        let share = end.saturating_duration_since(Instant::now()) / left.max(1);
        left -= 1;
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without them all works as well, but for delays and dead routers.
                let _ = stream.set_nodelay(true);
                let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
                let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                return Ok(stream);
            }
            Ok(Err(error)) => failed = Some(of_network(words, &shown, &error)),
            Err(_) => failed = Some(of_network(words, &shown, &io::ErrorKind::TimedOut.into())),
        }
    }
    Err(failed.unwrap_or_else(|| unknown_host(words, host, port)))
}

/// The addresses of a name that may be connected to.
async fn addresses(names: &Names, words: Words, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let found = names
        .addresses(host)
        .await
        .map_err(|nowhere| match nowhere {
            Nowhere::Unknown(error) => unknown_host(words, host, port).because(error),
            Nowhere::Refused(refusal) => Error::config(format!("{host} is {}", refusal.what()))
                .field(words.host)
                .hint(refusal.advice()),
        })?;
    Ok(found.into_iter().map(|ip| (ip, port).into()).collect())
}

fn unknown_host(words: Words, host: &str, port: u16) -> Error {
    let shown = address(host, port);
    Error::unavailable(format!("no address is known for host {host} ({shown})"))
        .field(words.host)
        .hint("check the spelling of the host name, and that this machine can look it up")
}

/// What a failed connection means; `address` is for people.
pub fn of_network(words: Words, address: &str, error: &io::Error) -> Error {
    use io::ErrorKind::*;
    let Words {
        host,
        port,
        listens,
    } = words;
    let place = words.place();
    match error.kind() {
        ConnectionRefused => {
            Error::unavailable(format!("nothing listens at {address} (connection refused)"))
                .field(port)
                .hint(format!(
                    "check {place}, that the server is up, and its {listens}"
                ))
        }
        TimedOut => Error::timeout(format!("{address} did not answer in time"))
            .field(host)
            .hint(format!(
                "check {place}, and that firewalls on the way let this machine through"
            )),
        HostUnreachable | NetworkUnreachable => {
            Error::unavailable(format!("there is no way to {address}: {error}"))
                .field(host)
                .hint(format!("check {host}, and the network of this machine"))
        }
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => {
            Error::unavailable(format!("{address} hung up during sign-in"))
                .field(port)
                .hint("check what listens there, and look into the server's log")
        }
        _ => Error::unavailable(format!("{address} cannot be reached: {error}")).field(host),
    }
}

#[cfg(test)]
mod tests {
    use tideway_core::outbound::Outbound;

    use super::*;

    const WORDS: Words = Words {
        host: "host",
        port: "port",
        listens: "listen_addresses",
    };

    #[tokio::test]
    async fn what_the_policy_refuses_is_not_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Dialler::new(WORDS, Outbound::default(), None).unwrap();
        open.dial("127.0.0.1", port).await.unwrap();
        listener.accept().await.unwrap();

        let strict = Outbound {
            public_only: true,
            allowed: Vec::new(),
        };
        let strict = Dialler::new(WORDS, strict, None).unwrap();
        for host in ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1"] {
            let error = strict.dial(host, port).await.err().unwrap();
            assert!(error.to_string().contains("no public address"), "{error}");
            assert_eq!(error.blamed_field(), Some("host"));
        }
        let error = open.dial("169.254.169.254", 80).await.err().unwrap();
        assert!(error.to_string().contains("never connected to"), "{error}");
        let none = timeout(Duration::from_millis(200), listener.accept()).await;
        assert!(none.is_err(), "it was dialled all the same");
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let open = Dialler::new(WORDS, Outbound::default(), None).unwrap();
        let error = open.dial("127.0.0.1", port).await.err().unwrap();
        assert_eq!(error.blamed_field(), Some("port"));
        assert!(error.to_string().contains("nothing listens"), "{error}");
    }
}
