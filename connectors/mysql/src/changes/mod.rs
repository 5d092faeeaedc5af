//! Following the server's binary log, as a replica does. `docs/decisions/binlog.md` says why
//! it is built as it is.
//!
//! One changed row goes: socket, [`crate::connect::Session`] (packets), [`event`] (events),
//! [`follow`] (transactions, barriers), [`tables`] (which table, which shape), [`cell`] and
//! [`rows`] (cells into Arrow through the decoders of queries), [`convert`] (characters that
//! only the server knows).

mod attach;
mod begin;
mod cell;
mod convert;
mod event;
mod follow;
#[cfg(any(fuzzing, test))]
pub mod fuzz;
mod gtid;
mod json;
mod lag;
mod position;
mod rows;
mod server;
mod statement;
mod table_map;
mod tables;

use std::{cmp::Ordering, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tideway_core::{
    Position, Result,
    changes::{Anchor, Attached, Change, Changes, Follow, Lag, Stream},
    failpoint,
};

use crate::{connect::MySql, read::snapshot::MySqlSnapshot};
pub use position::Place;
pub use server::{End, Variables, gtid_at};

#[async_trait]
impl Changes for MySql {
    async fn attach(&self, stream: &Stream) -> Result<Attached> {
        attach::attach(self, stream).await
    }

    /// Nothing is made at the server.
    fn place(&self, _: &Stream) -> Result<String> {
        Ok(self.config.address())
    }

    async fn snapshot(&self, stream: &Stream) -> Result<Anchor> {
        let mut session = self.session().await?;
        let log = Variables::of(&mut session).await?.log();
        self.keep(session);
        let (snapshot, place, gtid) = MySqlSnapshot::open_at(self, &stream.tables).await?;
        failpoint::reach("mysql.anchored");
        Ok(Anchor {
            position: log.position(&place, gtid),
            snapshot: Arc::new(snapshot),
        })
    }

    fn follow(&self, stream: &Stream, follow: Follow) -> BoxStream<'static, Result<Change>> {
        follow::follow(self.clone(), stream, follow)
    }

    fn compare(&self, left: &Position, right: &Position) -> Ordering {
        position::compare(left, right)
    }

    async fn end(&self) -> Result<Position> {
        let mut session = self.session().await?;
        let log = Variables::of(&mut session).await?.log();
        let end = End::of(&mut session).await?;
        self.keep(session);
        Ok(log.position(&end.place, end.gtid))
    }

    /// The server keeps its log by age, whoever has read it.
    async fn confirm(&self, _: &Stream, _: &Position) -> Result<()> {
        Ok(())
    }

    async fn lag(&self, _: &Stream, reached: &Position) -> Result<Lag> {
        let mut session = self.session().await?;
        let lag = lag::lag(&mut session, reached).await?;
        self.keep(session);
        Ok(lag)
    }

    async fn release(&self, _: &Stream) -> Result<()> {
        Ok(())
    }
}
