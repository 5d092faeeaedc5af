//! A connection to a database on a thread of its own: ADBC calls block, and what calls
//! them must not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc as blocking,
};

use adbc_core::{
    CancelHandle, Connection as _, Optionable as _, Statement as _,
    error::Error as DriverError,
    options::{IngestMode, OptionStatement},
};
use adbc_driver_manager::ManagedConnection;
use arrow_array::{RecordBatch, RecordBatchIterator, RecordBatchReader};
use arrow_schema::ArrowError;
use tideway_core::{Error, Result};
use tokio::sync::{mpsc, oneshot};

/// Turns what a driver says into an error that people understand.
pub type Translate = Arc<dyn Fn(DriverError) -> Error + Send + Sync>;

type Job = Box<dyn FnOnce(&mut ManagedConnection) + Send>;

/// A table that rows are appended to.
#[derive(Debug, Clone)]
pub struct IngestTable {
    pub catalog: String,
    pub namespace: String,
    pub name: String,
    /// The driver is handed slices of at most this many rows.
    pub slice_rows: usize,
}

/// Runs statements one after the other, in the order they are asked for. What is running
/// when the session is dropped is interrupted, and its transaction rolled back.
pub struct Session {
    jobs: blocking::Sender<Job>,
    pending: Arc<AtomicUsize>,
    cancel: Box<dyn CancelHandle>,
    translate: Translate,
}

impl Session {
    /// Gives `connection` a thread. `keep` is dropped on that thread after the connection.
    pub fn start(
        connection: ManagedConnection,
        keep: impl Send + 'static,
        translate: Translate,
    ) -> Session {
        let (jobs, queue) = blocking::channel::<Job>();
        let cancel = connection.get_cancel_handle();
        // A thread of the runtime's pool rather than one of ours: a runtime that ends
        // waits for these, so the process does not exit in the middle of a write.
        tokio::task::spawn_blocking(move || {
            let mut connection = connection;
            while let Ok(job) = queue.recv() {
                job(&mut connection);
            }
            drop(connection);
            drop(keep);
        });
        Session {
            jobs,
            pending: Arc::default(),
            cancel,
            translate,
        }
    }

    fn submit(&self, job: impl FnOnce(&mut ManagedConnection) + Send + 'static) -> Result<()> {
        let pending = self.pending.clone();
        pending.fetch_add(1, SeqCst);
        let counted = move |connection: &mut ManagedConnection| {
            job(connection);
            pending.fetch_sub(1, SeqCst);
        };
        self.jobs.send(Box::new(counted)).map_err(|_| ended())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ManagedConnection) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.submit(move |connection| {
            let _ = answer.send(work(connection));
        })?;
        let result = answered.await.map_err(|_| ended())?;
        result.map_err(|error| (self.translate)(error))
    }

    /// Runs a statement; gives the number of rows that it changed.
    pub async fn execute(&self, sql: impl Into<String>) -> Result<u64> {
        let sql = sql.into();
        self.run(move |connection| {
            let mut statement = connection.new_statement()?;
            statement.set_sql_query(&sql)?;
            let rows = statement.execute_update()?.unwrap_or(0);
            Ok(u64::try_from(rows).unwrap_or(0))
        })
        .await
    }

    /// The whole answer of a query that has a small one.
    pub async fn fetch(&self, sql: impl Into<String>) -> Result<Vec<RecordBatch>> {
        let sql = sql.into();
        self.run(move |connection| {
            let mut statement = connection.new_statement()?;
            statement.set_sql_query(&sql)?;
            let batches: Result<Vec<RecordBatch>, ArrowError> = statement.execute()?.collect();
            Ok(batches?)
        })
        .await
    }

    /// Runs a query and hands each of the driver's batches to `shape` on the session's
    /// thread, then `None` at the end; what it makes of them is received in order.
    pub fn stream<T, F>(&self, sql: String, shape: F) -> Result<Rows<T>>
    where
        T: Send + 'static,
        F: FnMut(Option<RecordBatch>) -> Result<Option<T>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(2);
        let translate = self.translate.clone();
        self.submit(move |connection| {
            let end = pump(connection, &sql, shape, &sender, &translate);
            let _ = sender.blocking_send(end.map(|()| None));
        })?;
        Ok(Rows { receiver })
    }

    /// Appends rows to a table, by position of their columns; gives how many.
    pub async fn ingest(&self, table: IngestTable, rows: RecordBatch) -> Result<u64> {
        self.run(move |connection| {
            let mut statement = connection.new_statement()?;
            for (option, value) in [
                (OptionStatement::TargetCatalog, &table.catalog),
                (OptionStatement::TargetDbSchema, &table.namespace),
                (OptionStatement::TargetTable, &table.name),
            ] {
                statement.set_option(option, value.as_str().into())?;
            }
            statement.set_option(OptionStatement::IngestMode, IngestMode::Append.into())?;
            statement.bind_stream(sliced(rows, table.slice_rows))?;
            let rows = statement.execute_update()?.unwrap_or(0);
            Ok(u64::try_from(rows).unwrap_or(0))
        })
        .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Not every driver can be interrupted; then the thread ends when it is done.
        if self.pending.load(SeqCst) > 0
            && let Err(error) = self.cancel.try_cancel()
        {
            tracing::debug!(status = ?error.status, "the driver does not interrupt");
        }
    }
}

/// What a running query gives.
pub struct Rows<T> {
    receiver: mpsc::Receiver<Result<Option<T>>>,
}

impl<T> Rows<T> {
    /// The next piece, or `None` after the last. A thread that died is not an end.
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.receiver.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

fn ended() -> Error {
    Error::unavailable("the session with the database has ended")
}

/// Until the query ends, fails, or nobody wants the rest.
fn pump<T, F>(
    connection: &mut ManagedConnection,
    sql: &str,
    mut shape: F,
    sender: &mpsc::Sender<Result<Option<T>>>,
    translate: &Translate,
) -> Result<()>
where
    F: FnMut(Option<RecordBatch>) -> Result<Option<T>>,
{
    let failed = |error: DriverError| translate(error);
    let mut statement = connection.new_statement().map_err(failed)?;
    statement.set_sql_query(sql).map_err(failed)?;
    for batch in statement.execute().map_err(failed)? {
        let batch = batch.map_err(|error| translate(of_stream(error)))?;
        if let Some(piece) = shape(Some(batch))?
            && sender.blocking_send(Ok(Some(piece))).is_err()
        {
            return Ok(());
        }
    }
    if let Some(piece) = shape(None)? {
        let _ = sender.blocking_send(Ok(Some(piece)));
    }
    Ok(())
}

/// The driver's own words, without what Arrow's C interface says around them.
fn of_stream(error: ArrowError) -> DriverError {
    match error {
        ArrowError::CDataInterface(words) => {
            DriverError::with_message_and_status(words, adbc_core::error::Status::Unknown)
        }
        other => other.into(),
    }
}

fn sliced(rows: RecordBatch, slice_rows: usize) -> Box<dyn RecordBatchReader + Send> {
    let schema = rows.schema();
    let total = rows.num_rows();
    let slices = (0..total)
        .step_by(slice_rows.max(1))
        .map(move |from| Ok(rows.slice(from, slice_rows.min(total - from))));
    Box::new(RecordBatchIterator::new(slices, schema))
}
