//! Merging by key into files, which cannot be changed but only written anew.
//!
//! The keys of the staged rows are held in memory as hashes, 32 bytes each, and the
//! files of the table are read past them; that tells for every row of either side what
//! becomes of it. Then the staged rows that are new or different are written, and those
//! files of the table anew that have lost rows to that. Where the staged keys are too
//! many to be held at once, they are taken in shares, each in a pass of its own over
//! the files.
//!
//! Hashes of keys have 128 bits, so two keys with one hash do not happen. Rows of the
//! same key are compared by hashes of 64 bits.

mod changes;
mod index;
mod look;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, Scalar, TimestampMicrosecondArray};
use arrow_buffer::BooleanBufferBuilder;
use arrow_schema::ArrowError;
use arrow_select::{filter::filter_record_batch, zip::zip};
use futures::StreamExt;
use tideway_core::{
    Column, Error, Note, Result,
    destination::{CREATED_AT, DELETED_AT, Deletes, UPDATED_AT},
};
use tokio::runtime::Handle;

pub use self::changes::{KEPT, OP, add_note, change_columns};
use self::{
    changes::Staged,
    index::{Entry, Hashes, Index, Keys, Share},
    look::Look,
};
use super::{
    part::PartWriter,
    target::{FileSpec, Target},
};
use crate::{
    format::{Format, Wanted, csv::Dialect},
    layout::TableFile,
    manifest::PartFile,
    place::Object,
    read::{FileReader, batches},
};

/// Keys that are held at once: about 130 MiB.
pub const MOST_KEYS: u64 = 3_600_000;
/// A file that keeps all its rows stays as it is from this size on. Smaller ones are
/// put together.
const KEEP_BYTES: u64 = 32 << 20;
const BATCH_BYTES: usize = 8 << 20;

/// A file and its version.
pub type Located = (PartFile, Object);

/// A merge to be done.
pub struct Merge {
    pub target: Target,
    /// What the result is written as.
    pub spec: FileSpec,
    /// Names of the key, and of all columns that the load brings.
    pub key: Vec<String>,
    pub data: Vec<String>,
    /// The staged rows are all that there are, but for those of which the keys are in
    /// `spared`.
    pub complete: bool,
    pub spared: Vec<Located>,
    /// The staged rows are changes; no two of them have the same key.
    pub changes: bool,
    pub deletes: Deletes,
    pub record_timestamps: bool,
    /// Microseconds since 1970.
    pub now: i64,
    pub staged: Vec<Located>,
    pub old: Vec<Located>,
    pub most_keys: u64,
    /// Set when nobody waits for the result any more.
    pub cancelled: Arc<AtomicBool>,
}

/// What has come of it.
#[derive(Debug, Default)]
pub struct Merged {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    pub unchanged: u64,
    /// Rows whose key came again later.
    pub doubled: u64,
    pub notes: Vec<Note>,
    /// Files in the staging folder that are to be the table's.
    pub written: Vec<PartFile>,
    /// Files of the table that stay.
    pub kept: Vec<PartFile>,
}

fn arrow(error: ArrowError) -> Error {
    Error::bug(format!("merging rows: {error}"))
}

/// What becomes of the rows of one file of the table.
struct Fates {
    gone: BooleanBufferBuilder,
    /// Marked as deleted from now on.
    marked: BooleanBufferBuilder,
    touched: bool,
}

impl Fates {
    fn of(file: &PartFile) -> Result<Self> {
        let rows = usize::try_from(file.rows).map_err(|_| Error::bug("a file is too long"))?;
        let zeros = || {
            let mut bits = BooleanBufferBuilder::new(rows);
            bits.append_n(rows, false);
            bits
        };
        Ok(Fates {
            gone: zeros(),
            marked: zeros(),
            touched: false,
        })
    }

    fn lose(&mut self, row: usize) {
        self.gone.set_bit(row, true);
        self.touched = true;
    }

    fn mark(&mut self, row: usize) {
        self.marked.set_bit(row, true);
        self.touched = true;
    }
}

impl Merge {
    /// Does the merge. To be called where blocking is allowed.
    pub fn run(self) -> Result<Merged> {
        let hashes = Hashes::new(&self.spec.columns, &self.key, &self.data)?;
        let rows = |files: &[Located]| files.iter().map(|(file, _)| file.rows).sum::<u64>();
        let staged = rows(&self.staged);
        let shares = (staged + rows(&self.spared))
            .div_ceil(self.most_keys.max(1))
            .max(1);
        let shares: Vec<Share> = (0..shares)
            .map(|number| Share { number, of: shares })
            .collect();
        let room = usize::try_from(staged / shares.len() as u64).unwrap_or(0);
        let room = room + room / 16;
        let first = self.old.iter().all(|(file, _)| file.rows == 0);
        if first
            && !self.changes
            && self.spec.format == Format::Parquet
            && staged > 0
            && !self.has_doubles(&shares, room)?
        {
            // What was staged is the table as it stands.
            return Ok(Merged {
                inserted: staged,
                written: self.staged.into_iter().map(|(file, _)| file).collect(),
                ..Merged::default()
            });
        }
        let handle = Handle::current();
        let mut writer = PartWriter::new(self.target.clone(), self.spec.clone());
        let mut merged = Merged::default();
        let fates = self.old.iter().map(|(file, _)| Fates::of(file));
        let mut fates: Vec<Fates> = fates.collect::<Result<_>>()?;
        for share in shares {
            let mut index = Index::with_capacity_and_hasher(room, Default::default());
            let changes = match self.changes {
                true => self.index_changes(&hashes, share, &mut index)?,
                false => {
                    self.index(&hashes, share, &mut index, &mut merged)?;
                    Staged::default()
                }
            };
            if index.is_empty() && !self.complete {
                continue;
            }
            let columns = self.carried_columns(&changes);
            let spared = self.keys(&self.spared, share)?;
            let look = Look {
                spared: &spared,
                merge: &self,
                hashes: &hashes,
                share,
                changes: &changes,
                columns: &columns,
                kept: &changes.kept_places(),
            };
            let carried = look.compare(&mut index, &mut fates, &mut merged)?;
            look.write_staged(&index, &carried, &mut writer, &mut merged)?;
        }
        if merged.inserted + merged.updated + merged.deleted == 0 {
            merged.kept = self.old.into_iter().map(|(file, _)| file).collect();
            return Ok(merged);
        }
        self.write_old(fates, &mut writer, &mut merged)?;
        merged.written = handle.block_on(writer.finish())?;
        Ok(merged)
    }

    /// Whether a key was staged more than once.
    fn has_doubles(&self, shares: &[Share], room: usize) -> Result<bool> {
        let (columns, hashes) = self.key_columns()?;
        for share in shares {
            let mut seen = Keys::with_capacity_and_hasher(room, Default::default());
            let mut doubled = false;
            self.scan(&self.staged, &columns, &mut |rows| {
                for key in hashes.keys(&rows)?.into_iter().flatten() {
                    doubled |= share.has(key) && !seen.insert(key);
                }
                Ok(())
            })?;
            if doubled {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The keys of the share that are in some files.
    fn keys(&self, files: &[Located], share: Share) -> Result<Keys> {
        let (columns, hashes) = self.key_columns()?;
        let mut found = Keys::default();
        self.scan(files, &columns, &mut |rows| {
            let keys = hashes.keys(&rows)?.into_iter().flatten();
            found.extend(keys.filter(|key| share.has(*key)));
            Ok(())
        })?;
        Ok(found)
    }

    /// What it takes to read nothing but keys.
    fn key_columns(&self) -> Result<(Vec<Column>, Hashes)> {
        let is_key = |column: &&Column| self.key.contains(&column.name);
        let columns: Vec<Column> = self.spec.columns.iter().filter(is_key).cloned().collect();
        let hashes = Hashes::new(&columns, &self.key, &[])?;
        Ok((columns, hashes))
    }

    /// The staged rows by key, the last one of each.
    fn index(
        &self,
        hashes: &Hashes,
        share: Share,
        index: &mut Index,
        merged: &mut Merged,
    ) -> Result<()> {
        let mut number = 0;
        self.scan(&self.staged, &self.spec.columns, &mut |batch| {
            let keys = hashes.keys(&batch)?;
            let rows = hashes.rows(&batch)?;
            for (key, row) in keys.into_iter().zip(rows) {
                if let Some(key) = key.filter(|key| share.has(*key))
                    && index.insert(key, Entry::new(row, number)).is_some()
                {
                    merged.doubled += 1;
                }
                number += 1;
            }
            Ok(())
        })
    }

    /// Writes the rows that stay of the files that do not stay as they are.
    fn write_old(
        &self,
        fates: Vec<Fates>,
        writer: &mut PartWriter,
        merged: &mut Merged,
    ) -> Result<()> {
        let deleted_at = self.place(DELETED_AT);
        let now = TimestampMicrosecondArray::from(vec![self.now]).with_timezone("UTC");
        let now = Scalar::new(Arc::new(now) as ArrayRef);
        for (old, mut fates) in self.old.iter().zip(fates) {
            if !fates.touched && old.0.bytes >= KEEP_BYTES {
                merged.kept.push(old.0.clone());
                continue;
            }
            let (gone, marked) = (fates.gone.finish(), fates.marked.finish());
            let mut first = 0;
            self.scan(
                std::slice::from_ref(old),
                &self.spec.columns,
                &mut |mut rows| {
                    let count = rows.num_rows();
                    let marked = BooleanArray::new(marked.slice(first, count), None);
                    if let Some(place) = deleted_at.filter(|_| marked.true_count() > 0) {
                        let mut arrays = rows.columns().to_vec();
                        arrays[place] = zip(&marked, &now, &arrays[place]).map_err(arrow)?;
                        rows = RecordBatch::try_new(rows.schema(), arrays).map_err(arrow)?;
                    }
                    let stays = BooleanArray::new(!&gone.slice(first, count), None);
                    first += count;
                    write(writer, filter_record_batch(&rows, &stays).map_err(arrow)?)
                },
            )?;
        }
        Ok(())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.spec
            .columns
            .iter()
            .position(|column| column.name == name)
    }

    /// Columns that an updated row takes over from the row it replaces: when it was
    /// made, and what the load does not bring.
    /// Also what some changes keep.
    fn carried_columns(&self, changes: &Staged) -> Vec<usize> {
        let kept = changes.kept_places();
        let is_new = |column: &Column| match column.name.as_str() {
            DELETED_AT => true,
            UPDATED_AT => self.record_timestamps,
            CREATED_AT => false,
            name => self.data.iter().any(|brought| brought == name),
        };
        let columns = self.spec.columns.iter().enumerate();
        columns
            .filter(|(place, column)| kept.contains(place) || !is_new(column))
            .map(|(place, _)| place)
            .collect()
    }

    /// Reads files from end to end. The next batch is read while `visit` has the last.
    fn scan(
        &self,
        files: &[Located],
        columns: &[Column],
        visit: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let files = files.iter().map(|(part, object)| TableFile {
            object: object.clone(),
            format: Format::of_name(&part.name).unwrap_or(Format::Parquet),
            own_rows: Some(part.rows),
        });
        let files: Vec<TableFile> = files.collect();
        let wanted = Wanted {
            columns: columns.to_vec(),
            known: self
                .staged_columns()
                .into_iter()
                .map(|column| column.name)
                .collect(),
            batch_bytes: BATCH_BYTES,
            own: true,
        };
        let dialect = Dialect {
            delimiter: b',',
            has_headers: true,
            skip_lines: 0,
        };
        let place = self.target.place.clone();
        let mut stream = batches(move |send| {
            for file in &files {
                let mut reader = FileReader::open(&place, file, None, dialect, &wanted)?;
                while let Some(batch) = reader.next()? {
                    if !send(batch) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        while let Some(batch) = Handle::current().block_on(stream.next()) {
            if self.cancelled.load(Relaxed) {
                return Err(Error::cancelled());
            }
            visit(batch?.rows)?;
        }
        Ok(())
    }

    fn changed_outside(&self, file: &PartFile) -> Error {
        let shown = self.target.place.show(&self.target.file(&file.name));
        Error::data(format!(
            "{shown} does not have the rows that it was written with"
        ))
        .hint("something else has changed the file; run the sync with a rebuild of the table")
    }
}

fn write(writer: &mut PartWriter, rows: RecordBatch) -> Result<()> {
    match rows.num_rows() {
        0 => Ok(()),
        _ => Handle::current().block_on(writer.write(move || Ok((rows, ())))),
    }
}
