//! The storage suite of the Raft library, on a simulated disk and on this machine's.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::identity;
use sqlrep_core::LogStore;
use sqlrep_core::conformance::log_store;
use sqlrep_disk::{Disk, RealDisk, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_raft_log::{Options, RaftLog};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn open(disk: Arc<dyn Disk>, env: &Env) -> Arc<dyn LogStore> {
    let options = Options {
        segment_bytes: 64 << 10,
        cache_bytes_max: 1 << 10,
        ..Options::default()
    };
    RaftLog::open(disk, env, options, identity()).unwrap()
}

#[test]
fn the_log_on_a_simulated_disk_keeps_the_contract() {
    log_store(|| open(Arc::new(SimulatedDisk::new(1)), &Env::inline(1)));
}

#[test]
fn the_log_on_a_real_disk_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let number = AtomicU64::new(0);
    log_store(move || {
        let name = number.fetch_add(1, Ordering::Relaxed).to_string();
        let folder = root.join(name);
        std::fs::create_dir(&folder).unwrap();
        open(Arc::new(RealDisk::open(&folder).unwrap()), &Env::real())
    });
}
