//! `/api/bulk/syncs/{id}/schedules`: when a sync runs by itself.

pub mod draft;
pub mod routes;
pub mod spellings;
pub mod view;
pub mod wire;
