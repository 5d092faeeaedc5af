//! The cached catalog of a connection: which tables and fields it offers.

use std::time::Duration;

use tideway_core::{Catalog, Connection, Error, Result, source::Scope};
use tideway_store::Connection as StoredConnection;
use uuid::Uuid;

use crate::Work;

/// A refresh that takes longer than this is taken for dead.
const LONGEST: Duration = Duration::from_secs(15 * 60);

impl Work {
    /// Discovers anew and stores what is found. One refresh at a time per connection: a
    /// second caller gets `Conflict`.
    pub async fn refresh_catalog(&self, stored: &StoredConnection) -> Result<Catalog> {
        if !self.begin_refresh(stored).await? {
            return Err(Error::conflict(
                "a refresh of this connection's schemas is under way",
            ));
        }
        self.finish_refresh(stored).await
    }

    /// The same, going on after it has answered. False where a refresh is under way, which
    /// serves as well.
    pub async fn refresh_in_background(&self, stored: &StoredConnection) -> Result<bool> {
        if !self.begin_refresh(stored).await? {
            return Ok(false);
        }
        let (work, stored) = (self.clone(), stored.clone());
        self.tasks.spawn(async move {
            if let Err(error) = work.finish_refresh(&stored).await {
                tracing::warn!(connection = %stored.id, %error, "the schemas were not refreshed");
            }
        });
        Ok(true)
    }

    async fn begin_refresh(&self, stored: &StoredConnection) -> Result<bool> {
        self.store
            .catalogs()
            .start_refresh(stored.organization_id, stored.id, LONGEST)
            .await
    }

    /// A process that stops does not leave the refresh standing as one under way.
    async fn finish_refresh(&self, stored: &StoredConnection) -> Result<Catalog> {
        let found = tokio::select! {
            found = self.discover(stored) => found,
            () = self.stop.cancelled() => Err(Error::cancelled()),
        };
        self.store
            .catalogs()
            .finish_refresh(stored.id, found.as_ref())
            .await?;
        found
    }

    async fn discover(&self, stored: &StoredConnection) -> Result<Catalog> {
        let connection = self
            .open(&stored.kind, stored.configuration.expose(), "discovery")
            .await?;
        let catalog = discover_all(connection.as_ref(), &stored.kind).await?;
        self.count_call(stored.id, None, "schema").await;
        Ok(catalog)
    }

    /// The cached catalog, discovered first if there is none yet.
    pub async fn catalog(&self, stored: &StoredConnection) -> Result<Catalog> {
        let cached = self
            .store
            .catalogs()
            .get(stored.organization_id, stored.id)
            .await?;
        match cached {
            Some(catalog) => Ok(catalog),
            None => match self.refresh_catalog(stored).await {
                // Who asked is shown it as well, whenever the other one ends.
                Err(error) if error.kind == tideway_core::Kind::Conflict => {
                    self.finish_refresh(stored).await
                }
                other => other,
            },
        }
    }

    /// Usage is for showing; losing a count is no reason to stop.
    pub(crate) async fn count_call(&self, connection: Uuid, sync: Option<Uuid>, category: &str) {
        let counted = self
            .store
            .connections()
            .count_calls(connection, sync, category, 1)
            .await;
        if let Err(error) = counted {
            tracing::debug!(%error, "a call was not counted");
        }
    }
}

pub async fn discover_all(connection: &dyn Connection, kind: &str) -> Result<Catalog> {
    connection
        .roles()
        .need_source(kind)?
        .discover(&Scope::default())
        .await
}
