//! A log in memory that breaks on command, and says that it syncs.

use sqlrep_core::memory::MemoryLog;
use sqlrep_core::{Done, Entry, EntryId, LogIndex, LogState, LogStore, StorageError, Vote};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Clones share it.
#[derive(Clone, Default)]
pub(crate) struct WatchedLog {
    log: MemoryLog,
    /// Whether appends and votes fail for good.
    pub(crate) broken: Arc<AtomicBool>,
    /// For so many looks more it says that it syncs.
    pub(crate) looks: Arc<AtomicU64>,
}

impl WatchedLog {
    fn result(&self) -> Result<(), StorageError> {
        if self.broken.load(Ordering::Acquire) {
            let source = Arc::new(io::Error::other("injected"));
            return Err(StorageError::Failed { source });
        }
        Ok(())
    }
}

impl LogStore for WatchedLog {
    fn state(&self) -> LogState {
        self.log.state()
    }
    fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>) {
        self.log.read(range, bytes_max, done);
    }
    fn append(&self, entries: Vec<Entry>, done: Done<()>) {
        match self.result() {
            Ok(()) => self.log.append(entries, done),
            Err(error) => done(Err(error)),
        }
    }
    fn save_vote(&self, vote: Vote, done: Done<()>) {
        match self.result() {
            Ok(()) => self.log.save_vote(vote, done),
            Err(error) => done(Err(error)),
        }
    }
    fn truncate_after(&self, last: Option<EntryId>, done: Done<()>) {
        self.log.truncate_after(last, done);
    }
    fn purge(&self, upto: EntryId, done: Done<()>) {
        self.log.purge(upto, done);
    }
    fn save_committed(&self, committed: Option<EntryId>) {
        self.log.save_committed(committed);
    }
    fn set_floor(&self, floor: Option<LogIndex>) {
        self.log.set_floor(floor);
    }
    fn durable(&self) -> Option<EntryId> {
        self.log.durable()
    }
    fn is_syncing(&self) -> bool {
        let fewer = |looks: u64| looks.checked_sub(1);
        let looked = self
            .looks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        looked.is_ok()
    }
}
