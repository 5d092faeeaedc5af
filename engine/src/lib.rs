//! The sync engine: it moves tables from any source to any destination by the traits
//! of `tideway-core` and never names a system. See `ARCHITECTURE.md` for the data's path.

pub mod boundary;
pub mod evolve;
pub mod filter;
mod lanes;
pub mod ledger;
mod load;
pub mod meter;
mod names;
pub mod observe;
pub mod plan;
pub mod run;
pub mod shape;
mod snapshots;
mod staged;
mod stream;
pub mod verify;

pub use ledger::{Ledger, MemoryLedger};
pub use meter::{RunMeter, TableMeter};
pub use observe::{Level, Observer, Silent, StreamState, TableState};
pub use plan::{Budget, FieldSpec, FilterSpec, Resync, StreamSpec, SyncSpec, TableSpec, Verify};
pub use run::{Controls, Report, TableReport, run};
