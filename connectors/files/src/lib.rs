//! Files as tables: `s3` (an S3-compatible object store), `files` (a folder on this
//! machine) and `csv` (a CSV file at a URL, source only).
//!
//! The first two share everything but how they are opened: a [`place`] with files in it,
//! a [`layout`] that says which files are which table, the three [`format`]s, and the
//! way a load becomes files ([`write`]).

pub mod compression;
mod connection;
mod csv;
mod discover;
mod files;
pub mod format;
#[cfg(fuzzing)]
pub mod fuzz;
#[cfg(all(test, not(fuzzing)))]
mod fuzz;
mod layout;
mod manifest;
mod options;
mod place;
mod read;
mod s3;
mod track;
mod trouble;
mod types;
mod write;

pub use csv::CsvConnector;
pub use files::FilesConnector;
pub use s3::S3Connector;
