//! What checkpoints have done since the start, for operators.

use sqlrep_env::{Latency, LatencyCounts};
use sqlrep_store::Written;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the start; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Those that came to their end.
    pub completed: u64,
    /// Those that ended with an error.
    pub failed: u64,
    /// Pages written to base files.
    pub pages: u64,
    /// Bytes written: journals, base files, sums, positions.
    pub bytes: u64,
}

/// The counting behind it. Its counts may be a moment apart.
#[derive(Default)]
pub(crate) struct Made {
    took: Latency,
    completed: AtomicU64,
    failed: AtomicU64,
    pages: AtomicU64,
    bytes: AtomicU64,
}

impl Made {
    /// A checkpoint came to its end after this long.
    pub(crate) fn completed(&self, took: Duration) {
        self.took.observe(took);
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what a step has written, from what its checkpoint had written before and has now.
    pub(crate) fn wrote(&self, before: Written, now: Written) {
        let (pages, bytes) = (now.pages - before.pages, now.bytes - before.bytes);
        self.pages.fetch_add(pages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Checkpoints {
        Checkpoints {
            completed: self.completed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            pages: self.pages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn times(&self) -> LatencyCounts {
        self.took.read()
    }
}
