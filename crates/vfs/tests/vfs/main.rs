//! SQLite on the page store, from outside: what SQL sees, what becomes a version, what survives.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bed;
mod capture;
mod counters;
mod crash;
mod fuzz;
mod isolation;
mod lifetime;
mod private;
mod refusals;
mod runner;
mod script;
mod spilling;
mod surroundings;
