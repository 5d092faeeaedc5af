//! Writing Parquet with a bound on what is held: a row group has to be in memory as a whole
//! before the first byte of it can go.

use std::{
    io::Write,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression as Codec, GzipLevel, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
};
use tideway_core::{Column, Error, Result};

use crate::{compression::Compression, format::Encoder, types};

/// What the row groups that are being filled may hold, all files together; each file has an
/// equal share of it.
const ROW_GROUPS_BYTES: usize = 48 << 20;
/// A share is not smaller, however many files are being written: tiny row groups are slow to
/// read.
const LEAST_SHARE: usize = 4 << 20;
const MOST_SHARE: usize = 24 << 20;
const ROW_GROUP_ROWS: usize = 1 << 20;
/// A column with more than this of different values is better off without a dictionary, and
/// so is our memory.
const DICTIONARY_BYTES: usize = 256 << 10;
/// Of a table with more columns none has a dictionary: an empty one takes memory, too.
const MOST_DICTIONARIES: usize = 400;
/// Pages, before they are packed. Each column holds one that is not full.
const PAGE_BYTES: usize = 256 << 10;
/// What is written comes out in pieces of this size.
const BLOCK_BYTES: usize = 512 << 10;

/// Files that are being written in this process.
static OPEN_FILES: AtomicUsize = AtomicUsize::new(0);

/// Writes row groups as large as memory allows.
pub struct ParquetEncoder {
    writer: ArrowWriter<Blocks>,
    schema: SchemaRef,
    _open: Open,
}

/// Counts as an open file for as long as it lives.
struct Open;

impl Open {
    fn new() -> Open {
        OPEN_FILES.fetch_add(1, Relaxed);
        Open
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN_FILES.fetch_sub(1, Relaxed);
    }
}

impl ParquetEncoder {
    pub fn new(columns: &[Column], compression: Option<Compression>) -> Result<Self> {
        let codec = match compression {
            Some(Compression::None) => Codec::UNCOMPRESSED,
            Some(Compression::Gzip) => Codec::GZIP(GzipLevel::default()),
            // The lowest level: further ones cost more time than they save bytes.
            None | Some(Compression::Zstd) => Codec::ZSTD(ZstdLevel::try_new(1).map_err(writing)?),
        };
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_created_by(concat!("tideway ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_dictionary_enabled(columns.len() <= MOST_DICTIONARIES)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .build();
        let fields: Vec<Field> = columns.iter().map(types::parquet_field).collect();
        let schema = Arc::new(Schema::new(fields));
        let writer = ArrowWriter::try_new(Blocks::default(), schema.clone(), Some(properties));
        Ok(ParquetEncoder {
            writer: writer.map_err(writing)?,
            schema,
            _open: Open::new(),
        })
    }
}

/// The bytes that a row group may hold while so many files are being written.
fn share(files: usize) -> usize {
    (ROW_GROUPS_BYTES / files.max(1)).clamp(LEAST_SHARE, MOST_SHARE)
}

fn writing(error: ParquetError) -> Error {
    Error::data("the rows cannot be written as Parquet").because(error)
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        // The same columns, under the fields with extension names.
        let rows = RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())
            .map_err(|error| Error::bug(format!("rows for a Parquet file: {error}")))?;
        self.writer.write(&rows).map_err(writing)?;
        if self.writer.memory_size() >= share(OPEN_FILES.load(Relaxed)) {
            self.writer.flush().map_err(writing)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<Bytes> {
        // Memory does not fail to take what is buffered before it.
        let _ = self.writer.sync();
        self.writer.inner_mut().take()
    }

    fn finish(self: Box<Self>) -> Result<Vec<Bytes>> {
        let mut blocks = self.writer.into_inner().map_err(writing)?;
        Ok(blocks.take())
    }
}

/// Takes bytes in blocks, so that none is moved because more come.
#[derive(Default)]
struct Blocks {
    full: Vec<Bytes>,
    open: Vec<u8>,
}

impl Blocks {
    fn take(&mut self) -> Vec<Bytes> {
        let mut blocks = mem::take(&mut self.full);
        if !self.open.is_empty() {
            blocks.push(mem::take(&mut self.open).into());
        }
        blocks
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.open.capacity() == 0 {
            self.open.reserve_exact(BLOCK_BYTES);
        }
        let (now, _) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.open.len()));
        self.open.extend_from_slice(now);
        if self.open.len() == BLOCK_BYTES {
            self.full.push(mem::take(&mut self.open).into());
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, StringArray};
    use tideway_core::LogicalType;

    use super::*;

    #[test]
    fn shares_add_up_to_what_row_groups_may_hold() {
        for files in 0..=12 {
            assert!(share(files) * files <= ROW_GROUPS_BYTES, "{files}");
        }
        assert_eq!(share(1000), LEAST_SHARE);
    }

    #[test]
    fn bytes_come_out_in_order_and_in_pieces_of_one_size() {
        let bytes: Vec<u8> = (0..BLOCK_BYTES * 2 + 7).map(|at| (at / 3) as u8).collect();
        let mut blocks = Blocks::default();
        for piece in bytes.chunks(100_000) {
            blocks.write_all(piece).unwrap();
        }
        let taken = blocks.take();
        let sizes: Vec<usize> = taken.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [BLOCK_BYTES, BLOCK_BYTES, 7]);
        assert_eq!(taken.concat(), bytes);
        assert!(blocks.take().is_empty());
    }

    /// Texts that do not pack, in many columns, so that what waits in pages and dictionaries
    /// counts as well.
    #[test]
    fn a_wide_table_of_large_texts_stays_within_its_share() {
        let names: Vec<String> = (0..40).map(|at| format!("c{at}")).collect();
        let columns: Vec<Column> = names
            .iter()
            .map(|name| Column::new(name, LogicalType::Text))
            .collect();
        let mut encoder = ParquetEncoder::new(&columns, None).unwrap();
        let mut state = 1_u64;
        let mut text = move || -> String {
            let letters = (0..500).map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + (state >> 33) as u8 % 90)
            });
            letters.collect()
        };
        let mut most = 0;
        for _ in 0..40 {
            let arrays = columns.iter().map(|_| {
                let texts: StringArray = (0..100).map(|_| Some(text())).collect();
                Arc::new(texts) as ArrayRef
            });
            let arrays = arrays.collect();
            let rows = RecordBatch::try_new(encoder.schema.clone(), arrays).unwrap();
            encoder.write(&rows).unwrap();
            most = most.max(encoder.writer.memory_size());
            encoder.take();
        }
        assert!(most < MOST_SHARE, "{most}");
        let groups = encoder.writer.flushed_row_groups().len();
        assert!(groups >= 2, "{groups}");
    }
}
