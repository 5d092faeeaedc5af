//! Against real servers, MySQL and MariaDB alike; run through `scripts/test.sh`.

mod connecting;
mod loading;
mod reading;
mod rig;
mod values;
