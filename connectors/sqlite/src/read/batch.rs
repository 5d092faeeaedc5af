//! One batch of a part.

use arrow_array::{RecordBatch, RecordBatchOptions};
use rusqlite::{Row, types::ValueRef};
use tideway_core::{Error, Part, Result, schema::arrow_schema, source::Read};

use crate::{
    connect::{Handle, Visit},
    sql::list,
};

use super::{Place, Range, columns::Decoder, selection::Selection};

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

    /// At the first row of a table with such a row number.
    pub fn start(row_number: String) -> Progress {
        Progress {
            from: Some(i64::MIN),
            range: Range {
                place: Place::Table { row_number },
                from: i64::MIN,
                to: i64::MAX,
            },
            left: None,
        }
    }
}

/// Reads the rows from number `from` on, until the batch is full or the part ends.
pub fn batch(
    handle: &Handle,
    read: &Read,
    progress: Progress,
    from: i64,
) -> Result<(RecordBatch, Progress)> {
    let Progress { range, left, .. } = progress;
    let selection = Selection::of(read)?;
    let number = range.place.row_number();
    // The plus keeps SQLite from looking the tracking field up in an index: the rows are
    // wanted by their numbers.
    let filter = selection.filter(&range.place, "+");
    let sql = format!(
        "SELECT {} FROM {} WHERE {} AND {number} BETWEEN ?2 AND ?3 ORDER BY {number}",
        list(
            selection
                .names(&range.place)
                .into_iter()
                .chain([number.clone()])
        ),
        range.place.from(&read.table.id.name),
        filter.sql
    );
    let mut statement = handle.prepare(&sql)?;
    let mut found = statement
        .query((&filter.bound, from, range.to))
        .map_err(|error| handle.explain(error))?;
    let mut rows = Rows::new(handle, read, selection);
    let ended = handle.visit(&mut found, |row| match left == Some(rows.count) {
        true => Ok(Visit::Enough),
        false => rows.take(row),
    })?;
    let left = left.map(|left| left - rows.count);
    let goes_on = ended == Visit::Enough && left != Some(0);
    let last = rows.last.filter(|_| goes_on);
    let progress = Progress {
        from: last.and_then(|last| last.checked_add(1)),
        range,
        left,
    };
    Ok((rows.finish()?, progress))
}

/// The rows of a batch that is being filled.
struct Rows<'a> {
    handle: &'a Handle,
    read: &'a Read,
    selection: Selection,
    decoders: Vec<Decoder>,
    count: u64,
    bytes: usize,
    /// Number of the last row.
    last: Option<i64>,
}

impl<'a> Rows<'a> {
    fn new(handle: &'a Handle, read: &'a Read, selection: Selection) -> Self {
        Rows {
            handle,
            read,
            selection,
            decoders: read.columns.iter().map(Decoder::new).collect(),
            count: 0,
            bytes: 0,
            last: None,
        }
    }

    fn take(&mut self, row: &Row<'_>) -> Result<Visit> {
        let cell = |at: usize| row.get_ref(at).map_err(|error| self.handle.explain(error));
        if let Some((at, track)) = &self.selection.track
            && !track.passes(cell(*at)?)?
        {
            return Ok(Visit::More);
        }
        for (at, decoder) in self.decoders.iter_mut().enumerate() {
            self.bytes += decoder
                .append(cell(at)?)
                .map_err(|misfit| misfit.explain(&self.read.table))?;
        }
        let ValueRef::Integer(number) = cell(self.selection.columns.len())? else {
            return Err(Error::bug("a row has no number"));
        };
        self.last = Some(number);
        self.count += 1;
        let full = self.bytes >= self.read.batch_bytes.clamp(1, MOST_BATCH_BYTES);
        Ok(if full { Visit::Enough } else { Visit::More })
    }

    fn finish(self) -> Result<RecordBatch> {
        let schema = arrow_schema(&self.read.columns);
        let arrays = self.decoders.into_iter().map(Decoder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.count as usize));
        RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(|error| Error::bug(format!("{}: {error}", self.read.table.id)))
    }
}
