//! Bytes as a server might send them, into what takes them. What must hold whatever the bytes
//! are is asserted; a panic is a finding. The folder `fuzz/` makes up the bytes, and the test
//! below holds those that are kept there to the same.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures::executor::block_on;
use serde_json::json;
use tideway_core::{Batch, Column, LogicalType, Result, form};
use tokio::io::{AsyncRead, Join, ReadBuf, Sink};

pub use crate::changes::fuzz::binlog;
use crate::{
    config::Config,
    connect::{Flavor, Packets, SentColumn, ServerInfo, Session, introduce},
    read::decode::RowDecoder,
    types::Shape,
};

/// What a server says in a session, from its greeting on. The first byte says what is asked,
/// the second where its words are cut.
///
/// Cut anywhere it is understood, or refused, in the same way.
pub fn session(input: &[u8]) {
    let [plan, cuts, said @ ..] = input else {
        return;
    };
    let whole = block_on(converse(*plan, Packets::over(socket(said, None))));
    let cut = block_on(converse(*plan, Packets::over(socket(said, Some(*cuts)))));
    assert_eq!(whole, cut);
}

/// What was understood, word by word, up to the error that there always is: the bytes end.
async fn converse(plan: u8, packets: Packets) -> Vec<String> {
    let mut heard = Vec::new();
    let ended = ask(plan, packets, &mut heard).await;
    heard.extend(ended.err().map(|error| error.what().to_owned()));
    heard
}

async fn ask(plan: u8, packets: Packets, heard: &mut Vec<String>) -> Result<()> {
    let mut session = match plan & 3 {
        // A session that is past its beginning.
        0 => Session::new(packets, server(Flavor::MySql)),
        _ => introduce(&config(plan), packets, None, "fuzz").await?,
    };
    heard.push(format!("{:?}", session.server));
    if plan & 3 == 2 {
        session.settle().await?;
        heard.push(format!("{} {}", session.most_bytes, session.takes_files));
    }
    loop {
        if plan & 4 == 0 {
            heard.push(format!("{:?}", session.rows("SELECT 1").await?));
            continue;
        }
        let (sent, statement) = session.select("SELECT 1").await?;
        heard.push(format!("{sent:?}"));
        while let Some(row) = session.next_row().await? {
            heard.push(format!("{row:?}"));
        }
        session.close(statement).await?;
    }
}

/// A session in which the server says nothing.
pub(crate) fn speechless(flavor: Flavor) -> Session {
    Session::new(Packets::over(socket(&[], None)), server(flavor))
}

fn server(flavor: Flavor) -> ServerInfo {
    ServerInfo {
        flavor,
        version: (8, 0, 36),
        shown: "8.0.36".to_owned(),
    }
}

fn config(plan: u8) -> Config {
    let password = if plan & 8 == 0 { "secret" } else { "" };
    form::parse(&json!({
        "hostname": "localhost", "account": "fuzz", "port": 3306, "passwd": password,
        "sslmode": "disable", "dbname": "fuzz"
    }))
    .expect("settings that are right")
}

const SHAPES: [(LogicalType, Shape); 20] = [
    (LogicalType::Boolean, Shape::Bool),
    (LogicalType::Boolean, Shape::BitBool),
    (LogicalType::Int16, Shape::Int16),
    (LogicalType::Int32, Shape::Int32),
    (LogicalType::Int64, Shape::Int64),
    (LogicalType::UInt64, Shape::UInt64),
    (LogicalType::Int64, Shape::BitInt),
    (LogicalType::UInt64, Shape::BitUInt),
    (LogicalType::Float32, Shape::Float32),
    (LogicalType::Float64, Shape::Float64),
    (DECIMAL, DECIMAL_SHAPE),
    (WIDE_DECIMAL, WIDE_DECIMAL_SHAPE),
    (LogicalType::Text, Shape::Text),
    (LogicalType::Uuid, Shape::Uuid),
    (LogicalType::Binary, Shape::Binary),
    (LogicalType::Binary, Shape::Geometry),
    (LogicalType::Date, Shape::Date),
    (LogicalType::Time, Shape::Time),
    (LogicalType::Text, Shape::Span),
    (LogicalType::TimestampTz, Shape::Timestamp),
];
const DECIMAL: LogicalType = LogicalType::Decimal {
    precision: 12,
    scale: 2,
};
const DECIMAL_SHAPE: Shape = Shape::Decimal {
    precision: 12,
    scale: 2,
};
const WIDE_DECIMAL: LogicalType = LogicalType::Decimal {
    precision: 65,
    scale: 30,
};
const WIDE_DECIMAL_SHAPE: Shape = Shape::Decimal {
    precision: 65,
    scale: 30,
};

/// Rows in binary form. The first byte says how many columns there are; of each follow the
/// protocol's code of its type, whether it is unsigned, and which of the shapes it has; then
/// the rows, each with its length in two bytes before it.
///
/// In one batch or in many, the rows and what is noted of them are the same.
pub fn rows(input: &[u8]) {
    let [count, rest @ ..] = input else { return };
    let count = usize::from(*count) % 32;
    let Some((about, rest)) = rest.split_at_checked(count * 3) else {
        return;
    };
    let (mut sent, mut columns, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
    for (at, about) in about.as_chunks::<3>().0.iter().enumerate() {
        let [code, flags, shape] = *about;
        let (logical, shape) = SHAPES[usize::from(shape) % SHAPES.len()];
        columns.push(Column {
            nullable: flags & 2 == 0,
            ..Column::new(&format!("c{at}"), logical)
        });
        shapes.push(shape);
        sent.push(SentColumn {
            code,
            unsigned: flags & 1 == 1,
        });
    }
    let rows = sized(rest);
    let decode = |batch_bytes| -> Result<Vec<Batch>> {
        let mut decoder = RowDecoder::new(&columns, &shapes, batch_bytes);
        decoder.begin(&sent)?;
        let mut batches = Vec::new();
        for row in &rows {
            decoder.push(row)?;
            batches.extend(std::iter::from_fn(|| decoder.take_batch()));
        }
        batches.extend(decoder.finish()?);
        Ok(batches)
    };
    match (decode(usize::MAX), decode(1)) {
        (Ok(together), Ok(apart)) => {
            assert_eq!(apart.len(), rows.len());
            let rows: usize = together.iter().map(Batch::row_count).sum();
            assert_eq!(apart.len(), rows);
            for (at, batch) in apart.iter().enumerate() {
                assert_eq!(together[0].rows.slice(at, 1), batch.rows);
            }
            assert_eq!(noted(&together), noted(&apart));
        }
        // Of two troubles either may be met first.
        (Err(_), Err(_)) => {}
        (together, apart) => panic!("only one way fails: {together:?} and {apart:?}"),
    }
}

/// Pieces, each with its length in two bytes before it.
pub(crate) fn sized(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(tail.len());
        let (piece, tail) = tail.split_at(length);
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

fn noted(batches: &[Batch]) -> u64 {
    let notes = batches.iter().flat_map(|batch| &batch.notes);
    notes.map(|note| note.rows).sum()
}

/// Takes whatever is written, and gives the bytes to read, in pieces where a seed says how.
fn socket(bytes: &[u8], cuts: Option<u8>) -> Join<Pieces, Sink> {
    let mut state = u32::from(cuts.unwrap_or_default());
    let mut rest = bytes;
    let mut pieces = VecDeque::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let length = match cuts {
            Some(_) => (state >> 16) as usize % 61 + 1,
            None => rest.len(),
        };
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push_back(piece.to_vec());
        rest = tail;
    }
    tokio::io::join(Pieces(pieces), tokio::io::sink())
}

struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
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
        hold("mysql_session", session);
        hold("mysql_rows", rows);
        hold("mysql_binlog", binlog);
    }
}
