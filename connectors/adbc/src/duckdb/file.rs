//! Database files that are open. DuckDB lets one process write to a file and locks
//! others out, and two handles within one process would destroy it: so there is one
//! handle per file and process, shared by all who use it and closed after the last.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex as BlockingMutex, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use adbc_core::{Database as _, Driver as _, options::OptionDatabase};
use adbc_driver_manager::{ManagedDatabase, ManagedDriver};
use tideway_core::{Error, Result};
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore};

use super::{LIBRARY, config::Config, errors, rows::Text};
use crate::session::{Session, Translate};

/// What is done with a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    Refuse,
    Create,
}

/// How a file is opened; whoever opens it first decides for all.
#[derive(Debug, Clone)]
pub struct Access {
    pub path: PathBuf,
    pub memory_limit: String,
    pub threads: Option<u16>,
    pub data_dir: Option<PathBuf>,
}

impl Access {
    pub fn new(config: &Config, data_dir: Option<PathBuf>) -> Result<Access> {
        Ok(Access {
            path: config.file()?,
            memory_limit: config.memory()?,
            threads: config.threads,
            data_dir,
        })
    }
}

/// An open database file.
pub struct File {
    /// The name of the file's own database within DuckDB.
    pub catalog: String,
    /// Nobody here may write: the file or its folder is read-only.
    pub read_only: bool,
    path: PathBuf,
    gate: Mutex<()>,
    handle: Option<Arc<Handle>>,
    /// DuckDB gave the handle up after an error it cannot recover from.
    broken: Arc<AtomicBool>,
}

/// Every session holds one; the last that is dropped closes the file. Closing blocks, so
/// none may be dropped on a thread that must not.
struct Handle {
    database: ManagedDatabase,
    /// Given back, by the order of the fields, only when the database has been closed.
    _only: OwnedSemaphorePermit,
}

/// All that is known of one path.
struct Slot {
    /// Held while the file is being opened.
    current: Mutex<Weak<File>>,
    /// One permit: no second handle before the first is closed.
    only: Arc<Semaphore>,
}

static SLOTS: LazyLock<BlockingMutex<HashMap<PathBuf, Arc<Slot>>>> =
    LazyLock::new(Default::default);

impl File {
    /// The file's one handle, opened if nobody has it open.
    ///
    /// # Errors
    /// `Missing` without the file, `Config` if it is no DuckDB database, `Unavailable` if
    /// another process has it open.
    pub async fn open(access: &Access, absent: Absent) -> Result<Arc<File>> {
        let slot = slot(&access.path);
        let mut current = slot.current.lock().await;
        if let Some(file) = current.upgrade()
            && !file.broken.load(Relaxed)
        {
            return Ok(file);
        }
        let only = slot
            .only
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| Error::bug("the registry of open files is closed"))?;
        let access = access.clone();
        let file = blocking(move || open(&access, absent, only)).await?;
        let file = Arc::new(file);
        *current = Arc::downgrade(&file);
        Ok(file)
    }

    /// A connection of its own to the file, with settings that every one of ours has.
    pub async fn session(&self) -> Result<Session> {
        let handle = self
            .handle
            .clone()
            .ok_or_else(|| Error::bug("the file is closed"))?;
        let translate = self.translate();
        let session = blocking(move || {
            let connection = handle.database.new_connection();
            let connection = connection.map_err(|error| translate(error))?;
            Ok(Session::start(connection, handle, translate))
        })
        .await?;
        for setting in [
            // Texts of times and time zones in Arrow types come out the same anywhere.
            "SET TimeZone = 'UTC'",
            // UUIDs travel as 16 bytes.
            "SET arrow_lossless_conversion = true",
        ] {
            session.execute(setting).await?;
        }
        Ok(session)
    }

    /// Held by whoever commits, so that several sessions can see the same state and
    /// changes to the same table take turns.
    pub async fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    fn translate(&self) -> Translate {
        let (path, broken) = (self.path.clone(), self.broken.clone());
        Arc::new(move |error| {
            if errors::fatal(&error) {
                broken.store(true, Relaxed);
            }
            errors::translated(&error, &path)
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let handle = self.handle.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(handle))),
            Err(_) => drop(handle),
        }
    }
}

fn slot(path: &Path) -> Arc<Slot> {
    let mut slots = SLOTS.lock().unwrap_or_else(|broken| broken.into_inner());
    let new = || {
        Arc::new(Slot {
            current: Mutex::new(Weak::new()),
            only: Arc::new(Semaphore::new(1)),
        })
    };
    slots.entry(path.to_owned()).or_insert_with(new).clone()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::bug(format!("opening a file stopped: {error}"))))
}

fn open(access: &Access, absent: Absent, only: OwnedSemaphorePermit) -> Result<File> {
    let mut driver = LIBRARY.load(access.data_dir.as_deref())?;
    let present = inspect(&access.path)?;
    if !present && absent == Absent::Refuse {
        return Err(missing(&access.path));
    }
    if !present {
        create(&mut driver, access)?;
    }
    let read_only = !writable(&access.path);
    let database = database(&mut driver, access, &access.path, read_only)?;
    let catalog = catalog(&database, &access.path)?;
    Ok(File {
        catalog,
        read_only,
        path: access.path.clone(),
        gate: Mutex::new(()),
        handle: Some(Arc::new(Handle {
            database,
            _only: only,
        })),
        broken: Arc::default(),
    })
}

pub fn missing(path: &Path) -> Error {
    Error::missing(format!("there is no file {}", path.display()))
        .field("path")
        .hint("check the path; only a sync that writes to it creates the file")
}

/// Whether there is a database. An empty file is taken for none.
pub fn inspect(path: &Path) -> Result<bool> {
    const MAGIC: std::ops::Range<usize> = 8..12;
    let shown = path.display();
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::from(error).while_(&shown).field("path")),
    };
    if file.metadata().is_ok_and(|about| about.is_dir()) {
        return Err(Error::config(format!("{shown} is a folder, not a file")).field("path"));
    }
    let mut head = Vec::with_capacity(MAGIC.end);
    std::io::Read::by_ref(&mut file)
        .take(MAGIC.end as u64)
        .read_to_end(&mut head)
        .map_err(|error| Error::from(error).while_(&shown).field("path"))?;
    if head.is_empty() || head.get(MAGIC) == Some(b"DUCK".as_slice()) {
        return Ok(!head.is_empty());
    }
    let error = Error::config(format!("{shown} is not a DuckDB database")).field("path");
    Err(if head.starts_with(b"SQLite") {
        error.hint("it is a SQLite database: make a connection of type sqlite for it")
    } else {
        error.hint("name another file; one that is not there yet is created")
    })
}

/// Tries whether a file could be made at the path, without making it; says so in words.
pub fn try_folder(path: &Path) -> Result<String> {
    let folder = folder(path)?;
    let mut probe = folder.join(".tideway-probe-");
    probe
        .as_mut_os_string()
        .push(std::process::id().to_string());
    let tried = fs::File::create(&probe).and_then(|_| fs::remove_file(&probe));
    tried.map_err(|error| {
        Error::from(error)
            .while_(format!("nothing can be created in {}", folder.display()))
            .field("path")
    })?;
    Ok(format!(
        "there is no file {} yet; the first sync into it creates it",
        path.display()
    ))
}

fn folder(path: &Path) -> Result<&Path> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(
        Error::missing(format!("there is no folder {}", folder.display()))
            .field("path")
            .hint("create the folder, or correct the path"),
    )
}

/// Makes the database under another name first: a process that dies meanwhile leaves no
/// half of a file where the next one looks for a whole.
fn create(driver: &mut ManagedDriver, access: &Access) -> Result<()> {
    let path = &access.path;
    let Some(file) = path.file_name() else {
        return Err(missing(path));
    };
    let folder = folder(path)?;
    let mut fresh = file.to_owned();
    fresh.push(".tideway-new");
    let fresh = folder.join(fresh);
    let failed = |error: std::io::Error| Error::from(error).while_(fresh.display()).field("path");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let made = database(driver, access, &fresh, false).map(drop);
    let made = made.and_then(|()| fs::rename(&fresh, path).map_err(failed));
    if made.is_err() {
        // On a full disk it would keep what little room there is.
        let _ = fs::remove_file(&fresh);
    }
    made
}

fn writable(path: &Path) -> bool {
    fs::OpenOptions::new().append(true).open(path).is_ok()
}

fn database(
    driver: &mut ManagedDriver,
    access: &Access,
    path: &Path,
    read_only: bool,
) -> Result<ManagedDatabase> {
    let Some(name) = path.to_str() else {
        return Err(Error::config("path: the name is not valid UTF-8").field("path"));
    };
    let mut options = vec![
        ("path", name.to_owned()),
        ("memory_limit", access.memory_limit.clone()),
        // Nothing but this file: no other files, no network, no code from elsewhere.
        ("enable_external_access", "false".to_owned()),
        ("autoinstall_known_extensions", "false".to_owned()),
        ("autoload_known_extensions", "false".to_owned()),
        // Tables have no order, and keeping one costs memory.
        ("preserve_insertion_order", "false".to_owned()),
    ];
    if let Some(threads) = access.threads {
        options.push(("threads", threads.to_string()));
    }
    if read_only {
        options.push(("access_mode", "READ_ONLY".to_owned()));
    }
    let options = options
        .into_iter()
        .map(|(key, value)| (OptionDatabase::Other(key.to_owned()), value.as_str().into()));
    driver
        .new_database_with_opts(options)
        .map_err(|error| errors::translated(&error, path))
}

fn catalog(database: &ManagedDatabase, path: &Path) -> Result<String> {
    use adbc_core::{Connection as _, Statement as _};
    let read = || -> Result<Vec<_>, adbc_core::error::Error> {
        let mut statement = database.new_connection()?.new_statement()?;
        statement.set_sql_query("SELECT current_database()")?;
        let batches: Result<Vec<_>, _> = statement.execute()?.collect();
        Ok(batches?)
    };
    let batches = read().map_err(|error| errors::translated(&error, path))?;
    let names = Text::column(&batches, 0)?;
    names
        .into_iter()
        .flatten()
        .next()
        .ok_or_else(|| Error::bug("DuckDB does not tell the database's name"))
}
