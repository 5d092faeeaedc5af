//! Reads a staging table back, several ranges of its rows at once, and adds its rows up.

use arrow_array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use tideway_core::{
    Column, Error, LogicalType, Result,
    destination::ReadBack,
    sums::{Sums, is_compared},
};

use super::{
    Plan,
    stage::{Fill, Stage},
};
use crate::{
    duckdb::{
        file::File,
        read::{
            decode::Decoder,
            plan::{Spec, clause, pieces, shadowed},
            selected,
        },
        rows, types,
    },
    session::Session,
};

/// What the staged rows add up to.
pub async fn read_back(
    file: &File,
    session: &Session,
    plan: &Plan,
    stage: &Stage,
    how: &ReadBack<'_>,
) -> Result<Sums> {
    let wanted = &plan.load.target.columns;
    let (mut places, mut columns) = (Vec::new(), Vec::new());
    for staged in &stage.columns {
        if let Fill::Data(at) = staged.fill
            && wanted
                .get(at)
                .is_some_and(|column| is_compared(column.logical))
        {
            places.push(at);
            columns.push(Column {
                name: staged.name.clone(),
                logical: types::logical(&staged.data_type, staged.comment.as_deref()),
                nullable: true,
                remote_type: staged.data_type.clone(),
            });
        }
    }
    let (selected, columns) = (&selected(&columns), &columns);
    let read = async |conditions: Vec<String>| {
        let from = plan.stage.sql();
        let sql = format!("SELECT {selected} FROM {from}{}", clause(&conditions));
        // What is running is interrupted when the session is dropped.
        let session = file.session().await?;
        let mut found = session.stream(sql, adding(columns))?;
        let sums = found.next().await?;
        sums.ok_or_else(|| Error::bug("a reading has no end"))
    };
    let ranges = ranges(session, plan, how.lanes).await?;
    let mut sums = Sums::new(places.len());
    let mut pieces = stream::iter(ranges)
        .map(read)
        .buffer_unordered(how.lanes.max(1));
    while let Some(piece) = pieces.try_next().await? {
        sums.join(&piece);
    }
    Ok(sums.spread(&places, wanted.len()))
}

/// The conditions of each range.
async fn ranges(session: &Session, plan: &Plan, lanes: usize) -> Result<Vec<Vec<String>>> {
    let from = plan.stage.sql();
    if shadowed(&plan.load.target.columns) {
        return Ok(vec![Vec::new()]);
    }
    let count = format!("SELECT count(*)::BIGINT FROM {from}");
    let count = rows::number(&session.fetch(count).await?)?;
    let parts = pieces(session, &from, count, lanes).await?;
    let conditions = parts.iter().map(|part| Ok(Spec::of(part)?.conditions()));
    conditions.collect()
}

/// Adds up what the driver gives, and hands the sums on at the end.
fn adding(
    columns: &[Column],
) -> impl FnMut(Option<RecordBatch>) -> Result<Option<Sums>> + Send + 'static {
    let decoder = Decoder::new(columns);
    let types: Vec<Option<LogicalType>> =
        columns.iter().map(|column| Some(column.logical)).collect();
    let mut sums = Sums::new(types.len());
    move |rows| {
        let Some(rows) = rows else {
            return Ok(Some(std::mem::take(&mut sums)));
        };
        let batch = decoder.decode(&rows)?;
        // Nothing that was written needs a policy to be read.
        if let Some(note) = batch.notes.first() {
            return Err(Error::data(format!(
                "column {}: {}",
                note.column, note.what
            )));
        }
        sums.add_batch(&batch.rows, &types)?;
        Ok(None)
    }
}
