//! The rows of one part, from the server to batches.

use std::{pin::Pin, sync::Arc};

use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use tideway_core::{
    Batch, Error, Part, Result,
    source::{BatchStream, Read},
};
use tokio_postgres::CopyOutStream;

use super::{
    decode::CopyDecoder,
    plan::PartSpec,
    relation::Relation,
    snapshot::{Lease, PostgresSnapshot},
    tracking,
};
use crate::{connect::explain, types::Wire};

pub fn read(snapshot: Arc<PostgresSnapshot>, read: Arc<Read>, part: Part) -> BatchStream {
    let table = read.table.id.clone();
    let about = snapshot.clone();
    let reader = Reader::open(snapshot, read, part);
    let batches = reader.map_ok(|reader| {
        stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.next().await?;
            if batch.is_none() {
                reader.lease.give_back();
                return Ok(None);
            }
            Ok(batch.map(|batch| (batch, reader)))
        })
    });
    let batches = batches.try_flatten_stream();
    batches
        .map_err(move |error| about.about(&table, error))
        .boxed()
}

/// Copies the pieces of a part out, one after the other.
struct Reader {
    lease: Lease,
    statements: std::vec::IntoIter<String>,
    decoder: CopyDecoder,
    copying: Option<Pin<Box<CopyOutStream>>>,
}

impl Reader {
    async fn open(snapshot: Arc<PostgresSnapshot>, read: Arc<Read>, part: Part) -> Result<Reader> {
        let spec: PartSpec = serde_json::from_value(part.spec)
            .map_err(|error| Error::bug(format!("part {}: {error}", part.id)))?;
        let relation = snapshot.relation(&read.table.id).await?;
        let readings = relation.readings(&read.columns)?;
        let wires: Vec<Wire> = readings.iter().map(|reading| reading.wire).collect();
        let select = Relation::select_list(&read.columns, &readings);
        let filter = match &read.tracking {
            Some(tracking) => tracking::filter(&relation, tracking)?,
            None => None,
        };
        let statements = spec.pieces.iter();
        let statements: Vec<String> = statements
            .map(|piece| piece.statement(&select, filter.as_deref(), read.limit))
            .collect();
        Ok(Reader {
            lease: snapshot.session().await?,
            statements: statements.into_iter(),
            decoder: CopyDecoder::new(&read.columns, &wires, read.batch_bytes),
            copying: None,
        })
    }

    async fn next(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.decoder.take_batch() {
                return Ok(Some(batch));
            }
            let Some(copying) = &mut self.copying else {
                let Some(statement) = self.statements.next() else {
                    return Ok(None);
                };
                let copying = self.lease.session()?.copy_out(&statement).await;
                self.copying = Some(Box::pin(copying.map_err(explain)?));
                continue;
            };
            match copying.next().await {
                Some(piece) => self.decoder.push(piece.map_err(explain)?)?,
                None => {
                    self.copying = None;
                    if let Some(batch) = self.decoder.finish()? {
                        return Ok(Some(batch));
                    }
                }
            }
        }
    }
}
