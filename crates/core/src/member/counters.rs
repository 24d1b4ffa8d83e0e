//! Counts since the start, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one member; each only grows.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Entries proposed.
    pub entries: AtomicU64,
    /// Requests that went into them.
    pub requests: AtomicU64,
    /// The most requests in one entry.
    pub gathered_max: AtomicU64,
}

impl Counters {
    /// So many requests leave as one entry.
    pub(crate) fn gathered(&self, requests: usize) {
        let requests = requests as u64;
        self.requests.fetch_add(requests, Ordering::Relaxed);
        self.gathered_max.fetch_max(requests, Ordering::Relaxed);
    }
}
