//! Random choices, all from the seed.
//!
//! Each part of a simulation draws from a stream of its own, named by a label: one more draw here doesn't move what is
//! drawn elsewhere.

use sqlrep_env::{Entropy, SimulatedEntropy};
use std::time::Duration;

/// One stream of choices.
pub(crate) struct Draw(SimulatedEntropy);

impl Draw {
    /// The stream of `label` under `seed`.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        let mixed = xxhash_rust::xxh3::xxh3_64_with_seed(label.as_bytes(), seed);
        Self(SimulatedEntropy::new(mixed))
    }

    /// Any number.
    pub(crate) fn any(&self) -> u64 {
        self.0.next()
    }

    /// A number below `end`, which is above zero.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.any() % end
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`, which has some.
    pub(crate) fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        let count = u64::try_from(choices.len()).expect("a length fits");
        &choices[usize::try_from(self.below(count)).expect("it was a length")]
    }

    /// A time from `low` to `high` milliseconds.
    pub(crate) fn millis(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_follows_from_seed_and_label_alone() {
        let first = |seed, label| Draw::new(seed, label).any();
        assert_eq!(first(1, "faults"), first(1, "faults"));
        assert_ne!(first(1, "faults"), first(1, "clients"));
        assert_ne!(first(1, "faults"), first(2, "faults"));
    }
}
