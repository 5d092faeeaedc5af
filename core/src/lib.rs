//! The vocabulary of Tideway: what a table, a batch, a part, a checkpoint and a
//! connector are. No I/O, no runtime, no drivers; a connector author reads this
//! crate and nothing else.

pub mod batch;
pub mod capability;
pub mod changes;
pub mod checkpoint;
pub mod connector;
pub mod destination;
pub mod digest;
pub mod error;
pub mod failpoint;
pub mod form;
pub mod history;
pub mod naming;
pub mod operations;
pub mod outbound;
pub mod payload;
pub mod query;
pub mod schema;
pub mod secret;
pub mod source;
pub mod sums;
pub mod target;
pub mod types;

pub use batch::{Batch, Note, Op, Ops};
pub use capability::{Capabilities, WriteMode};
pub use checkpoint::{Checkpoint, Cursor, Mark, Part, Position};
pub use connector::{CheckReport, Connection, Connector, Probe, Roles};
pub use error::{Error, Kind, Result, Retry};
pub use payload::Payload;
pub use schema::{Catalog, Column, Table, TableId};
pub use secret::Secret;
pub use types::LogicalType;
