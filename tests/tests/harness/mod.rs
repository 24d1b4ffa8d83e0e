//! Whole binaries under test: start, wait, ask, stop, kill, freeze.
//!
//! Every wait has a condition and a deadline; nothing sleeps for a fixed time and hopes. A node's process never
//! outlives its handle.
#![allow(
    dead_code,
    reason = "each test file takes what it needs of what all share"
)]

pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod program;

use std::time::Duration;

/// How long anything may take before a test fails. Long, because build machines are slow and shared.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a condition, so that waiting doesn't take the processor from what is waited for.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);
