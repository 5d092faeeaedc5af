//! `/api/events` and `/api/events_types`: what has happened in an organization.

pub mod routes;
pub mod wire;
