//! Bulk syncs: whole tables from one connection to another.

pub mod executions;
pub mod schedules;
pub mod schemas;
pub mod source_target;
pub mod syncs;
