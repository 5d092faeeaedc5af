//! Reading: a snapshot is the list of files at one moment, a part is a version of a
//! file, of several small ones, or some row groups of a large one.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tideway_core::{
    Batch, Error, Part, Result, form,
    source::{BatchStream, Read, Scan, Snapshot},
};
use tokio::{runtime::Handle, sync::mpsc};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    connection::Shared,
    discover::{Shape, dialect, text_input},
    format::{
        Decoder, Format, Wanted,
        csv::{CsvDecoder, Dialect},
        json::JsonDecoder,
        parquet::ParquetDecoder,
    },
    layout::{TableFile, TableFiles},
    place::{Object, Place},
    track::{self, Above},
};

/// Row groups are put together to parts of about this many stored bytes, and small
/// files too.
const PART_BYTES: u64 = 64 << 20;

/// The files of all tables as they were when it was opened.
pub struct FileSnapshot {
    shared: Arc<Shared>,
    place: Place,
    tables: BTreeMap<String, TableFiles>,
}

/// A file, or some row groups of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slice {
    path: String,
    size: u64,
    version: String,
    format: Format,
    /// Rows, if a manifest describes the file.
    own_rows: Option<u64>,
    /// `None` for the whole file.
    groups: Option<Vec<usize>>,
}

impl Slice {
    fn of(file: &TableFile, groups: Option<Vec<usize>>) -> Slice {
        Slice {
            path: file.object.path.to_string(),
            size: file.object.size,
            version: file.object.version.clone(),
            format: file.format,
            own_rows: file.own_rows,
            groups,
        }
    }

    pub fn file(&self) -> Result<TableFile> {
        let path = Path::parse(&self.path)
            .map_err(|error| Error::bug("a part's path cannot be read").because(error))?;
        Ok(TableFile {
            object: Object {
                path,
                size: self.size,
                version: self.version.clone(),
                modified: 0,
            },
            format: self.format,
            own_rows: self.own_rows,
        })
    }

    pub fn groups(&self) -> Option<&[usize]> {
        self.groups.as_deref()
    }

    pub fn keep_groups(&mut self, groups: Vec<usize>) {
        self.groups = Some(groups);
    }
}

/// Slices that are read one after the other, with their stored bytes and rows.
struct Bundle {
    slices: Vec<Slice>,
    bytes: u64,
    rows: u64,
}

impl FileSnapshot {
    pub fn new(shared: Arc<Shared>, place: Place, tables: BTreeMap<String, TableFiles>) -> Self {
        FileSnapshot {
            shared,
            place,
            tables,
        }
    }

    /// Cuts a table's files to parts.
    async fn bundles(&self, files: &TableFiles) -> Result<Vec<Bundle>> {
        let mut bundles: Vec<Bundle> = Vec::new();
        let mut small: Option<Bundle> = None;
        for file in &files.files {
            let size = file.object.size;
            if file.format == Format::Parquet && size > PART_BYTES {
                bundles.extend(self.cut(file).await?);
                continue;
            }
            let shape = self.shared.looks.known(&file.object);
            let rows = file
                .own_rows
                .or_else(|| Some(shape?.rows(size)))
                .unwrap_or(0);
            let open = small.get_or_insert_with(|| Bundle {
                slices: Vec::new(),
                bytes: 0,
                rows: 0,
            });
            open.slices.push(Slice::of(file, None));
            open.bytes += size;
            open.rows += rows;
            if open.bytes >= PART_BYTES / 4 {
                bundles.extend(small.take());
            }
        }
        bundles.extend(small);
        bundles.sort_by_key(|bundle| std::cmp::Reverse(bundle.bytes));
        Ok(bundles)
    }

    async fn cut(&self, file: &TableFile) -> Result<Vec<Bundle>> {
        let (looks, layout) = (&self.shared.looks, &self.shared.layout);
        let shape = looks.look(&self.place, layout, file, u64::MAX).await?;
        let Shape::Parquet { groups, .. } = shape.as_ref() else {
            return Err(Error::bug("a Parquet file was looked at as text"));
        };
        let mut bundles = Vec::new();
        let mut open: (Vec<usize>, u64, u64) = Default::default();
        for (index, (bytes, rows)) in groups.iter().enumerate() {
            open = (open.0, open.1 + bytes, open.2 + rows);
            open.0.push(index);
            if open.1 >= PART_BYTES || index + 1 == groups.len() {
                let (groups, bytes, rows) = std::mem::take(&mut open);
                bundles.push(Bundle {
                    slices: vec![Slice::of(file, Some(groups))],
                    bytes,
                    rows,
                });
            }
        }
        Ok(bundles)
    }

    fn part(&self, bundle: Bundle) -> Result<Part> {
        let spec = serde_json::to_value(&bundle.slices)
            .map_err(|error| Error::bug("a part cannot be written down").because(error))?;
        let hash = xxh3_128(spec.to_string().as_bytes());
        Ok(Part {
            id: format!("{hash:032x}"),
            spec,
            row_estimate: Some(bundle.rows),
        })
    }
}

#[async_trait]
impl Snapshot for FileSnapshot {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let id = read.table.id.to_string();
        let files = self.tables.get(&id).ok_or_else(|| {
            Error::missing(format!(
                "{id}: the files are gone from {}",
                self.place.shown
            ))
        })?;
        let mut bundles = self.bundles(files).await?;
        let rows: u64 = bundles.iter().map(|bundle| bundle.rows).sum();
        let bytes: u64 = bundles.iter().map(|bundle| bundle.bytes).sum();
        let mut cursor = None;
        // A limited read is one part, and leaves no cursor behind.
        if read.limit.is_some() {
            let slices = bundles.drain(..).flat_map(|bundle| bundle.slices).collect();
            bundles = vec![Bundle {
                slices,
                bytes,
                rows,
            }];
        } else if let Some(tracking) = &read.tracking {
            let mut slices: Vec<Vec<Slice>> = bundles
                .iter_mut()
                .map(|bundle| std::mem::take(&mut bundle.slices))
                .collect();
            let next = track::advance(&self.shared, &self.place, read, tracking, &mut slices);
            cursor = Some(next.await?);
            for (bundle, slices) in bundles.iter_mut().zip(slices) {
                bundle.slices = slices;
            }
            bundles.retain(|bundle| !bundle.slices.is_empty());
        }
        if bundles.is_empty() {
            bundles.push(Bundle {
                slices: Vec::new(),
                bytes: 0,
                rows: 0,
            });
        }
        Ok(Scan {
            parts: bundles
                .into_iter()
                .map(|bundle| self.part(bundle))
                .collect::<Result<_>>()?,
            row_estimate: Some(rows),
            byte_estimate: Some(bytes),
            cursor,
        })
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        batches(move |send| {
            let slices: Vec<Slice> = form::parse(&part.spec)?;
            let above = Above::of(&read)?;
            let mut left = usize::try_from(read.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
            let wanted = Wanted {
                columns: read.columns.clone(),
                known: read
                    .table
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect(),
                batch_bytes: read.batch_bytes,
                own: false,
            };
            for slice in &slices {
                let mut reader = self.open_slice(slice, &wanted)?;
                while left > 0
                    && let Some(batch) = self.next_of(&mut reader)?
                {
                    let batch = match &above {
                        Some(above) => above.keep(batch)?,
                        None => batch,
                    };
                    let rows = batch.rows.slice(0, batch.row_count().min(left));
                    left -= rows.num_rows();
                    if !send(Batch { rows, ..batch }) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}

impl FileSnapshot {
    fn open_slice(&self, slice: &Slice, wanted: &Wanted) -> Result<FileReader> {
        let file = slice.file()?;
        let dialect = dialect(&self.shared.layout, &self.place, &file);
        let reader = FileReader::open(&self.place, &file, slice.groups(), dialect, wanted);
        reader.inspect_err(|error| self.shared.looks.note(error, &file.object))
    }

    fn next_of(&self, reader: &mut FileReader) -> Result<Option<Batch>> {
        let next = reader.next();
        next.inspect_err(|error| self.shared.looks.note(error, &reader.object))
    }
}

/// Reads one version of a file batch by batch. Blocking.
pub struct FileReader {
    decoder: Box<dyn Decoder>,
    place: Place,
    pub object: Object,
    handle: Handle,
}

impl FileReader {
    pub fn open(
        place: &Place,
        file: &TableFile,
        groups: Option<&[usize]>,
        dialect: Dialect,
        wanted: &Wanted,
    ) -> Result<Self> {
        let handle = Handle::current();
        let name = place.relative(&file.object.path);
        let wanted = Wanted {
            own: file.own_rows.is_some(),
            ..wanted.clone()
        };
        let decoder: Box<dyn Decoder> = match file.format {
            Format::Csv => {
                let input = text_input(place, &file.object, &handle)?;
                Box::new(CsvDecoder::open(input, &name, dialect, &wanted)?)
            }
            Format::Json => {
                let input = text_input(place, &file.object, &handle)?;
                Box::new(JsonDecoder::open(input, &name, &wanted)?)
            }
            Format::Parquet => {
                let source = place.open_ranges(&file.object, &handle)?;
                Box::new(ParquetDecoder::open(source, &name, groups, &wanted)?)
            }
        };
        Ok(FileReader {
            decoder,
            place: place.clone(),
            object: file.object.clone(),
            handle,
        })
    }

    /// The next batch, or `None` at the end, after which it is certain that the file
    /// did not change while it was read.
    pub fn next(&mut self) -> Result<Option<Batch>> {
        let batch = self.decoder.next()?;
        if batch.is_none() {
            self.place.verify(&self.object, &self.handle)?;
        }
        Ok(batch)
    }
}

/// Runs a blocking reader on a thread of its own. It hands on one batch after the other,
/// waits while the last one is not taken, and is told `false` when nobody listens.
pub fn batches(
    work: impl FnOnce(&mut dyn FnMut(Batch) -> bool) -> Result<()> + Send + 'static,
) -> BatchStream {
    let (sender, receiver) = mpsc::channel(1);
    let task = tokio::task::spawn_blocking(move || {
        let mut send = |batch| sender.blocking_send(batch).is_ok();
        work(&mut send)
    });
    stream::unfold((receiver, Some(task)), async |(mut receiver, mut task)| {
        if let Some(batch) = receiver.recv().await {
            return Some((Ok(batch), (receiver, task)));
        }
        let ended = task.take()?.await;
        match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), (receiver, None))),
            Err(panic) => {
                let error = Error::bug(format!("a reader stopped: {panic}"));
                Some((Err(error), (receiver, None)))
            }
        }
    })
    .boxed()
}
