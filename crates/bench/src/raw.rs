//! The raw probe: what the disk gives to a program that only writes and syncs.

use crate::BenchError;
use crate::slice::{Slice, measure};
use sqlrep_disk::{Disk, File, OpenMode};
use sqlrep_env::Clock;
use std::sync::Arc;
use std::time::Duration;

/// A round whose raw probes differ by more than this factor is left out.
pub const RAW_FACTOR_MAX: f64 = 3.0;

/// What a synced write survives.
pub(crate) const DURABILITY: &str = "power loss (fdatasync)";

const RAW_PATH: &str = "raw";

/// The raw file is written round and round.
const RAW_BYTES: u64 = 16 << 20;

/// The raw probe: as many bytes as an entry, written and synced one after the other.
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
