//! What a live connection can do, as data. The engine and the conformance tests
//! read it; nobody asks a connector for its name to decide something.

use crate::naming::NamePolicy;

/// Whether a part read again gives the rows that it gave before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// A part names the same rows for ever (a file with its version): a load that
    /// died goes on where it was.
    Stable,
    /// A part means something only within its snapshot: a load that died starts
    /// its unfinished tables over.
    Snapshot,
}

/// A way of writing a table (the HTTP contract's `mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteMode {
    Replicate,
    Snapshot,
    Append,
}

impl WriteMode {
    pub const ALL: [WriteMode; 3] = [WriteMode::Replicate, WriteMode::Snapshot, WriteMode::Append];

    pub fn word(self) -> &'static str {
        match self {
            WriteMode::Replicate => "replicate",
            WriteMode::Snapshot => "snapshot",
            WriteMode::Append => "append",
        }
    }

    pub fn parse(word: &str) -> Option<WriteMode> {
        WriteMode::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

#[derive(Debug, Clone)]
pub struct Capabilities {
    /// Rows can be read by a tracking field (`tracking_field`).
    pub incremental: bool,
    /// The system groups tables in namespaces (`mirror_schemas`).
    pub namespaces: bool,
    pub replay: Replay,
    /// How many lanes the system bears at once, to read or to write.
    pub lanes: usize,
    pub modes: &'static [WriteMode],
    /// [`crate::connector::About::history`].
    pub history: bool,
    pub names: NamePolicy,
}
