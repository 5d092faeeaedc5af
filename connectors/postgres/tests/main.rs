//! Against a real server, whose address is in `TIDEWAY_TEST_POSTGRES_URL`.

#![allow(
    clippy::type_complexity,
    clippy::needless_range_loop,
    reason = "tables of cases"
)]

mod changes_attach;
mod changes_follow;
mod changes_property;
mod changes_reshape;
mod changes_rig;
mod changes_slot;
mod changes_types;
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
mod write_changes;
mod write_changes_loads;
mod write_changes_model;
mod write_evolution;
mod write_modes;
mod write_resume;
mod write_rig;
mod write_values;
