//! Reads a staging table back, several ranges of its pages at once, and adds its rows up.
//!
//! Nobody else writes there, and nothing is written any more: the sessions need no common view.

use std::pin::Pin;

use futures::{StreamExt, TryStreamExt, stream};
use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::{Load, ReadBack},
    sums::{Sums, is_compared},
};
use tokio_postgres::CopyOutStream;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    connect::{Postgres, Session, explain},
    read::{
        decode::{CopyDecoder, Unpack},
        pass::{self, CopyCutter},
    },
    sql::ident,
    types::{Wire, wire_of},
};

use super::ddl::{Place, list};

/// From this version on a range of row ids is looked up rather than searched for.
const RANGES: u32 = 140_000;
/// Smaller ranges are not worth a session.
const LEAST_BLOCKS: i64 = 1024;

/// What the staged rows add up to.
pub async fn read_back(
    postgres: &Postgres,
    load: &Load,
    stage: &Place,
    how: &ReadBack<'_>,
) -> Result<Sums> {
    let session = postgres.client().await?;
    let statements = statements(&session, load, stage, how.lanes).await?;
    postgres.keep(session);
    let columns = &load.target.columns;
    let reader = match how.format {
        Some(format) => Reader::Bytes(format.columns.len()),
        None => Reader::Values {
            columns: columns.iter().map(stored).collect(),
            batch_bytes: how.batch_bytes,
        },
    };
    let width = columns.len();
    let pieces = stream::iter(statements).map(|statement| {
        let (postgres, reader) = (postgres.clone(), reader.clone());
        let task = tokio::spawn(async move { reader.read(&postgres, &statement, width).await });
        let task = AbortOnDropHandle::new(task);
        async { task.await.map_err(|error| Error::bug(error.to_string()))? }
    });
    let mut sums = Sums::new(width);
    let mut pieces = pieces.buffer_unordered(how.lanes.max(1));
    while let Some(piece) = pieces.try_next().await? {
        sums.join(&piece);
    }
    Ok(sums)
}

/// One statement per range of pages, which together copy every row out.
async fn statements(
    session: &Session,
    load: &Load,
    stage: &Place,
    lanes: usize,
) -> Result<Vec<String>> {
    let table = stage.sql();
    let names = list(load.target.columns.iter().map(|column| ident(&column.name)));
    let sql = "SELECT pg_catalog.pg_relation_size($1::text::regclass) \
        / pg_catalog.current_setting('block_size')::int8";
    let blocks: i64 = session
        .query_one(sql, &[&table])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(explain)?;
    let most = i64::try_from(lanes).unwrap_or(i64::MAX);
    let pieces = match session.version >= RANGES {
        true => (blocks / LEAST_BLOCKS).clamp(1, most.max(1)),
        false => 1,
    };
    let size = blocks / pieces;
    let statement = |piece: i64| {
        let from = (piece > 0).then(|| format!("ctid >= '({},0)'::tid", piece * size));
        let to = (piece + 1 < pieces).then(|| format!("ctid < '({},0)'::tid", (piece + 1) * size));
        let range: Vec<String> = from.into_iter().chain(to).collect();
        let range = match range.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", range.join(" AND ")),
        };
        format!("COPY (SELECT {names} FROM {table}{range}) TO STDOUT (FORMAT binary)")
    };
    Ok((0..pieces).map(statement).collect())
}

/// A column of the load as the staging table has it, how it is sent, and whether it is compared.
fn stored(column: &Column) -> (Column, Wire, bool) {
    use LogicalType as L;
    let logical = match column.logical {
        L::UInt64 => L::Decimal {
            precision: 20,
            scale: 0,
        },
        L::Decimal { precision, scale } => {
            let digits = i16::from(precision) - i16::from(scale.min(0));
            match u8::try_from(digits.max(i16::from(scale))) {
                Ok(precision @ 1..=76) => L::Decimal {
                    precision,
                    scale: scale.max(0),
                },
                _ => L::Numeric,
            }
        }
        other => other,
    };
    let wire = match logical {
        L::Json => Wire::Jsonb,
        other => wire_of(other).unwrap_or(Wire::Numeric),
    };
    let column = Column {
        logical,
        nullable: true,
        ..column.clone()
    };
    (column, wire, is_compared(logical))
}

/// As what the rows are added up.
#[derive(Clone)]
enum Reader {
    /// So many fields, as they are sent.
    Bytes(usize),
    Values {
        columns: Vec<(Column, Wire, bool)>,
        batch_bytes: usize,
    },
}

impl Reader {
    async fn read(&self, postgres: &Postgres, statement: &str, width: usize) -> Result<Sums> {
        let mut sums = Sums::new(width);
        let reading = Reading(Some(postgres.client().await?));
        let copying = reading.session()?.copy_out(statement).await;
        let copying = Box::pin(copying.map_err(explain)?);
        match self {
            Reader::Bytes(width) => {
                let cutter = CopyCutter::new(*width);
                unpack(copying, cutter, |payload| {
                    pass::add_up(&payload.bytes, *width, &mut sums)
                })
                .await?;
            }
            Reader::Values {
                columns,
                batch_bytes,
            } => {
                let types = columns.iter();
                let types: Vec<Option<LogicalType>> = types
                    .map(|(column, _, compared)| compared.then_some(column.logical))
                    .collect();
                let wires: Vec<Wire> = columns.iter().map(|(_, wire, _)| *wire).collect();
                let columns: Vec<Column> =
                    columns.iter().map(|(column, ..)| column.clone()).collect();
                let decoder = CopyDecoder::new(&columns, &wires, *batch_bytes);
                unpack(copying, decoder, |batch| {
                    sums.add_batch(&batch.rows, &types)
                })
                .await?;
            }
        }
        reading.done(postgres);
        Ok(sums)
    }
}

async fn unpack<U: Unpack>(
    mut copying: Pin<Box<CopyOutStream>>,
    mut unpack: U,
    mut take: impl FnMut(U::Rows) -> Result<()>,
) -> Result<()> {
    while let Some(piece) = copying.next().await {
        unpack.push(piece.map_err(explain)?)?;
        while let Some(rows) = unpack.take() {
            take(rows)?;
        }
    }
    while let Some(rows) = unpack.take() {
        take(rows)?;
    }
    match unpack.finish()? {
        Some(rows) => take(rows),
        None => Ok(()),
    }
}

/// A session in the middle of what the server sends: unless it gets to the end, it is ended.
struct Reading(Option<Session>);

impl Reading {
    fn session(&self) -> Result<&Session> {
        let gone = || Error::bug("a reading has no session");
        self.0.as_ref().ok_or_else(gone)
    }

    fn done(mut self, postgres: &Postgres) {
        if let Some(session) = self.0.take() {
            postgres.keep(session);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.hang_up();
        }
    }
}
