//! Parquet: the columns from the footer, reading row group by row group, writing.

mod encode;

use std::{
    fs::File,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::{Buf, Bytes};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
            ParquetRecordBatchReaderBuilder,
        },
    },
    basic::Type as PhysicalType,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaDataReader, RowGroupMetaData},
        reader::{ChunkReader, Length},
    },
};
use tideway_core::{Batch, Column, Error, Result, schema::arrow_schema};

pub use self::encode::ParquetEncoder;
use super::{Decoder, Wanted, csv::new_field};
use crate::types;

/// What is read of the end of a file in the hope that the footer is in it.
const TAIL: u64 = 64 << 10;
/// Columns that lie side by side are fetched together up to this size.
const JOINED: u64 = 8 << 20;
/// Rows of a batch at most: dictionaries can make rows tiny in the file alone.
const MOST_ROWS: usize = 16 << 10;

/// Where the bytes of a Parquet file come from.
pub trait Ranges: Send {
    fn size(&self) -> u64;
    /// Blocking.
    fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>>;
}

/// A file that is open for reading at random places.
pub enum Source {
    Local(File),
    Remote(Box<dyn Ranges>),
}

/// The footer of a file.
pub fn footer(source: &Source, file: &str) -> Result<ArrowReaderMetadata> {
    guarded(file, || read_footer(source, file))
}

/// Runs the library on bytes that are not ours. What it does not expect can make it panic,
/// as asserts and indices of its own fail.
fn guarded<T>(file: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged(file)))
}

fn read_footer(source: &Source, file: &str) -> Result<ArrowReaderMetadata> {
    let metadata = match source {
        Source::Local(local) => ParquetMetaDataReader::new()
            .parse_and_finish(local)
            .map_err(|error| broken(file, error))?,
        Source::Remote(remote) => {
            let size = remote.size();
            let mut reader = ParquetMetaDataReader::new();
            let mut tail = TAIL.min(size);
            loop {
                let bytes = only(remote.fetch(std::slice::from_ref(&(size - tail..size)))?)?;
                match reader.try_parse_sized(&bytes, size) {
                    Ok(()) => break,
                    Err(ParquetError::NeedMoreData(needed)) if (needed as u64) > tail => {
                        tail = (needed as u64).min(size);
                    }
                    Err(error) => return Err(broken(file, error)),
                }
            }
            reader.finish().map_err(|error| broken(file, error))?
        }
    };
    let size = match source {
        Source::Local(local) => local.metadata()?.len(),
        Source::Remote(remote) => remote.size(),
    };
    let mut groups = metadata.row_groups().iter();
    let rows = groups.try_fold(0_i64, |rows, group| match is_sound(group, size) {
        true => rows.checked_add(group.num_rows()),
        false => None,
    });
    rows.ok_or_else(|| damaged(file))?;
    let metadata = Arc::new(metadata);
    let plain = ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new())
        .map_err(|error| broken(file, error))?;
    match without_int96(&plain) {
        None => Ok(plain),
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_schema(schema);
            ArrowReaderMetadata::try_new(metadata, options).map_err(|error| broken(file, error))
        }
    }
}

/// Whether a row group can be what its description says: everything in it is asked for, and
/// memory is made, in the sizes that stand there.
fn is_sound(group: &RowGroupMetaData, size: u64) -> bool {
    let is_inside = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset();
        let start = u64::try_from(start.unwrap_or_else(|| column.data_page_offset()));
        let length = u64::try_from(column.compressed_size());
        let (Ok(start), Ok(length)) = (start, length) else {
            return false;
        };
        column.uncompressed_size() >= 0 && start.checked_add(length).is_some_and(|end| end <= size)
    };
    group.num_rows() >= 0 && group.columns().iter().all(is_inside)
}

/// The schema with its INT96 timestamps in microseconds: in nanoseconds, as they are
/// read otherwise, years from 2262 on do not fit.
fn without_int96(metadata: &ArrowReaderMetadata) -> Option<SchemaRef> {
    let roots = metadata.parquet_schema().root_schema().get_fields();
    let is_int96 = |index: usize| {
        roots.get(index).is_some_and(|root| {
            root.is_primitive() && root.get_physical_type() == PhysicalType::INT96
        })
    };
    let schema = metadata.schema();
    if !(0..roots.len()).any(is_int96) {
        return None;
    }
    let fields = schema.fields().iter().enumerate().map(|(index, field)| {
        let field = field.as_ref().clone();
        match is_int96(index) {
            true => field.with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None)),
            false => field,
        }
    });
    Some(Arc::new(Schema::new(fields.collect::<Vec<Field>>())))
}

fn only(bytes: Vec<Bytes>) -> Result<Bytes> {
    bytes
        .into_iter()
        .next()
        .ok_or_else(|| Error::bug("a range was asked for and none came"))
}

fn broken(file: &str, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<Error>() {
            Ok(error) => error.while_(file),
            Err(source) => Error::data(format!("{file} cannot be read as Parquet: {source}")),
        },
        error => damaged(file).because(error),
    }
}

fn damaged(file: &str) -> Error {
    Error::data(format!("{file} cannot be read as Parquet"))
        .hint("check that the file is complete, and that its format is Parquet")
}

/// The columns of a file.
pub fn columns(metadata: &ArrowReaderMetadata) -> Vec<Column> {
    let fields = metadata.schema().fields().iter();
    fields.map(|field| types::column_of(field)).collect()
}

/// Reads some or all row groups of one file.
pub struct ParquetDecoder {
    source: Source,
    file: String,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// Per wanted column: its place among the file's columns that are read.
    places: Vec<Option<usize>>,
    columns: Vec<Column>,
    schema: SchemaRef,
    batch_bytes: usize,
    /// Row groups still to be read, last first.
    left: Vec<usize>,
    reader: Option<ParquetRecordBatchReader>,
}

impl ParquetDecoder {
    /// `groups` names the row groups to read; `None` means all.
    pub fn open(
        source: Source,
        file: &str,
        groups: Option<&[usize]>,
        wanted: &Wanted,
    ) -> Result<Self> {
        let metadata = footer(&source, file)?;
        let fields = metadata.schema().fields().clone();
        for field in &fields {
            if !wanted.known.contains(field.name()) {
                return Err(new_field(file, field.name()));
            }
        }
        let mut roots = Vec::new();
        for column in &wanted.columns {
            let Some((index, field)) = fields.find(&column.name) else {
                continue;
            };
            let found = types::logical_of(field);
            if found.widest(column.logical) != column.logical {
                return Err(Error::drift(format!(
                    "{file}, column {}: {found:?} does not fit {:?}",
                    column.name, column.logical
                ))
                .hint("refresh the connection's schemas"));
            }
            roots.push(index);
        }
        roots.sort_unstable();
        let places = wanted.columns.iter().map(|column| {
            let (index, _) = fields.find(&column.name)?;
            roots.binary_search(&index).ok()
        });
        let count = metadata.metadata().num_row_groups();
        let mut left: Vec<usize> = match groups {
            Some(groups) => groups
                .iter()
                .copied()
                .filter(|group| *group < count)
                .collect(),
            None => (0..count).collect(),
        };
        left.reverse();
        Ok(ParquetDecoder {
            places: places.collect(),
            mask: ProjectionMask::roots(metadata.parquet_schema(), roots),
            columns: wanted.columns.clone(),
            schema: arrow_schema(&wanted.columns),
            batch_bytes: wanted.batch_bytes,
            file: file.to_owned(),
            reader: None,
            metadata,
            source,
            left,
        })
    }

    fn open_group(&self, index: usize) -> Result<ParquetRecordBatchReader> {
        let group = self.metadata.metadata().row_group(index);
        let rows = self.rows_per_batch(group);
        let built = match &self.source {
            Source::Local(local) => {
                let local = local.try_clone()?;
                ParquetRecordBatchReaderBuilder::new_with_metadata(local, self.metadata.clone())
                    .with_row_groups(vec![index])
                    .with_projection(self.mask.clone())
                    .with_batch_size(rows)
                    .build()
            }
            Source::Remote(remote) => {
                let ranges = self.ranges(group);
                let bytes = remote.fetch(&ranges)?;
                let chunks = Chunks {
                    chunks: ranges.iter().map(|range| range.start).zip(bytes).collect(),
                    size: remote.size(),
                };
                ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, self.metadata.clone())
                    .with_row_groups(vec![index])
                    .with_projection(self.mask.clone())
                    .with_batch_size(rows)
                    .build()
            }
        };
        built.map_err(|error| broken(&self.file, error))
    }

    /// The bytes of the columns that are read, small neighbours joined.
    fn ranges(&self, group: &RowGroupMetaData) -> Vec<Range<u64>> {
        let read = group.columns().iter().enumerate();
        let mut ranges: Vec<Range<u64>> = read
            .filter(|(leaf, _)| self.mask.leaf_included(*leaf))
            .map(|(_, column)| {
                let (start, length) = column.byte_range();
                start..start.saturating_add(length)
            })
            .collect();
        ranges.sort_by_key(|range| range.start);
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.end == range.start && range.end - last.start <= JOINED => {
                    last.end = range.end;
                }
                _ => joined.push(range),
            }
        }
        joined
    }

    /// How many rows are about one batch. Files that tell how long their texts are
    /// without a dictionary make that a good guess.
    fn rows_per_batch(&self, group: &RowGroupMetaData) -> usize {
        let read = group.columns().iter().enumerate();
        let bytes = read
            .filter(|(leaf, _)| self.mask.leaf_included(*leaf))
            .map(|(_, column)| {
                let plain = column.unencoded_byte_array_data_bytes().unwrap_or(0);
                column.uncompressed_size().max(plain)
            })
            .fold(0, i64::saturating_add);
        let rows = usize::try_from(group.num_rows()).unwrap_or(0).max(1);
        let per_row = (usize::try_from(bytes).unwrap_or(0) / rows).max(1);
        (self.batch_bytes / per_row).clamp(1, MOST_ROWS)
    }

    fn arrange(&self, read: &RecordBatch) -> Result<Batch> {
        let mut notes = Vec::new();
        let schema = read.schema();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, place) in self.columns.iter().zip(&self.places) {
            let Some(place) = *place else {
                arrays.push(new_null_array(&column.logical.arrow(), read.num_rows()));
                continue;
            };
            let field = &schema.fields()[place];
            let adopted = types::adopt(read.column(place), field, &mut notes)
                .map_err(|error| error.while_(&self.file))?;
            let from = types::logical_of(field);
            arrays.push(types::widen(&adopted, from, column.logical, &column.name)?);
        }
        let rows = RecordBatch::try_new(self.schema.clone(), arrays).map_err(|error| {
            Error::data(format!("{}: a required column has no value", self.file)).because(error)
        })?;
        Ok(Batch {
            notes,
            ..Batch::of_rows(rows)
        })
    }
}

impl Decoder for ParquetDecoder {
    fn next(&mut self) -> Result<Option<Batch>> {
        let file = self.file.clone();
        guarded(&file, || self.read_batch())
    }
}

impl ParquetDecoder {
    fn read_batch(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(reader) = &mut self.reader {
                match reader.next() {
                    Some(Ok(read)) if read.num_rows() > 0 => return self.arrange(&read).map(Some),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => {
                        return Err(broken(&self.file, ParquetError::from(error)));
                    }
                    None => self.reader = None,
                }
            }
            let Some(group) = self.left.pop() else {
                return Ok(None);
            };
            self.reader = Some(self.open_group(group)?);
        }
    }
}

/// Parts of a file that have been fetched.
struct Chunks {
    chunks: Vec<(u64, Bytes)>,
    size: u64,
}

impl Chunks {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let chunk = self.chunks.iter().find_map(|(begin, bytes)| {
            let offset = usize::try_from(start.checked_sub(*begin)?).ok()?;
            (offset <= bytes.len()).then(|| bytes.slice(offset..))
        });
        chunk.ok_or_else(|| ParquetError::EOF(format!("nothing was fetched at {start}")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start}")));
        }
        Ok(bytes.slice(..length))
    }
}
