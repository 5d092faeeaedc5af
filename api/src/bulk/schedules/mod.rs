//! `/api/bulk/syncs/{id}/schedules`: when a sync runs by itself.

pub mod spellings;
pub mod wire;
