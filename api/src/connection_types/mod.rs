//! `/api/connection_types`: what can be connected, and the form that configures it.

pub mod choices;
pub mod routes;
pub mod view;
pub mod wire;
