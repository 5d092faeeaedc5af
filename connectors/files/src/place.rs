//! A folder or a bucket's prefix, and what is done to files there.

use std::{collections::VecDeque, fs::File, io::Read, ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    GetOptions, GetRange, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
    path::Path,
};
use tideway_core::{Error, Kind, Result};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    format::{Input, parquet},
    trouble::{Blame, of_io, of_store},
};

/// What is asked for at once when a file is read from a server: large enough to be
/// worth a request, small enough to be answered in time.
const PIECE: u64 = 8 << 20;
/// Requests that run ahead of a reader.
const AHEAD: usize = 2;
/// Requests at once for deletes, copies and small reads.
pub const AT_ONCE: usize = 16;

/// A version of a file, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub path: Path,
    pub size: u64,
    /// Differs whenever the content does: the ETag, or what comes closest.
    pub version: String,
    /// Microseconds since 1970.
    pub modified: i64,
}

impl Object {
    fn of(meta: ObjectMeta) -> Object {
        let modified = meta.last_modified.timestamp_micros();
        Object {
            version: meta
                .e_tag
                .unwrap_or_else(|| format!("{modified}-{}", meta.size)),
            path: meta.location,
            size: meta.size,
            modified,
        }
    }
}

/// Where a connection keeps its files.
#[derive(Clone)]
pub struct Place {
    pub store: Arc<dyn ObjectStore>,
    /// Everything is below this.
    pub root: Path,
    /// The root for people: `/folder`, `s3://bucket/prefix`.
    pub shown: String,
    /// The folder, where the files are on this machine.
    pub folder: Option<PathBuf>,
    /// The only file there is, for a connection to one file.
    pub only: Option<String>,
    pub blame: Blame,
}

impl Place {
    pub fn join(&self, segments: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Path> {
        let mut text = self.root.as_ref().to_owned();
        for segment in segments {
            if !text.is_empty() {
                text.push('/');
            }
            text += segment.as_ref();
        }
        Path::parse(&text)
            .map_err(|error| Error::config(format!("{text} cannot be a path")).because(error))
    }

    /// A path without the root, for ids and errors.
    pub fn relative(&self, path: &Path) -> String {
        let root = self.root.as_ref();
        let text = path.as_ref();
        let rest = text.strip_prefix(root).unwrap_or(text);
        rest.trim_start_matches('/').to_owned()
    }

    pub fn show(&self, path: &Path) -> String {
        format!(
            "{}/{}",
            self.shown.trim_end_matches('/'),
            self.relative(path)
        )
    }

    pub fn trouble(&self, doing: &str, error: object_store::Error) -> Error {
        of_store(doing, error, self.blame)
    }

    /// Every file below `path`, sorted. Files whose names cannot be said are left out.
    pub async fn list(&self, path: &Path) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        if let Some(name) = &self.only {
            let meta = self.store.head(&self.join([name])?).await;
            let meta = meta.map_err(|error| self.trouble(&format!("reading {name}"), error))?;
            return Ok(vec![Object::of(meta)]);
        }
        let prefix = (!path.as_ref().is_empty()).then_some(path);
        let mut objects = self.store.list(prefix);
        while let Some(object) = objects.next().await {
            match object {
                Ok(meta) => found.push(Object::of(meta)),
                Err(object_store::Error::InvalidPath { source }) => {
                    tracing::warn!(%source, "a file is left out because of its name");
                }
                Err(error) => {
                    return Err(self.trouble(&format!("listing {}", self.shown), error));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The files directly in a folder, unsorted.
    pub async fn list_folder(&self, path: &Path) -> Result<Vec<Object>> {
        match self.store.list_with_delimiter(Some(path)).await {
            Ok(list) => Ok(list.objects.into_iter().map(Object::of).collect()),
            Err(error) => {
                let error = self.trouble(&format!("listing {}", self.show(path)), error);
                match error.kind {
                    Kind::Missing if self.folder.is_some() => Ok(Vec::new()),
                    _ => Err(error),
                }
            }
        }
    }

    /// The whole of a small file, or `None` if there is none.
    pub async fn read_small(&self, path: &Path) -> Result<Option<Bytes>> {
        let doing = || format!("reading {}", self.show(path));
        match self.store.get(path).await {
            Ok(found) => match found.bytes().await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(self.trouble(&doing(), error)),
            },
            Err(object_store::Error::NotFound { source, .. })
                if !source.to_string().contains("NoSuchBucket") =>
            {
                Ok(None)
            }
            Err(error) => Err(self.trouble(&doing(), error)),
        }
    }

    /// Writes a small file in one step: readers see the old content or the new.
    pub async fn write_small(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let written = self.store.put(path, PutPayload::from(bytes)).await;
        written.map_err(|error| self.trouble(&format!("writing {}", self.show(path)), error))?;
        self.settle(path).await
    }

    /// Makes sure that a file that was written survives a loss of power. Servers
    /// promise that with their answer, disks do not.
    pub async fn settle(&self, path: &Path) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let file = folder.join(self.relative(path));
        let blame = self.blame;
        blocking(move || {
            let sync = || {
                File::open(&file)?.sync_all()?;
                match file.parent() {
                    Some(parent) => File::open(parent)?.sync_all(),
                    None => Ok(()),
                }
            };
            sync().map_err(|error: std::io::Error| of_io(error.kind(), error.to_string(), blame))
        })
        .await
    }

    /// Gives a finished file its final name, in one step: by a second link on a disk, by
    /// a copy on a server. It also keeps its first name, so that this can be repeated.
    pub async fn publish(&self, from: &Path, to: &Path) -> Result<()> {
        let doing = || format!("writing {}", self.show(to));
        let error = match self.store.copy(from, to).await {
            Ok(()) => return Ok(()),
            Err(error) if self.folder.is_none() => return Err(self.trouble(&doing(), error)),
            Err(error) => error,
        };
        // Not every file system has links; then the file moves. An attempt that died
        // may have moved it before.
        match self.store.rename(from, to).await {
            Ok(()) => Ok(()),
            Err(_) if self.store.head(to).await.is_ok() => Ok(()),
            Err(_) => Err(self.trouble(&doing(), error)),
        }
    }

    /// Removes files; those that are gone already are no trouble.
    pub async fn remove(&self, paths: Vec<Path>) -> Result<()> {
        stream::iter(paths)
            .map(async |path| match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.trouble(&format!("removing {}", self.show(&path)), error)),
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Removes everything below a path.
    pub async fn remove_all(&self, path: &Path) -> Result<()> {
        let found = match self.list(path).await {
            Err(error) if error.kind == Kind::Missing && self.folder.is_some() => return Ok(()),
            found => found?,
        };
        self.remove(found.into_iter().map(|object| object.path).collect())
            .await
    }

    /// Opens a version of a file for reading from its beginning. Fails with
    /// [`Kind::Drift`] if it has changed. To be called where blocking is allowed.
    pub fn open(&self, object: &Object, handle: &Handle) -> Result<Input> {
        match handle.block_on(self.get(object, None))? {
            Got::File(file) => Ok(Box::new(file)),
            Got::Bytes(_) | Got::Stream => Ok(Box::new(Pieces {
                place: self.clone(),
                object: object.clone(),
                handle: handle.clone(),
                at: 0,
                ahead: VecDeque::new(),
                current: Bytes::new(),
            })),
        }
    }

    /// Opens a version of a file for reading anywhere in it.
    pub fn open_ranges(&self, object: &Object, handle: &Handle) -> Result<parquet::Source> {
        match handle.block_on(self.get(object, None))? {
            Got::File(file) => Ok(parquet::Source::Local(file)),
            Got::Bytes(_) | Got::Stream => Ok(parquet::Source::Remote(Box::new(RemoteRanges {
                place: self.clone(),
                object: object.clone(),
                handle: handle.clone(),
            }))),
        }
    }

    /// Fails with [`Kind::Drift`] if a file on this machine has changed since it was
    /// listed. On a server each read has asked for that version.
    pub fn verify(&self, object: &Object, handle: &Handle) -> Result<()> {
        match self.folder {
            Some(_) => handle.block_on(self.get(object, None)).map(|_| ()),
            None => Ok(()),
        }
    }

    async fn get(&self, object: &Object, range: Option<Range<u64>>) -> Result<Got> {
        if self.folder.is_none() && range.is_none() {
            return Ok(Got::Stream);
        }
        let doing = || format!("reading {}", self.relative(&object.path));
        let options = GetOptions {
            if_match: Some(object.version.clone()),
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&object.path, options).await;
        let found = found.map_err(|error| match error {
            object_store::Error::NotFound { .. } => {
                Error::drift(format!("{}: the file is gone", doing()))
            }
            error => self.trouble(&doing(), error),
        })?;
        match found.payload {
            GetResultPayload::File(file, _) => Ok(Got::File(file)),
            GetResultPayload::Stream(_) => {
                let bytes = found.bytes().await;
                Ok(Got::Bytes(
                    bytes.map_err(|error| self.trouble(&doing(), error))?,
                ))
            }
        }
    }
}

enum Got {
    File(File),
    Bytes(Bytes),
    /// On a server; to be read in pieces.
    Stream,
}

/// Runs what blocks away from the threads that must not.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::bug(format!("a task stopped: {error}"))))
}

/// A file on a server read piece by piece. A request for each piece, rather than one for
/// the whole file, is tried again by itself when it fails, and no connection has to
/// stay open while a slow destination holds up the reader.
struct Pieces {
    place: Place,
    object: Object,
    handle: Handle,
    /// Where the next request begins.
    at: u64,
    ahead: VecDeque<JoinHandle<Result<Got>>>,
    current: Bytes,
}

impl Pieces {
    fn next_piece(&mut self) -> Result<Option<Bytes>> {
        while self.ahead.len() < AHEAD && self.at < self.object.size {
            let range = self.at..self.object.size.min(self.at + PIECE);
            self.at = range.end;
            let (place, object) = (self.place.clone(), self.object.clone());
            let piece = async move { place.get(&object, Some(range)).await };
            self.ahead.push_back(self.handle.spawn(piece));
        }
        let Some(piece) = self.ahead.pop_front() else {
            return Ok(None);
        };
        let got = self.handle.block_on(piece);
        match got.unwrap_or_else(|_| Err(Error::cancelled()))? {
            Got::Bytes(bytes) => Ok(Some(bytes)),
            _ => Err(Error::bug("a range came as something else")),
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.next_piece().map_err(std::io::Error::other)? {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.ahead.iter().for_each(JoinHandle::abort);
    }
}

struct RemoteRanges {
    place: Place,
    object: Object,
    handle: Handle,
}

impl parquet::Ranges for RemoteRanges {
    fn size(&self) -> u64 {
        self.object.size
    }

    fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fetches = ranges.iter().cloned().map(|range| async move {
            // One request per piece here as well, for long columns.
            let starts = (range.start..range.end).step_by(PIECE as usize);
            let pieces = starts.map(|start| start..range.end.min(start + PIECE));
            let mut got: Vec<Bytes> = stream::iter(pieces)
                .map(|piece| self.place.get(&self.object, Some(piece)))
                .buffered(AHEAD)
                .map(|got| match got? {
                    Got::Bytes(bytes) => Ok(bytes),
                    _ => Err(Error::bug("a range came as something else")),
                })
                .try_collect()
                .await?;
            Ok::<Bytes, Error>(match got.len() {
                1 => got.remove(0),
                _ => Bytes::from(got.concat()),
            })
        });
        self.handle
            .block_on(stream::iter(fetches).buffered(4).try_collect())
    }
}
