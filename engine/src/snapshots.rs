//! The view of the source that the tables of a run read from: opened when the first one
//! needs it, and opened anew when it is lost.

use std::sync::Arc;

use serde_json::Value;
use tideway_core::{Connection, Error, Position, Result, changes::Stream, source::Snapshot};

use crate::plan::SyncSpec;

/// What a view is made by.
enum Opener {
    /// The source's snapshots.
    Source { options: Value },
    /// Snapshots with their position in a change stream.
    Anchor(std::sync::Mutex<Option<Stream>>),
}

pub struct Snapshots {
    source: Arc<dyn Connection>,
    source_type: String,
    opener: Opener,
    held: tokio::sync::Mutex<(u64, Option<Seen>)>,
}

type Seen = (Arc<dyn Snapshot>, Option<Position>);

/// A view in use.
pub struct View {
    pub generation: u64,
    pub snapshot: Arc<dyn Snapshot>,
    /// Where in the change stream it stands.
    pub position: Option<Position>,
}

impl Snapshots {
    pub fn of_source(spec: &SyncSpec) -> Self {
        let options = spec.source_options.clone();
        Self::new(spec, Opener::Source { options })
    }

    /// Views with a position; there are none before [`Snapshots::follow`].
    pub fn of_stream(spec: &SyncSpec) -> Self {
        Self::new(spec, Opener::Anchor(std::sync::Mutex::default()))
    }

    fn new(spec: &SyncSpec, opener: Opener) -> Self {
        Snapshots {
            source: spec.source.clone(),
            source_type: spec.source_type.clone(),
            opener,
            held: tokio::sync::Mutex::new((0, None)),
        }
    }

    /// Names the stream whose positions the views stand at.
    pub fn follow(&self, stream: &Stream) {
        if let Opener::Anchor(named) = &self.opener {
            *named.lock().unwrap_or_else(|broken| broken.into_inner()) = Some(stream.clone());
        }
    }

    /// The view in use, with its generation.
    pub async fn current(&self) -> Result<View> {
        let mut held = self.held.lock().await;
        let (generation, seen) = &mut *held;
        let (snapshot, position) = match seen {
            Some(seen) => seen.clone(),
            None => seen.insert(self.open().await?).clone(),
        };
        Ok(View {
            generation: *generation,
            snapshot,
            position,
        })
    }

    async fn open(&self) -> Result<Seen> {
        let roles = self.source.roles();
        match &self.opener {
            Opener::Source { options } => {
                let source = roles.need_source(&self.source_type)?;
                Ok((source.open(options).await?, None))
            }
            Opener::Anchor(named) => {
                let stream = named
                    .lock()
                    .unwrap_or_else(|broken| broken.into_inner())
                    .clone()
                    .ok_or_else(|| Error::bug("no stream was attached"))?;
                let changes = roles
                    .changes
                    .ok_or_else(|| Error::bug("the source has no change stream any more"))?;
                let anchor = changes.snapshot(&stream).await?;
                Ok((anchor.snapshot, Some(anchor.position)))
            }
        }
    }

    /// Lets go of the view of that generation, unless another table did already.
    pub async fn renew(&self, generation: u64) {
        let mut held = self.held.lock().await;
        if held.0 == generation {
            *held = (generation + 1, None);
        }
    }

    /// Lets go of the view in use.
    pub async fn release(&self) {
        let mut held = self.held.lock().await;
        *held = (held.0 + 1, None);
    }
}
