//! The connector against real files.

mod check;
mod discovery;
mod errors;
mod evolution;
mod loading;
mod memory;
mod reading;
mod round_trip;
mod settings;
mod speed;
mod support;
mod tracking;
