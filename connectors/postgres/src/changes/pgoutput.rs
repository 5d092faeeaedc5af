//! The messages of the output plugin `pgoutput`, taken apart where they lie. No I/O and no
//! allocation per row; whatever the bytes are, the answer is a message or an error.

use tideway_core::{Error, Result};

/// One message, as far as it concerns rows of tables.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Begin {
        /// Where the commit stands in the log.
        commit: u64,
    },
    Commit {
        /// Where the log goes on behind the commit.
        end: u64,
        /// Microseconds since 2000.
        at: i64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Tuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Tuple<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// Types, origins, messages of applications: nothing that a table shows.
    Other,
}

/// What a table looked like when the changes that follow were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub namespace: String,
    pub name: String,
    pub identity: Identity,
    pub columns: Vec<RelationColumn>,
}

/// `pg_class.relreplident`: which columns of an old row are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    Default,
    Nothing,
    Full,
    Index,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
    /// Part of the replica identity.
    pub identifies: bool,
}

/// One row, not taken apart yet, but known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    pub width: usize,
    cells: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    Null,
    /// Stored out of line and not changed: its value is not told.
    Kept,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>> {
        let mut input = Input(bytes);
        input.message().ok_or_else(damaged)
    }
}

impl<'a> Tuple<'a> {
    pub fn cells(&self) -> impl Iterator<Item = Cell<'a>> {
        let mut input = Input(self.cells);
        std::iter::from_fn(move || input.cell())
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn message(&mut self) -> Option<Message<'a>> {
        let message = match self.u8()? {
            b'B' => Message::Begin {
                commit: self.u64()?,
            },
            b'C' => {
                // Flags, and where the commit stands.
                self.take(1 + 8)?;
                Message::Commit {
                    end: self.u64()?,
                    at: self.u64()? as i64,
                }
            }
            b'R' => Message::Relation(self.relation()?),
            b'I' => {
                let relation = self.u32()?;
                let b'N' = self.u8()? else {
                    return None;
                };
                let new = self.tuple()?;
                Message::Insert { relation, new }
            }
            b'U' => {
                let relation = self.u32()?;
                let old = match self.u8()? {
                    b'K' | b'O' => {
                        let old = self.tuple()?;
                        let b'N' = self.u8()? else {
                            return None;
                        };
                        Some(old)
                    }
                    b'N' => None,
                    _ => return None,
                };
                let new = self.tuple()?;
                Message::Update { relation, old, new }
            }
            b'D' => {
                let relation = self.u32()?;
                let (b'K' | b'O') = self.u8()? else {
                    return None;
                };
                let old = self.tuple()?;
                Message::Delete { relation, old }
            }
            b'T' => {
                let count = self.u32()?;
                // Whether dependent tables and sequences are included.
                self.take(1)?;
                let relations = (0..count).map(|_| self.u32());
                Message::Truncate {
                    relations: relations.collect::<Option<_>>()?,
                }
            }
            b'Y' | b'O' | b'M' => Message::Other,
            _ => return None,
        };
        Some(message)
    }

    fn relation(&mut self) -> Option<Relation> {
        let (oid, namespace, name) = (self.u32()?, self.text()?, self.text()?);
        let identity = match self.u8()? {
            b'd' => Identity::Default,
            b'n' => Identity::Nothing,
            b'f' => Identity::Full,
            b'i' => Identity::Index,
            _ => return None,
        };
        let count = self.u16()?;
        let columns = (0..count).map(|_| {
            Some(RelationColumn {
                identifies: self.u8()? & 1 != 0,
                name: self.text()?,
                type_oid: self.u32()?,
                typmod: self.u32()? as i32,
            })
        });
        Some(Relation {
            columns: columns.collect::<Option<_>>()?,
            oid,
            // The server leaves the name of its own schema out.
            namespace: if namespace.is_empty() {
                "pg_catalog".to_owned()
            } else {
                namespace
            },
            name,
            identity,
        })
    }

    fn tuple(&mut self) -> Option<Tuple<'a>> {
        let width = usize::from(self.u16()?);
        let cells = self.0;
        for _ in 0..width {
            self.cell()?;
        }
        Some(Tuple {
            width,
            cells: cells.get(..cells.len() - self.0.len())?,
        })
    }

    fn cell(&mut self) -> Option<Cell<'a>> {
        Some(match self.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Kept,
            b't' => Cell::Text(self.sized()?),
            b'b' => Cell::Binary(self.sized()?),
            _ => return None,
        })
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.fixed().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_be_bytes)
    }
}

fn damaged() -> Error {
    Error::data("the server's change stream is damaged: a message is not as it should be")
        .hint("check what stands between this machine and the server, and the server's version")
}

#[cfg(test)]
mod tests;
