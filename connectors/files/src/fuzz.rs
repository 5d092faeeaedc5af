//! Bytes as foreign files may hold them, into the readers. What must hold whatever the bytes
//! are is asserted; a panic is a finding. The folder `fuzz/` makes up the bytes, and the test
//! below holds those that are kept there to the same.

use std::{io::Read, ops::Range};

use bytes::Bytes;
use tideway_core::{Batch, Column, Error, Result};

use crate::{
    compression::{Compression, unpacked},
    format::{
        Decoder, Encoder, Input, Wanted,
        csv::{self, CsvDecoder, CsvEncoder, Dialect},
        infer::Sightings,
        json::{self, JsonDecoder, JsonEncoder},
        parquet::{self, ParquetDecoder, Ranges, Source},
    },
};

/// A whole file in one batch, so that batches can be compared.
const ONE_BATCH: usize = 1 << 30;

/// A CSV file, packed or not. The first byte says how it is laid out, the second in which
/// pieces it is read.
///
/// A file that was looked at from end to end can be read, whatever the pieces, and comes back
/// the same after being written.
pub fn csv(input: &[u8]) {
    let [layout, cuts, file @ ..] = input else {
        return;
    };
    let dialect = Dialect {
        delimiter: if layout & 1 == 0 { b',' } else { b'\t' },
        has_headers: layout & 2 == 0,
        skip_lines: u64::from(layout >> 2 & 1),
    };
    let Some((bytes, found)) = look(file, |input| csv::infer(input, "f", dialect, u64::MAX)) else {
        return;
    };
    let columns = columns(&found, false);
    let read = |input, dialect, own| {
        let mut decoder = CsvDecoder::open(input, "f", dialect, &wanted(&columns, own))?;
        all(&mut decoder)
    };
    let rows = read(whole(&bytes), dialect, false).expect("what was looked at can be read");
    assert_eq!(count(&rows), found.rows);
    let cut = read(pieces(&bytes, *cuts), dialect, false).expect("in pieces as well");
    assert_same(&rows, &cut);

    let Some(batch) = rows.first() else { return };
    let encoder = CsvEncoder::new(&columns, Compression::None).expect("columns of a file");
    let own = Dialect {
        delimiter: b',',
        has_headers: true,
        skip_lines: 0,
    };
    let written = written(Box::new(encoder), batch);
    let again = read(whole(&written), own, true).expect("what was written can be read");
    assert_same(&rows, &again);
}

/// A JSON file, packed or not. The first byte says in which pieces it is read.
///
/// The same holds as for CSV.
pub fn json(input: &[u8]) {
    let [cuts, file @ ..] = input else { return };
    let Some((bytes, found)) = look(file, |input| json::infer(input, "f", u64::MAX)) else {
        return;
    };
    let columns = columns(&found, true);
    let read = |input, own| {
        let mut decoder = JsonDecoder::open(input, "f", &wanted(&columns, own))?;
        all(&mut decoder)
    };
    if columns.is_empty() {
        return;
    }
    let rows = read(whole(&bytes), false).expect("what was looked at can be read");
    assert_eq!(count(&rows), found.rows);
    let cut = read(pieces(&bytes, *cuts), false).expect("in pieces as well");
    assert_same(&rows, &cut);

    let Some(batch) = rows.first() else { return };
    let encoder = JsonEncoder::new(&columns, Compression::None).expect("columns of a file");
    let written = written(Box::new(encoder), batch);
    let again = read(whole(&written), true).expect("what was written can be read");
    assert_same(&rows, &again);
}

/// A Parquet file. What the reader's library trips over is an error of the file.
pub fn parquet(file: &[u8]) {
    let source = || Source::Remote(Box::new(Memory(Bytes::copy_from_slice(file))));
    let Ok(footer) = parquet::footer(&source(), "f") else {
        return;
    };
    let columns = parquet::columns(&footer);
    let wanted = wanted(&columns, false);
    if let Ok(mut decoder) = ParquetDecoder::open(source(), "f", None, &wanted)
        && let Ok(rows) = all(&mut decoder)
    {
        let groups = footer.metadata().row_groups().iter();
        let told: i64 = groups.map(|group| group.num_rows()).sum();
        assert_eq!(count(&rows) as i64, told, "rows");
    }
}

struct Memory(Bytes);

impl Ranges for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn fetch(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let slice = |range: &Range<u64>| {
            let (start, end) = (range.start as usize, range.end as usize);
            let inside = start <= end && end <= self.0.len();
            inside.then(|| self.0.slice(start..end))
        };
        let slices = ranges.iter().map(slice);
        slices
            .collect::<Option<_>>()
            .ok_or_else(|| Error::data("beyond the end"))
    }
}

/// The unpacked file, and what it holds; nothing where it is refused.
fn look(
    file: &[u8],
    infer: impl FnOnce(Input) -> Result<Sightings>,
) -> Option<(Vec<u8>, Sightings)> {
    const MOST: u64 = 1 << 20;
    let mut bytes = Vec::new();
    let unpacked = unpacked(whole(file)).ok()?;
    unpacked.take(MOST).read_to_end(&mut bytes).ok()?;
    let found = infer(whole(&bytes)).ok()?;
    assert!(found.whole);
    Some((bytes, found))
}

fn columns(found: &Sightings, floats: bool) -> Vec<Column> {
    let columns = found.columns.iter();
    columns
        .map(|(name, seen)| Column::new(name, seen.logical(floats)))
        .collect()
}

fn wanted(columns: &[Column], own: bool) -> Wanted {
    Wanted {
        columns: columns.to_vec(),
        known: columns.iter().map(|column| column.name.clone()).collect(),
        batch_bytes: ONE_BATCH,
        own,
    }
}

fn all(decoder: &mut dyn Decoder) -> Result<Vec<Batch>> {
    std::iter::from_fn(|| decoder.next().transpose()).collect()
}

fn count(batches: &[Batch]) -> u64 {
    batches.iter().map(|batch| batch.row_count() as u64).sum()
}

fn assert_same(these: &[Batch], those: &[Batch]) {
    assert_eq!(these.len(), those.len(), "batches");
    for (this, that) in these.iter().zip(those) {
        assert_eq!(this.rows, that.rows);
    }
}

fn written(mut encoder: Box<dyn Encoder>, batch: &Batch) -> Vec<u8> {
    encoder.write(&batch.rows).expect("rows can be written");
    let mut pieces = encoder.take();
    pieces.extend(encoder.finish().expect("a file can be ended"));
    pieces.concat()
}

fn whole(bytes: &[u8]) -> Input {
    Box::new(std::io::Cursor::new(bytes.to_vec()))
}

fn pieces(bytes: &[u8], seed: u8) -> Input {
    Box::new(Pieces {
        bytes: Bytes::copy_from_slice(bytes),
        state: seed.into(),
    })
}

/// Gives a few bytes at a time, as many each time as a seed says.
struct Pieces {
    bytes: Bytes,
    state: u32,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.state = self.state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let most = (self.state >> 16) as usize % 61 + 1;
        let length = most.min(buffer.len()).min(self.bytes.len());
        buffer[..length].copy_from_slice(&self.bytes.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs every input that is kept for a target; there is one at least.
    fn hold(target: &str, run: fn(&[u8])) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
        let kept = std::fs::read_dir(format!("{folder}/{target}")).unwrap();
        let kept: Vec<_> = kept.map(|entry| entry.unwrap().path()).collect();
        assert!(!kept.is_empty());
        for path in kept {
            run(&std::fs::read(path).unwrap());
        }
    }

    #[test]
    fn kept_inputs_hold() {
        hold("files_csv", csv);
        hold("files_json", json);
        hold("files_parquet", parquet);
    }
}
