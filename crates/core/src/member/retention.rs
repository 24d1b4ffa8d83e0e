//! How much of the log has to stay (safety rule 17): everything above the durable position, and everything
//! that a follower needs behind a snapshot that is on its way to it.
//!
//! Invariant 1: the log's floor is the smallest of the durable position and the held indexes, and none before
//! anything is durable. It never moves down while an index is held, except to that index. A held index too far
//! behind is given up.

use crate::{LogIndex, LogStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A snapshot that has arrived is held on for this many checkpoint rounds, until its follower has asked for
/// the entries behind it.
const ROUNDS_AFTER: u8 = 2;

#[derive(Default)]
struct State {
    durable: Option<LogIndex>,
    /// By a running number: the index, and rounds left once its snapshot has ended.
    held: BTreeMap<u64, (LogIndex, Option<u8>)>,
    next: u64,
}

/// Keeps the log's floor.
pub(crate) struct Retention {
    log: Arc<dyn LogStore>,
    state: Mutex<State>,
    cut_off: watch::Sender<Option<LogIndex>>,
}

/// Holds the log behind one snapshot while it lives.
pub(crate) struct Hold {
    retention: Arc<Retention>,
    number: u64,
}

impl Retention {
    pub(crate) fn new(log: Arc<dyn LogStore>) -> Self {
        Self {
            log,
            state: Mutex::default(),
            cut_off: watch::channel(None).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values only; nothing under this lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A checkpoint round has ended; the state is durable up to `index`.
    pub(crate) fn durable(&self, index: Option<LogIndex>) {
        let mut state = self.state();
        state.durable = state.durable.max(index);
        state.held.retain(|_, (_, rounds)| match rounds {
            None => true,
            Some(left) => {
                *left = left.saturating_sub(1);
                *left > 0
            }
        });
        self.log.set_floor(state.floor());
    }

    /// Holds the log behind `index`.
    pub(crate) fn hold(self: &Arc<Self>, index: LogIndex) -> Hold {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.held.insert(number, (index, None));
        self.log.set_floor(state.floor());
        Hold {
            retention: self.clone(),
            number,
        }
    }

    /// Nothing at or below `index` is held any longer, whoever needs it (safety rule 17).
    pub(crate) fn cut_off(&self, index: Option<LogIndex>) {
        let Some(index) = index else { return };
        {
            let mut state = self.state();
            state.held.retain(|_, (held, _)| *held > index);
            self.log.set_floor(state.floor());
        }
        self.cut_off.send_if_modified(|told| {
            let later = Some(index) > *told;
            *told = (*told).max(Some(index));
            later
        });
    }

    /// Up to where followers may not hold the log, and its changes.
    pub(crate) fn cut_offs(&self) -> watch::Receiver<Option<LogIndex>> {
        self.cut_off.subscribe()
    }

    /// The highest index that may be purged.
    pub(crate) fn floor(&self) -> Option<LogIndex> {
        self.state().floor()
    }
}

impl Hold {
    /// Whether the log behind its snapshot is still there.
    pub(crate) fn is_kept(&self) -> bool {
        self.retention.state().held.contains_key(&self.number)
    }
}

impl State {
    fn floor(&self) -> Option<LogIndex> {
        let held = self.held.values().map(|(index, _)| *index).min();
        self.durable
            .map(|durable| held.map_or(durable, |held| held.min(durable)))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.retention.state();
        if let Some((_, rounds)) = state.held.get_mut(&self.number) {
            *rounds = Some(ROUNDS_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLog;

    /// Rule 17: what a snapshot in flight needs next isn't purged, nor what isn't durable.
    #[test]
    fn the_floor_is_the_smallest_of_durable_and_held() {
        let retention = Arc::new(Retention::new(Arc::new(MemoryLog::default())));
        let floor = |retention: &Retention| retention.floor().map(|index| index.0);
        assert_eq!(floor(&retention), None);
        let first = retention.hold(LogIndex(5));
        assert_eq!(floor(&retention), None, "nothing is durable yet");
        retention.durable(Some(LogIndex(9)));
        let second = retention.hold(LogIndex(7));
        assert_eq!(floor(&retention), Some(5));
        drop(first);
        retention.durable(Some(LogIndex(12)));
        assert_eq!(floor(&retention), Some(5), "one round more");
        retention.durable(Some(LogIndex(12)));
        assert_eq!(floor(&retention), Some(7));
        drop(second);
        retention.durable(Some(LogIndex(13)));
        retention.durable(Some(LogIndex(13)));
        assert_eq!(floor(&retention), Some(13));
    }
}
