//! Reading: one connection holds one read transaction, so that all tables of a run are
//! seen at one moment. SQLite cannot lend that moment to a second connection; lanes take
//! turns with the one that there is, a batch at a time, and none can keep it from another.
//!
//! A batch is found by the number of the last row before it. What has no such number (a
//! view, a virtual table, a table WITHOUT ROWID) is copied into a temporary table first,
//! which SQLite keeps in a file of its own.

pub mod batch;
mod columns;
mod plan;
mod selection;
mod track;

use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicUsize};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tideway_core::{
    Batch, Catalog, Part, Result,
    source::{BatchStream, Read, Scan, Scope, Snapshot, Source},
};

use crate::{
    Database,
    config::SourceOptions,
    connect::{Handle, blocking},
    discover,
    sql::quoted,
};

use batch::{Progress, batch};
use plan::plan;

#[async_trait]
impl Source for Database {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        let (file, scope) = (self.file.clone(), scope.clone());
        blocking(move || discover::catalog(&Handle::reader(&file)?, &scope)).await
    }

    async fn open(&self, options: &Value) -> Result<Arc<dyn Snapshot>> {
        let SourceOptions {} = tideway_core::form::parse(options)
            .map_err(|error| error.while_("source_configuration"))?;
        let file = self.file.clone();
        blocking(move || {
            let handle = Handle::reader(&file)?;
            handle.run("BEGIN")?;
            // The moment that is seen begins with the first read.
            handle.one::<i64>("SELECT count(*) FROM sqlite_schema", [])?;
            let view: Arc<dyn Snapshot> = Arc::new(View(Arc::new(Shared {
                handle: Mutex::new(handle),
                copies: AtomicUsize::new(0),
            })));
            Ok(view)
        })
        .await
    }
}

/// The database as it was when a run began.
struct View(Arc<Shared>);

struct Shared {
    handle: Mutex<Handle>,
    copies: AtomicUsize,
}

impl Shared {
    fn handle(&self) -> MutexGuard<'_, Handle> {
        // A panic elsewhere leaves a connection behind that is still good to read.
        self.handle
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

/// Where the rows of a part are: those with numbers `from` to `to`, both included.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Range {
    place: Place,
    from: i64,
    to: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The table itself, with the name of its row number.
    Table { row_number: String },
    /// The temporary copy of that name; its columns are `c0`, `c1`, …
    Copy { name: String },
}

impl Place {
    fn from(&self, table: &str) -> String {
        match self {
            Place::Table { .. } => format!("main.{} AS t", quoted(table)),
            Place::Copy { name } => format!("temp.{} AS t", quoted(name)),
        }
    }

    fn row_number(&self) -> String {
        match self {
            Place::Table { row_number } => format!("t.{}", quoted(row_number)),
            Place::Copy { .. } => "t.rowid".to_owned(),
        }
    }

    fn column(&self, at: usize, name: &str) -> String {
        match self {
            Place::Table { .. } => format!("t.{}", quoted(name)),
            Place::Copy { .. } => format!("t.c{at}"),
        }
    }
}

#[async_trait]
impl Snapshot for View {
    async fn plan(&self, read: &Read) -> Result<Scan> {
        let (shared, read) = (self.0.clone(), read.clone());
        blocking(move || plan(&shared, &read)).await
    }

    fn read(self: Arc<Self>, read: Arc<Read>, part: Part) -> BatchStream {
        let start = Progress::of(&read, &part).map(|progress| (self.0.clone(), read, progress));
        match start {
            Err(error) => stream::once(async { Err(error) }).boxed(),
            Ok(start) => stream::try_unfold(start, |(shared, read, progress)| async move {
                let Some(from) = progress.from else {
                    return Ok(None);
                };
                blocking(move || {
                    let (rows, progress) = batch(&shared.handle(), &read, progress, from)?;
                    let more = rows.num_rows() > 0 || progress.from.is_some();
                    Ok(more.then(|| (Batch::of_rows(rows), (shared, read, progress))))
                })
                .await
            })
            .boxed(),
        }
    }
}
