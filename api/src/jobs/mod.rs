//! `/api/jobs/{type}/{id}`: work that goes on after its request was answered.

pub mod routes;
pub mod wire;
