//! Opening sessions.

mod check;
mod explain;
mod replication;

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tideway_core::{
    Capabilities, Connection, Error, Result, WriteMode,
    capability::Replay,
    connector::{CheckReport, ConnectCx, Roles},
    naming::NamePolicy,
};
use tideway_network::{Dialler, Stream, tls};
use tokio::task::AbortHandle;
use tokio_postgres::{
    Client, NoTls, Statement,
    config::SslMode as DriverMode,
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::{
    explain::explain,
    replication::{Frame, Replication},
};
use crate::{changes::Followers, config::Config};

/// For looking the name up, the TCP handshake, TLS and signing in together.
const PATIENCE: Duration = Duration::from_secs(10);
/// Identifiers are cut to 63 bytes by every server that was not rebuilt.
const NAMES: NamePolicy = NamePolicy::new(63, false);
/// Sessions at once; servers often allow a hundred to all clients together.
const LANES: usize = 8;
/// Sessions that are kept for whoever asks next: what a load of changes needs at once.
const SPARES: usize = 3;
/// Statements that a session keeps prepared.
const STATEMENTS: usize = 64;

/// Makes every session alike, whatever the role's or the database's own settings are, so
/// that text forms are unambiguous, names mean what they say and nothing is cut off.
const SETTINGS: &str = "\
SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'iso_8601'; \
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET standard_conforming_strings = on; \
SET client_min_messages = warning; SET statement_timeout = 0; SET lock_timeout = 0; \
SET idle_in_transaction_session_timeout = 0; \
SELECT pg_catalog.set_config('search_path', '', false); \
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
WHERE name IN ('jit', 'idle_session_timeout', 'transaction_timeout'); \
SHOW server_version_num";

/// A live link to one database. Every [`Postgres::client`] is a session of its own; a
/// clone is the same link.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) config: Arc<Config>,
    driver: tokio_postgres::Config,
    dialler: Dialler,
    /// `None` where sslmode is `disable`.
    tls: Option<MakeRustlsConnect>,
    capabilities: Capabilities,
    /// Sessions for whoever asks next, among them the one that showed that the settings work.
    spares: Arc<Mutex<Vec<Session>>>,
    /// When the ledgers of schemas were last swept.
    pub(crate) swept: Arc<Mutex<HashMap<String, Instant>>>,
    pub(crate) followers: Followers,
}

/// One session at the server. Dropping it ends the session after the statement that runs.
pub struct Session {
    client: Client,
    driver: AbortHandle,
    prepared: Mutex<HashMap<String, Statement>>,
    /// `server_version_num`: 150018 is 15.18.
    pub version: u32,
}

impl Session {
    /// Ends the session at once, in the middle of whatever the server is sending.
    pub fn hang_up(&self) {
        self.driver.abort();
    }

    /// The statement, prepared once in the life of the session. For the few that come again
    /// and again.
    pub async fn statement(&self, sql: &str) -> Result<Statement> {
        if let Some(statement) = unbroken(&self.prepared).get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(explain)?;
        let mut prepared = unbroken(&self.prepared);
        if prepared.len() >= STATEMENTS {
            prepared.clear();
        }
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs statements without parameters and results.
    pub async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(explain)
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Postgres {
    /// Signs in once, so that wrong settings show at once.
    ///
    /// # Errors
    /// As [`Postgres::client`], and `Config` for certificates that cannot be read.
    pub async fn open(config: Config, cx: &ConnectCx) -> Result<Postgres> {
        let postgres = Postgres::prepare(config, cx).await?;
        let session = postgres.client().await?;
        postgres.keep(session);
        Ok(postgres)
    }

    async fn prepare(config: Config, cx: &ConnectCx) -> Result<Postgres> {
        config.validate()?;
        let tls = tls::client(config.tls()).await?.map(MakeRustlsConnect::new);
        let mut driver = tokio_postgres::Config::new();
        driver
            .user(&config.username)
            .password(config.password.expose())
            .dbname(&config.database)
            .application_name(match cx.purpose.as_str() {
                "" => "tideway",
                purpose => purpose,
            })
            .ssl_mode(match tls {
                Some(_) => DriverMode::Require,
                None => DriverMode::Disable,
            });
        let dialler = Dialler::new(config.words, cx.outbound.clone(), config.tunnel())?;
        Ok(Postgres {
            config: Arc::new(config),
            dialler,
            driver,
            tls,
            capabilities: Capabilities {
                incremental: true,
                namespaces: true,
                replay: Replay::Snapshot,
                lanes: LANES,
                modes: &WriteMode::ALL,
                history: true,
                names: NAMES,
            },
            spares: Arc::default(),
            swept: Arc::default(),
            followers: Arc::default(),
        })
    }

    /// A fresh session with settings of its own for nothing but the constants above.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` where the server cannot be reached, `Auth`, `Missing`
    /// (database), `RateLimited` (too many connections), `Config` (TLS); each names its field.
    pub async fn client(&self) -> Result<Session> {
        while let Some(session) = self.spare() {
            if !session.is_closed() {
                return Ok(session);
            }
        }
        let opened = tokio::time::timeout(self.patience(), self.sign_in()).await;
        opened.unwrap_or_else(|_| Err(self.no_answer()))
    }

    /// For the way there and signing in together.
    fn patience(&self) -> Duration {
        PATIENCE + self.dialler.detour()
    }

    /// Keeps a session that has no transaction open.
    pub(crate) fn keep(&self, session: Session) {
        let mut spares = unbroken(&self.spares);
        if spares.len() < SPARES {
            spares.push(session);
        }
    }

    fn spare(&self) -> Option<Session> {
        unbroken(&self.spares).pop()
    }

    fn no_answer(&self) -> Error {
        let seconds = self.patience().as_secs();
        Error::timeout(format!(
            "{} did not answer within {seconds} seconds",
            self.config.address()
        ))
        .field(self.config.words.host)
        .hint(format!(
            "check {}, and that firewalls on the way let this machine through",
            self.config.words.place()
        ))
    }

    /// A connection to the server, before anything is said.
    async fn reach(&self) -> Result<Stream> {
        self.dialler.dial(&self.config.host, self.config.port).await
    }

    async fn sign_in(&self) -> Result<Session> {
        let stream = self.reach().await?;
        match &self.tls {
            Some(tls) => {
                let mut tls = tls.clone();
                let Ok(tls) =
                    MakeTlsConnect::<Stream>::make_tls_connect(&mut tls, &self.config.host);
                self.session(stream, tls).await
            }
            None => self.session(stream, NoTls).await,
        }
    }

    async fn session<T>(&self, stream: Stream, tls: T) -> Result<Session>
    where
        T: TlsConnect<Stream>,
        T::Stream: Send + 'static,
    {
        let connected = self.driver.connect_raw(stream, tls).await;
        let (client, connection) =
            connected.map_err(|error| explain::sign_in(&self.config, error))?;
        let driver = tokio::spawn(connection.map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a PostgreSQL session ended");
            }
        }));
        let session = Session {
            client,
            driver: driver.abort_handle(),
            prepared: Mutex::default(),
            version: 0,
        };
        let version = session.settle().await?;
        check::new_enough(version)?;
        Ok(Session { version, ..session })
    }
}

/// What is held in there is whole whatever became of who held it last.
pub(crate) fn unbroken<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl Session {
    async fn settle(&self) -> Result<u32> {
        let answers = self.client.simple_query(SETTINGS).await.map_err(explain)?;
        let version = answers.iter().rev().find_map(|answer| match answer {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        });
        version.ok_or_else(|| Error::unsupported("the server does not tell its version"))
    }
}

#[async_trait::async_trait]
impl Connection for Postgres {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            source: Some(self),
            destination: Some(self),
            changes: match self.config.change_detection {
                true => Some(self),
                false => None,
            },
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        check::check(self).await
    }
}
