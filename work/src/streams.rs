//! Change streams of syncs: how a run follows one, and what becomes of those that nobody
//! wants any more.

use std::time::Duration;

use serde_json::Value;
use tideway_core::{Connection, Error, Kind, Result, WriteMode, changes::Stream, failpoint};
use tideway_engine::{Report, StreamSpec, TableSpec};
use tideway_store::{Attachment, Claim, Frequency, SyncSchema, Trigger};
use uuid::Uuid;

use crate::{Work, adopt::policy, execution::Side};

const TICK: Duration = Duration::from_secs(2);
const AT_ONCE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Whether this run streams.
pub(crate) fn streams(claim: &Claim, source: &Side) -> bool {
    !claim.execution.test
        && claim.sync.mode != WriteMode::Snapshot
        && source.link.roles().changes.is_some()
}

/// Why a run that went well counts as failed: its stream has fallen too far behind.
pub(crate) fn behind(report: &Report, threshold: Option<i64>) -> Option<String> {
    let seconds = report.stream.as_ref()?.lag_seconds?;
    let threshold = u64::try_from(threshold?).ok()?;
    (seconds > threshold).then(|| {
        format!(
            "ingestion is {seconds} s behind the source, more than the {threshold} s that \
             ingestion_failure_threshold allows"
        )
    })
}

impl Work {
    /// How the run follows the stream. What is needed to remove the stream again is stored
    /// before it is made at the source.
    pub(crate) async fn stream_spec(
        &self,
        claim: &Claim,
        source: &Side,
        streams: bool,
        schemas: &[SyncSchema],
        tables: &[TableSpec],
    ) -> Result<Option<StreamSpec>> {
        let sync = &claim.sync;
        if !streams {
            if !claim.execution.test {
                let streams = self.store.streams();
                streams.dismiss(sync.organization_id, sync.id).await?;
            }
            return Ok(None);
        }
        let connection = sync.source_connection_id;
        let options = &sync.settings.source_configuration;
        self.leave_behind(claim, source).await?;
        self.store
            .streams()
            .attach(
                &claim.lease,
                connection,
                &source.kind,
                &source.configuration,
                options,
            )
            .await?;
        failpoint::reach("work.attached");
        let mut others = Vec::new();
        for schema_id in self.store.checkpoints().streamed(sync.id).await? {
            let enabled = schemas
                .iter()
                .any(|schema| schema.enabled && schema.schema_id == schema_id);
            if !enabled {
                // What happens to it while it is left out is not told.
                self.store
                    .checkpoints()
                    .forget(&claim.lease, &schema_id)
                    .await?;
            } else if tables.iter().all(|table| table.schema_id != schema_id) {
                others.push(schema_id);
            }
        }
        let follow_for = self
            .continuous(claim)
            .await?
            .then_some(self.settings.stream_period);
        Ok(Some(StreamSpec {
            id: sync.id.to_string(),
            others,
            follow_for,
            new_fields: policy(sync.settings.automatically_add_new_fields),
        }))
    }

    /// Sees to a stream that the settings of before have made in another place.
    async fn leave_behind(&self, claim: &Claim, source: &Side) -> Result<()> {
        let sync = &claim.sync;
        let streams = self.store.streams();
        let attached = streams.attached(sync.id, sync.source_connection_id).await?;
        let options = &sync.settings.source_configuration;
        let Some(earlier) = attached.filter(|earlier| {
            earlier.options != *options
                || earlier.configuration.expose() != source.configuration.expose()
        }) else {
            return Ok(());
        };
        let opened = self.open(&earlier.kind, earlier.configuration.expose(), "stream");
        let Ok(link) = opened.await else {
            // Its server is gone, or it is the same one with another password.
            return Ok(());
        };
        let place = |link: &dyn Connection, options: &Value| {
            let changes = link.roles().changes;
            let stream = stream_of(sync.id, options);
            changes.map(|changes| changes.place(&stream)).transpose()
        };
        let before = place(link.as_ref(), &earlier.options)?;
        if before.is_some() && before != place(source.link.as_ref(), options)? {
            tracing::info!(sync = %sync.id, "the change stream moves to another place");
            streams.leave_behind(&claim.lease, earlier.id).await?;
        }
        Ok(())
    }

    /// The run was started by a schedule that goes on for ever.
    async fn continuous(&self, claim: &Claim) -> Result<bool> {
        let (Trigger::Scheduled, Some(id)) = (claim.execution.trigger, claim.execution.schedule_id)
        else {
            return Ok(false);
        };
        let sync = &claim.sync;
        let schedules = self.store.schedules();
        match schedules.get(sync.organization_id, sync.id, id).await {
            Ok(schedule) => Ok(schedule.timing.frequency == Frequency::Continuous),
            Err(error) if error.kind == Kind::Missing => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Removes what is left at sources of streams that nobody wants.
pub async fn run(work: Work) {
    loop {
        if let Err(error) = tidy(&work).await {
            tracing::warn!(%error, "streams were not seen to");
        }
        if !work.pause(TICK).await {
            return;
        }
    }
}

async fn tidy(work: &Work) -> Result<()> {
    let streams = work.store.streams();
    // A removal that takes longer is taken for dead and may be tried by another process.
    let longest = 2 * work.settings.lease;
    for stream in streams.doubtful(AT_ONCE, longest).await? {
        match work.still_offered(&stream).await {
            Ok(true) => streams.keep(stream.id).await?,
            Ok(false) => {
                streams
                    .dismiss(stream.organization_id, stream.sync_id)
                    .await?;
            }
            Err(error) => {
                tracing::debug!(sync = %stream.sync_id, %error, "a stream was not looked at");
                streams.postpone(stream.id, pause(stream.attempts)).await?;
            }
        }
    }
    for stream in streams.unwanted(AT_ONCE, longest).await? {
        match work.release(&stream).await {
            Ok(()) => {
                tracing::info!(sync = %stream.sync_id, "the change stream was removed at its source");
                failpoint::reach("work.released");
                streams.removed(stream.id).await?;
            }
            Err(error) => {
                let pause = pause(stream.attempts);
                tracing::warn!(
                    sync = %stream.sync_id,
                    %error,
                    pause = pause.as_secs(),
                    "the change stream could not be removed at its source, trying again"
                );
                streams.postpone(stream.id, pause).await?;
            }
        }
    }
    Ok(())
}

fn pause(attempts: u32) -> Duration {
    LONGEST_PAUSE.min(Duration::from_secs(1 << attempts.min(10)))
}

impl Work {
    /// The connection as it is set up now still has a change stream.
    async fn still_offered(&self, stream: &Attachment) -> Result<bool> {
        let connections = self.store.connections();
        let stored = connections
            .get(stream.organization_id, stream.connection_id)
            .await?;
        let link = self
            .open(&stored.kind, stored.configuration.expose(), "stream")
            .await?;
        Ok(link.roles().changes.is_some())
    }

    async fn release(&self, stream: &Attachment) -> Result<()> {
        let link = self
            .open(&stream.kind, stream.configuration.expose(), "stream")
            .await?;
        let roles = link.roles();
        let changes = roles
            .changes
            .ok_or_else(|| Error::bug("a stream's own settings offer no stream"))?;
        changes
            .release(&stream_of(stream.sync_id, &stream.options))
            .await
    }
}

/// The stream without its tables, as which it is named and removed.
fn stream_of(sync: Uuid, options: &Value) -> Stream {
    Stream {
        id: sync.to_string(),
        options: options.clone(),
        tables: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_as_failed_only_beyond_the_threshold() {
        let report = |lag_seconds| Report {
            tables: Vec::new(),
            stream: Some(tideway_engine::StreamState {
                lag_seconds,
                ..Default::default()
            }),
        };
        assert!(behind(&report(Some(61)), Some(60)).is_some());
        assert!(behind(&report(Some(60)), Some(60)).is_none());
        assert!(behind(&report(Some(61)), None).is_none());
        assert!(behind(&report(None), Some(0)).is_none());
    }

    #[test]
    fn pauses_grow_to_ten_minutes() {
        assert_eq!(pause(1), Duration::from_secs(2));
        assert_eq!(pause(99), LONGEST_PAUSE);
    }
}
