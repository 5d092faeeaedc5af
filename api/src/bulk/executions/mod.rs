//! `/api/bulk/syncs/{id}/executions`: runs, their progress and their logs.

mod console;
pub mod files;
mod overview;
pub mod routes;
pub mod view;
pub mod wire;
