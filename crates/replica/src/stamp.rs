//! The time that an entry's SQL sees.
//!
//! Clocks never act during apply: the leader stamps an entry once, and `'now'` is that stamp on every node.
//! Time doesn't run backwards for clients when leadership moves to a node whose clock is behind, unless the
//! last stamp is so far ahead that a clock must have been wrong (safety rule 39).

use sqlrep_env::UnixMillis;

/// How far the last stamp may be ahead of the leader's clock before the clock counts, in milliseconds.
const AHEAD_MS_MAX: u64 = 10_000;

/// A stamp, and whether time went back for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The time.
    pub(crate) at: UnixMillis,
    /// The last stamp was implausibly far ahead: worth a warning.
    pub(crate) went_back: bool,
}

/// The stamp of an entry behind one stamped `last`, by a leader whose clock shows `clock`.
pub(crate) fn stamp(clock: UnixMillis, last: UnixMillis) -> Stamp {
    if last.0 > clock.0.saturating_add(AHEAD_MS_MAX) {
        Stamp {
            at: clock,
            went_back: true,
        }
    } else {
        Stamp {
            at: clock.max(last),
            went_back: false,
        }
    }
}

/// The stamp that a leader gives; where time goes back for it, that is logged.
#[must_use]
pub fn leader_stamp(clock: UnixMillis, last: UnixMillis) -> UnixMillis {
    let Stamp { at, went_back } = stamp(clock, last);
    if went_back {
        let (last, now) = (last.0, at.0);
        tracing::warn!(
            last,
            now,
            "the last time stamp was far ahead of this node's clock: time goes back"
        );
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(clock: u64, last: u64) -> (u64, bool) {
        let stamp = stamp(UnixMillis(clock), UnixMillis(last));
        (stamp.at.0, stamp.went_back)
    }

    /// Rule 39: stamps don't go back, unless the last one is more than 10 s ahead of the leader's clock.
    #[test]
    fn time_goes_back_only_from_an_implausible_stamp() {
        assert_eq!(stamped(100_000, 0), (100_000, false));
        assert_eq!(stamped(100_000, 105_000), (105_000, false));
        assert_eq!(stamped(100_000, 110_000), (110_000, false));
        assert_eq!(stamped(100_000, 110_001), (100_000, true));
        assert_eq!(stamped(u64::MAX, 5), (u64::MAX, false));
    }
}
