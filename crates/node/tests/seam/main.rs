//! The seams are real: whole nodes, SQLite inside, in one process on one thread. Disks, network, clock, randomness and
//! threads are simulated; the code between them is the product's. Equal traces from one seed, a slow disk, databases that
//! differ, pages that rot, full disks, processes that die at any call of the disk.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod crash;
mod divergence;
mod drafts;
mod full;
mod sessions;
mod slow;
mod snapshot;
mod traces;
mod world;

use sqlrep_node::Mode;

/// How changes travel in these stories; `tests/seam_page` tells them in page mode.
const MODE: Mode = Mode::Statement;
