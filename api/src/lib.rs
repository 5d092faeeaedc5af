//! The HTTP API: one folder per resource, each with its wire types and its routes. What is
//! the same for all requests stands beside the folders: signing in (`auth`), bodies and
//! errors (`body`, `problem`, `envelope`), versions, repeats (`idempotency`).

pub mod auth;
pub mod body;
pub mod bulk;
pub mod connection_types;
pub mod connections;
pub mod entities;
pub mod envelope;
pub mod events;
mod failures;
mod headers;
pub mod idempotency;
pub mod jobs;
pub mod me;
mod not_built;
mod operations;
pub mod problem;
pub mod schemas;
mod server;
pub mod state;
mod unread;
pub mod version;
pub mod wire;

pub use server::{openapi, router};
pub use state::{ApiSettings, ApiState};
