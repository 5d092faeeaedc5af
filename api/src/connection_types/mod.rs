//! `/api/connection_types`: what can be connected, and the form that configures it.

pub mod wire;
