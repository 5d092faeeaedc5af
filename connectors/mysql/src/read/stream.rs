//! The rows of one part, from the server to batches.

use std::sync::Arc;

use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use tideway_core::{
    Batch, Error, Part, Result,
    source::{BatchStream, Read},
};

use super::{
    decode::RowDecoder,
    keys::Range,
    plan::{columns_of, conditions, select},
    snapshot::{Lease, MySqlSnapshot},
    tracking,
};
use crate::connect::Statement;

pub fn read(snapshot: Arc<MySqlSnapshot>, read: Arc<Read>, part: Part) -> BatchStream {
    let table = read.table.id.clone();
    let about = snapshot.clone();
    let reader = Reader::open(snapshot, read, part);
    let batches = reader.map_ok(|reader| {
        stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.next().await?;
            Ok(batch.map(|batch| (batch, reader)))
        })
    });
    batches
        .try_flatten_stream()
        .map_err(move |error| about.about(&table, error))
        .boxed()
}

struct Reader {
    lease: Lease,
    decoder: RowDecoder,
    /// The query that goes on.
    statement: Option<Statement>,
}

impl Reader {
    async fn open(snapshot: Arc<MySqlSnapshot>, read: Arc<Read>, part: Part) -> Result<Reader> {
        let range: Range = serde_json::from_value(part.spec)
            .map_err(|error| Error::bug(format!("part {}: {error}", part.id)))?;
        let table = snapshot.table(&read.table.id).await?;
        let shapes: Vec<_> = columns_of(&table, &read.columns)?
            .iter()
            .map(|column| column.reading().shape)
            .collect();
        let filter = match &read.tracking {
            Some(tracking) => tracking::filter(&table, tracking)?,
            None => None,
        };
        let conditions = conditions(&table, &range, filter)?;
        let sql = select(&table, &read.columns, &conditions, read.limit);
        let mut lease = snapshot.session().await?;
        let mut decoder = RowDecoder::new(&read.columns, &shapes, read.batch_bytes);
        let (sent, statement) = lease.session()?.select(&sql).await?;
        decoder.begin(&sent)?;
        Ok(Reader {
            lease,
            decoder,
            statement: Some(statement),
        })
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.decoder.take_batch() {
                return Ok(Some(batch));
            }
            let Some(statement) = self.statement else {
                return Ok(None);
            };
            let session = self.lease.session()?;
            match session.next_row().await? {
                Some(row) => self.decoder.push(row)?,
                None => {
                    session.close(statement).await?;
                    self.statement = None;
                    if let Some(batch) = self.decoder.finish()? {
                        return Ok(Some(batch));
                    }
                }
            }
        }
    }
}
