//! The rows of a table from COPY's binary format into Arrow batches. Nothing is taken
//! on trust: every length is checked, and a stream may be cut anywhere.

use std::{collections::VecDeque, mem};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use tideway_core::{Batch, Column, Error, Result, schema::arrow_schema};

use super::column::ColumnDecoder;
use crate::types::Wire;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Flags that a reader must understand; there is one, for object ids, long gone.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
/// The header may be longer than we know of, but not by much.
const MAX_HEADER_EXTENSION: i32 = 1 << 16;

/// Takes a COPY stream apart.
pub trait Unpack: Send {
    type Rows: Send;

    /// Takes the next piece of the stream, cut anywhere.
    fn push(&mut self, piece: Bytes) -> Result<()>;

    /// The next rows that are ready to go on.
    fn take(&mut self) -> Option<Self::Rows>;

    /// The stream has ended: the last rows, if there are any. Ready for another stream.
    ///
    /// # Errors
    /// `Unavailable` where the stream stopped before its end.
    fn finish(&mut self) -> Result<Option<Self::Rows>>;
}

/// Decodes one COPY stream.
pub struct CopyDecoder {
    schema: SchemaRef,
    columns: Vec<ColumnDecoder>,
    batch_bytes: usize,
    place: Place,
    /// The beginning of a header or row whose end has not arrived.
    rest: Vec<u8>,
    /// Of the batch being filled.
    row_count: usize,
    byte_count: usize,
    ready: VecDeque<Batch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Header,
    Rows,
    End,
}

impl Unpack for CopyDecoder {
    type Rows = Batch;

    fn push(&mut self, piece: Bytes) -> Result<()> {
        if self.rest.is_empty() {
            let used = self.consume(&piece)?;
            self.rest
                .extend_from_slice(piece.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut rest = mem::take(&mut self.rest);
        rest.extend_from_slice(&piece);
        let used = self.consume(&rest)?;
        rest.drain(..used);
        self.rest = rest;
        Ok(())
    }

    fn take(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    fn finish(&mut self) -> Result<Option<Batch>> {
        if self.place != Place::End || !self.rest.is_empty() {
            return Err(cut_short());
        }
        self.place = Place::Header;
        self.flush()?;
        Ok(self.ready.pop_front())
    }
}

impl CopyDecoder {
    /// `wires` says how each of `columns` is sent.
    pub fn new(columns: &[Column], wires: &[Wire], batch_bytes: usize) -> Self {
        let decoders = columns.iter().zip(wires);
        CopyDecoder {
            schema: arrow_schema(columns),
            columns: decoders
                .map(|(column, wire)| ColumnDecoder::new(&column.name, column.nullable, *wire))
                .collect(),
            batch_bytes,
            place: Place::Header,
            rest: Vec::new(),
            row_count: 0,
            byte_count: 0,
            ready: VecDeque::new(),
        }
    }

    /// Decodes what is complete in `bytes`; gives how much that was.
    fn consume(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut rest = bytes;
        loop {
            let next = match self.place {
                Place::Header => {
                    let rows = header(rest)?;
                    if rows.is_some() {
                        self.place = Place::Rows;
                    }
                    rows
                }
                Place::Rows => self.row(rest)?,
                Place::End if rest.is_empty() => None,
                Place::End => return Err(damaged("there is more behind its end")),
            };
            match next {
                Some(tail) => rest = tail,
                None => return Ok(bytes.len() - rest.len()),
            }
        }
    }

    /// What follows the next row, once all of it is there.
    fn row<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>> {
        let fields = match next(bytes, self.columns.len())? {
            Some(Next::Row(fields)) => fields,
            Some(Next::End(rest)) => {
                self.place = Place::End;
                return Ok(Some(rest));
            }
            None => return Ok(None),
        };
        let Some(size) = row_size(fields, self.columns.len())? else {
            return Ok(None);
        };
        if self.row_count > 0 && self.byte_count.saturating_add(size) > self.batch_bytes {
            self.flush()?;
        }
        let mut rest = fields;
        for column in &mut self.columns {
            let Some((value, tail)) = field(rest)? else {
                return Err(damaged("a field is not as long as it was"));
            };
            self.byte_count = self.byte_count.saturating_add(column.push(value)?);
            rest = tail;
        }
        self.row_count += 1;
        if self.byte_count >= self.batch_bytes {
            self.flush()?;
        }
        Ok(Some(rest))
    }

    fn flush(&mut self) -> Result<()> {
        if self.row_count == 0 {
            return Ok(());
        }
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut notes = Vec::new();
        for column in &mut self.columns {
            let (array, of_column) = column.finish()?;
            arrays.push(array);
            notes.extend(of_column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.row_count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            // The words name the column; no array is made with a wrong type or length.
            .map_err(|error| {
                Error::data(format!("the rows are not as the table promises: {error}"))
            })?;
        self.ready.push_back(Batch {
            notes,
            ..Batch::of_rows(rows)
        });
        self.row_count = 0;
        self.byte_count = 0;
        Ok(())
    }
}

/// What follows the header, once all of it is there.
pub fn header(bytes: &[u8]) -> Result<Option<&[u8]>> {
    let Some((signature, rest)) = bytes.split_first_chunk::<11>() else {
        return Ok(None);
    };
    if signature != SIGNATURE {
        return Err(damaged("it does not begin as a binary COPY does"));
    }
    let Some((flags, rest)) = rest.split_first_chunk::<4>() else {
        return Ok(None);
    };
    if u32::from_be_bytes(*flags) & CRITICAL_FLAGS != 0 {
        return Err(damaged("it is of a newer format"));
    }
    let Some((length, rest)) = int(rest) else {
        return Ok(None);
    };
    let length = Some(length)
        .filter(|length| *length <= MAX_HEADER_EXTENSION)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| damaged("its header has no sensible length"))?;
    Ok(rest.get(length..))
}

/// What begins with the next row.
pub enum Next<'a> {
    /// Its fields, of which something may be missing.
    Row(&'a [u8]),
    /// Nothing: what follows is behind the end.
    End(&'a [u8]),
}

/// The next row of `width` fields, or the end, once its first bytes are there.
pub fn next(bytes: &[u8], width: usize) -> Result<Option<Next<'_>>> {
    let Some((count, fields)) = bytes.split_first_chunk::<2>() else {
        return Ok(None);
    };
    match i16::from_be_bytes(*count) {
        -1 => Ok(Some(Next::End(fields))),
        count if usize::try_from(count) == Ok(width) => Ok(Some(Next::Row(fields))),
        _ => Err(damaged("a row has another number of fields")),
    }
}

fn int(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (int, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*int), rest))
}

/// A field and what follows it; `None` while part of it is missing.
#[allow(clippy::type_complexity)]
pub fn field(bytes: &[u8]) -> Result<Option<(Option<&[u8]>, &[u8])>> {
    let Some((length, rest)) = int(bytes) else {
        return Ok(None);
    };
    if length == -1 {
        return Ok(Some((None, rest)));
    }
    let length = usize::try_from(length).map_err(|_| damaged("a field has no sensible length"))?;
    let field = rest.split_at_checked(length);
    Ok(field.map(|(value, rest)| (Some(value), rest)))
}

/// Bytes of `count` fields, once all of them are there.
pub fn row_size(fields: &[u8], count: usize) -> Result<Option<usize>> {
    let mut rest = fields;
    for _ in 0..count {
        match field(rest)? {
            Some((_, tail)) => rest = tail,
            None => return Ok(None),
        }
    }
    Ok(Some(fields.len() - rest.len()))
}

pub fn cut_short() -> Error {
    Error::unavailable("the server stopped in the middle of a table")
}

pub fn damaged(how: &str) -> Error {
    Error::data(format!("the server's COPY stream is damaged: {how}"))
        .hint("check what stands between this machine and the server, and the server's version")
}

#[cfg(test)]
mod tests;
