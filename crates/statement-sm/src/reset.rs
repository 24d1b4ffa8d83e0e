//! When the leader flags an entry as a reset point.
//!
//! After a flagged entry every node closes and reopens its apply connection, so that the connection's history
//! since then is the same everywhere, after a restart and after an install too (safety rule 33). Durable
//! positions and snapshots are taken at reset points only, so they also bound how much a restart replays.

use sqlrep_env::Moment;
use std::time::Duration;

/// Entries, bytes of entries, time. Lower ones cost reopened connections, higher ones replay.
const ENTRIES_MAX: u32 = 64;
const BYTES_MAX: usize = 4 << 20;
const AGE_MAX: Duration = Duration::from_secs(1);

/// What a leader has sealed since its last reset point.
#[derive(Debug)]
pub(crate) struct ResetClock {
    entries: u32,
    bytes: usize,
    since: Moment,
}

impl ResetClock {
    /// A leadership begins. Its first entry is flagged: how far back the last reset point is, only the former leader counted.
    pub(crate) fn begin(now: Moment) -> Self {
        Self {
            entries: ENTRIES_MAX - 1,
            ..Self::start(now)
        }
    }

    fn start(now: Moment) -> Self {
        Self {
            entries: 0,
            bytes: 0,
            since: now,
        }
    }

    /// Counts an entry of `bytes` and tells whether it is to be flagged.
    pub(crate) fn count(&mut self, bytes: usize, now: Moment) -> bool {
        self.entries += 1;
        self.bytes += bytes;
        let flagged = self.entries >= ENTRIES_MAX
            || self.bytes >= BYTES_MAX
            || now.since(self.since) >= AGE_MAX;
        if flagged {
            *self = Self::start(now);
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
        let mut clock = ResetClock::start(at(0));
        let flagged: Vec<u32> = (1..=200).filter(|_| clock.count(1, at(0))).collect();
        assert_eq!(flagged, [64, 128, 192]);
        let mut clock = ResetClock::start(at(0));
        assert!(
            !clock.count(BYTES_MAX - 1, at(0)) && clock.count(1, at(0)) && !clock.count(1, at(0))
        );
        let mut clock = ResetClock::start(at(5));
        assert!(!clock.count(1, at(5)) && clock.count(1, at(6)) && !clock.count(1, at(6)));
        let mut clock = ResetClock::begin(at(5));
        assert!(clock.count(1, at(5)) && !clock.count(1, at(5)));
    }
}
