//! Running SQL on connections of the page store.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bed;
mod budget;
mod counters;
mod determinism;
mod differential;
mod failures;
mod reading;
mod refusals;
mod running;
mod sessions;
