//! Whole nodes in trouble: databases that differ, pages that rot, processes that die at any call of the disk.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod crash;
mod divergence;
#[path = "../seam/paused.rs"]
mod paused;
mod world;
