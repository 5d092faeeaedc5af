//! The one error type. Its [`Kind`] alone decides whether a step is retried and
//! which HTTP status and wording it gets; nothing else holds retry knowledge.

use std::{fmt, sync::Arc, time::Duration};

pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, in terms that decide what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is missing or wrong: the person who wrote it must change it.
    Config,
    /// The other side does not accept who we say we are.
    Auth,
    /// It knows us, but we may not do this.
    Permission,
    /// A table, file, bucket or database that was named does not exist.
    Missing,
    /// It is in use or was changed meanwhile.
    Conflict,
    /// The other side asked us to slow down.
    RateLimited { after: Option<Duration> },
    /// The other side cannot be reached, or hung up.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// No room left on a disk, here or there.
    Full,
    /// A value or a row cannot be read or stored.
    Data,
    /// The table is no longer what the plan was made for.
    Drift,
    /// Another worker owns this execution now.
    Fenced,
    /// Someone asked for this to stop.
    Cancelled,
    /// Not built, or not possible with this system.
    Unsupported,
    /// Our fault.
    Bug,
}

/// What the engine does after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Trying again cannot help before somebody acts.
    Never,
    /// Try again after a growing pause.
    Backoff,
    /// Try again after the pause that the other side named.
    After(Duration),
}

impl Kind {
    /// The single table of retry policy.
    pub fn retry(self) -> Retry {
        match self {
            Kind::RateLimited { after: Some(pause) } => Retry::After(pause),
            Kind::RateLimited { after: None } | Kind::Unavailable | Kind::Timeout | Kind::Drift => {
                Retry::Backoff
            }
            Kind::Config
            | Kind::Auth
            | Kind::Permission
            | Kind::Missing
            | Kind::Conflict
            | Kind::Full
            | Kind::Data
            | Kind::Fenced
            | Kind::Cancelled
            | Kind::Unsupported
            | Kind::Bug => Retry::Never,
        }
    }

    /// Stable word for logs, metrics and JSON output.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Auth => "auth",
            Kind::Permission => "permission",
            Kind::Missing => "missing",
            Kind::Conflict => "conflict",
            Kind::RateLimited { .. } => "rate_limited",
            Kind::Unavailable => "unavailable",
            Kind::Timeout => "timeout",
            Kind::Full => "full",
            Kind::Data => "data",
            Kind::Drift => "drift",
            Kind::Fenced => "fenced",
            Kind::Cancelled => "cancelled",
            Kind::Unsupported => "unsupported",
            Kind::Bug => "bug",
        }
    }

    /// What a person can do about it when the place of failure has no better advice.
    pub fn remedy(self) -> &'static str {
        match self {
            Kind::Config => "correct the setting and try again",
            Kind::Auth => "check the user name, the password or the key",
            Kind::Permission => "grant the missing right and try again",
            Kind::Missing => "check the name, or create what is missing",
            Kind::Conflict => "wait until the other operation is done and try again",
            Kind::RateLimited { .. } => "nothing to do: it is tried again after a pause",
            Kind::Unavailable => "check that the address is right and that the server is up",
            Kind::Timeout => "check the network and the load of the other side",
            Kind::Full => "free some room, then start the sync again",
            Kind::Data => "correct the value at the source, or leave the field out",
            Kind::Drift => "nothing to do: the table is planned anew",
            Kind::Fenced => "nothing to do: another worker has taken over",
            Kind::Cancelled => "start it again if it is still wanted",
            Kind::Unsupported => "see docs/status.md for what is built",
            Kind::Bug => "please report it with the log of this run",
        }
    }
}

/// An error with what happened, what to do about it, and where it came from.
/// Neither text may hold a secret or a cell value.
#[derive(Clone)]
pub struct Error {
    pub kind: Kind,
    what: String,
    hint: Option<String>,
    field: Option<String>,
    source: Option<Source>,
}

macro_rules! constructors {
    ($($name:ident => $kind:expr),* $(,)?) => {
        impl Error {
            $(pub fn $name(what: impl Into<String>) -> Self { Error::new($kind, what) })*
        }
    };
}

constructors! {
    config => Kind::Config,
    auth => Kind::Auth,
    permission => Kind::Permission,
    missing => Kind::Missing,
    conflict => Kind::Conflict,
    unavailable => Kind::Unavailable,
    timeout => Kind::Timeout,
    full => Kind::Full,
    data => Kind::Data,
    drift => Kind::Drift,
    fenced => Kind::Fenced,
    unsupported => Kind::Unsupported,
    bug => Kind::Bug,
}

impl Error {
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error {
            kind,
            what: what.into(),
            hint: None,
            field: None,
            source: None,
        }
    }

    pub fn cancelled() -> Self {
        Error::new(Kind::Cancelled, "canceled")
    }

    /// Advice for the person who reads it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The configuration field that is to blame.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The cause, kept for the log; never shown over HTTP.
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Puts the step that failed before the words of the cause.
    pub fn while_(mut self, doing: impl fmt::Display) -> Self {
        self.what = format!("{doing}: {}", self.what);
        self
    }

    pub fn what(&self) -> &str {
        &self.what
    }

    pub fn advice(&self) -> &str {
        self.hint.as_deref().unwrap_or_else(|| self.kind.remedy())
    }

    pub fn blamed_field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    pub fn retry(&self) -> Retry {
        self.kind.retry()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(field) = &self.field {
            write!(f, " (field {field})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.what)?;
        if let Some(source) = &self.source {
            write!(f, " <- {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        let kind = match error.kind() {
            NotFound => Kind::Missing,
            PermissionDenied => Kind::Permission,
            StorageFull | QuotaExceeded => Kind::Full,
            TimedOut => Kind::Timeout,
            ConnectionRefused | ConnectionReset | ConnectionAborted | NotConnected | BrokenPipe
            | HostUnreachable | NetworkUnreachable | UnexpectedEof => Kind::Unavailable,
            InvalidData | InvalidInput => Kind::Data,
            _ => Kind::Unavailable,
        };
        Error::new(kind, error.to_string()).because(error)
    }
}
