//! `/api/connections/{id}/schemas`: the tables and objects that a connection holds.

mod document;
mod fields;
pub mod held;
pub mod routes;
pub(crate) mod slashes;
pub mod view;
pub mod wire;
