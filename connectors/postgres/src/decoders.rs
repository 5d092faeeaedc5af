//! The decoders without a server, for `bench/decoding.py`: each takes bytes as a server has sent
//! them and gives the number of rows that they became, in batches as a sync would have them.

use std::collections::HashMap;

use bytes::Bytes;
use tideway_core::{Column, Error, LogicalType, Result};

use crate::{
    changes::{
        catalog::TypeInfo,
        pgoutput::{Message, Relation},
        rows::TableRows,
    },
    read::decode::{CopyDecoder, Unpack},
    types::wire_of,
};

const BATCH_BYTES: usize = 8 << 20;
/// Of a COPY stream as much as the network brings at once.
const PIECE_BYTES: usize = 64 << 10;

/// Messages of the output plugin, each with its length in four bytes before it, their cells in
/// binary form, of tables with built-in types.
///
/// # Errors
/// `Data` where the bytes are damaged.
pub fn pgoutput(mut bytes: &[u8]) -> Result<usize> {
    let damaged = || Error::data("the recording is damaged");
    let (mut tables, mut told) = (HashMap::<u32, TableRows>::new(), 0);
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (message, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        bytes = rest;
        let oid = match Message::parse(message)? {
            Message::Relation(relation) => {
                tables.insert(relation.oid, rows_of(relation)?);
                continue;
            }
            Message::Insert { relation, new } => {
                tables.get_mut(&relation).ok_or_else(damaged)?.insert(new)?;
                relation
            }
            Message::Update { relation, old, new } => {
                let table = tables.get_mut(&relation).ok_or_else(damaged)?;
                table.update(old, new, &[])?;
                relation
            }
            Message::Delete { relation, old } => {
                tables.get_mut(&relation).ok_or_else(damaged)?.delete(old)?;
                relation
            }
            _ => continue,
        };
        let table = tables.get_mut(&oid).ok_or_else(damaged)?;
        if table.byte_count() >= BATCH_BYTES {
            told += table.batch()?.map_or(0, |batch| batch.row_count());
        }
    }
    for table in tables.values_mut() {
        told += table.batch()?.map_or(0, |batch| batch.row_count());
    }
    Ok(told)
}

fn rows_of(relation: Relation) -> Result<TableRows> {
    let columns = relation.columns.iter().map(|column| {
        let reading = TypeInfo::built_in(column.type_oid).reading(column.typmod);
        Column {
            nullable: !column.identifies,
            ..Column::new(&column.name, reading.logical)
        }
    });
    let columns: Vec<Column> = columns.collect();
    let keys = relation.columns.iter().filter(|column| column.identifies);
    let key: Vec<String> = keys.map(|column| column.name.clone()).collect();
    let types = |oid| Some(TypeInfo::built_in(oid));
    TableRows::new(relation, &columns, &key, types, true)
}

/// A COPY stream in binary form of the bench's table `mixed`.
///
/// # Errors
/// `Data` where the bytes are damaged.
pub fn copy(bytes: &[u8]) -> Result<usize> {
    use LogicalType as L;
    let price = L::Decimal {
        precision: 12,
        scale: 2,
    };
    let logicals = [
        L::Int64,
        L::Uuid,
        L::Text,
        L::Text,
        price,
        L::Float64,
        L::Int32,
        L::Boolean,
        L::TimestampTz,
        L::Timestamp,
        L::Date,
    ];
    let named = logicals.iter().enumerate();
    let mut columns: Vec<Column> = named
        .map(|(at, logical)| Column::new(&format!("c{at}"), *logical))
        .collect();
    let mut wires: Vec<_> = logicals.into_iter().filter_map(wire_of).collect();
    columns.push(Column::new("document", L::Json));
    wires.push(crate::types::Wire::Jsonb);

    let mut decoder = CopyDecoder::new(&columns, &wires, BATCH_BYTES);
    let mut told = 0;
    for piece in bytes.chunks(PIECE_BYTES) {
        decoder.push(Bytes::copy_from_slice(piece))?;
        told += std::iter::from_fn(|| decoder.take())
            .map(|batch| batch.row_count())
            .sum::<usize>();
    }
    told += decoder.finish()?.map_or(0, |batch| batch.row_count());
    told += std::iter::from_fn(|| decoder.take())
        .map(|batch| batch.row_count())
        .sum::<usize>();
    Ok(told)
}
