//! Tells the log's readers how the replay goes on: of what the log held when this node started, behind the state's position.
//!
//! Raft hands those entries over as it does later ones, some at once, the others when it knows them to be committed; so the
//! end of the replay is the entry that the log ended with.

use crate::{EntryId, LogIndex};
use sqlrep_env::Moment;
use std::time::Duration;

/// It is told at the first entry, and then so often.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A replay, until it is over.
pub(crate) struct Replay {
    /// Where the log ended; none once there is nothing to replay.
    upto: Option<LogIndex>,
    /// The first entry and when it came.
    began: Option<(EntryId, Moment)>,
    told: Moment,
    /// Applied again so far.
    entries: u64,
}

/// What there is to tell before an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub upto: LogIndex,
    pub entries: u64,
}

/// What there is to tell behind the last one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub from: EntryId,
    pub entries: u64,
    pub took: Duration,
}

impl Replay {
    /// Of a log that ends with `last`, for a state at `applied`.
    pub(crate) fn new(last: Option<EntryId>, applied: Option<EntryId>) -> Self {
        let upto = last.filter(|_| last > applied).map(|id| id.index);
        Self {
            upto,
            began: None,
            told: Moment::default(),
            entries: 0,
        }
    }

    /// Before `entry` is applied.
    pub(crate) fn begins(
        &mut self,
        entry: EntryId,
        now: impl FnOnce() -> Moment,
    ) -> Option<Progress> {
        let upto = self.upto.filter(|upto| entry.index <= *upto)?;
        let now = now();
        let first = self.began.is_none();
        self.began = self.began.or(Some((entry, now)));
        if !first && now.since(self.told) < TELL_EVERY {
            return None;
        }
        self.told = now;
        let entries = self.entries;
        Some(Progress { upto, entries })
    }

    /// Behind it. A snapshot that was installed meanwhile may have passed the end.
    pub(crate) fn ended(&mut self, entry: EntryId, now: impl FnOnce() -> Moment) -> Option<Over> {
        let upto = self.upto?;
        self.entries += u64::from(entry.index <= upto);
        if entry.index < upto {
            return None;
        }
        self.upto = None;
        let (from, began) = self.began?;
        Some(Over {
            from,
            entries: self.entries,
            took: now().since(began),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Term;

    fn id(index: u64) -> EntryId {
        EntryId {
            term: Term(1),
            index: LogIndex(index),
        }
    }

    fn at(ms: u64) -> impl Fn() -> Moment {
        move || Moment(Duration::from_millis(ms))
    }

    #[test]
    fn it_is_told_at_the_first_entry_each_second_and_at_the_end() {
        let mut replay = Replay::new(Some(id(5)), Some(id(1)));
        let told = |entries| {
            let upto = LogIndex(5);
            Some(Progress { upto, entries })
        };
        assert_eq!(replay.begins(id(2), at(100)), told(0));
        assert_eq!(replay.ended(id(2), at(200)), None);
        assert_eq!(replay.begins(id(3), at(900)), None);
        assert_eq!(replay.ended(id(3), at(1000)), None);
        assert_eq!(replay.begins(id(4), at(1100)), told(2));
        assert_eq!(replay.ended(id(4), at(1200)), None);
        assert_eq!(replay.begins(id(5), at(1300)), None);
        let over = Over {
            from: id(2),
            entries: 4,
            took: Duration::from_millis(1300),
        };
        assert_eq!(replay.ended(id(5), at(1400)), Some(over));
        assert_eq!(replay.begins(id(6), at(9000)), None);
        assert_eq!(replay.ended(id(6), at(9000)), None);
    }

    #[test]
    fn nothing_is_told_where_nothing_is_replayed() {
        for (last, applied) in [(None, None), (Some(id(3)), Some(id(3)))] {
            let mut replay = Replay::new(last, applied);
            assert_eq!(replay.begins(id(4), at(1)), None);
            assert_eq!(replay.ended(id(4), at(1)), None);
        }
    }

    #[test]
    fn a_snapshot_may_pass_its_end() {
        let mut replay = Replay::new(Some(id(5)), None);
        replay.begins(id(0), at(0)).unwrap();
        replay.ended(id(0), at(0));
        assert_eq!(replay.begins(id(9), at(1)), None);
        assert_eq!(replay.ended(id(9), at(1)).unwrap().entries, 1);
    }
}
