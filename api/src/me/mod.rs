//! `/api/me`: who is calling.

pub mod wire;
