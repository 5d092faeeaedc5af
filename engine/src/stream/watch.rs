//! Tells the source what it may forget, and the world how far behind the stream is.

use std::{
    cmp::Ordering,
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::Utc;
use serde_json::json;
use tideway_core::{
    Position, Result,
    changes::{Lag, Stream},
    failpoint,
};

use super::positions::Positions;
use crate::{
    observe::{Level, StreamState},
    run::RunCx,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Barriers nearer to each other than this, in microseconds, count as one.
const GRAIN: i64 = 100_000;

/// What is known of the stream's way.
pub struct Watch {
    cx: Arc<RunCx>,
    stream: Stream,
    pub positions: Arc<Positions>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Barriers told that not every table has reached, with their times.
    barriers: VecDeque<(Position, i64)>,
    /// When the last thing that every table has was committed.
    durable_at: Option<i64>,
    confirmed: Option<Position>,
    warning: Option<String>,
    state: StreamState,
}

impl Watch {
    pub fn new(cx: Arc<RunCx>, stream: Stream) -> Self {
        Watch {
            cx,
            stream,
            positions: Arc::default(),
            seen: Mutex::default(),
        }
    }

    /// Looks again and again, until dropped.
    pub async fn go_on(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(error) = self.look().await {
                tracing::warn!(stream = self.stream.id, %error, "the stream's lag is not known");
            }
        }
    }

    /// Notes a barrier. One without a time tells that until now nothing was to be told.
    pub fn barrier(&self, position: &Position, committed_at: Option<i64>) {
        let at = committed_at.unwrap_or_else(|| Utc::now().timestamp_micros());
        let mut seen = self.seen();
        match seen.barriers.back() {
            Some((_, last)) if at - last < GRAIN && seen.barriers.len() > 1 => {}
            _ => seen.barriers.push_back((position.clone(), at)),
        }
    }

    /// Confirms what every table has, and tells how far behind that is.
    pub async fn look(&self) -> Result<StreamState> {
        let Some(changes) = self.cx.spec.source.roles().changes else {
            return Ok(StreamState::default());
        };
        let Some(lowest) = self.positions.lowest(changes) else {
            return Ok(self.state());
        };
        let at_least = |position: &Position, other: &Position| {
            changes.compare(position, other) != Ordering::Less
        };
        let confirmed = {
            let mut seen = self.seen();
            while let Some((position, at)) = seen.barriers.front()
                && at_least(&lowest, position)
            {
                seen.durable_at = Some(*at);
                seen.barriers.pop_front();
            }
            seen.confirmed.clone()
        };
        // Positions come from checkpoints that were saved: the destination has it all
        // (invariant 1).
        if confirmed.is_none_or(|confirmed| !at_least(&confirmed, &lowest)) {
            failpoint::reach("stream.confirming");
            changes.confirm(&self.stream, &lowest).await?;
            failpoint::reach("stream.confirmed");
            self.seen().confirmed = Some(lowest.clone());
        }
        let lag = changes.lag(&self.stream, &lowest).await?;
        let caught_up =
            lag.bytes == Some(0) || lag.end.as_ref().is_some_and(|end| at_least(&lowest, end));
        Ok(self.tell(lowest, lag, caught_up))
    }

    fn tell(&self, lowest: Position, lag: Lag, caught_up: bool) -> StreamState {
        let (state, warning) = {
            let mut seen = self.seen();
            let behind = seen.durable_at.map(|at| {
                let micros = Utc::now().timestamp_micros().saturating_sub(at);
                u64::try_from(micros / 1_000_000).unwrap_or_default()
            });
            seen.state = StreamState {
                position: Some(lowest),
                committed_at: seen.durable_at,
                lag_seconds: if caught_up { Some(0) } else { behind },
                lag,
                error: None,
            };
            let warning = seen.state.lag.warning.clone();
            let new = warning.clone().filter(|_| warning != seen.warning);
            seen.warning = warning;
            (seen.state.clone(), new)
        };
        if let Some(warning) = warning {
            self.cx.observer.ingest(Level::Warn, "", warning, json!({}));
        }
        self.cx.observer.stream(&state);
        state
    }

    pub fn state(&self) -> StreamState {
        self.seen().state.clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}
