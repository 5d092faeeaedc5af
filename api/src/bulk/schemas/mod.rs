//! `/api/bulk/syncs/{id}/schemas`: which tables a sync carries, and how.

pub mod configure;
mod fields;
pub mod routes;
mod view;
pub mod wire;
