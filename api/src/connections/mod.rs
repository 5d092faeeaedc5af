//! `/api/connections`: configured systems, their health and their use.

pub mod routes;
mod save;
pub mod settings;
pub mod view;
pub mod wire;
