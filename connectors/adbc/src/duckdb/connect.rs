//! A live connection. It holds no file open by itself: a file is open as long as a
//! snapshot or a load of it is, so that people can look into it between two syncs.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tideway_core::{
    Capabilities, Catalog, CheckReport, Connection, Error, Result, Roles, WriteMode,
    capability::Replay,
    destination::{Destination, Load, TableLoad},
    naming::NamePolicy,
    source::{Scope, Snapshot, Source},
};

use super::{
    LANES, LIBRARY, discover,
    file::{self, Absent, Access, File},
    read::DuckDbSnapshot,
    sql, write,
};

pub struct DuckDbConnection {
    access: Access,
    capabilities: Capabilities,
}

impl DuckDbConnection {
    pub fn new(access: Access) -> Self {
        DuckDbConnection {
            access,
            capabilities: Capabilities {
                incremental: true,
                namespaces: true,
                replay: Replay::Snapshot,
                lanes: LANES,
                modes: &WriteMode::ALL,
                history: super::ABOUT.history,
                names: NamePolicy::new(255, true),
            },
        }
    }

    async fn file(&self, absent: Absent) -> Result<Arc<File>> {
        File::open(&self.access, absent).await
    }

    /// Names of the file's schemas; none if there is no file yet.
    pub async fn namespaces(&self) -> Result<Vec<String>> {
        if !self.present().await? {
            return Ok(Vec::new());
        }
        let file = self.file(Absent::Refuse).await?;
        discover::namespaces(&file.session().await?, &file.catalog).await
    }

    async fn present(&self) -> Result<bool> {
        let path = self.access.path.clone();
        tokio::task::spawn_blocking(move || file::inspect(&path))
            .await
            .unwrap_or_else(|error| Err(Error::bug(format!("looking at a file stopped: {error}"))))
    }

    async fn load_library(&self) -> Result<()> {
        let data_dir = self.access.data_dir.clone();
        tokio::task::spawn_blocking(move || LIBRARY.load(data_dir.as_deref()).map(drop))
            .await
            .unwrap_or_else(|error| Err(Error::bug(format!("loading a library stopped: {error}"))))
    }

    /// Whether a file that is not there could be made.
    async fn try_folder(&self) -> Result<String> {
        let path = self.access.path.clone();
        let tried = tokio::task::spawn_blocking(move || file::try_folder(&path)).await;
        tried.unwrap_or_else(|error| Err(Error::bug(format!("trying a folder stopped: {error}"))))
    }

    async fn try_reading(&self, file: &File) -> Result<usize> {
        Ok(discover::catalog(file, &Scope::default())
            .await?
            .tables
            .len())
    }

    /// Creates a table in a transaction that is not committed.
    async fn try_writing(&self, file: &File) -> Result<()> {
        if file.read_only {
            return Err(Error::permission("the file is read-only"));
        }
        let session = file.session().await?;
        let table = format!("{}.main.{}probe", sql::name(&file.catalog), discover::OURS);
        session.execute("BEGIN TRANSACTION").await?;
        session
            .execute(format!("CREATE TABLE {table} (id INTEGER)"))
            .await?;
        session.execute("ROLLBACK").await?;
        Ok(())
    }
}

#[async_trait]
impl Connection for DuckDbConnection {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn roles(&self) -> Roles<'_> {
        Roles {
            source: Some(self),
            destination: Some(self),
            ..Roles::default()
        }
    }

    async fn check(&self) -> CheckReport {
        let mut report = CheckReport::default();
        match self.load_library().await {
            Ok(()) => report.pass("library", "the DuckDB library is loaded"),
            Err(error) => {
                report.fail("library", &error);
                return report;
            }
        }
        match self.present().await {
            Ok(true) => {}
            Ok(false) => {
                match self.try_folder().await {
                    Ok(detail) => report.pass("open file", detail),
                    Err(error) => report.fail("open file", &error),
                }
                return report;
            }
            Err(error) => {
                report.fail("open file", &error);
                return report;
            }
        }
        let file = match self.file(Absent::Refuse).await {
            Ok(file) => file,
            Err(error) => {
                report.fail("open file", &error);
                return report;
            }
        };
        report.pass("open file", self.access.path.display().to_string());
        match self.try_reading(&file).await {
            Ok(tables) => report.pass("list tables", format!("{tables} tables and views")),
            Err(error) => report.fail("list tables", &error),
        }
        match self.try_writing(&file).await {
            Ok(()) => report.pass("write", "tables can be created"),
            // A file that is only read from may well be read-only.
            Err(_) if file.read_only => report.pass("write", "read-only: fit as a source alone"),
            Err(error) => report.fail("write", &error),
        }
        report
    }
}

#[async_trait]
impl Source for DuckDbConnection {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        let file = self.file(Absent::Refuse).await?;
        discover::catalog(&file, scope).await
    }

    async fn open(&self, _options: &Value) -> Result<Arc<dyn Snapshot>> {
        let file = self.file(Absent::Refuse).await?;
        Ok(Arc::new(DuckDbSnapshot::open(file).await?))
    }
}

#[async_trait]
impl Destination for DuckDbConnection {
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>> {
        let file = self.file(Absent::Create).await?;
        Ok(Box::new(write::begin(file, load).await?))
    }

    async fn withdraw(&self, load: Load) -> Result<bool> {
        let file = self.file(Absent::Create).await?;
        write::withdraw(file, load).await
    }
}
