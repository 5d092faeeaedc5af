//! Against real servers, MySQL and MariaDB alike; run through `scripts/test.sh`.

mod changes;
mod changes_rig;
mod connecting;
mod loading;
mod read_back;
mod reading;
mod rig;
mod values;
mod write_changes;
mod write_changes_loads;
mod write_changes_model;
