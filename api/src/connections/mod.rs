//! `/api/connections`: configured systems, their health and their use.

pub mod wire;
