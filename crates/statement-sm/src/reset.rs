//! When the leader flags an entry as a reset point.
//!
//! After a flagged entry every node closes and reopens its apply connection, so that the connection's history
//! since then is the same everywhere, after a restart and after an install too (safety rule 33). Durable
//! positions and snapshots are taken at reset points only, so they also bound how much a restart replays.

use sqlrep_env::Moment;
use std::time::Duration;

/// Entries, bytes of entries, time, bytes of page images since the durable position: without an anchor no checkpoint can write
/// them. Lower ones cost reopened connections, higher ones replay and memory.
const ENTRIES_MAX: u32 = 64;
const BYTES_MAX: usize = 4 << 20;
const AGE_MAX: Duration = Duration::from_secs(1);
const IMAGE_BYTES_MAX: u64 = 16 << 20;

/// What a leader has sealed since its last reset point.
#[derive(Debug)]
pub(crate) struct ResetClock {
    entries: u32,
    bytes: usize,
    /// What had gathered then, or less if a checkpoint came meanwhile.
    image_bytes: u64,
    since: Moment,
}

impl ResetClock {
    /// A leadership begins. Its first entry is flagged: how far back the last reset point is, only the former leader counted.
    pub(crate) fn begin(now: Moment) -> Self {
        Self {
            entries: ENTRIES_MAX - 1,
            ..Self::start(0, now)
        }
    }

    fn start(image_bytes: u64, now: Moment) -> Self {
        Self {
            entries: 0,
            bytes: 0,
            image_bytes,
            since: now,
        }
    }

    /// Counts an entry of `bytes` and tells whether it is to be flagged. `image_bytes` have gathered since the durable position.
    pub(crate) fn count(&mut self, bytes: usize, image_bytes: u64, now: Moment) -> bool {
        self.entries += 1;
        self.bytes += bytes;
        self.image_bytes = self.image_bytes.min(image_bytes);
        let flagged = self.entries >= ENTRIES_MAX
            || self.bytes >= BYTES_MAX
            || image_bytes - self.image_bytes >= IMAGE_BYTES_MAX
            || now.since(self.since) >= AGE_MAX;
        if flagged {
            *self = Self::start(image_bytes, now);
        }
        flagged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 33: at least every 64 entries, 4 MiB or 1 s an entry is a reset point.
    #[test]
    fn entries_bytes_and_time_each_flag() {
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let mut clock = ResetClock::start(0, at(0));
        let flagged: Vec<u32> = (1..=200).filter(|_| clock.count(1, 0, at(0))).collect();
        assert_eq!(flagged, [64, 128, 192]);
        let mut clock = ResetClock::start(0, at(0));
        let counted = [BYTES_MAX - 1, 1, 1].map(|bytes| clock.count(bytes, 0, at(0)));
        assert_eq!(counted, [false, true, false]);
        let mut clock = ResetClock::start(0, at(5));
        assert_eq!(
            [5, 6, 6].map(|seconds| clock.count(1, 0, at(seconds))),
            [false, true, false]
        );
        let mut clock = ResetClock::begin(at(5));
        assert_eq!(
            [5, 5].map(|seconds| clock.count(1, 0, at(seconds))),
            [true, false]
        );
    }

    /// Rule 11: images that no checkpoint may write yet don't gather without bound.
    #[test]
    fn images_flag_and_a_checkpoint_takes_them_back() {
        let mut clock = ResetClock::start(0, Moment::default());
        let mib = [15, 16, 31, 32, 2, 17, 18, 19];
        let flagged = mib.map(|mib: u64| clock.count(1, mib << 20, Moment::default()));
        assert_eq!(
            flagged,
            [false, true, false, true, false, false, true, false]
        );
    }
}
