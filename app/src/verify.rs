//! `tideway verify SRC DST`: whether the tables of two sides hold the same rows.

use std::{
    io::IsTerminal,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tideway_core::{
    Catalog, Column, Connection, Error, Result, Table,
    connector::{ConnectCx, Connector},
    naming::{NamePolicy, Normalize, assign},
    schema::TableKind,
    source::{Scope, Snapshot},
};
use tideway_engine::verify::{Comparison, Difference, Side, Verdict, Verified, verify};

use crate::{cli::VerifyArgs, exit, print};

/// One end, with what it holds.
struct End {
    _connection: Arc<dyn Connection>,
    catalog: Catalog,
    snapshot: Arc<dyn Snapshot>,
    /// The schema that the URL names.
    schema: Option<String>,
}

pub async fn run(args: VerifyArgs, json: bool) -> Result<ExitCode> {
    let source = open(&args.source, "source").await?;
    let destination = open(&args.destination, "destination").await?;
    let pairs = pairs(&args, &source, &destination)?;
    let (mut differ, mut told) = (0, Vec::new());
    for (table, there) in &pairs {
        let begun = Instant::now();
        let comparison = comparison(&args, &source, table, &destination, there)?;
        let bar = watch(&comparison, table, json);
        let verified = verify(&comparison).await;
        bar.finish_and_clear();
        let verified = verified.map_err(|error| error.while_(&table.id))?;
        differ += usize::from(!verified.equal());
        if json {
            told.push(json!({
                "source": table.id.to_string(), "destination": there.id.to_string(),
                "equal": verified.equal(), "verified": verified,
            }));
        } else {
            show(table, there, &verified, begun.elapsed());
        }
    }
    if json {
        print::line(&json!({"tables": told, "differ": differ}).to_string());
    }
    Ok(match differ {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::PARTLY),
    })
}

async fn open(url: &str, side: &str) -> Result<End> {
    let end = async {
        let (connector, endpoint): (&'static dyn Connector, _) = tideway_registry::from_url(url)?;
        let cx = ConnectCx {
            data_dir: None,
            purpose: "tideway verify".into(),
            ..ConnectCx::default()
        };
        let connection = connector.connect(&endpoint.configuration, &cx).await?;
        let source = connection.roles().need_source(connector.about().id)?;
        let catalog = source.discover(&Scope::default()).await?;
        let snapshot = source.open(&json!({})).await?;
        let schema = endpoint.options.get("schema").and_then(Value::as_str);
        Ok(End {
            catalog,
            snapshot,
            schema: schema.map(str::to_owned),
            _connection: connection,
        })
    };
    end.await.map_err(|error: Error| error.while_(side))
}

/// Each table with the one that it is compared to.
fn pairs<'a>(
    args: &VerifyArgs,
    source: &'a End,
    destination: &'a End,
) -> Result<Vec<(&'a Table, &'a Table)>> {
    let mut wanted: Vec<(String, Option<String>)> = Vec::new();
    for table in &args.table {
        wanted.push(match table.split_once('=') {
            Some((here, there)) => (here.to_owned(), Some(there.to_owned())),
            None => (table.clone(), None),
        });
    }
    if wanted.is_empty() {
        let tables = source.catalog.tables.iter();
        let tables = tables.filter(|table| table.kind != TableKind::View);
        wanted.extend(tables.map(|table| (table.id.to_string(), None)));
    }
    let missing = |side: &str, id: &str| {
        Error::missing(format!("the {side} has no table {id}"))
            .hint("list them with `tideway discover`; names are schema.table")
    };
    let pair = |(here, there): &(String, Option<String>)| {
        let table = source.catalog.table(here);
        let table = table.ok_or_else(|| missing("source", here))?;
        let found = match there {
            Some(there) => destination.catalog.table(there),
            None => namesake(table, destination)?,
        };
        let name = there.as_ref().unwrap_or(&table.id.name);
        Ok((table, found.ok_or_else(|| missing("destination", name))?))
    };
    wanted.iter().map(pair).collect()
}

/// The destination's table of that name, as the table is called or as it was renamed.
fn namesake<'a>(table: &Table, destination: &'a End) -> Result<Option<&'a Table>> {
    let plain = normalized(&table.id.name);
    let mut found: Vec<&Table> = destination.catalog.tables.iter().collect();
    found.retain(|one| one.id.name == table.id.name || normalized(&one.id.name) == plain);
    for wanted in [destination.schema.as_deref(), table.id.namespace.as_deref()] {
        if wanted.is_some()
            && found
                .iter()
                .any(|one| one.id.namespace.as_deref() == wanted)
        {
            found.retain(|one| one.id.namespace.as_deref() == wanted);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let names: Vec<String> = several.iter().map(|one| one.id.to_string()).collect();
            Err(Error::config(format!(
                "{} may be any of {} at the destination",
                table.id,
                names.join(", ")
            ))
            .hint(format!("name it: --table {}={}", table.id, names[0])))
        }
    }
}

/// The name as a destination spells it by default.
fn normalized(name: &str) -> String {
    assign(
        [name],
        Normalize::Enabled,
        NamePolicy::new(usize::MAX, true),
    )
    .concat()
}

fn comparison(
    args: &VerifyArgs,
    source: &End,
    table: &Table,
    destination: &End,
    there: &Table,
) -> Result<Comparison> {
    let mut columns: (Vec<Column>, Vec<Column>) = Default::default();
    for column in &table.columns {
        if args.without.contains(&column.name) {
            continue;
        }
        let plain = normalized(&column.name);
        let same = there.column(&column.name).or_else(|| {
            let mut others = there.columns.iter();
            others.find(|other| normalized(&other.name) == plain)
        });
        let same = same.ok_or_else(|| {
            Error::missing(format!("{} has no column {}", there.id, column.name))
                .hint(format!("leave it out with --without {}", column.name))
        })?;
        columns.0.push(column.clone());
        columns.1.push(same.clone());
    }
    let key = match args.key.is_empty() {
        true => &table.primary_key,
        false => &args.key,
    };
    let place = |name: &String| {
        let place = columns.0.iter().position(|column| column.name == *name);
        place.ok_or_else(|| {
            Error::missing(format!(
                "{} has no column {name} to tell rows apart",
                table.id
            ))
            .hint("name others with --key")
        })
    };
    Ok(Comparison {
        key: key.iter().map(place).collect::<Result<_>>()?,
        source: Side {
            snapshot: source.snapshot.clone(),
            table: table.clone(),
            columns: columns.0,
        },
        destination: Side {
            snapshot: destination.snapshot.clone(),
            table: there.clone(),
            columns: columns.1,
        },
        lanes: args.lanes.max(1),
        limit: args.limit,
        progress: Arc::default(),
    })
}

/// Shows how far the reading is, on a terminal.
fn watch(comparison: &Comparison, table: &Table, quiet: bool) -> ProgressBar {
    // Both sides, once; where they differ, rows are read again.
    let bar = ProgressBar::new(
        table
            .row_estimate
            .unwrap_or_default()
            .saturating_mul(2)
            .max(1),
    );
    if quiet || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) =
        ProgressStyle::with_template("{bar:24} {human_pos} rows  {per_sec}  {wide_msg}")
    {
        bar.set_style(style);
    }
    bar.set_message(table.id.to_string());
    let (drawn, progress): (ProgressBar, Arc<AtomicU64>) =
        (bar.clone(), comparison.progress.clone());
    tokio::spawn(async move {
        while !drawn.is_finished() {
            drawn.set_position(progress.load(Relaxed));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    bar
}

fn show(table: &Table, there: &Table, verified: &Verified, time: Duration) {
    if verified.equal() {
        print::line(&format!(
            "✓ {} = {}: {} rows, {:032x}, in {}",
            table.id,
            there.id,
            print::count(verified.source.rows),
            verified.source.sum,
            print::seconds(time)
        ));
        return;
    }
    print::line(&format!(
        "✗ {} ≠ {}: {} rows and {} rows; {}{} missing, {} extra, {} different",
        table.id,
        there.id,
        print::count(verified.source.rows),
        print::count(verified.destination.rows),
        if verified.more { "at least " } else { "" },
        print::count(verified.missing),
        print::count(verified.extra),
        print::count(verified.different),
    ));
    for difference in &verified.differences {
        print::line(&format!("  {}", told(difference)));
    }
    let (all, shown) = (
        verified.missing + verified.extra + verified.different,
        verified.differences.len() as u64,
    );
    if all > shown {
        print::line(&format!(
            "  … and {} more (--limit)",
            print::count(all - shown)
        ));
    }
}

fn told(difference: &Difference) -> String {
    let verdict = match difference.verdict {
        Verdict::Missing => "missing  ",
        Verdict::Extra => "extra    ",
        Verdict::Different => "different",
    };
    let key: Vec<String> = difference
        .key
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("null")))
        .collect();
    let columns = match difference.columns.is_empty() {
        true => String::new(),
        false => format!("  in {}", difference.columns.join(", ")),
    };
    format!("{verdict} {}{columns}", key.join(" "))
}
