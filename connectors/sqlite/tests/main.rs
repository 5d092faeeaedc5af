//! The connector against real files.

#![allow(clippy::type_complexity, reason = "tables of cases")]

mod changes;
mod changes_model;
mod check;
mod crash;
mod discovery;
mod errors;
mod evolution;
mod loading;
mod memory;
mod read_back;
mod reading;
mod resuming;
mod round_trip;
mod settings;
mod support;
mod target;
mod tracking;
