//! `/api/entities/{id}`: what a bare id stands for.

pub mod routes;
pub mod wire;
