//! Against a real server, whose address is in `TIDEWAY_TEST_POSTGRES_URL`.

#![allow(
    clippy::type_complexity,
    clippy::needless_range_loop,
    reason = "tables of cases"
)]

mod passing;
mod read_check;
mod read_discovery;
mod read_errors;
mod read_parts;
mod read_rig;
mod read_snapshot;
mod read_tls;
mod read_tracking;
mod read_types;
mod write_evolution;
mod write_modes;
mod write_resume;
mod write_rig;
mod write_values;
