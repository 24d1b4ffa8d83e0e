//! A disk whose syncs take at least so long: shows on a fast disk how the layers above behave on a slow one, and takes
//! the disk of the day out of a measurement.
//!
//! Promise: every fsync rule of the disk below; only [`File::sync`] and [`Disk::sync_dir`] take longer.
//! It doesn't make reads or writes slower, and no sync faster.

use crate::{Disk, DiskError, File, OpenMode};
use sqlrep_env::Clock;
use std::sync::Arc;
use std::time::Duration;

/// The least time that a sync lasts.
#[derive(Clone)]
pub struct SyncFloor {
    lasts: Duration,
    clock: Arc<dyn Clock>,
}

impl SyncFloor {
    /// By `clock`, a real one.
    #[must_use]
    pub fn new(lasts: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { lasts, clock }
    }

    /// Syncs, then waits on this thread until the floor is reached.
    ///
    /// # Errors
    ///
    /// As `sync`, at once.
    pub fn hold<T, E>(&self, sync: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let until = self.clock.now().after(self.lasts);
        let done = sync()?;
        let mut left = until.since(self.clock.now());
        while !left.is_zero() {
            // A stray unpark ends it early, so the clock decides.
            std::thread::park_timeout(left);
            left = until.since(self.clock.now());
        }
        Ok(done)
    }
}

/// A disk with a floor under its syncs.
pub struct SyncFloorDisk {
    disk: Arc<dyn Disk>,
    floor: SyncFloor,
}

impl SyncFloorDisk {
    /// Over `disk`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, floor: SyncFloor) -> Self {
        Self { disk, floor }
    }
}

impl Disk for SyncFloorDisk {
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>, DiskError> {
        let file = self.disk.open(path, mode)?;
        let floor = self.floor.clone();
        Ok(Arc::new(SyncFloorFile { file, floor }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.create_dir(path)
    }

    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        self.disk.remove_dir(path)
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        self.floor.hold(|| self.disk.sync_dir(dir))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.disk.free_bytes()
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, DiskError> {
        self.disk.lock()
    }
}

struct SyncFloorFile {
    file: Arc<dyn File>,
    floor: SyncFloor,
}

impl File for SyncFloorFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len)
    }

    fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        self.file.preallocate(len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.floor.hold(|| self.file.sync())
    }

    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, Operation, SimulatedDisk};
    use sqlrep_env::SystemClock;

    const LASTS: Duration = Duration::from_millis(5);

    #[test]
    fn syncs_last_and_nothing_else_does() {
        let clock = Arc::new(SystemClock::start());
        let below = Arc::new(SimulatedDisk::new(1));
        let disk = SyncFloorDisk::new(below.clone(), SyncFloor::new(LASTS, clock.clone()));
        let file = disk.open("a", OpenMode::New).unwrap();
        file.write_at(0, b"bytes").unwrap();
        let began = clock.now();
        file.sync().unwrap();
        disk.sync_dir("").unwrap();
        assert!(clock.now().since(began) >= 2 * LASTS);
        assert_eq!(below.read_file("a").unwrap(), b"bytes");
    }

    #[test]
    fn a_failed_sync_stays_a_failed_sync() {
        let clock = Arc::new(SystemClock::start());
        let below = Arc::new(SimulatedDisk::new(1));
        let disk = SyncFloorDisk::new(below.clone(), SyncFloor::new(LASTS, clock));
        let file = disk.open("a", OpenMode::New).unwrap();
        below.inject(Fault::io(1).only(Operation::Sync));
        file.sync().unwrap_err();
        assert_eq!(below.injected(), 1);
    }
}
