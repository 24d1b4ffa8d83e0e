//! The raw probe: what the disk gives to a program that only writes and syncs.

use crate::BenchError;
use crate::slice::{Slice, measure};
use sqlrep_disk::{Disk, File, OpenMode};
use sqlrep_env::Clock;
use std::sync::Arc;
use std::time::Duration;

/// A round whose probes differ by more than this factor is left out.
pub const PROBE_FACTOR_MAX: f64 = 3.0;

/// What a synced write survives.
pub(crate) const DURABILITY: &str = "power loss (fdatasync)";

const RAW_PATH: &str = "raw";

/// The raw file is written round and round.
const RAW_BYTES: u64 = 16 << 20;

/// Bytes of a probe's write: about a log entry of one row.
pub(crate) const WRITE_BYTES: usize = 200;

/// The raw probe: as many bytes as an entry, written and synced one after the other on a pre-written file.
pub(crate) struct Raw {
    file: Arc<dyn File>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Raw {
    pub(crate) fn new(disk: &dyn Disk, bytes: usize) -> Result<Self, BenchError> {
        let file = disk.open(RAW_PATH, OpenMode::Create)?;
        file.preallocate(RAW_BYTES)?;
        file.sync()?;
        disk.sync_dir("")?;
        Ok(Self {
            file,
            offset: 0,
            bytes: vec![0x5a; bytes],
        })
    }

    pub(crate) fn slice(
        &mut self,
        clock: &dyn Clock,
        slice: Duration,
    ) -> Result<Slice, BenchError> {
        measure(clock, slice, || {
            let length = self.bytes.len() as u64;
            if self.offset + length > RAW_BYTES {
                self.offset = 0;
            }
            self.file.write_at(self.offset, &self.bytes)?;
            self.file.sync()?;
            self.offset += length;
            Ok(1)
        })
    }
}

/// The two probes around a round.
#[derive(Clone, Copy)]
pub(crate) struct Probes(pub(crate) [Slice; 2]);

impl Probes {
    pub(crate) fn per_second(&self) -> f64 {
        let [first, second] = self.0;
        f64::midpoint(first.per_second(), second.per_second())
    }

    pub(crate) fn p50_us(&self) -> f64 {
        let [first, second] = self.0;
        f64::midpoint(first.p50_us(), second.p50_us())
    }

    /// The machine gave about as much before the round as after it.
    pub(crate) fn are_steady(&self) -> bool {
        let [first, second] = self.0.map(|slice| slice.per_second());
        first.max(second) <= PROBE_FACTOR_MAX * first.min(second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::Times;

    #[test]
    fn probes_may_differ_by_the_factor_and_no_more() {
        let slice = |operations| Slice {
            operations,
            took: Duration::from_secs(1),
            times: Times::default(),
            cpu: None,
        };
        assert!(Probes([slice(100.0), slice(300.0)]).are_steady());
        assert!(!Probes([slice(301.0), slice(100.0)]).are_steady());
        assert_eq!(Probes([slice(100.0), slice(300.0)]).per_second(), 200.0);
    }
}
