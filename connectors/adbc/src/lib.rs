//! Databases that are reached through ADBC, the columnar counterpart of ODBC: a driver
//! is a shared library, loaded when the first connection needs it and never compiled in.
//!
//! [`driver`] finds and loads a library, [`session`] runs its blocking calls on threads
//! of their own; both know nothing of any database. Each database has a folder.

pub mod driver;
mod duckdb;
pub mod session;

pub use duckdb::DuckDbConnector;
