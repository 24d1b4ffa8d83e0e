//! When to checkpoint, and how eagerly. Decides, never acts.
//!
//! A restart replays the log from the durable position, so the time that replay would take is the figure
//! that matters (safety rule 10); bytes bound the memory that images take, entries the log that can't be
//! purged, and age makes a quiet database durable in its base file some day.
//!
//! A checkpoint under way lets the log's syncs go first, with a patience that follows the memory of versions (safety
//! rule 12). With the defaults one that was triggered by 64 MiB of images makes about 130 steps, so that it waits for
//! 2.6 s at most; in that time the log grows, and a restart replays as much more.

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
    /// The longest that one step of a checkpoint waits for syncs of the log, while there is memory. Default 20 ms: a few
    /// syncs of a busy log each, and 50 MiB/s for the checkpoint.
    pub patience_max: Duration,
}

/// The memory of page versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of images.
    pub bytes: u64,
    /// Beyond it images are spilled and reads ended (safety rule 11).
    pub bytes_max: u64,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self {
            replay_max: Duration::from_millis(500),
            image_bytes_max: 64 << 20,
            entries_max: 1_000_000,
            age_max: Duration::from_secs(60),
            patience_max: Duration::from_millis(20),
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

    /// How long a step may wait for syncs of the log: all of the patience up to half of the memory, none from three
    /// quarters on, which is where spilling ends, and in proportion between them.
    #[must_use]
    pub fn patience(&self, memory: Memory) -> Duration {
        let quarter = memory.bytes_max / 4;
        let above_half = memory.bytes.saturating_sub(2 * quarter);
        let left_permille = quarter.saturating_sub(above_half) * 1000 / quarter.max(1);
        self.patience_max * u32::try_from(left_permille).expect("at most 1000") / 1000
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

    /// Rule 12: patience with the log's syncs follows the fill level of the version memory, and ends before it is full.
    #[test]
    fn patience_shrinks_as_memory_fills() {
        let policy = CheckpointPolicy::default();
        let patience = |bytes| {
            policy.patience(Memory {
                bytes,
                bytes_max: 1000,
            })
        };
        let ms = Duration::from_millis;
        assert_eq!([0, 500].map(patience), [ms(20); 2]);
        assert_eq!([550, 625, 700].map(patience), [ms(16), ms(10), ms(4)]);
        assert_eq!([750, 1000, u64::MAX].map(patience), [Duration::ZERO; 3]);
        let none = Memory {
            bytes: 0,
            bytes_max: 0,
        };
        assert_eq!(policy.patience(none), Duration::ZERO);
    }
}
