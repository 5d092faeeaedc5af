//! Bytes as a server might send them, into the decoders that take them. What must hold
//! whatever the bytes are is asserted; a panic is a finding. The folder `fuzz/` makes up the
//! bytes, and the test below holds those that are kept there to the same.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    task::{Context, Poll},
};

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::executor::block_on;
use tideway_core::{Batch, Column, LogicalType, Op, Ops, Result};
use tokio::io::{AsyncRead, Join, ReadBuf};

use crate::{
    changes::{
        catalog::TypeInfo,
        pgoutput::{Message, Relation},
        rows::TableRows,
    },
    connect::{Frame, Replication},
    read::{
        decode::{CopyDecoder, Unpack},
        pass::CopyCutter,
    },
    types::{Cast, Wire, wire_of},
};

/// Small, so that streams of a few rows come in several batches.
const BATCH_BYTES: usize = 512;

const TYPES: [LogicalType; 17] = [
    LogicalType::Boolean,
    LogicalType::Int16,
    LogicalType::Int32,
    LogicalType::Int64,
    LogicalType::Float32,
    LogicalType::Float64,
    LogicalType::Decimal {
        precision: 12,
        scale: 2,
    },
    LogicalType::Decimal {
        precision: 60,
        scale: 20,
    },
    LogicalType::Numeric,
    LogicalType::Text,
    LogicalType::Uuid,
    LogicalType::Binary,
    LogicalType::Date,
    LogicalType::Time,
    LogicalType::Timestamp,
    LogicalType::TimestampTz,
    LogicalType::Interval,
];

/// Lengths of pieces, the same each time for a seed.
fn lengths(seed: u8) -> impl Iterator<Item = usize> {
    let mut state = u32::from(seed);
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        Some((state >> 16) as usize % 61 + 1)
    })
}

fn pieces(mut bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for length in lengths(seed) {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// What the same rows give, whichever way they came.
fn assert_same(whole: &Result<Vec<Batch>>, cut: &Result<Vec<Batch>>) {
    match (whole, cut) {
        (Ok(whole), Ok(cut)) => {
            assert_eq!(whole.len(), cut.len(), "batches");
            for (whole, cut) in whole.iter().zip(cut) {
                assert_eq!(whole.rows, cut.rows);
                assert_eq!(whole.notes, cut.notes);
            }
        }
        (Err(whole), Err(cut)) => assert_eq!(whole.what(), cut.what()),
        _ => panic!("one way is fine and the other is not: {whole:?} and {cut:?}"),
    }
}

/// A COPY stream. The first byte says which columns are expected (all types, or one of them),
/// the second where the stream is cut.
///
/// Cut anywhere it gives the same; what passes undecoded has as many rows, and the same bytes.
pub fn copy(input: &[u8]) {
    let [layout, cuts, stream @ ..] = input else {
        return;
    };
    let (columns, wires) = layout_of(*layout);
    let decode = |pieces: &[&[u8]]| {
        let mut decoder = CopyDecoder::new(&columns, &wires, BATCH_BYTES);
        unpack(&mut decoder, pieces)
    };
    let decoded = decode(&[stream]);
    assert_same(&decoded, &decode(&pieces(stream, *cuts)));

    let passed = unpack(&mut CopyCutter::new(columns.len()), &pieces(stream, *cuts));
    match (&decoded, passed) {
        (Ok(batches), Ok(payloads)) => {
            let decoded: usize = batches.iter().map(Batch::row_count).sum();
            let passed: u64 = payloads.iter().map(|payload| payload.row_count).sum();
            assert_eq!(decoded as u64, passed, "rows");
            let bytes: Vec<&[u8]> = payloads.iter().map(|payload| &payload.bytes[..]).collect();
            let bytes = bytes.concat();
            let end = stream.len() - 2;
            assert_eq!(bytes, stream[end - bytes.len()..end], "bytes");
        }
        (Ok(_), Err(error)) => panic!("it decodes and does not pass: {error}"),
        // Values are not looked at on the way through.
        (Err(_), _) => {}
    }
}

fn layout_of(layout: u8) -> (Vec<Column>, Vec<Wire>) {
    let one = usize::from(layout & 0x7f);
    let (documents, chosen) = match one.checked_sub(1) {
        None => (true, TYPES.to_vec()),
        Some(at) => (false, vec![TYPES[at % TYPES.len()]]),
    };
    let mut columns = Vec::new();
    let mut wires = Vec::new();
    for (at, logical) in chosen.into_iter().enumerate() {
        columns.push(Column {
            nullable: layout & 0x80 == 0,
            ..Column::new(&format!("c{at}"), logical)
        });
        wires.extend(wire_of(logical));
    }
    if documents {
        columns.push(Column::new("json", LogicalType::Json));
        columns.push(Column::new("jsonb", LogicalType::Json));
        columns.push(Column::new("oid", LogicalType::Int64));
        wires.extend([Wire::Json, Wire::Jsonb, Wire::Oid]);
    }
    (columns, wires)
}

fn unpack<U: Unpack>(unpack: &mut U, pieces: &[&[u8]]) -> Result<Vec<U::Rows>> {
    let mut rows = Vec::new();
    for piece in pieces {
        unpack.push(Bytes::copy_from_slice(piece))?;
        rows.extend(std::iter::from_fn(|| unpack.take()));
    }
    rows.extend(unpack.finish()?);
    rows.extend(std::iter::from_fn(|| unpack.take()));
    Ok(rows)
}

/// Messages of the output plugin, each with its length in two bytes before it. The first byte
/// says whether cells come in binary form.
///
/// Told in one batch or in one for each message, the changes of a table are the same.
pub fn pgoutput(input: &[u8]) {
    let [binary, rest @ ..] = input else { return };
    let binary = binary & 1 == 1;
    let mut messages = Vec::new();
    let mut rest = rest;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (message, tail) = tail.split_at(length);
        messages.push(message);
        rest = tail;
    }
    match (
        follow(&messages, binary, false),
        follow(&messages, binary, true),
    ) {
        (Ok(together), Ok(apart)) => {
            assert_eq!(together.len(), apart.len(), "tables");
            for (together, apart) in together.iter().zip(&apart) {
                assert_eq!(changes(together), changes(apart));
            }
        }
        (Err(together), Err(apart)) => assert_eq!(together.what(), apart.what()),
        (together, apart) => panic!("only one way fails: {together:?} and {apart:?}"),
    }
}

type Tables = BTreeMap<u32, (usize, TableRows)>;

/// Takes messages as the stream does; gives what was told of each table, a table that
/// changes its shape being another one.
fn follow(messages: &[&[u8]], binary: bool, apart: bool) -> Result<Vec<Vec<Batch>>> {
    let mut told: Vec<Vec<Batch>> = Vec::new();
    let mut tables = Tables::new();
    for message in messages {
        match Message::parse(message)? {
            Message::Relation(relation) => {
                flush(&mut tables, &mut told);
                let (oid, place) = (relation.oid, told.len());
                tables.insert(oid, (place, table(relation, binary)?));
                told.push(Vec::new());
            }
            Message::Insert { relation, new } => {
                if let Some((_, rows)) = tables.get_mut(&relation) {
                    rows.insert(new)?;
                }
            }
            Message::Update { relation, old, new } => {
                if let Some((_, rows)) = tables.get_mut(&relation) {
                    let _ = rows.gaps(old, new);
                    rows.update(old, new, &[])?;
                }
            }
            Message::Delete { relation, old } => {
                if let Some((_, rows)) = tables.get_mut(&relation) {
                    rows.delete(old)?;
                }
            }
            _ => {}
        }
        // A null where the plan rules it out ends the stream of the table.
        let broken = tables.values().any(|(_, rows)| rows.broken());
        if apart || broken {
            flush(&mut tables, &mut told);
        }
        if broken {
            break;
        }
    }
    flush(&mut tables, &mut told);
    Ok(told)
}

/// Whether the type has values that can only be kept as null.
fn may_be_lost(logical: LogicalType) -> bool {
    use LogicalType as L;
    !matches!(
        logical,
        L::Boolean | L::Int16 | L::Int32 | L::Int64 | L::Text | L::Uuid | L::Binary
    )
}

/// Of the columns those that need no help of the server.
fn table(relation: Relation, binary: bool) -> Result<TableRows> {
    let mut wanted: Vec<Column> = Vec::new();
    for (at, column) in relation.columns.iter().enumerate() {
        let reading = TypeInfo::built_in(column.type_oid).reading(column.typmod);
        let before = &relation.columns[..at];
        let known = before.iter().any(|before| before.name == column.name);
        if reading.cast == Cast::No && !known {
            wanted.push(Column {
                nullable: !column.identifies || may_be_lost(reading.logical),
                ..Column::new(&column.name, reading.logical)
            });
        }
    }
    // Not there yet; no name of a server has such a character.
    wanted.push(Column::new("\0", LogicalType::Text));
    let keys = relation.columns.iter().filter(|column| column.identifies);
    let key: Vec<String> = keys.map(|column| column.name.clone()).collect();
    let types = |oid| Some(TypeInfo::built_in(oid));
    TableRows::new(relation, &wanted, &key, types, binary)
}

fn flush(tables: &mut Tables, told: &mut [Vec<Batch>]) {
    for (place, rows) in tables.values_mut() {
        let batch = rows.batch().expect("rows that were taken are a batch");
        told[*place].extend(batch);
    }
}

/// Each change with its row, and which of its values stay as they are.
fn changes(batches: &[Batch]) -> Vec<(Op, RecordBatch, Vec<usize>)> {
    let mut changes = Vec::new();
    for batch in batches {
        let Ops::Each(codes) = &batch.ops else {
            panic!("changes without operations");
        };
        assert_eq!(codes.len(), batch.row_count());
        for row in 0..batch.row_count() {
            let kept = batch.kept.iter().filter(|(_, rows)| rows.value(row));
            changes.push((
                Op::of(codes.value(row)).expect("an operation that is known"),
                batch.rows.slice(row, 1),
                kept.map(|(column, _)| *column).collect(),
            ));
        }
    }
    changes
}

/// What a server sends in a session in replication mode. The first byte says where it is cut.
///
/// Cut anywhere it is the same frames, and the same answer to a command.
pub fn replication(input: &[u8]) {
    let [cuts, stream @ ..] = input else { return };
    let whole = || Replication::over(Box::new(socket(stream, None)));
    let cut = || Replication::over(Box::new(socket(stream, Some(*cuts))));
    assert_eq!(frames(whole()), frames(cut()));

    let ask = |mut session: Replication| {
        let answer = block_on(session.ask("IDENTIFY_SYSTEM"));
        answer.map_err(|error| error.what().to_owned())
    };
    assert_eq!(ask(whole()), ask(cut()));
}

/// Everything up to the error that there always is, for the stream ends.
fn frames(mut session: Replication) -> (Vec<Frame>, String) {
    let mut frames = Vec::new();
    loop {
        match session.frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => {
                if let Err(error) = block_on(session.wait()) {
                    return (frames, error.what().to_owned());
                }
            }
            Err(error) => return (frames, error.what().to_owned()),
        }
    }
}

/// Takes whatever is written, and gives the bytes to read in pieces.
fn socket(bytes: &[u8], cuts: Option<u8>) -> Join<Pieces, tokio::io::Sink> {
    let pieces = match cuts {
        Some(seed) => pieces(bytes, seed),
        None => vec![bytes],
    };
    let pieces = pieces.into_iter().map(Bytes::copy_from_slice);
    tokio::io::join(Pieces(pieces.collect()), tokio::io::sink())
}

struct Pieces(VecDeque<Bytes>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let length = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece.split_to(length));
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
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
        hold("postgres_copy", copy);
        hold("postgres_pgoutput", pgoutput);
        hold("postgres_replication", replication);
    }
}
