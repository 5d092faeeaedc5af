//! The file beside the files of a table that says which of them are the table.
//!
//! It is written last and in one step, which makes it the moment at which a load takes
//! effect. Readers of ours go by it; others just see the files.

use serde::{Deserialize, Serialize};
use tideway_core::{Column, Error, Result};

/// Its name in a table's folder.
pub const MANIFEST: &str = "_tideway.json";
/// Names that begin like this are ours and no data. The staging folder is called so.
pub const HIDDEN: &str = "_tideway";
const VERSION: u16 = 1;
/// How long a finished load is remembered, and what a dead one has staged is kept, in
/// microseconds: a week.
pub const MEMORY: i64 = 7 * 86_400_000_000;
/// A load every few minutes would otherwise fill the file with memories.
const MOST_FINISHED: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    v: u16,
    /// Grows by one with every load.
    pub generation: u64,
    /// The columns of the table; older files may lack the latest ones.
    pub columns: Vec<Column>,
    /// Key columns if every row has a key of its own.
    pub key: Vec<String>,
    pub files: Vec<PartFile>,
    /// Files of earlier generations that may not have been removed yet.
    #[serde(default)]
    pub retired: Vec<String>,
    /// Loads that have taken effect, latest last.
    pub finished: Vec<Finished>,
}

/// A file of the table, in the manifest's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub load: String,
    /// Microseconds since 1970.
    pub at: i64,
}

impl Manifest {
    pub fn new(columns: Vec<Column>) -> Self {
        Manifest {
            v: VERSION,
            generation: 0,
            columns,
            key: Vec::new(),
            files: Vec::new(),
            retired: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// `place` is named in errors.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self> {
        let version = serde_json::from_slice::<serde_json::Value>(bytes)
            .map(|value| value["v"].as_u64().unwrap_or(0));
        if let Ok(newer) = version
            && newer > u64::from(VERSION)
        {
            return Err(Error::unsupported(format!(
                "{place} was written by a later version of Tideway"
            ))
            .hint("update Tideway"));
        }
        serde_json::from_slice(bytes).map_err(|error| {
            Error::data(format!("{place} is damaged"))
                .hint("remove the table's folder, or bring the file back from a backup")
                .because(error)
        })
    }

    pub fn bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|error| Error::bug("a manifest cannot be written").because(error))
    }

    pub fn has_finished(&self, load: &str) -> bool {
        self.finished.iter().any(|finished| finished.load == load)
    }

    /// Remembers a load, and forgets those of long ago.
    pub fn finish(&mut self, load: &str, now: i64) {
        self.finished.retain(|finished| finished.at > now - MEMORY);
        self.finished.push(Finished {
            load: load.to_owned(),
            at: now,
        });
        let surplus = self.finished.len().saturating_sub(MOST_FINISHED);
        self.finished.drain(..surplus);
    }

    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}
