//! How far behind a stream is, and what that costs the server.

use tideway_core::{Position, Result, changes::Lag};

use super::{
    position::{End, Lsn},
    slot::Slot,
};
use crate::connect::Session;

pub async fn lag(session: &Session, slot: &str, reached: &Position) -> Result<Lag> {
    let end = End::of(session).await?;
    let behind = |from: Lsn| end.lsn.0.saturating_sub(from.0);
    let found = Slot::find(session, slot).await?;
    let reached = end.log.place(reached);
    let warning = match (&reached, &found) {
        (_, None) => Some(format!("replication slot {slot} is gone")),
        (Err(error), _) => Some(error.what().to_owned()),
        (Ok(reached), Some(found)) => found.lost().or_else(|| {
            if *reached < found.confirmed {
                return Some("the log was released beyond what has arrived: a new snapshot is needed".into());
            }
            match found.wal_status.as_deref() {
                Some("unreserved") => Some(
                    "the log will be cut off at the server's next checkpoint: it is longer than max_slot_wal_keep_size".into(),
                ),
                Some("extended") => {
                    Some("the server keeps more log for this stream than max_wal_size".into())
                }
                _ => None,
            }
        }),
    };
    Ok(Lag {
        bytes: reached.ok().map(behind),
        retained_bytes: found.as_ref().and_then(|slot| slot.restart).map(behind),
        headroom_bytes: found
            .and_then(|slot| slot.safe_wal_size)
            .map(|bytes| u64::try_from(bytes).unwrap_or_default()),
        end: Some(end.position()),
        warning,
    })
}
