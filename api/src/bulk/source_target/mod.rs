//! `/api/connections/{id}/bulksync`: what a connection offers to bulk syncs.

pub mod routes;
pub mod wire;
