//! Statement mode: one machine played by hand, then members of a cluster in one process.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod bed;
mod cluster;
mod determinism;
mod failures;
mod machine;
mod members;
mod power_loss;
