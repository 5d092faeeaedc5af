//! `/api/bulk/syncs`: the syncs themselves, their activation, status and error handling.

mod draft;
pub mod routes;
pub mod view;
pub mod wire;
