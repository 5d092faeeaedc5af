//! `/api/bulk/syncs/{id}/schemas`: which tables a sync carries, and how.

pub mod wire;
