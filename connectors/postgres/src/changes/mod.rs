//! Following the database's log: logical replication through the server's own output
//! plugin, pgoutput. `docs/decisions/replication.md` says why it is built as it is.
//!
//! One changed row goes: socket, [`crate::connect::Replication`] (frames), [`pgoutput`]
//! (messages), [`follow`] (transactions, tables, barriers), [`rows`] (cells into Arrow
//! through the decoders of COPY), [`convert`] (what only the server can turn into text).

mod attach;
pub mod catalog;
mod convert;
mod follow;
mod lag;
pub mod pgoutput;
mod position;
mod publication;
mod refetch;
mod reshape;
pub mod rows;
mod slot;
mod tables;
mod text;

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tideway_core::{
    Position, Result,
    changes::{Anchor, Attached, Change, Changes, Follow, Lag, Stream},
    failpoint, form,
};
use tokio::sync::watch;

use crate::{config::SourceOptions, connect::Postgres, read::snapshot::PostgresSnapshot};
pub use attach::check_server;
use position::{End, Lsn};
use publication::Publication;
use slot::Slot;

/// Streams that are followed over this connection, by slot.
pub type Followers = Arc<Mutex<HashMap<String, Follower>>>;

/// A stream that is followed.
#[derive(Clone)]
pub struct Follower {
    /// What is durable, for it to tell the server.
    durable: watch::Sender<Lsn>,
    /// What it has told.
    reported: watch::Receiver<Lsn>,
}

impl Follower {
    /// Has the server told; gives whether it was.
    async fn confirm(mut self, through: Lsn) -> bool {
        self.durable.send_if_modified(|durable| {
            let further = through > *durable;
            *durable = through.max(*durable);
            further
        });
        let told = self.reported.wait_for(|told| *told >= through);
        told.await.is_ok()
    }
}

fn followers(followers: &Followers) -> MutexGuard<'_, HashMap<String, Follower>> {
    followers
        .lock()
        .unwrap_or_else(|broken| broken.into_inner())
}

/// What the stream's things at the server are called.
struct Names {
    slot: String,
    publication: String,
    publication_is_the_users: bool,
    /// What ours is called, or was before the user named one.
    own_publication: String,
}

/// Names are cut at 63 bytes, and a slot's may hold only `a` to `z`, digits and `_`.
const LONGEST_NAME: usize = 63;
const PREFIX: &str = "tideway_";

impl Names {
    fn of(postgres: &Postgres, stream: &Stream) -> Result<Names> {
        let options: SourceOptions = if stream.options.is_null() {
            SourceOptions::default()
        } else {
            form::parse(&stream.options).map_err(|error| error.while_("source_configuration"))?
        };
        let given = |name: &Option<String>| {
            let name = name.as_deref().map(str::trim).unwrap_or_default();
            (!name.is_empty()).then(|| name.to_owned())
        };
        let (slot, publication) = (
            given(&options.replication_slot),
            given(&postgres.config.publication),
        );
        // Each place in the log has a publication of its own, so that one can be given up
        // while the next one is in use.
        let own_publication = match &slot {
            Some(slot) => own_name(&format!("{}/{slot}", stream.id)),
            None => own_name(&stream.id),
        };
        Ok(Names {
            slot: slot.unwrap_or_else(|| own_name(&stream.id)),
            publication_is_the_users: publication.is_some(),
            publication: publication.unwrap_or_else(|| own_publication.clone()),
            own_publication,
        })
    }
}

/// `tideway_` and the sync's id: the digits of a UUID, the bytes of anything else in hex,
/// or their hash where that is too long.
fn own_name(id: &str) -> String {
    let digits = match uuid::Uuid::try_parse(id) {
        Ok(uuid) => uuid.simple().to_string(),
        Err(_) => id.bytes().map(|byte| format!("{byte:02x}")).collect(),
    };
    if PREFIX.len() + digits.len() <= LONGEST_NAME {
        return format!("{PREFIX}{digits}");
    }
    // FNV-1a with 128 bits: stable for all time, which std's hashes are not.
    let hash = id.bytes().fold(
        0x6c62_272e_07bb_0142_62b8_2175_6295_c58d,
        |hash: u128, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        },
    );
    format!("{PREFIX}{hash:032x}")
}

#[async_trait]
impl Changes for Postgres {
    async fn attach(&self, stream: &Stream) -> Result<Attached> {
        attach::attach(self, stream).await
    }

    fn place(&self, stream: &Stream) -> Result<String> {
        let (server, database) = (self.config.address(), &self.config.database);
        let slot = Names::of(self, stream)?.slot;
        Ok(format!("{server}/{database}/{slot}"))
    }

    async fn snapshot(&self, _: &Stream) -> Result<Anchor> {
        let session = self.client().await?;
        let log = End::of(&session).await?.log;
        self.keep(session);
        // Its slot is there for as long as the session, which is until the snapshot's own
        // session has taken the view over.
        let mut exporter = self.replication().await?;
        let name = format!("{PREFIX}view_{}", uuid::Uuid::new_v4().simple());
        let (snapshot, begin) =
            PostgresSnapshot::open_at(self, slot::export(&mut exporter, &name)).await?;
        failpoint::reach("postgres.anchored");
        Ok(Anchor {
            position: log.position(begin),
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
        let session = self.client().await?;
        let end = End::of(&session).await?;
        self.keep(session);
        Ok(end.position())
    }

    async fn confirm(&self, stream: &Stream, through: &Position) -> Result<()> {
        let names = Names::of(self, stream)?;
        let session = self.client().await?;
        let through = End::of(&session).await?.log.place(through)?;
        let follower = followers(&self.followers).get(&names.slot).cloned();
        // The session that follows tells the server; without one the slot is moved.
        let told = match follower {
            Some(follower) => follower.confirm(through).await,
            None => false,
        };
        if !told {
            Slot::advance(&session, &names.slot, through).await?;
        }
        self.keep(session);
        Ok(())
    }

    async fn lag(&self, stream: &Stream, reached: &Position) -> Result<Lag> {
        let names = Names::of(self, stream)?;
        let session = self.client().await?;
        let lag = lag::lag(&session, &names.slot, reached).await?;
        self.keep(session);
        Ok(lag)
    }

    async fn release(&self, stream: &Stream) -> Result<()> {
        let names = Names::of(self, stream)?;
        let session = self.client().await?;
        if let Some(slot) = Slot::find(&session, &names.slot).await?
            && slot.check_ours().is_ok()
        {
            Slot::drop(&session, &names.slot).await?;
        }
        failpoint::reach("postgres.slot-dropped");
        Publication::drop(&session, &names.own_publication).await?;
        self.keep(session);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_only_what_a_slot_may_be_called() {
        assert_eq!(
            own_name("2B6F4A9E-1C1D-4E5F-8A9B-0C1D2E3F4A5B"),
            "tideway_2b6f4a9e1c1d4e5f8a9b0c1d2e3f4a5b"
        );
        assert_eq!(own_name("a-Z"), "tideway_612d5a");
        let (long, longer) = (own_name(&"x".repeat(40)), own_name(&"x".repeat(41)));
        assert_eq!(long.len(), PREFIX.len() + 32);
        assert_ne!(long, longer);
    }
}
