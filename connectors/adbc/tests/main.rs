//! The DuckDB connector against the real library.

mod checks;
mod child;
mod crash;
mod evolution;
mod given;
mod large;
mod loads;
mod names;
mod reading;
mod sharing;
mod values;
