//! How much memory one connection takes for what its transactions and statements hold until they end.
//!
//! Promise: the bytes given out never exceed the limit. Who gets none keeps his bytes in a scratch file; that changes
//! no answer and no byte of the database (safety rules 33 and 36).

use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection that writes holds of its transactions, in bytes: changed pages, the rollback journal, and temporary files of
/// its statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionBytes {
    /// In memory now.
    pub memory: u64,
    /// The most there has been.
    pub memory_most: u64,
    /// Written to scratch files, ever.
    pub scratch_written: u64,
}

/// The memory of one connection.
#[derive(Debug)]
pub(crate) struct Room {
    bytes_max: u64,
    taken: AtomicU64,
    most: AtomicU64,
    scratch_written: AtomicU64,
}

impl Room {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            taken: AtomicU64::new(0),
            most: AtomicU64::new(0),
            scratch_written: AtomicU64::new(0),
        }
    }

    /// Takes so many bytes if there are as many left, and answers whether there were.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let order = Ordering::Relaxed;
        let more = |taken: u64| {
            taken
                .checked_add(bytes)
                .filter(|all| *all <= self.bytes_max)
        };
        let Ok(before) = self.taken.fetch_update(order, order, more) else {
            return false;
        };
        self.most.fetch_max(before + bytes, order);
        true
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        let before = self.taken.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "more was given back than taken");
    }

    pub(crate) fn note_scratch(&self, bytes: usize) {
        self.scratch_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> TransactionBytes {
        TransactionBytes {
            memory: self.taken.load(Ordering::Relaxed),
            memory_most: self.most.load(Ordering::Relaxed),
            scratch_written: self.scratch_written.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_out_than_there_is() {
        let room = Room::new(10);
        assert!(room.take(6) && !room.take(5) && room.take(4) && !room.take(1));
        room.give_back(6);
        assert!(!room.take(u64::MAX) && room.take(2));
        let bytes = room.bytes();
        assert_eq!((bytes.memory, bytes.memory_most), (6, 10));
    }
}
