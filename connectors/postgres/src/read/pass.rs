//! The rows of a table as they come, in COPY's binary format, for a destination that takes
//! them so. They are counted on the way, field by field, so that what has arrived can be
//! compared with what was sent; nothing in them is looked at.

use std::{collections::VecDeque, mem};

use bytes::{Buf, Bytes, BytesMut};
use tideway_core::{LogicalType, Payload, Result, payload::Format, source::Read, sums::Sums};

use super::{
    decode::{self, Next, Place, Unpack, cut_short, damaged, field, row_size},
    snapshot::PostgresSnapshot,
};
use crate::types::{COPY, sent_as};

/// Rows are handed on when about so many bytes have come together: enough to forget the cost
/// of handing on, little enough to stay in the processor's cache.
const CHUNK: usize = 256 << 10;

/// How the rows can be had undecoded, if they can.
pub async fn formats(snapshot: &PostgresSnapshot, read: &Read) -> Result<Vec<Format>> {
    let relation = snapshot.relation(&read.table.id).await?;
    // Whether the columns are still those that were discovered.
    relation.readings(&read.columns)?;
    if relation.passing(&read.columns)?.is_none() {
        return Ok(Vec::new());
    }
    // A database in SQL_ASCII holds whatever it was given, which need not be text at all.
    let of_text = |logical: LogicalType| matches!(logical, LogicalType::Text | LogicalType::Json);
    if read.columns.iter().any(|column| of_text(column.logical)) && !snapshot.encodes_text().await?
    {
        return Ok(Vec::new());
    }
    let version = snapshot.holder.version;
    let columns = read.columns.iter();
    Ok(vec![Format {
        name: COPY,
        columns: columns
            .map(|column| sent_as(column.logical, version))
            .collect(),
    }])
}

/// Adds whole rows of so many fields up. A field goes in with its length, which a null has too.
pub fn add_up(rows: &[u8], width: usize, sums: &mut Sums) -> Result<()> {
    let mut rest = rows;
    while !rest.is_empty() {
        let Some(Next::Row(fields)) = decode::next(rest, width)? else {
            return Err(damaged("a row is not whole"));
        };
        let mut tail = fields;
        for column in 0..width {
            let Some((_, behind)) = field(tail)? else {
                return Err(damaged("a row is not whole"));
            };
            let (cell, _) = tail.split_at(tail.len() - behind.len());
            sums.add_cell(column, cell);
            tail = behind;
        }
        let (row, behind) = fields.split_at(fields.len() - tail.len());
        sums.add_row(row);
        rest = behind;
    }
    Ok(())
}

/// Cuts COPY streams into whole rows, without what stands before the first and behind the
/// last of each.
pub struct CopyCutter {
    width: usize,
    place: Place,
    /// What has come, from the first row on that was not handed on.
    buffer: BytesMut,
    /// How far rows are whole in it, and how many there are.
    whole: usize,
    row_count: u64,
    ready: VecDeque<Payload>,
}

impl CopyCutter {
    /// For rows of so many fields.
    pub fn new(width: usize) -> Self {
        CopyCutter {
            width,
            place: Place::Header,
            buffer: BytesMut::with_capacity(CHUNK + CHUNK / 8),
            whole: 0,
            row_count: 0,
            ready: VecDeque::new(),
        }
    }

    /// Goes on from where rows were whole.
    fn walk(&mut self) -> Result<()> {
        if self.place == Place::Header {
            let size = self.buffer.len();
            let Some(rest) = decode::header(&self.buffer)? else {
                return Ok(());
            };
            let rest = rest.len();
            self.buffer.advance(size - rest);
            self.place = Place::Rows;
        }
        while self.place == Place::Rows {
            let rest = self.buffer.get(self.whole..).unwrap_or_default();
            match decode::next(rest, self.width)? {
                Some(Next::Row(fields)) => {
                    let Some(size) = row_size(fields, self.width)? else {
                        return Ok(());
                    };
                    self.whole += rest.len() - fields.len() + size;
                    self.row_count += 1;
                }
                Some(Next::End(behind)) => {
                    if !behind.is_empty() {
                        return Err(damaged("there is more behind its end"));
                    }
                    self.buffer.truncate(self.whole);
                    self.place = Place::End;
                }
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        let row_count = mem::take(&mut self.row_count);
        if row_count == 0 {
            return;
        }
        let bytes = self.buffer.split_to(mem::take(&mut self.whole)).freeze();
        self.ready.push_back(Payload { bytes, row_count });
        self.buffer.reserve(CHUNK + CHUNK / 8);
    }
}

impl Unpack for CopyCutter {
    type Rows = Payload;

    fn push(&mut self, piece: Bytes) -> Result<()> {
        if self.place == Place::End {
            return Err(damaged("there is more behind its end"));
        }
        self.buffer.extend_from_slice(&piece);
        self.walk()?;
        if self.whole >= CHUNK {
            self.flush();
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Payload> {
        self.ready.pop_front()
    }

    fn finish(&mut self) -> Result<Option<Payload>> {
        if self.place != Place::End {
            return Err(cut_short());
        }
        self.place = Place::Header;
        self.flush();
        Ok(self.ready.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(rows: &[Vec<Option<Vec<u8>>>]) -> (Vec<u8>, Vec<u8>) {
        let mut body = Vec::new();
        for row in rows {
            body.extend((row.len() as i16).to_be_bytes());
            for field in row {
                match field {
                    None => body.extend((-1_i32).to_be_bytes()),
                    Some(bytes) => {
                        body.extend((bytes.len() as i32).to_be_bytes());
                        body.extend(bytes);
                    }
                }
            }
        }
        let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        stream.extend(&body);
        stream.extend((-1_i16).to_be_bytes());
        (stream, body)
    }

    fn cut(cutter: &mut CopyCutter, stream: &[u8], pieces: usize) -> Result<(u64, Vec<u8>)> {
        let (mut rows, mut bytes) = (0, Vec::new());
        let mut take = |payload: Payload| {
            rows += payload.row_count;
            bytes.extend_from_slice(&payload.bytes);
        };
        for piece in stream.chunks(pieces) {
            cutter.push(Bytes::copy_from_slice(piece))?;
            while let Some(payload) = cutter.take() {
                take(payload);
            }
        }
        if let Some(payload) = cutter.finish()? {
            take(payload);
        }
        Ok((rows, bytes))
    }

    proptest! {
        #[test]
        fn rows_are_counted_and_come_out_as_they_went_in(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 3), 0..30),
            pieces in 1_usize..200,
        ) {
            let (stream, body) = stream(&rows);
            let mut cutter = CopyCutter::new(3);
            // One cutter takes stream after stream.
            for _ in 0..2 {
                let (count, bytes) = cut(&mut cutter, &stream, pieces).unwrap();
                prop_assert_eq!(count, rows.len() as u64);
                prop_assert_eq!(&bytes, &body);
            }
        }

        #[test]
        fn what_is_cut_short_or_damaged_is_refused(
            keep in 0_usize..200, bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let row = vec![Some(vec![7; 30]), None, Some(vec![0; 100])];
            let (stream, _) = stream(&[row]);
            let cut_off = &stream[..keep.min(stream.len() - 1)];
            prop_assert!(cut(&mut CopyCutter::new(3), cut_off, 16).is_err());
            let _ = cut(&mut CopyCutter::new(3), &bytes, 7);
            let mut longer = stream.clone();
            longer.extend(bytes.iter().chain([&0]));
            prop_assert!(cut(&mut CopyCutter::new(3), &longer, 16).is_err());
        }
    }

    #[test]
    fn large_streams_come_in_chunks() {
        let rows = vec![vec![Some(vec![1; 100])]; 10_000];
        let (stream, body) = stream(&rows);
        let mut cutter = CopyCutter::new(1);
        let mut sizes = Vec::new();
        for piece in stream.chunks(4096) {
            cutter.push(Bytes::copy_from_slice(piece)).unwrap();
            sizes.extend(std::iter::from_fn(|| cutter.take()).map(|payload| payload.byte_count()));
        }
        assert!(
            sizes
                .iter()
                .all(|size| (CHUNK..CHUNK + 4096 + 106).contains(size)),
            "{sizes:?}"
        );
        let last = cutter.finish().unwrap().unwrap();
        assert_eq!(sizes.iter().sum::<usize>() + last.byte_count(), body.len());
    }
}
