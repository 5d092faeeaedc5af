//! `/api/me`: who is calling.

pub mod routes;
pub mod wire;
