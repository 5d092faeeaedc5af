//! The events of the binary log, as the server sends them to a replica. Nothing in them is
//! taken on trust.

use std::io::Read;

use tideway_core::{Error, Result};

use crate::{
    connect::{Fields, damaged},
    sql,
};

const HEADER: usize = 19;
const CHECKSUM: usize = 4;
/// The server made it up for whoever reads; it is not in the log.
const ARTIFICIAL: u16 = 0x20;
/// What a server holds in one packet at most; nothing that is packed can be larger.
const MOST_BYTES: u64 = 1 << 30;

/// One event, its checksum looked at and taken off.
pub struct Event<'a> {
    /// Seconds since 1970.
    pub at: u32,
    pub code: u8,
    /// The number of the server that wrote it first.
    pub server: u32,
    /// Bytes in the log.
    pub size: u32,
    /// Where it ends in its file, modulo 2³².
    pub end: u32,
    pub artificial: bool,
    pub body: &'a [u8],
}

impl<'a> Event<'a> {
    /// `checked`: whether a checksum stands at its end.
    pub fn parse(bytes: &'a [u8], checked: bool) -> Result<Event<'a>> {
        let mut fields = Fields(bytes);
        let at = fields.u32()?;
        let code = fields.byte()?;
        let server = fields.u32()?;
        let (size, end, flags) = (fields.u32()?, fields.u32()?, fields.u16()?);
        if usize::try_from(size) != Ok(bytes.len()) {
            return Err(damaged());
        }
        let mut body = fields.0;
        if checked {
            let (whole, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(damaged)?;
            let mut crc = flate2::Crc::new();
            crc.update(whole);
            if crc.sum() != u32::from_le_bytes(*sum) {
                return Err(
                    Error::data("an event of the binary log has a wrong checksum")
                        .hint("the log is damaged on its way or on the server's disk"),
                );
            }
            body = whole.get(HEADER..).ok_or_else(damaged)?;
        }
        Ok(Event {
            at,
            code,
            server,
            size,
            end,
            artificial: flags & ARTIFICIAL != 0,
            body,
        })
    }
}

/// What is known by its number.
pub mod code {
    pub const QUERY: u8 = 2;
    pub const ROTATE: u8 = 4;
    pub const FORMAT: u8 = 15;
    pub const XID: u8 = 16;
    pub const TABLE_MAP: u8 = 19;
    pub const HEARTBEAT: u8 = 27;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE: u8 = 39;
    pub const PAYLOAD: u8 = 40;
    pub const TAGGED_GTID: u8 = 42;
    pub const MARIADB_GTID: u8 = 162;
    pub const COMPRESSED_QUERY: u8 = 165;
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKind {
    Insert,
    Update,
    Delete,
}

/// Whether an event holds rows: of what kind, in which version, and packed or not.
pub fn rows_kind(code: u8) -> Option<(RowsKind, bool, bool)> {
    use RowsKind::*;
    Some(match code {
        23 => (Insert, false, false),
        24 => (Update, false, false),
        25 => (Delete, false, false),
        30 => (Insert, true, false),
        31 => (Update, true, false),
        32 => (Delete, true, false),
        166 => (Insert, false, true),
        167 => (Update, false, true),
        168 => (Delete, false, true),
        169 => (Insert, true, true),
        170 => (Update, true, true),
        171 => (Delete, true, true),
        _ => return None,
    })
}

/// Whether events carry checksums, as the description of the log's format tells.
pub fn has_checksums(bytes: &[u8]) -> Result<bool> {
    // Version, server, time of making, the length of a header.
    let mut fields = Fields(bytes);
    fields.bytes(HEADER + 2 + 50 + 4)?;
    if usize::from(fields.byte()?) != HEADER {
        return Err(Error::unsupported(
            "the binary log is of a form that is not known",
        ));
    }
    // What it says of itself always has room for a checksum.
    let Some((front, _)) = fields.0.split_last_chunk::<CHECKSUM>() else {
        return Ok(false);
    };
    Ok(front.last() == Some(&1))
}

/// The file that comes next, and where in it.
pub fn rotate(body: &[u8]) -> Result<(String, u64)> {
    let mut fields = Fields(body);
    let at = u64::from_le_bytes(fields.array()?);
    let file = std::str::from_utf8(fields.0).map_err(|_| damaged())?;
    Ok((file.trim_end_matches('\0').to_owned(), at))
}

/// How MariaDB begins a transaction.
pub struct MariaDbBegin {
    /// It is one statement, and nothing ends it.
    pub alone: bool,
    /// It is prepared only, under this name.
    pub prepares: Option<String>,
}

impl MariaDbBegin {
    pub fn parse(body: &[u8]) -> Result<MariaDbBegin> {
        const ALONE: u8 = 1;
        const GROUPED: u8 = 2;
        const PREPARED: u8 = 64;
        let mut fields = Fields(body);
        // Its number, and the domain that it counts in.
        fields.bytes(8 + 4)?;
        let flags = fields.byte()?;
        if flags & GROUPED != 0 {
            fields.bytes(8)?;
        }
        let mut prepares = None;
        if flags & PREPARED != 0 {
            let form = fields.u32()?;
            let (first, second) = (fields.byte()?, fields.byte()?);
            let (first, second) = (fields.bytes(first.into())?, fields.bytes(second.into())?);
            // As the statement that commits it spells it.
            let (first, second) = (sql::binary(first), sql::binary(second));
            prepares = Some(format!("{first},{second},{form}"));
        }
        Ok(MariaDbBegin {
            alone: flags & ALONE != 0,
            prepares,
        })
    }
}

/// A statement, and the database that it was run in.
pub struct Query {
    pub database: String,
    pub statement: String,
}

pub fn query(body: &[u8], packed: bool) -> Result<Query> {
    let mut fields = Fields(body);
    fields.bytes(4 + 4)?;
    let database = usize::from(fields.byte()?);
    fields.u16()?;
    let variables = usize::from(fields.u16()?);
    fields.bytes(variables)?;
    let database = String::from_utf8_lossy(fields.bytes(database)?).into_owned();
    fields.byte()?;
    let statement = match packed {
        true => String::from_utf8_lossy(&unpacked(fields.0)?).into_owned(),
        false => String::from_utf8_lossy(fields.0).into_owned(),
    };
    Ok(Query {
        database,
        statement,
    })
}

/// The rows of one statement in one table.
pub struct Rows<'a> {
    pub kind: RowsKind,
    pub table: u64,
    pub width: usize,
    /// Which columns are told of a row: as it was, and as it is.
    pub before: &'a [u8],
    pub after: &'a [u8],
    pub data: std::borrow::Cow<'a, [u8]>,
}

impl<'a> Rows<'a> {
    pub fn parse(
        body: &'a [u8],
        (kind, extended, packed): (RowsKind, bool, bool),
    ) -> Result<Rows<'a>> {
        let mut fields = Fields(body);
        let table = table_number(&mut fields)?;
        fields.u16()?;
        if extended {
            let length = usize::from(fields.u16()?);
            fields.bytes(length.checked_sub(2).ok_or_else(damaged)?)?;
        }
        let width = count(&mut fields)?;
        let first = fields.bytes(width.div_ceil(8))?;
        let (before, after) = match kind {
            RowsKind::Insert => (&[][..], first),
            RowsKind::Delete => (first, &[][..]),
            RowsKind::Update => (first, fields.bytes(width.div_ceil(8))?),
        };
        let data = match packed {
            true => unpacked(fields.0)?.into(),
            false => fields.0.into(),
        };
        Ok(Rows {
            kind,
            table,
            width,
            before,
            after,
            data,
        })
    }
}

pub fn table_number(fields: &mut Fields<'_>) -> Result<u64> {
    let [a, b, c, d, e, f] = fields.array()?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

/// A count of columns; a table has a few thousand at most.
pub fn count(fields: &mut Fields<'_>) -> Result<usize> {
    let count = fields.length()?.ok_or_else(damaged)?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= 1 << 16)
        .ok_or_else(damaged)
}

/// MariaDB's way of packing a part of an event: how long the length is, the length, zlib.
fn unpacked(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut fields = Fields(bytes);
    let head = fields.byte()?;
    if head & 0x80 == 0 || head >> 4 & 7 != 0 {
        return Err(Error::unsupported(
            "the binary log is compressed in a way that is not known",
        ));
    }
    let length = fields.bytes((head & 7).into())?;
    let length = length
        .iter()
        .fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
    if length > MOST_BYTES {
        return Err(damaged());
    }
    let mut out = Vec::new();
    flate2::read::ZlibDecoder::new(fields.0)
        .take(length)
        .read_to_end(&mut out)
        .map_err(|error| damaged().because(error))?;
    if out.len() as u64 != length {
        return Err(damaged());
    }
    Ok(out)
}

/// A transaction that MySQL packed whole: its events, one by one.
pub struct Payload<'a>(Box<dyn Read + Send + 'a>);

impl<'a> Payload<'a> {
    pub fn open(body: &'a [u8]) -> Result<Payload<'a>> {
        let mut fields = Fields(body);
        let mut packing = 255;
        loop {
            let field = fields.length()?.ok_or_else(damaged)?;
            if field == 0 {
                break;
            }
            let mut value = Fields(fields.string()?.ok_or_else(damaged)?);
            if field == 2 {
                packing = value.length()?.ok_or_else(damaged)?;
            }
        }
        Ok(Payload(match packing {
            0 => {
                let decoder = zstd::stream::read::Decoder::with_buffer(fields.0);
                Box::new(decoder.map_err(|error| damaged().because(error))?)
            }
            255 => Box::new(fields.0),
            _ => {
                return Err(Error::unsupported(
                    "a transaction is compressed in a way that is not known",
                ));
            }
        }))
    }

    /// The next event; they carry no checksums.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let broken = |error| damaged().because(error);
        let mut event = Vec::with_capacity(HEADER);
        let mut front = (&mut self.0).take(HEADER as u64);
        front.read_to_end(&mut event).map_err(broken)?;
        if event.is_empty() {
            return Ok(None);
        }
        let mut fields = Fields(&event);
        fields.bytes(9)?;
        let size = u64::from(fields.u32()?);
        let rest = size.checked_sub(HEADER as u64).ok_or_else(damaged)?;
        if rest > MOST_BYTES {
            return Err(damaged());
        }
        let mut back = (&mut self.0).take(rest);
        back.read_to_end(&mut event).map_err(broken)?;
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_events_or_errors(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            checked in any::<bool>(),
            code in any::<u8>(),
        ) {
            let _ = Event::parse(&bytes, checked);
            let _ = has_checksums(&bytes);
            let _ = MariaDbBegin::parse(&bytes);
            let _ = rotate(&bytes);
            let _ = query(&bytes, checked);
            if let Some(kind) = rows_kind(code) {
                let _ = Rows::parse(&bytes, kind);
            }
            if let Ok(mut payload) = Payload::open(&bytes) {
                while let Ok(Some(_)) = payload.next() {}
            }
        }
    }
}
