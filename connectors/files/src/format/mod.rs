//! The three formats: how each is read, written, and its columns found out.

pub mod cells;
pub mod csv;
pub mod infer;
pub mod json;
pub mod moment;
pub mod number;
pub mod objects;
pub mod parquet;
pub mod print;
pub mod records;

use std::io::Read;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tideway_core::{Batch, Column, Error, Result};

use crate::compression::plain_name;

/// The bytes of a file from its beginning, unpacked.
pub type Input = Box<dyn Read + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(extend("labels" = ["CSV", "JSON", "Parquet"]))]
pub enum Format {
    Csv,
    Json,
    Parquet,
}

impl Format {
    /// The format that a file's name says, compression suffix or not.
    pub fn of_name(name: &str) -> Option<Format> {
        match extension(name)?.to_ascii_lowercase().as_str() {
            "csv" | "tsv" => Some(Format::Csv),
            "json" | "jsonl" | "ndjson" => Some(Format::Json),
            "parquet" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    }

    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => ".csv",
            Format::Json => ".json",
            Format::Parquet => ".parquet",
        }
    }
}

fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = plain_name(name).rsplit_once('.')?;
    (!stem.is_empty() && !stem.ends_with('/')).then_some(extension)
}

/// A file's path without the extensions that say its format and compression.
pub fn stem(path: &str) -> &str {
    let plain = plain_name(path);
    match (extension(plain), Format::of_name(plain)) {
        (Some(extension), Some(_)) => &plain[..plain.len() - extension.len() - 1],
        _ => plain,
    }
}

/// What separates the fields of a CSV file of that name.
pub fn delimiter(name: &str) -> u8 {
    let tabs = extension(name).is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    if tabs { b'\t' } else { b',' }
}

/// The columns that a reader is asked for, and those that the table is known to have.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub columns: Vec<Column>,
    /// All of the table; a field in a file that is not among them means that the
    /// schema has changed.
    pub known: Vec<String>,
    /// Batches of about this many bytes.
    pub batch_bytes: usize,
    /// Written by us and described by a manifest: then `null` in a JSON column is the
    /// JSON document `null`, and a blank line of a one-column CSV file is a row.
    pub own: bool,
}

/// Reads a file batch by batch. Blocking.
pub trait Decoder: Send {
    /// The next batch, in the order of the wanted columns; `None` at the end.
    fn next(&mut self) -> Result<Option<Batch>>;
}

/// Turns batches into the bytes of one file. Blocking.
pub trait Encoder: Send {
    fn write(&mut self, rows: &arrow_array::RecordBatch) -> Result<()>;

    /// Bytes that are ready since the last call, in pieces of any size.
    fn take(&mut self) -> Vec<Bytes>;

    /// The rest of the file.
    fn finish(self: Box<Self>) -> Result<Vec<Bytes>>;
}

/// A failure to read a file's bytes. An error of ours that travelled through a reader
/// comes out as it went in; a broken archive is the file's fault, not the network's.
pub fn read_error(file: &str, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match error.downcast::<Error>() {
        Ok(error) => error.while_(file),
        Err(error) => match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof | Other => {
                Error::data(format!("{file} cannot be unpacked: {error}"))
                    .hint("check that the file is complete, and write it again if it is not")
                    .because(error)
            }
            _ => Error::from(error).while_(file),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_format_and_stem() {
        assert_eq!(Format::of_name("a/orders.csv.gz"), Some(Format::Csv));
        assert_eq!(Format::of_name("a/orders.JSONL"), Some(Format::Json));
        assert_eq!(Format::of_name("a/orders.parquet"), Some(Format::Parquet));
        assert_eq!(Format::of_name("a/orders"), None);
        assert_eq!(Format::of_name("a/.csv"), None);
        assert_eq!(stem("a/orders.csv.gz"), "a/orders");
        assert_eq!(stem("a/orders.v2.json"), "a/orders.v2");
        assert_eq!(stem("a/notes.txt"), "a/notes.txt");
        assert_eq!(delimiter("a/orders.tsv.gz"), b'\t');
    }
}
