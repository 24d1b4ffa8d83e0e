//! The stories of `tests/cluster`, in page mode.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../cluster/admission.rs"]
mod admission;
#[path = "../cluster/check.rs"]
mod check;
#[path = "../cluster/client.rs"]
mod client;
#[path = "../cluster/cluster.rs"]
mod cluster;
#[path = "../cluster/command.rs"]
mod command;
#[path = "../cluster/determinism.rs"]
mod determinism;
#[path = "../cluster/directories.rs"]
mod directories;
#[path = "../cluster/disk.rs"]
mod disk;
#[path = "../cluster/divergence.rs"]
mod divergence;
#[path = "../cluster/elsewhere.rs"]
mod elsewhere;
#[path = "../cluster/entering.rs"]
mod entering;
#[path = "../cluster/faults.rs"]
mod faults;
#[path = "../cluster/keys.rs"]
mod keys;
#[path = "../cluster/large.rs"]
mod large;
#[path = "../cluster/load.rs"]
mod load;
#[path = "../cluster/membership.rs"]
mod membership;
#[path = "../cluster/poison.rs"]
mod poison;
#[path = "../cluster/process.rs"]
mod process;
#[path = "../cluster/reads.rs"]
mod reads;
#[path = "../cluster/sessions.rs"]
mod sessions;
#[path = "../cluster/settings.rs"]
mod settings;
#[path = "../cluster/single.rs"]
mod single;
#[path = "../cluster/snapshot.rs"]
mod snapshot;
#[path = "../cluster/waiting.rs"]
mod waiting;
#[path = "../cluster/wrong.rs"]
mod wrong;

/// How changes travel in these stories.
const MODE: &str = "page";
