//! `/api/bulk/syncs/{id}/executions`: runs, their progress and their logs.

pub mod wire;
