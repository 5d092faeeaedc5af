//! Opening sessions.

mod check;
mod explain;
mod packets;
mod public_key;
mod session;
mod sign_in;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tideway_core::{
    Capabilities, Connection, Error, Result, WriteMode,
    capability::Replay,
    connector::{CheckReport, ConnectCx, Roles},
    naming::NamePolicy,
};
use tideway_network::{Dialler, Stream, tls};
use tokio_rustls::TlsConnector;

pub use self::{
    check::sees_transactions,
    packets::{Fields, damaged},
    session::{Flavor, SentColumn, ServerInfo, Session, Statement, TextRow},
};
#[cfg(any(test, fuzzing))]
pub use self::{packets::Packets, sign_in::introduce};
use crate::config::Config;

/// For looking the name up, the TCP handshake, TLS and signing in together.
const PATIENCE: Duration = Duration::from_secs(10);
/// 64 characters, which may have one byte each; column names know no case.
const NAMES: NamePolicy = NamePolicy::new(64, true);
/// Sessions at once, to read or to write; servers often allow 151 to all clients together.
pub const LANES: usize = 8;

/// Makes every session alike, whatever the server's own settings are, so that times are in
/// UTC, texts are what they are, nothing is cut off and a lane that is fed slowly is not
/// taken for dead.
const SETTINGS: &str = "\
SET SESSION time_zone = '+00:00', autocommit = 1, completion_type = 0, sql_auto_is_null = 0, \
sql_mode = 'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', \
sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = 18446744073709551615, \
group_concat_max_len = 1048576, net_read_timeout = 86400, net_write_timeout = 86400, \
wait_timeout = 604800, lock_wait_timeout = 120, innodb_lock_wait_timeout = 120";

/// A live link to one server. Every [`MySql::session`] is a session of its own; a clone is the
/// same link.
#[derive(Clone)]
pub struct MySql {
    pub(crate) config: Arc<Config>,
    dialler: Dialler,
    /// `None` where TLS is switched off.
    tls: Option<TlsConnector>,
    purpose: Arc<str>,
    capabilities: Capabilities,
    /// The session that showed that the settings work, for whoever asks first.
    spare: Arc<Mutex<Option<Session>>>,
    /// When the ledgers of databases were last swept.
    swept: Arc<Mutex<HashMap<String, Instant>>>,
}

impl MySql {
    /// Signs in once, so that wrong settings show at once.
    ///
    /// # Errors
    /// As [`MySql::session`], and `Config` for certificates that cannot be read.
    pub async fn open(config: Config, cx: &ConnectCx) -> Result<MySql> {
        config.validate()?;
        let tls = tls::client(config.tls()).await?;
        let tls = tls.map(|client| TlsConnector::from(Arc::new(client)));
        let dialler = Dialler::new(config.names.network, cx.outbound.clone(), config.tunnel())?;
        let mysql = MySql {
            config: Arc::new(config),
            dialler,
            tls,
            purpose: match cx.purpose.as_str() {
                "" => "tideway".into(),
                purpose => purpose.into(),
            },
            capabilities: Capabilities {
                incremental: true,
                namespaces: true,
                replay: Replay::Snapshot,
                lanes: LANES,
                modes: &WriteMode::ALL,
                history: true,
                names: NAMES,
            },
            spare: Arc::default(),
            swept: Arc::default(),
        };
        let session = mysql.session().await?;
        mysql.keep(session);
        Ok(mysql)
    }

    /// A fresh session with settings of its own for nothing but the constants above.
    ///
    /// # Errors
    /// `Unavailable` or `Timeout` where the server cannot be reached, `Auth`, `Missing`
    /// (database), `RateLimited` (too many connections), `Config` (TLS); each names its field.
    pub async fn session(&self) -> Result<Session> {
        let spare = self.spare().take();
        if let Some(mut session) = spare
            // It may have been closed meanwhile.
            && session.run("DO 0").await.is_ok()
        {
            return Ok(session);
        }
        let opened = tokio::time::timeout(self.patience(), self.sign_in()).await;
        opened.unwrap_or_else(|_| Err(self.no_answer()))
    }

    /// For the way there and signing in together.
    fn patience(&self) -> Duration {
        PATIENCE + self.dialler.detour()
    }

    /// Keeps a session for whoever asks next. It must have nothing going on.
    pub fn keep(&self, session: Session) {
        if session.settled() {
            *self.spare() = Some(session);
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        self.spare
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    pub(crate) fn swept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.swept
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn no_answer(&self) -> Error {
        let seconds = self.patience().as_secs();
        Error::timeout(format!(
            "{} did not answer within {seconds} seconds",
            self.config.address()
        ))
        .field(self.config.names.network.host)
        .hint(format!(
            "check {}, and that firewalls on the way let this machine through",
            self.config.names.network.place()
        ))
    }

    async fn sign_in(&self) -> Result<Session> {
        let stream = self.reach().await?;
        let tls = self.tls.as_ref();
        let mut session = sign_in::sign_in(&self.config, stream, tls, &self.purpose).await?;
        check::new_enough(&session.server)?;
        session.settle().await?;
        session.takes_files &= self.config.local_infile;
        Ok(session)
    }

    /// A connection to the server, before anything is said.
    async fn reach(&self) -> Result<Stream> {
        let config = &self.config;
        self.dialler.dial(&config.hostname, config.port).await
    }
}

impl Session {
    pub async fn settle(&mut self) -> Result<()> {
        self.run("SET NAMES utf8mb4").await?;
        let own = match self.server.flavor {
            Flavor::MariaDb if self.server.version >= (10, 3, 0) => {
                ", max_statement_time = 0, idle_transaction_timeout = 0"
            }
            Flavor::MySql if self.server.version >= (8, 0, 0) => {
                ", max_execution_time = 0, information_schema_stats_expiry = 0"
            }
            _ => "",
        };
        self.run(&format!("{SETTINGS}{own}")).await?;
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .await?;
        let rows = self
            .rows("SELECT @@max_allowed_packet, @@local_infile")
            .await?;
        if let Some([Some(most), Some(files)]) = rows.first().map(Vec::as_slice) {
            self.most_bytes = most.parse().unwrap_or(self.most_bytes);
            self.takes_files = files == "1";
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Connection for MySql {
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
