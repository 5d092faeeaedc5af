//! A table from a download: its columns by a first look, its rows by a second.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tideway_core::{
    Batch, Capabilities, Catalog, CheckReport, Column, Connection, Error, Kind, Part, Result,
    Roles, Table, TableId,
    capability::Replay,
    form,
    naming::NamePolicy,
    schema::TableKind,
    source::{BatchStream, Read, Scan, Scope, Snapshot, Source},
};
use tokio::runtime::Handle;

use super::connect::{Download, Remote};
use crate::{
    compression::unpacked,
    discover::remote_type,
    format::{
        Decoder, Input, Wanted,
        csv::{CsvDecoder, Dialect, infer},
        delimiter,
        infer::Sightings,
        read_error, stem,
    },
    layout::split,
    place::blocking,
    read::batches,
    track::{self, Above},
};

/// The file is looked at up to here; to its end once it turns out that the rest is
/// different.
const LOOK_BYTES: u64 = 64 << 20;
const CHECK_BYTES: u64 = 64 << 10;

pub struct CsvConnection {
    remote: Arc<RemoteTable>,
    capabilities: Capabilities,
}

struct RemoteTable {
    remote: Remote,
    name: String,
    looked: Mutex<Looked>,
}

/// What the last look has shown.
#[derive(Default)]
struct Looked {
    version: Option<String>,
    found: Option<Arc<Sightings>>,
    /// A row further down did not fit: the next look takes all of them.
    suspect: bool,
}

#[derive(Serialize, Deserialize)]
struct Spec {
    version: Option<String>,
}

impl CsvConnection {
    pub fn new(remote: Remote) -> Self {
        let last = split(remote.url.path()).1;
        let name = percent_encoding::percent_decode_str(stem(last)).decode_utf8_lossy();
        let name = match name.as_ref() {
            "" => remote.url.host_str().unwrap_or_default().to_owned(),
            name => name.to_owned(),
        };
        CsvConnection {
            remote: Arc::new(RemoteTable {
                remote,
                name,
                looked: Mutex::default(),
            }),
            capabilities: Capabilities {
                incremental: true,
                namespaces: false,
                // What is behind a URL may change from one request to the next.
                replay: Replay::Snapshot,
                lanes: 1,
                modes: &[],
                history: false,
                names: NamePolicy::new(200, false),
            },
        }
    }
}

impl RemoteTable {
    fn looked(&self) -> MutexGuard<'_, Looked> {
        self.looked
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn dialect(&self) -> Dialect {
        Dialect {
            delimiter: delimiter(self.remote.url.path()),
            has_headers: true,
            skip_lines: 0,
        }
    }

    async fn download(&self) -> Result<Download> {
        let download = self.remote.get(None).await?;
        download
            .ok_or_else(|| Error::unavailable(format!("{} gives no content", self.remote.shown())))
    }

    fn input(&self, download: Download) -> Result<Input> {
        let shown = self.remote.shown();
        unpacked(download.into_input(&shown)).map_err(|error| read_error(&shown, error))
    }

    async fn infer(self: &Arc<Self>, download: Download, most: u64) -> Result<Sightings> {
        let table = self.clone();
        blocking(move || {
            let _runtime = Handle::current();
            let input = table.input(download)?;
            infer(input, &table.remote.shown(), table.dialect(), most)
        })
        .await
    }

    async fn look(self: &Arc<Self>) -> Result<Arc<Sightings>> {
        let (version, known, suspect) = {
            let looked = self.looked();
            (looked.version.clone(), looked.found.clone(), looked.suspect)
        };
        let known = known.filter(|known| known.whole || !suspect);
        let unless = version.as_deref().filter(|_| known.is_some());
        let download = match (self.remote.get(unless).await?, known) {
            (None, Some(known)) => return Ok(known),
            (None, None) => self.download().await?,
            (Some(download), _) => download,
        };
        let version = download.version.clone();
        let most = if suspect { u64::MAX } else { LOOK_BYTES };
        let found = Arc::new(self.infer(download, most).await?);
        *self.looked() = Looked {
            version,
            found: Some(found.clone()),
            suspect,
        };
        Ok(found)
    }

    fn table(&self, found: &Sightings) -> Result<Table> {
        if found.columns.is_empty() {
            return Err(Error::data(format!("{} is empty", self.remote.shown())).field("url"));
        }
        let columns = found.columns.iter().map(|(name, seen)| Column {
            remote_type: remote_type(seen.logical(false)),
            ..Column::new(name, seen.logical(false))
        });
        Ok(Table {
            id: TableId::new(None, &self.name),
            columns: columns.collect(),
            primary_key: Vec::new(),
            row_estimate: found.whole.then_some(found.rows),
            byte_estimate: found.whole.then_some(found.bytes),
            kind: TableKind::File,
        })
    }

    /// Opens the file for reading. Fails with [`Kind::Drift`] if it is not the version
    /// that was looked at.
    fn open(&self, version: Option<&str>, wanted: &Wanted, handle: &Handle) -> Result<CsvDecoder> {
        let download = handle.block_on(self.download())?;
        if let (Some(planned), Some(now)) = (version, download.version.as_deref())
            && planned != now
        {
            return Err(Error::drift(format!(
                "{} has changed meanwhile",
                self.remote.shown()
            )));
        }
        let _runtime = handle.enter();
        let input = self.input(download)?;
        CsvDecoder::open(input, &self.remote.shown(), self.dialect(), wanted)
    }

    fn note_drift(&self, error: &Error) {
        if error.kind == Kind::Drift {
            let mut looked = self.looked();
            looked.suspect = true;
            looked.version = None;
        }
    }
}

#[async_trait]
impl Connection for CsvConnection {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            source: Some(self),
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        let mut report = CheckReport::default();
        let download = match self.remote.download().await {
            Ok(download) => download,
            Err(error) => {
                report.fail("reach", &error);
                return report;
            }
        };
        let size = download
            .size
            .map_or("size unknown".to_owned(), |size| format!("{size} bytes"));
        report.pass("reach", size);
        match self
            .remote
            .infer(download, CHECK_BYTES)
            .await
            .and_then(|found| self.remote.table(&found))
        {
            Ok(table) => report.pass(
                "read the first rows",
                format!("{} fields", table.columns.len()),
            ),
            Err(error) => report.fail("read the first rows", &error),
        }
        report
    }
}

#[async_trait]
impl Source for CsvConnection {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        if scope
            .tables
            .as_ref()
            .is_some_and(|ids| !ids.contains(&self.remote.name))
        {
            return Ok(Catalog::default());
        }
        let found = self.remote.look().await?;
        Ok(Catalog {
            tables: vec![self.remote.table(&found)?],
        })
    }

    async fn open(&self, _options: &Value) -> Result<Arc<dyn Snapshot>> {
        Ok(Arc::new(CsvSnapshot(self.remote.clone())))
    }
}

struct CsvSnapshot(Arc<RemoteTable>);

fn wanted(read: &Read, columns: Vec<Column>) -> Wanted {
    Wanted {
        columns,
        known: read
            .table
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect(),
        batch_bytes: read.batch_bytes,
        own: false,
    }
}

#[async_trait]
impl Snapshot for CsvSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let version = self.0.looked().version.clone();
        let mut cursor = None;
        if let Some(tracking) = &read.tracking
            && read.limit.is_none()
        {
            let column = track::tracking_column(read, &tracking.column)?.clone();
            let (table, planned) = (self.0.clone(), version.clone());
            let wanted = wanted(read, vec![column.clone()]);
            let prior = tracking
                .cursor
                .as_ref()
                .and_then(|cursor| cursor.from.clone());
            let next = blocking(move || {
                let mut decoder = table.open(planned.as_deref(), &wanted, &Handle::current())?;
                track::cursor(&column, prior, &mut || {
                    let batch = decoder.next()?;
                    Ok(batch.map(|batch| batch.rows.column(0).clone()))
                })
            });
            let next = next.await;
            cursor = Some(next.inspect_err(|error| self.0.note_drift(error))?);
        }
        let spec = serde_json::to_value(Spec {
            version: version.clone(),
        })
        .map_err(|error| Error::bug("a part cannot be written down").because(error))?;
        let part = Part {
            id: version.unwrap_or_else(|| self.0.name.clone()),
            spec,
            row_estimate: read.table.row_estimate,
        };
        Ok(Scan {
            parts: vec![part],
            row_estimate: read.table.row_estimate,
            byte_estimate: read.table.byte_estimate,
            cursor,
        })
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        let table = self.0.clone();
        batches(move |send| {
            let spec: Spec = form::parse(&part.spec)?;
            let above = Above::of(&read)?;
            let mut left = usize::try_from(read.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            let wanted = wanted(&read, read.columns.clone());
            let opened = table.open(spec.version.as_deref(), &wanted, &Handle::current());
            let mut decoder = opened.inspect_err(|error| table.note_drift(error))?;
            while left > 0
                && let Some(batch) = decoder
                    .next()
                    .inspect_err(|error| table.note_drift(error))?
            {
                let batch = match &above {
                    Some(above) => above.keep(batch)?,
                    None => batch,
                };
                let rows = batch.rows.slice(0, batch.row_count().min(left));
                left -= rows.num_rows();
                if !send(Batch { rows, ..batch }) {
                    break;
                }
            }
            Ok(())
        })
    }
}
