//! `/api/connections/{id}/schemas`: the tables and objects that a connection holds.

pub mod wire;
