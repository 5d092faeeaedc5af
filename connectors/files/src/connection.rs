//! A live link to a folder or bucket; what `s3` and `files` have in common.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use object_store::{local::LocalFileSystem, path::Path};
use serde_json::Value;
use tideway_core::{
    Capabilities, Catalog, CheckReport, Connection, Error, Result, Roles, WriteMode,
    capability::Replay,
    destination::{Destination, Load, TableLoad},
    naming::NamePolicy,
    source::{Scope, Snapshot, Source},
};
use tokio::sync::OnceCell;

use crate::{
    discover::{self, Looks},
    format::Format,
    layout::Layout,
    manifest::HIDDEN,
    place::{Place, blocking},
    read::FileSnapshot,
    trouble::{Blame, of_io},
    write,
};

/// Names of tables become folders. Folders have at most 255 bytes, and a few are spent
/// on making names safe.
const NAMES: NamePolicy = NamePolicy::new(200, cfg!(any(windows, target_os = "macos")));

pub struct FileConnection {
    shared: Arc<Shared>,
    capabilities: Capabilities,
}

/// What a connection shares with its snapshots and loads.
pub struct Shared {
    place: OnceCell<Place>,
    /// The folder or file that `place` is opened on, if it is not open from the start.
    local: PathBuf,
    pub layout: Layout,
    pub looks: Looks,
    /// What tables are written as where the sync does not say.
    pub default_format: Format,
}

impl FileConnection {
    pub fn remote(place: Place, layout: Layout) -> Self {
        FileConnection::new(
            OnceCell::new_with(Some(place)),
            PathBuf::new(),
            layout,
            Format::Csv,
        )
    }

    /// A folder that may not be there yet, or a single file.
    pub fn local(path: PathBuf, layout: Layout) -> Self {
        FileConnection::new(OnceCell::new(), path, layout, Format::Parquet)
    }

    fn new(place: OnceCell<Place>, local: PathBuf, layout: Layout, default_format: Format) -> Self {
        FileConnection {
            shared: Arc::new(Shared {
                place,
                local,
                layout,
                looks: Looks::default(),
                default_format,
            }),
            capabilities: Capabilities {
                incremental: true,
                namespaces: true,
                replay: Replay::Stable,
                lanes: 8,
                modes: &WriteMode::ALL,
                history: false,
                names: NAMES,
            },
        }
    }
}

impl Shared {
    /// The place to read from. Fails with [`tideway_core::Kind::Missing`] if the folder
    /// is not there.
    pub async fn place(&self) -> Result<Place> {
        self.open(false).await
    }

    /// The place to write to, made if it is not there.
    pub async fn place_for_writing(&self) -> Result<Place> {
        self.open(true).await
    }

    async fn open(&self, make: bool) -> Result<Place> {
        let opened = self.place.get_or_try_init(async || {
            let path = self.local.clone();
            blocking(move || open_folder(path, make)).await
        });
        opened.await.cloned()
    }
}

fn open_folder(path: PathBuf, make: bool) -> Result<Place> {
    let blame = Blame {
        place: "path",
        remote: false,
    };
    let shown = path.display().to_string();
    let failed = |error: std::io::Error| {
        of_io(error.kind(), error.to_string(), blame)
            .while_(&shown)
            .field("path")
    };
    if make && !path.exists() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    let found = std::fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::missing(format!("there is no folder {shown}"))
            .hint("create the folder, or correct the path")
            .field("path"),
        _ => failed(error),
    })?;
    let (folder, only) = match (found.is_dir(), path.parent(), path.file_name()) {
        (false, Some(parent), Some(name)) => {
            (parent.to_owned(), Some(name.to_string_lossy().into_owned()))
        }
        _ => (path.clone(), None),
    };
    let folder = folder.canonicalize().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&folder)
        .map_err(|error| crate::trouble::of_store(&shown, error, blame).field("path"))?
        // Folders that have become empty go; the connection's own stays.
        .with_automatic_cleanup(true);
    Ok(Place {
        store: Arc::new(store),
        root: Path::default(),
        shown: folder.display().to_string(),
        folder: Some(folder),
        only,
        blame,
    })
}

#[async_trait]
impl Connection for FileConnection {
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
        let place = match self.shared.place().await {
            Ok(place) => {
                report.pass("reach", place.shown.clone());
                place
            }
            Err(error) => {
                report.fail("reach", &error);
                return report;
            }
        };
        match place.list(&place.root).await {
            Ok(objects) => report.pass("list files", format!("{} files", objects.len())),
            Err(error) => {
                report.fail("list files", &error);
                return report;
            }
        }
        if place.only.is_none() {
            match try_writing(&place).await {
                Ok(()) => report.pass("write a file", "written and removed again"),
                // A place to read from need not be one to write to.
                Err(error) if error.kind == tideway_core::Kind::Permission => {
                    report.pass("write a file", format!("{error}: can only be a source"));
                }
                Err(error) => report.fail("write a file", &error),
            }
        }
        report
    }
}

async fn try_writing(place: &Place) -> Result<()> {
    let path = place.join([HIDDEN, "probe"])?;
    place
        .write_small(&path, b"Tideway can write here.\n".to_vec())
        .await?;
    place.remove(vec![path]).await
}

#[async_trait]
impl Source for FileConnection {
    async fn discover(&self, scope: &Scope) -> Result<Catalog> {
        let place = self.shared.place().await?;
        discover::discover(&place, &self.shared.layout, &self.shared.looks, scope).await
    }

    async fn open(&self, _options: &Value) -> Result<Arc<dyn Snapshot>> {
        let place = self.shared.place().await?;
        let tables = discover::tables(&place, &self.shared.layout).await?;
        Ok(Arc::new(FileSnapshot::new(
            self.shared.clone(),
            place,
            tables,
        )))
    }
}

#[async_trait]
impl Destination for FileConnection {
    async fn begin(&self, load: Load) -> Result<Box<dyn TableLoad>> {
        let place = self.shared.place_for_writing().await?;
        if place.only.is_some() {
            return Err(
                Error::config("the path is a file; tables are written to a folder").field("path"),
            );
        }
        write::begin(place, self.shared.default_format, load).await
    }
}
