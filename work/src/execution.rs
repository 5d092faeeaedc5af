//! One claimed execution, from its lease to its end.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::FutureExt;
use serde_json::json;
use tideway_core::{Catalog, Connection, Error, Kind, Result, Table, failpoint, naming::Normalize};
use tideway_engine::{
    Budget, Controls, FieldSpec, FilterSpec, Level, Observer, Report, Resync, RunMeter, SyncSpec,
    TableSpec, Verify,
};
use tideway_store::{
    BulkSync, Claim, Configuration, ExecutionStatus, FieldSelection, KeyField, NormalizeNames,
    ResyncMode, SelectiveMode, SyncSchema,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Work,
    catalog::discover_all,
    ledger::StoreLedger,
    observe::{FLUSH_EVERY, StoreObserver},
    streams::{behind, streams},
};

impl Work {
    /// Runs the execution to its end, or gives it back if the process stops.
    pub(crate) async fn carry_out(&self, claim: Claim) {
        let lease = claim.lease;
        let meter: Arc<RunMeter> = Arc::default();
        let observer = Arc::new(StoreObserver::new(
            self.store.clone(),
            lease,
            claim.sync.source_connection_id,
            meter.clone(),
        ));
        let controls: Arc<Controls> = Arc::default();
        let lost = Arc::new(AtomicBool::new(false));
        // However this ends, a panic included, the lease is renewed no longer.
        let beat = AbortOnDropHandle::new(tokio::spawn(heartbeat(
            self.clone(),
            claim.lease,
            controls.clone(),
            lost.clone(),
        )));
        let flush = AbortOnDropHandle::new(tokio::spawn(flush(observer.clone())));
        metrics::gauge!("tideway_executions_running").increment(1.0);

        if claim.execution.attempts > 1 {
            let message = format!("taken up again, attempt {}", claim.execution.attempts);
            observer.log(Level::Warn, "", message, json!({}));
        }
        // A run that stops because the process does is not over.
        let execution = self.execute(&claim, &observer, &meter, &controls);
        let result = tokio::select! {
            result = AssertUnwindSafe(execution).catch_unwind() => Some(result.unwrap_or_else(|_| {
                Err(Error::bug("the run panicked; the server's log says where"))
            })),
            () = self.stop.cancelled() => None,
        };
        drop((beat, flush));
        metrics::gauge!("tideway_executions_running").decrement(1.0);
        let ended = match result {
            _ if lost.load(Relaxed) => Err(Error::fenced("the lease was lost")),
            None => self.store.queue().release(&lease, Duration::ZERO).await,
            Some(result) => self.end(&claim, &observer, &meter, result).await,
        };
        if let Err(error) = ended {
            tracing::warn!(execution = %lease.execution_id, %error, "the end was not recorded");
        }
    }

    async fn execute(
        &self,
        claim: &Claim,
        observer: &Arc<StoreObserver>,
        meter: &Arc<RunMeter>,
        controls: &Arc<Controls>,
    ) -> Result<Report> {
        failpoint::reach("work.claimed");
        if claim.execution.cancel.execution {
            return Err(Error::cancelled());
        }
        let sync = &claim.sync;
        let source = self.side(sync, sync.source_connection_id, "source").await?;
        let destination = self
            .side(sync, sync.destination_connection_id, "destination")
            .await?;
        let catalog = discover_all(source.link.as_ref(), &source.kind).await?;
        self.store_catalog(sync, &catalog).await?;
        let streams = streams(claim, &source);
        let schemas = self
            .adopt(sync, &catalog, streams, observer.as_ref())
            .await?;
        let overrides = self
            .store
            .catalogs()
            .key_overrides(sync.organization_id, sync.source_connection_id)
            .await?;
        let tables: Vec<TableSpec> = schemas
            .iter()
            .filter(|schema| wanted(schema, claim, streams))
            .map(|schema| {
                let table = catalog.table(&schema.schema_id);
                let key = overrides
                    .get(&schema.schema_id)
                    .map(|said| key_of(table, said));
                table_spec(schema, key)
            })
            .collect();
        if tables.is_empty() && schemas.iter().all(|schema| !schema.enabled) {
            return Err(Error::config("no schema of this sync is enabled")
                .field("schemas")
                .hint("enable at least one schema"));
        }
        for schema_id in &claim.execution.cancel.schemas {
            controls.cancel_table(schema_id);
        }
        let stream = self
            .stream_spec(claim, &source, streams, &schemas, &tables)
            .await?;
        let spec = SyncSpec {
            stream,
            ..self.spec(claim, source, destination, tables).await?
        };
        let ledger = Arc::new(StoreLedger {
            store: self.store.clone(),
            lease: claim.lease,
        });
        tideway_engine::run(
            spec,
            ledger,
            observer.clone(),
            meter.clone(),
            controls.clone(),
        )
        .await
    }

    async fn spec(
        &self,
        claim: &Claim,
        source: Side,
        destination: Side,
        tables: Vec<TableSpec>,
    ) -> Result<SyncSpec> {
        let (sync, execution) = (&claim.sync, &claim.execution);
        let settings = &sync.settings;
        let limit = match execution.resync_mode {
            Some(_) => settings
                .resync_concurrency_limit
                .or(settings.concurrency_limit),
            None => settings.concurrency_limit,
        };
        let default = Budget::default();
        Ok(SyncSpec {
            execution_id: execution.id.to_string(),
            fence: u64::try_from(claim.lease.fence).unwrap_or_default(),
            source: source.link,
            destination: destination.link,
            source_type: source.kind,
            destination_type: destination.kind,
            source_options: settings.source_configuration.clone(),
            destination_options: settings.destination_configuration.clone(),
            tables,
            mode: sync.mode,
            resync: execution.resync_mode.map(|mode| match mode {
                ResyncMode::Refetch => Resync::Refetch,
                ResyncMode::Resync => Resync::Resync,
                ResyncMode::Rebuild => Resync::Rebuild,
            }),
            test: execution.test,
            normalize: match settings.normalize_names {
                NormalizeNames::Enabled => Normalize::Enabled,
                NormalizeNames::Disabled => Normalize::Disabled,
                NormalizeNames::Legacy => Normalize::Legacy,
            },
            record_timestamps: !settings.disable_record_timestamps,
            cutoff: settings.data_cutoff_timestamp.map(|at| at.to_rfc3339()),
            obfuscation_key: self.store.obfuscation_key(sync.organization_id).await?,
            budget: Budget {
                bytes: self.settings.memory,
                tables_at_once: limit
                    .and_then(|limit| usize::try_from(limit).ok())
                    .unwrap_or(default.tables_at_once),
                ..default
            },
            verify: Verify::FirstLoads,
            stream: None,
        })
    }

    async fn side(&self, sync: &BulkSync, id: uuid::Uuid, side: &str) -> Result<Side> {
        let stored = self
            .store
            .connections()
            .get(sync.organization_id, id)
            .await?;
        let purpose = format!("sync {}", sync.id);
        let link = self
            .open(&stored.kind, stored.configuration.expose(), &purpose)
            .await
            .map_err(|error| error.while_(format!("{side} {}", stored.name)))?;
        let counted = self
            .store
            .connections()
            .count_calls(id, Some(sync.id), "sync", 1)
            .await;
        if let Err(error) = counted {
            tracing::debug!(%error, "a call was not counted");
        }
        Ok(Side {
            kind: stored.kind.clone(),
            configuration: stored.configuration.clone(),
            link,
        })
    }

    async fn store_catalog(&self, sync: &BulkSync, catalog: &Catalog) -> Result<()> {
        let (organization, connection) = (sync.organization_id, sync.source_connection_id);
        if self
            .store
            .catalogs()
            .start_refresh(organization, connection, Duration::from_secs(60))
            .await?
        {
            self.store
                .catalogs()
                .finish_refresh(connection, Ok(catalog))
                .await?;
        }
        Ok(())
    }

    /// Writes down how it ended.
    async fn end(
        &self,
        claim: &Claim,
        observer: &StoreObserver,
        meter: &RunMeter,
        result: Result<Report>,
    ) -> Result<()> {
        let threshold = claim.sync.error_handling.ingestion_failure_threshold;
        let (status, message) = match &result {
            Ok(report) => match behind(report, threshold) {
                Some(message) => {
                    observer.log(Level::Error, "", message.clone(), json!({}));
                    (ExecutionStatus::Failed, Some(message))
                }
                None => verdict(report),
            },
            Err(error) if error.kind == Kind::Cancelled => (ExecutionStatus::Canceled, None),
            Err(error) if error.kind == Kind::Fenced => return Err(error.clone()),
            Err(error) => {
                let payload = json!({"kind": error.kind.word(), "hint": error.advice()});
                observer.log(Level::Error, "", error.to_string(), payload);
                (
                    ExecutionStatus::Failed,
                    Some(format!("{error} ({})", error.advice())),
                )
            }
        };
        observer.flush().await?;
        let totals = meter.totals();
        metrics::counter!("tideway_rows_read_total").increment(totals.rows_read);
        metrics::counter!("tideway_bytes_read_total").increment(totals.bytes_read);
        metrics::counter!("tideway_executions_total", "status" => status.word()).increment(1);
        tracing::info!(
            execution = %claim.lease.execution_id,
            sync = claim.sync.name,
            status = status.word(),
            rows = totals.rows_read,
            "execution ended"
        );
        failpoint::reach("work.ending");
        self.store
            .queue()
            .finish(&claim.lease, status, message.as_deref())
            .await?;
        failpoint::reach("work.ended");
        let streamed = matches!(&result, Ok(report) if report.stream.is_some());
        if streamed {
            metrics::counter!("tideway_stream_rows_total").increment(totals.rows_read);
        }
        if streamed && status == ExecutionStatus::Completed {
            self.store.schedules().go_on(claim.sync.id).await?;
        }
        Ok(())
    }
}

/// A live end of the sync with its connector's id.
pub(crate) struct Side {
    pub kind: String,
    pub configuration: Configuration,
    pub link: Arc<dyn Connection>,
}

fn verdict(report: &Report) -> (ExecutionStatus, Option<String>) {
    let (mut failed, mut canceled) = (Vec::new(), 0);
    for table in &report.tables {
        match &table.result {
            Ok(_) => {}
            Err(error) if error.kind == Kind::Cancelled => canceled += 1,
            Err(error) => failed.push(format!("{}: {error}", table.schema_id)),
        }
    }
    if failed.is_empty() {
        return match canceled {
            0 => (ExecutionStatus::Completed, None),
            all if all == report.tables.len() => (ExecutionStatus::Canceled, None),
            some => (
                ExecutionStatus::Completed,
                Some(format!("{some} schemas were canceled")),
            ),
        };
    }
    let status = if failed.len() == report.tables.len() {
        ExecutionStatus::Failed
    } else {
        ExecutionStatus::Errors
    };
    let message = format!(
        "{} of {} schemas failed: {}",
        failed.len(),
        report.tables.len(),
        failed.join("; ")
    );
    (status, Some(message))
}

/// Renews the lease and passes on what was asked to stop.
async fn heartbeat(
    work: Work,
    lease: tideway_store::Lease,
    controls: Arc<Controls>,
    lost: Arc<AtomicBool>,
) {
    // Cancellation should be felt within a second or two; the lease lasts longer.
    let pause = (work.settings.lease / 3).min(Duration::from_secs(1));
    loop {
        tokio::time::sleep(pause).await;
        match work
            .store
            .queue()
            .heartbeat(&lease, work.settings.lease)
            .await
        {
            Ok(cancel) => {
                if cancel.execution {
                    controls.cancel();
                }
                for schema_id in &cancel.schemas {
                    controls.cancel_table(schema_id);
                }
            }
            Err(error) if error.kind == Kind::Fenced => {
                tracing::warn!(execution = %lease.execution_id, "the lease was lost; stopping");
                lost.store(true, Relaxed);
                controls.cancel();
                return;
            }
            Err(error) => tracing::warn!(%error, "the lease was not renewed"),
        }
    }
}

async fn flush(observer: Arc<StoreObserver>) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        if let Err(error) = observer.flush().await {
            tracing::debug!(%error, "progress was not written");
        }
    }
}

fn wanted(schema: &SyncSchema, claim: &Claim, streams: bool) -> bool {
    let execution = &claim.execution;
    let asked =
        execution.only_schemas.is_empty() || execution.only_schemas.contains(&schema.schema_id);
    let incremental = streams || schema.tracking_field.is_some();
    let selected = match execution.selective_mode {
        SelectiveMode::None => true,
        SelectiveMode::IncrementalFields => incremental,
        SelectiveMode::NonIncrementalFields => !incremental,
    };
    // A schema that an earlier attempt has completed is done.
    let done = execution.schemas.iter().any(|earlier| {
        earlier.schema_id == schema.schema_id && earlier.status == ExecutionStatus::Completed
    });
    schema.enabled && asked && selected && !done
}

/// The key that the source reports, but for the fields about which users said otherwise.
fn key_of(table: Option<&Table>, said: &[KeyField]) -> Vec<String> {
    let reported = table
        .map(|table| table.primary_key.as_slice())
        .unwrap_or_default();
    let denied = |name: &String| {
        said.iter()
            .any(|f| f.field_id == *name && !f.is_primary_key)
    };
    let mut key: Vec<String> = reported
        .iter()
        .filter(|name| !denied(name))
        .cloned()
        .collect();
    for field in said.iter().filter(|field| field.is_primary_key) {
        if !key.contains(&field.field_id) {
            key.push(field.field_id.clone());
        }
    }
    key
}

fn table_spec(schema: &SyncSchema, key_override: Option<Vec<String>>) -> TableSpec {
    TableSpec {
        schema_id: schema.schema_id.clone(),
        output_name: schema
            .user_output_name
            .clone()
            .filter(|name| !name.is_empty()),
        fields: schema.fields.as_ref().map(|fields| {
            let spec = |field: &FieldSelection| FieldSpec {
                id: field.id.clone(),
                enabled: field.enabled,
                obfuscate: field.obfuscated,
                output_name: field.user_output_name.clone(),
            };
            fields.iter().map(spec).collect()
        }),
        filters: schema
            .filters
            .iter()
            .map(|filter| FilterSpec {
                field_id: filter.field_id.clone().unwrap_or_default(),
                function: filter.function.clone(),
                value: filter.value.clone().unwrap_or_default(),
            })
            .collect(),
        tracking_field: schema
            .tracking_field
            .clone()
            .filter(|field| !field.is_empty()),
        partition_key: schema.partition_key.clone().filter(|key| !key.is_empty()),
        cutoff: schema.data_cutoff_timestamp.map(|at| at.to_rfc3339()),
        disable_cutoff: schema.disable_data_cutoff,
        key_override,
        history: schema.history_enabled,
    }
}

#[cfg(test)]
mod tests {
    use tideway_core::{TableId, schema::TableKind};

    use super::*;

    #[test]
    fn an_override_speaks_of_single_fields_and_leaves_the_rest_of_the_key() {
        let table = Table {
            id: TableId::new(None, "t"),
            columns: Vec::new(),
            primary_key: vec!["a".into(), "b".into()],
            row_estimate: None,
            byte_estimate: None,
            kind: TableKind::Table,
        };
        let said = |field_id: &str, is_primary_key| KeyField {
            field_id: field_id.into(),
            is_primary_key,
        };
        assert_eq!(
            key_of(Some(&table), &[said("a", false), said("c", true)]),
            ["b", "c"]
        );
        assert_eq!(key_of(Some(&table), &[said("b", true)]), ["a", "b"]);
        assert_eq!(key_of(None, &[said("c", true)]), ["c"]);
    }
}
