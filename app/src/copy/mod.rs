//! `tideway copy SRC DST`: one bulk sync without a server and without any set-up.

mod progress;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tideway_core::{
    Connection, Error, Kind, Result, WriteMode,
    connector::{ConnectCx, Connector},
    naming::Normalize,
    schema::TableKind,
    source::Scope,
};
use tideway_engine::{
    Budget, Controls, Level, MemoryLedger, Observer, Report, RunMeter, SyncSpec, TableSpec,
    TableState, Verify,
};

use crate::{cli::CopyArgs, exit, print};

pub async fn run(args: CopyArgs, json: bool) -> Result<ExitCode> {
    let (source_kind, from) =
        tideway_registry::from_url(&args.source).map_err(|error| error.while_("source"))?;
    let (destination_kind, to) = tideway_registry::from_url(&args.destination)
        .map_err(|error| error.while_("destination"))?;
    let source = open(source_kind, &from.configuration, "source").await?;
    let destination = open(destination_kind, &to.configuration, "destination").await?;
    let tables = tables(&args, source.as_ref(), source_kind).await?;
    let spec = SyncSpec {
        execution_id: uuid::Uuid::now_v7().to_string(),
        fence: 1,
        source,
        destination,
        source_type: source_kind.about().id.into(),
        destination_type: destination_kind.about().id.into(),
        source_options: from.options,
        destination_options: destination_options(to.options, &args),
        tables,
        mode: WriteMode::parse(&args.mode).ok_or_else(|| Error::config("unknown mode"))?,
        resync: None,
        test: args.test,
        normalize: if args.keep_names {
            Normalize::Disabled
        } else {
            Normalize::Enabled
        },
        record_timestamps: !args.no_record_timestamps,
        cutoff: None,
        obfuscation_key: Vec::new(),
        budget: budget(&args),
        verify: match args.no_verify {
            true => Verify::Never,
            false => Verify::Always,
        },
        stream: None,
    };

    let (meter, controls) = (Arc::<RunMeter>::default(), Arc::<Controls>::default());
    let progress = progress::Progress::start(meter.clone(), spec.tables.len(), json);
    let observer = Arc::new(Lines {
        progress: progress.clone(),
    });
    cancel_on_interrupt(controls.clone());
    let begun = Instant::now();
    let ledger = Arc::new(MemoryLedger::default());
    let report = tideway_engine::run(spec, ledger, observer, meter.clone(), controls).await;
    progress.stop();
    let report = report?;
    if json {
        print_json(&report, &meter, begun.elapsed());
    } else {
        print_summary(&report, &meter, begun.elapsed());
    }
    Ok(exit_code(&report))
}

async fn open(
    connector: &'static dyn Connector,
    configuration: &Value,
    side: &str,
) -> Result<Arc<dyn Connection>> {
    let cx = ConnectCx {
        data_dir: None,
        purpose: "tideway copy".into(),
        ..ConnectCx::default()
    };
    connector
        .connect(configuration, &cx)
        .await
        .map_err(|error| error.while_(side))
}

/// The tables asked for; all tables but views where none is named.
async fn tables(
    args: &CopyArgs,
    source: &dyn Connection,
    kind: &'static dyn Connector,
) -> Result<Vec<TableSpec>> {
    let scope = Scope {
        namespaces: (!args.schema.is_empty()).then(|| args.schema.clone()),
        tables: (!args.table.is_empty()).then(|| args.table.clone()),
    };
    let catalog = source
        .roles()
        .need_source(kind.about().id)?
        .discover(&scope)
        .await?;
    for wanted in &args.table {
        if catalog.table(wanted).is_none() {
            return Err(Error::missing(format!("the source has no table {wanted}"))
                .hint("list them with `tideway discover`; names are schema.table"));
        }
    }
    let named = !args.table.is_empty();
    let tables: Vec<TableSpec> = catalog
        .tables
        .iter()
        .filter(|table| named || table.kind != TableKind::View)
        .map(|table| TableSpec {
            schema_id: table.id.to_string(),
            ..TableSpec::default()
        })
        .collect();
    if tables.is_empty() {
        return Err(Error::missing("the source has no tables to copy")
            .hint("list what is visible with `tideway discover`"));
    }
    Ok(tables)
}

/// What the URL says, and the flags on top.
fn destination_options(mut options: Value, args: &CopyArgs) -> Value {
    if !options.is_object() {
        options = json!({});
    }
    if args.mirror_schemas {
        options["mirror_schemas"] = true.into();
    }
    if args.hard_deletes {
        if !options["advanced"].is_object() {
            options["advanced"] = json!({});
        }
        options["advanced"]["hard_deletes"] = true.into();
    }
    options
}

fn budget(args: &CopyArgs) -> Budget {
    let default = Budget::default();
    Budget {
        bytes: args.memory_mib.max(1) << 20,
        lanes: args.lanes.unwrap_or(default.lanes),
        ..default
    }
}

/// The first interrupt stops cleanly, the second at once.
fn cancel_on_interrupt(controls: Arc<Controls>) {
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            controls.cancel();
        }
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(exit::code(Kind::Cancelled)));
        }
    });
}

/// Tells of tables as they are done, above the bar.
struct Lines {
    progress: progress::Progress,
}

impl Observer for Lines {
    fn table(&self, schema_id: &str, output_name: &str, state: TableState) {
        match state {
            TableState::Completed(_) => self.progress.table_done(),
            TableState::Failed { message, hint } => {
                self.progress.table_done();
                self.progress
                    .say(&format!("✗ {schema_id}: {message}\n  → {hint}"));
            }
            TableState::Canceled => self.progress.say(&format!("- {schema_id}: canceled")),
            TableState::Running | TableState::Processing => {
                self.progress.now(&format!("{schema_id} → {output_name}"));
            }
        }
    }

    fn log(&self, level: Level, schema_id: &str, message: String, _: Value) {
        if level == Level::Warn {
            self.progress.say(&format!("! {schema_id}: {message}"));
        }
    }
}

fn print_summary(report: &Report, meter: &RunMeter, time: Duration) {
    use std::sync::atomic::Ordering::Relaxed;
    for table in &report.tables {
        let Ok(outcome) = &table.result else { continue };
        let rows = meter.table(&table.schema_id).rows_read.load(Relaxed);
        let verified = outcome.verified.as_ref();
        let verified = verified.map_or_else(String::new, |verified| format!("\n  {verified}"));
        print::line(&format!(
            "✓ {} → {}: {} rows read, {} inserted, {} updated, {} deleted, {} unchanged{verified}",
            table.schema_id,
            outcome.place,
            print::count(rows),
            print::count(outcome.inserted),
            print::count(outcome.updated),
            print::count(outcome.deleted),
            print::count(outcome.unchanged),
        ));
    }
    let totals = meter.totals();
    let rate = totals.rows_read as f64 / time.as_secs_f64().max(0.001);
    print::line(&format!(
        "{} of {} tables, {} rows, {} in {} ({} rows/s)",
        report.tables.len() - report.failed(),
        report.tables.len(),
        print::count(totals.rows_read),
        print::bytes(totals.bytes_read),
        print::seconds(time),
        print::count(rate as u64),
    ));
}

fn print_json(report: &Report, meter: &RunMeter, time: Duration) {
    use std::sync::atomic::Ordering::Relaxed;
    let tables: Vec<Value> = report
        .tables
        .iter()
        .map(|table| {
            let rows = meter.table(&table.schema_id).rows_read.load(Relaxed);
            match &table.result {
                Ok(outcome) => json!({
                    "schema": table.schema_id, "place": outcome.place, "rows": rows,
                    "inserted": outcome.inserted, "updated": outcome.updated,
                    "deleted": outcome.deleted, "unchanged": outcome.unchanged,
                    "verification": outcome.verified,
                }),
                Err(error) => json!({
                    "schema": table.schema_id, "rows": rows,
                    "error": {"kind": error.kind.word(), "message": error.to_string(), "hint": error.advice()},
                }),
            }
        })
        .collect();
    let totals = meter.totals();
    print::line(
        &json!({
            "tables": tables, "rows": totals.rows_read, "bytes": totals.bytes_read,
            "failed": report.failed(), "seconds": time.as_secs_f64(),
        })
        .to_string(),
    );
}

fn exit_code(report: &Report) -> ExitCode {
    let errors: Vec<&Error> = report
        .tables
        .iter()
        .filter_map(|table| table.result.as_ref().err())
        .collect();
    match errors.as_slice() {
        [] => ExitCode::SUCCESS,
        // Some tables may have been done before the interrupt.
        all if all.iter().any(|error| error.kind == Kind::Cancelled) => {
            ExitCode::from(exit::code(Kind::Cancelled))
        }
        all if all.len() == report.tables.len() => ExitCode::from(exit::code(all[0].kind)),
        _ => ExitCode::from(exit::PARTLY),
    }
}
