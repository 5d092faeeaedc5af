//! Bulk syncs through the API, from one SQLite file to another.

mod configuration;
mod runs;
mod schedules;
mod server;
