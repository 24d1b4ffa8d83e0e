//! A replica on a simulated disk, written by SQLite, without Raft: the tests play the log.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod at_hand;
mod bed;
mod life;
mod readers;
mod snapshot;
