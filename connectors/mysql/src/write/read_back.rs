//! Reads a staging table back, several ranges of its key at once, and adds its rows up.
//!
//! Nobody else writes there, and nothing is written any more: the sessions need no common view.

use futures::{StreamExt, TryStreamExt, stream};
use tideway_core::{
    Batch, Column, Error, LogicalType, Result,
    destination::{Load, ReadBack},
    sums::{Sums, is_compared},
};
use tokio_util::task::AbortOnDropHandle;

use super::{ddl::Place, ledger::Ledger};
use crate::{
    connect::{MySql, Session},
    discover::{Described, describe},
    read::{
        decode::RowDecoder,
        keys::{self, Range},
        plan::{column_of, conditions, select},
    },
    types::{Reading, Shape},
};

/// Smaller ranges are not worth a session.
const LEAST_ROWS: u64 = 25_000;

/// What the staged rows add up to.
pub async fn read_back(
    mysql: &MySql,
    load: &Load,
    stage: &Place,
    how: &ReadBack<'_>,
) -> Result<Sums> {
    let mut session = mysql.session().await?;
    let table = describe(&mut session, &stage.database, &stage.name).await?;
    let table = table.ok_or_else(|| Error::drift(format!("{stage} is gone")))?;
    let reader = Reader::new(&table, load, how.batch_bytes)?;
    let statements = statements(&mut session, &table, load, &reader.columns, how.lanes).await?;
    mysql.keep(session);
    let places = reader.places.clone();
    let pieces = stream::iter(statements).map(|statement| {
        let (mysql, reader) = (mysql.clone(), reader.clone());
        let task = tokio::spawn(async move { reader.read(&mysql, &statement).await });
        let task = AbortOnDropHandle::new(task);
        async { task.await.map_err(|error| Error::bug(error.to_string()))? }
    });
    let mut sums = Sums::new(load.target.columns.len());
    let mut pieces = pieces.buffer_unordered(how.lanes.max(1));
    while let Some(piece) = pieces.try_next().await? {
        sums.join(&piece.spread(&places, load.target.columns.len()));
    }
    Ok(sums)
}

/// One statement per range of the key, which together select every row; one for all rows
/// where there is no key.
async fn statements(
    session: &mut Session,
    table: &Described,
    load: &Load,
    columns: &[Column],
    lanes: usize,
) -> Result<Vec<String>> {
    let ledger = Ledger::beside(&Place {
        database: table.database.clone(),
        name: table.name.clone(),
    });
    let (_, rows) = ledger.landed(session, &load.id).await?;
    let ranges = match keys::has_ranges(table) {
        true => {
            let count = (rows / LEAST_ROWS).clamp(1, lanes.max(1) as u64);
            keys::cut(session, table, rows, count).await?
        }
        false => vec![Range::default()],
    };
    let statement = |range: &Range| {
        let conditions = conditions(table, range, None)?;
        Ok(select(table, columns, &conditions, None))
    };
    ranges.iter().map(statement).collect()
}

/// Reads the columns that are compared.
#[derive(Clone)]
struct Reader {
    /// Their places in the load.
    places: Vec<usize>,
    columns: Vec<Column>,
    shapes: Vec<Shape>,
    types: Vec<Option<LogicalType>>,
    batch_bytes: usize,
}

impl Reader {
    fn new(table: &Described, load: &Load, batch_bytes: usize) -> Result<Reader> {
        let mut reader = Reader {
            places: Vec::new(),
            columns: Vec::new(),
            shapes: Vec::new(),
            types: Vec::new(),
            batch_bytes,
        };
        for (at, column) in load.target.columns.iter().enumerate() {
            if !is_compared(column.logical) {
                continue;
            }
            let Reading { logical, shape } = column_of(table, &column.name)?.reading();
            reader.places.push(at);
            reader.columns.push(Column {
                logical,
                nullable: true,
                ..column.clone()
            });
            reader.shapes.push(shape);
            reader.types.push(Some(logical));
        }
        Ok(reader)
    }

    async fn read(&self, mysql: &MySql, statement: &str) -> Result<Sums> {
        let mut sums = Sums::new(self.columns.len());
        let mut decoder = RowDecoder::new(&self.columns, &self.shapes, self.batch_bytes);
        let mut session = mysql.session().await?;
        let (sent, query) = session.select(statement).await?;
        decoder.begin(&sent)?;
        while let Some(row) = session.next_row().await? {
            decoder.push(row)?;
            while let Some(batch) = decoder.take_batch() {
                self.add(&batch, &mut sums)?;
            }
        }
        session.close(query).await?;
        mysql.keep(session);
        if let Some(batch) = decoder.finish()? {
            self.add(&batch, &mut sums)?;
        }
        Ok(sums)
    }

    fn add(&self, batch: &Batch, sums: &mut Sums) -> Result<()> {
        // Nothing that was written needs a policy to be read, such as that any number but
        // zero is true.
        if let Some(note) = batch.notes.first() {
            return Err(Error::data(format!(
                "column {}: {}",
                note.column, note.what
            )));
        }
        sums.add_batch(&batch.rows, &self.types)
    }
}
