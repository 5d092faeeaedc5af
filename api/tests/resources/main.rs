//! The API of connections and what they hold, against a real store and real SQLite files.

mod connection_types;
mod connections;
mod schemas;
mod server;
mod source_target;
