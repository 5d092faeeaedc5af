//! System tests of the file connectors, on folders, on an S3 server and over HTTP.

#![allow(clippy::type_complexity, reason = "tables of cases")]

mod changes;
mod csv_files;
mod csv_url;
mod failures;
mod json_files;
mod layouts;
mod loads;
mod merges;
mod parquet_files;
mod read_back;
mod round_trips;
mod settings;
mod support;
mod tracking;
