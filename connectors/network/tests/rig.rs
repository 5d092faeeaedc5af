//! Answers of the tests' own: to look-ups, as an SSH server, as a server behind it.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use russh::{
    Channel, MethodKind, MethodSet,
    keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding},
    server::{self, Auth, ChannelOpenHandle, Msg, VerifiedPublicKey},
};
use tideway_core::Secret;
use tideway_network::{Resolver, SshSettings, Words};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub const WORDS: Words = Words {
    host: "host",
    port: "port",
    listens: "listen_addresses",
};

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Answers each look-up with the next of some answers, and then with the last for ever.
#[derive(Clone)]
pub struct Answers {
    left: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    asked: Arc<AtomicUsize>,
    pause: Duration,
}

impl Answers {
    pub fn new(answers: &[&[&str]]) -> Answers {
        let answers = answers.iter().map(|addresses| {
            let addresses = addresses.iter().map(|address| ip(address));
            addresses.collect()
        });
        Answers {
            left: Arc::new(Mutex::new(answers.collect())),
            asked: Arc::default(),
            pause: Duration::ZERO,
        }
    }

    pub fn after(self, pause: Duration) -> Answers {
        Answers { pause, ..self }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolver for Answers {
    async fn look_up(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.pause).await;
        let mut left = self.left.lock().unwrap();
        Ok(match left.len() {
            1 => left[0].clone(),
            _ => left.pop_front().unwrap(),
        })
    }
}

/// Sends back what it gets; returns its port.
pub async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    port
}

/// An SSH server that lets everybody in who has a key, and forwards to wherever it is asked to.
pub struct SshServer {
    pub port: u16,
    /// The most that were signing in at the same time.
    pub most_at_once: Arc<AtomicUsize>,
    /// Who has signed in.
    pub signed_in: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl SshServer {
    /// With a key of its own; port 0 is any.
    pub async fn start(port: u16) -> SshServer {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let config = Arc::new(server::Config {
            keys: vec![new_key()],
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            ..server::Config::default()
        });
        let (most_at_once, signed_in) = (Arc::<AtomicUsize>::default(), Arc::default());
        let at_once = Arc::<AtomicUsize>::default();
        let port = listener.local_addr().unwrap().port();
        let guest = Guest {
            at_once: at_once.clone(),
            signed_in: Arc::clone(&signed_in),
        };
        let most = most_at_once.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let now = at_once.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                let (config, guest) = (config.clone(), guest.clone());
                tokio::spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, guest).await {
                        let _ = session.await;
                    }
                });
            }
        });
        SshServer {
            port,
            most_at_once,
            signed_in,
            task,
        }
    }

    pub async fn stop(self) -> u16 {
        self.task.abort();
        let _ = self.task.await;
        self.port
    }

    pub fn settings(&self) -> SshSettings {
        settings(self.port)
    }
}

pub fn settings(port: u16) -> SshSettings {
    let key = new_key().to_openssh(LineEnding::LF).unwrap();
    SshSettings {
        user: "somebody".to_owned(),
        host: Some("127.0.0.1".to_owned()),
        port,
        private_key: Some(Secret::new(key.as_str())),
        host_key: None,
    }
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

#[derive(Clone)]
struct Guest {
    at_once: Arc<AtomicUsize>,
    signed_in: Arc<AtomicUsize>,
}

impl server::Handler for Guest {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        // Long enough for others to come meanwhile.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.signed_in.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::Accept)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        let mut there = TcpStream::connect((host, port as u16)).await?;
        reply.accept().await;
        tokio::spawn(async move {
            let mut here = channel.into_stream();
            let _ = copy_bidirectional(&mut here, &mut there).await;
        });
        Ok(())
    }
}

/// An HTTP server that counts who comes; returns its port.
pub async fn web(address: &str, port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::<AtomicUsize>::default();
    let counting = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    (port, seen)
}
