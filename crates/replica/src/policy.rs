//! When to checkpoint. Decides, never acts.
//!
//! A restart replays the log from the durable position, so the time that replay would take is the figure
//! that matters (safety rule 10); bytes bound the memory that images take, entries the log that can't be
//! purged, and age makes a quiet database durable in its base file some day.

use std::time::Duration;

/// What has gathered since the durable position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Time that applying took: what a restart would spend again.
    pub replay: Duration,
    /// Bytes of page images that a checkpoint would write.
    pub image_bytes: u64,
    /// Entries applied.
    pub entries: u64,
    /// Time since the last checkpoint ended.
    pub age: Duration,
}

/// Limits; a checkpoint is due when one is reached. Lower ones mean shorter restarts and more writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// Default 500 ms: a restart is ready within a second.
    pub replay_max: Duration,
    /// Default 64 MiB, half of the default memory for versions.
    pub image_bytes_max: u64,
    /// Default 1,000,000.
    pub entries_max: u64,
    /// Default 60 s; counts only if anything was applied.
    pub age_max: Duration,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self {
            replay_max: Duration::from_millis(500),
            image_bytes_max: 64 << 20,
            entries_max: 1_000_000,
            age_max: Duration::from_secs(60),
        }
    }
}

impl CheckpointPolicy {
    /// Whether it is time.
    #[must_use]
    pub fn due(&self, pressure: &Pressure) -> bool {
        pressure.entries > 0
            && (pressure.replay >= self.replay_max
                || pressure.image_bytes >= self.image_bytes_max
                || pressure.entries >= self.entries_max
                || pressure.age >= self.age_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 10: replay time, bytes and entries each trigger a checkpoint by themselves.
    #[test]
    fn each_limit_triggers_alone_and_nothing_does_without_changes() {
        let policy = CheckpointPolicy::default();
        let quiet = Pressure {
            entries: 1,
            ..Pressure::default()
        };
        assert!(!policy.due(&quiet));
        for pressure in [
            Pressure {
                replay: Duration::from_millis(500),
                ..quiet
            },
            Pressure {
                image_bytes: 64 << 20,
                ..quiet
            },
            Pressure {
                entries: 1_000_000,
                ..quiet
            },
            Pressure {
                age: Duration::from_secs(60),
                ..quiet
            },
        ] {
            assert!(policy.due(&pressure), "{pressure:?}");
            assert!(!policy.due(&Pressure {
                entries: 0,
                ..pressure
            }));
        }
    }
}
