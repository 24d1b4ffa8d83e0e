//! How long something takes, counted without a lock: what a histogram of a node's metrics is read from.
//!
//! It doesn't do: names, text, quantiles. Whoever measures owns the value; `sqlrep-node` collects them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds: from a read in memory or a fast disk's sync to a write through an election or a
/// large checkpoint.
const BOUNDS_US: [u64; 13] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000,
    10_000_000,
];

/// Durations of one kind of work. Its counts may be a moment apart.
#[derive(Debug, Default)]
pub struct Latency {
    /// Observations between the bounds; the last is above all of them.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// What a [`Latency`] has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyCounts {
    /// Upper bounds, ascending.
    pub bounds: Vec<Duration>,
    /// Observations at or below each bound; one more: all of them.
    pub counts: Vec<u64>,
    /// All observations together.
    pub sum: Duration,
}

impl Latency {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What it has counted so far.
    #[must_use]
    pub fn read(&self) -> LatencyCounts {
        let mut all = 0;
        let below = self.counts.iter().map(|count| {
            all += count.load(Ordering::Relaxed);
            all
        });
        LatencyCounts {
            counts: below.collect(),
            bounds: BOUNDS_US.into_iter().map(Duration::from_micros).collect(),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observation_counts_at_its_bound_and_above() {
        let latency = Latency::default();
        for us in [100, 101, 30_000_000] {
            latency.observe(Duration::from_micros(us));
        }
        let read = latency.read();
        assert_eq!(read.counts[..2], [1, 2]);
        assert_eq!(read.counts[12..], [2, 3]);
        assert_eq!(read.bounds.len() + 1, read.counts.len());
        assert_eq!(read.sum, Duration::from_micros(30_000_201));
    }
}
