//! How long clients' requests take on this node, counted without a lock.

use sqlrep_service::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds: from a read in memory to a write through an election.
const BOUNDS_US: [u64; 12] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000,
];

/// One kind of requests. Its counts may be a moment apart.
#[derive(Default)]
pub(crate) struct Latency {
    /// Observations between the bounds; the last is above all of them.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Histogram {
        let mut all = 0;
        let below = self.counts.iter().map(|count| {
            all += count.load(Ordering::Relaxed);
            all
        });
        let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
        Histogram {
            counts: below.collect(),
            bounds_seconds: BOUNDS_US.into_iter().map(seconds).collect(),
            sum_seconds: seconds(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_observation_counts_at_its_bound_and_above() {
        let latency = Latency::default();
        for us in [100, 101, 3_000_000] {
            latency.observe(Duration::from_micros(us));
        }
        let read = latency.read();
        assert_eq!(read.counts[..2], [1, 2]);
        assert_eq!(read.counts[11..], [2, 3]);
        assert_eq!(read.bounds_seconds.len() + 1, read.counts.len());
        assert!((read.sum_seconds - 3.000_201).abs() < 1e-9);
    }
}
