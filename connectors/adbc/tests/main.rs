//! The DuckDB connector against the real library.

#![allow(
    clippy::print_stdout,
    clippy::type_complexity,
    reason = "tables of cases; processes that talk over pipes"
)]

mod changes;
mod checks;
mod child;
mod crash;
mod evolution;
mod foreign;
mod given;
mod large;
mod loads;
mod names;
mod read_back;
mod reading;
mod sharing;
mod values;
