//! `/api/bulk/syncs`: the syncs themselves, their activation, status and error handling.

pub mod wire;
