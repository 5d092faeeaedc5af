//! One batch of a part.

use arrow_array::{RecordBatch, RecordBatchOptions};
use rusqlite::{
    ToSql,
    types::{Null, ValueRef},
};
use tideway_core::{
    Error, Part, Result,
    schema::arrow_schema,
    source::Read,
};

use crate::{connect::Visit, sql::list};

use super::{Range, Shared, columns::Decoder, selected, track::Track};

/// Values of at most this many bytes before the last row of a batch. An Arrow column of
/// texts ends at 2 GiB, and a single row may bring almost 1 GiB.
const MOST_BATCH_BYTES: usize = 256 << 20;

/// How far a part has been read.
pub struct Progress {
    range: Range,
    /// Number of the next row, while there may be one.
    pub from: Option<i64>,
    /// Rows that may still be read of a test run.
    left: Option<u64>,
}

impl Progress {
    pub fn of(read: &Read, part: &Part) -> Result<Progress> {
        let range: Range = serde_json::from_value(part.spec.clone())
            .map_err(|error| Error::bug(format!("part {} cannot be read: {error}", part.id)))?;
        Ok(Progress {
            from: Some(range.from),
            range,
            left: read.limit,
        })
    }
}

/// Reads the rows from number `from` on, until the batch is full or the part ends.
pub fn batch(
    shared: &Shared,
    read: &Read,
    progress: Progress,
    from: i64,
) -> Result<(RecordBatch, Progress)> {
    let handle = &*shared.handle();
    let (columns, tracked) = selected(read)?;
    let track = Track::of(read)?;
    let Progress { range, left, .. } = progress;
    let names: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| range.place.column(at, &column.name))
        .collect();
    let filter = match (&track, tracked.and_then(|at| names.get(at))) {
        // The plus keeps SQLite from looking the value up in an index: the rows are
        // wanted by their numbers.
        (Some(track), Some(name)) => track.filter(&format!("+{name}")),
        _ => None,
    };
    let number = range.place.row_number();
    let mut sql = format!(
        "SELECT {}, {number} FROM {} WHERE {number} BETWEEN ?2 AND ?3",
        list(&names),
        range.place.from(&read.table.id.name)
    );
    let mut bound: Vec<&dyn ToSql> = vec![&Null, &from, &range.to];
    if let Some(filter) = &filter {
        sql.push_str(&format!(" AND {}", filter.sql));
        if let Some(first) = bound.first_mut() {
            *first = &filter.bound;
        }
    }
    sql.push_str(&format!(" ORDER BY {number}"));

    let mut decoders: Vec<Decoder> = read.columns.iter().map(Decoder::new).collect();
    let full = read.batch_bytes.clamp(1, MOST_BATCH_BYTES);
    let (mut rows, mut bytes, mut last) = (0_u64, 0_usize, None);
    let mut statement = handle.prepare(&sql)?;
    let mut found = statement
        .query(bound.as_slice())
        .map_err(|error| handle.explain(error))?;
    let ended = handle.visit(&mut found, |row| {
        let cell = |at: usize| row.get_ref(at).map_err(|error| handle.explain(error));
        if left == Some(rows) {
            return Ok(Visit::Enough);
        }
        if let (Some(track), Some(at)) = (&track, tracked)
            && !track.passes(cell(at)?)?
        {
            return Ok(Visit::More);
        }
        for (at, decoder) in decoders.iter_mut().enumerate() {
            bytes += decoder
                .append(cell(at)?)
                .map_err(|misfit| misfit.explain(&read.table))?;
        }
        rows += 1;
        last = match cell(columns.len())? {
            ValueRef::Integer(number) => Some(number),
            _ => return Err(Error::bug("a row has no number")),
        };
        Ok(if bytes >= full {
            Visit::Enough
        } else {
            Visit::More
        })
    })?;
    let left = left.map(|left| left - rows);
    let goes_on = ended == Visit::Enough && left != Some(0);
    let next = last
        .filter(|_| goes_on)
        .and_then(|last| last.checked_add(1));
    let arrays = decoders.into_iter().map(Decoder::finish).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows as usize));
    let batch = RecordBatch::try_new_with_options(arrow_schema(&read.columns), arrays, &options)
        .map_err(|error| Error::bug(format!("{}: {error}", read.table.id)))?;
    Ok((
        batch,
        Progress {
            from: next,
            range,
            left,
        },
    ))
}
