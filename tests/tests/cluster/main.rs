//! Whole programs: processes on loopback, killed, paused, stopped and joined as machines are. After each story every
//! acknowledged write is there exactly once, what was refused isn't, and all databases are equal byte for byte.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod admission;
mod bench;
mod check;
mod client;
mod cluster;
mod command;
mod determinism;
mod directories;
mod disk;
mod divergence;
mod elsewhere;
mod entering;
mod faults;
mod keys;
mod large;
mod load;
mod membership;
mod poison;
mod process;
mod programs;
mod reads;
mod sessions;
mod settings;
mod single;
mod snapshot;
mod terminal;
mod usage;
mod waiting;
mod wrong;

/// How changes travel in these stories; `tests/page` tells them in page mode.
const MODE: &str = "statement";
