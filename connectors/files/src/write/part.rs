//! Writes rows to files in the staging folder: encoding on threads that may block,
//! uploading piece by piece, memory bounded by a row group and a few pieces.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

use arrow_array::RecordBatch;
use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart, path::Path};
use tideway_core::{Error, Result};
use xxhash_rust::xxh3::xxh3_64;

use super::target::{FileSpec, Target};
use crate::{
    format::Encoder,
    manifest::PartFile,
    place::{Place, blocking},
};

/// A file that has grown to this size is closed and another one begun: larger objects
/// cannot be copied on S3 in one request.
const MOST_FILE_BYTES: u64 = 1 << 30;
/// Upload pieces, the smallest that S3 takes, and how many are under way at once for a file.
const PIECE: usize = 5 << 20;
const PIECES_AT_ONCE: usize = 2;

/// Writes one file after the other; each exists only once it is complete.
pub struct PartWriter {
    target: Target,
    spec: FileSpec,
    /// Begins the names of its files, and no other writer's.
    stem: String,
    begun: usize,
    current: Option<Current>,
    done: Vec<PartFile>,
}

struct Current {
    name: String,
    encoder: Box<dyn Encoder>,
    upload: Upload,
    rows: u64,
}

impl PartWriter {
    pub fn new(target: Target, spec: FileSpec) -> Self {
        PartWriter {
            target,
            spec,
            stem: unique(),
            begun: 0,
            current: None,
            done: Vec::new(),
        }
    }

    /// Writes the rows that `make` gives, which is run where blocking is allowed.
    pub async fn write<T: Send + 'static>(
        &mut self,
        make: impl FnOnce() -> Result<(RecordBatch, T)> + Send + 'static,
    ) -> Result<T> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        let encoder = current.encoder;
        let (encoder, ready, rows, made) = blocking(move || {
            let (rows, made) = make()?;
            let mut encoder = encoder;
            encoder.write(&rows)?;
            let ready = encoder.take();
            Ok((encoder, ready, rows.num_rows(), made))
        })
        .await?;
        current.encoder = encoder;
        current.rows += rows as u64;
        current.upload.put(ready).await?;
        let full = current.upload.bytes >= MOST_FILE_BYTES;
        self.current = Some(current);
        if full {
            self.close().await?;
        }
        Ok(made)
    }

    fn begin(&mut self) -> Result<Current> {
        let name = format!("{}-{:05}{}", self.stem, self.begun, self.spec.extension());
        self.begun += 1;
        Ok(Current {
            encoder: self.spec.encoder()?,
            upload: Upload::new(self.target.place.clone(), self.target.staged(&name)),
            name,
            rows: 0,
        })
    }

    async fn close(&mut self) -> Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let encoder = current.encoder;
        let rest = blocking(move || encoder.finish()).await?;
        current.upload.put(rest).await?;
        let bytes = current.upload.finish().await?;
        self.done.push(PartFile {
            name: current.name,
            rows: current.rows,
            bytes,
        });
        Ok(())
    }

    /// Completes what was begun. The files written since the last call, in order; none
    /// where there were no rows.
    pub async fn finish(&mut self) -> Result<Vec<PartFile>> {
        self.close().await?;
        Ok(std::mem::take(&mut self.done))
    }

    /// Completes a file without rows, for readers that look for the columns.
    pub async fn finish_empty(&mut self) -> Result<Vec<PartFile>> {
        if self.current.is_none() {
            let begun = self.begin()?;
            self.current = Some(begun);
        }
        self.finish().await
    }
}

/// A name that no other writer has, here or elsewhere.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seed = (
        now.as_nanos(),
        std::process::id(),
        COUNT.fetch_add(1, Relaxed),
    );
    format!("{:016x}", xxh3_64(format!("{seed:?}").as_bytes()))
}

/// A file on its way: small ones go in one request, larger ones in pieces. Dropped
/// before its end, it leaves nothing behind.
struct Upload {
    place: Place,
    path: Path,
    small: Vec<Bytes>,
    large: Option<WriteMultipart>,
    bytes: u64,
}

impl Upload {
    fn new(place: Place, path: Path) -> Self {
        Upload {
            place,
            path,
            small: Vec::new(),
            large: None,
            bytes: 0,
        }
    }

    fn trouble(&self, error: object_store::Error) -> Error {
        self.place
            .trouble(&format!("writing {}", self.place.show(&self.path)), error)
    }

    async fn put(&mut self, ready: Vec<Bytes>) -> Result<()> {
        let count: usize = ready.iter().map(Bytes::len).sum();
        self.bytes += count as u64;
        if self.large.is_none() {
            if self.bytes < PIECE as u64 {
                self.small.extend(ready);
                return Ok(());
            }
            let begun = self.place.store.put_multipart(&self.path).await;
            let begun = begun.map_err(|error| self.trouble(error))?;
            self.large = Some(WriteMultipart::new_with_chunk_size(begun, PIECE));
        }
        for mut bytes in std::mem::take(&mut self.small).into_iter().chain(ready) {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                let Some(upload) = &mut self.large else {
                    return Err(Error::bug("an upload has ended before its time"));
                };
                let room = upload.wait_for_capacity(PIECES_AT_ONCE).await;
                upload.put(piece);
                room.map_err(|error| self.trouble(error))?;
            }
        }
        Ok(())
    }

    /// The size of the file, which is there and durable from now on.
    async fn finish(mut self) -> Result<u64> {
        let finished = match self.large.take() {
            Some(upload) => upload.finish().await,
            None => {
                let payload = PutPayload::from_iter(std::mem::take(&mut self.small));
                self.place.store.put(&self.path, payload).await
            }
        };
        finished.map_err(|error| self.trouble(error))?;
        self.place.settle(&self.path).await?;
        Ok(self.bytes)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A server keeps the pieces of an upload until it is told not to.
        if let (Some(upload), Ok(runtime)) =
            (self.large.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "an upload was not taken back");
                }
            });
        }
    }
}
