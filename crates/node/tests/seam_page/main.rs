//! The stories of `tests/seam`, in page mode.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../seam/crash.rs"]
mod crash;
#[path = "../seam/divergence.rs"]
mod divergence;
#[path = "../seam/full.rs"]
mod full;
mod holding;
#[path = "../seam/sessions.rs"]
mod sessions;
#[path = "../seam/slow.rs"]
mod slow;
#[path = "../seam/snapshot.rs"]
mod snapshot;
#[path = "../seam/traces.rs"]
mod traces;
#[path = "../seam/world.rs"]
mod world;

use sqlrep_node::Mode;

/// How changes travel in these stories.
const MODE: Mode = Mode::Page;
