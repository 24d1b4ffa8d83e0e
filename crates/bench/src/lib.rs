//! Loads and measures parts of sqlrep and whole clusters, each next to baselines on the same machine, since disks differ
//! by a factor of thousand and by the minute.
//!
//! Subject and baselines alternate in slices of time inside a round; a figure is the median of what the rounds gave,
//! ratios are taken within a round, and a round whose probes before and after differ too much is left out and counted.
//!
//! | module | measures |
//! | --- | --- |
//! | [`log`] | the durable log |
//! | [`store`] | SQLite on the page store |
//! | [`embedded`] | a node inside this process |
//! | [`http`] | three nodes in processes of their own, over HTTP |
//! | [`large`] | transactions much larger than memory on three nodes |
//! | [`modes`] | both modes side by side, on the same work |
//!
//! It doesn't decide: a missed target is told in its row and is no error.
#![forbid(unsafe_code)]

mod cpu;
pub mod embedded;
mod error;
pub mod http;
pub mod large;
pub mod log;
mod memory;
pub mod modes;
mod plain;
mod raw;
mod report;
mod slice;
pub mod store;
mod wiring;

pub use error::BenchError;
pub use raw::PROBE_FACTOR_MAX;
pub use report::{Report, Row, Target};

use sqlrep_disk::{Disk, RealDisk, SyncFloor, SyncFloorDisk};
use sqlrep_env::Env;
use std::sync::Arc;
use std::time::Duration;

/// `disk`, its syncs no shorter than the floor.
#[must_use]
pub fn floored(disk: RealDisk, floor: Option<Duration>, env: &Env) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    match floor {
        None => disk,
        Some(lasts) => {
            let floor = SyncFloor::new(lasts, env.clock.clone());
            Arc::new(SyncFloorDisk::new(disk, floor))
        }
    }
}
