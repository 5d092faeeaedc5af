//! The rows of one part, from the server to batches, or to payloads that pass undecoded.

use std::{pin::Pin, sync::Arc};

use futures::{
    StreamExt, TryFutureExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tideway_core::{
    Error, Part, Result,
    source::{BatchStream, PayloadStream, Read},
};
use tokio_postgres::CopyOutStream;

use super::{
    decode::{CopyDecoder, Unpack},
    pass::CopyCutter,
    plan::PartSpec,
    relation::Relation,
    snapshot::{Lease, PostgresSnapshot},
    tracking,
};
use crate::{connect::explain, types::Wire};

pub fn read(snapshot: Arc<PostgresSnapshot>, read: Arc<Read>, part: Part) -> BatchStream {
    unpacked(snapshot, read, part, |relation, read| {
        let readings = relation.readings(&read.columns)?;
        let wires: Vec<Wire> = readings.iter().map(|reading| reading.wire).collect();
        let casts = readings.iter().map(|reading| reading.cast);
        Ok((
            Relation::select_list(&read.columns, casts),
            CopyDecoder::new(&read.columns, &wires, read.batch_bytes),
        ))
    })
}

pub fn pass(snapshot: Arc<PostgresSnapshot>, read: Arc<Read>, part: Part) -> PayloadStream {
    unpacked(snapshot, read, part, |relation, read| {
        let casts = relation.passing(&read.columns)?;
        let casts = casts.ok_or_else(|| Error::bug("a column does not pass undecoded"))?;
        Ok((
            Relation::select_list(&read.columns, casts),
            CopyCutter::new(read.columns.len()),
        ))
    })
}

/// Reads a part; `how` says what is selected and what takes the stream apart.
fn unpacked<U: Unpack + 'static>(
    snapshot: Arc<PostgresSnapshot>,
    read: Arc<Read>,
    part: Part,
    how: impl FnOnce(&Relation, &Read) -> Result<(String, U)> + Send + 'static,
) -> BoxStream<'static, Result<U::Rows>> {
    let table = read.table.id.clone();
    let about = snapshot.clone();
    let reader = Reader::open(snapshot, read, part, how);
    let rows = reader.map_ok(|reader| {
        stream::try_unfold(reader, |mut reader| async move {
            let rows = reader.next().await?;
            if rows.is_none() {
                reader.lease.give_back();
                return Ok(None);
            }
            Ok(rows.map(|rows| (rows, reader)))
        })
    });
    let rows = rows.try_flatten_stream();
    rows.map_err(move |error| about.about(&table, error))
        .boxed()
}

/// Copies the pieces of a part out, one after the other.
struct Reader<U> {
    lease: Lease,
    statements: std::vec::IntoIter<String>,
    unpack: U,
    copying: Option<Pin<Box<CopyOutStream>>>,
}

impl<U: Unpack> Reader<U> {
    async fn open(
        snapshot: Arc<PostgresSnapshot>,
        read: Arc<Read>,
        part: Part,
        how: impl FnOnce(&Relation, &Read) -> Result<(String, U)>,
    ) -> Result<Reader<U>> {
        let spec: PartSpec = serde_json::from_value(part.spec)
            .map_err(|error| Error::bug(format!("part {}: {error}", part.id)))?;
        let relation = snapshot.relation(&read.table.id).await?;
        let (select, unpack) = how(&relation, &read)?;
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
            unpack,
            copying: None,
        })
    }

    async fn next(&mut self) -> Result<Option<U::Rows>> {
        loop {
            if let Some(rows) = self.unpack.take() {
                return Ok(Some(rows));
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
                Some(piece) => self.unpack.push(piece.map_err(explain)?)?,
                None => {
                    self.copying = None;
                    if let Some(rows) = self.unpack.finish()? {
                        return Ok(Some(rows));
                    }
                }
            }
        }
    }
}
