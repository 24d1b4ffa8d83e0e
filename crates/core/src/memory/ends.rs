//! A state in memory at its entry ends: what duties 1, 2, 6 and 7 of [`StateMachine`](crate::StateMachine) ask of one that
//! is small enough to be copied whole.

use crate::{EntryEnd, EntryId, Which};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The state `S` as it is, as it is being prepared, and as a restart would begin from it. What is durable here is gone
/// with the process, like [`MemoryLog`](super::MemoryLog)'s entries.
#[derive(Default)]
pub struct Ends<S>(Mutex<Inner<S>>);

#[derive(Default)]
struct Inner<S> {
    applied: (S, EntryEnd),
    next: Option<S>,
    durable: (S, EntryEnd),
}

impl<S: Clone> Ends<S> {
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // A test that panicked on the assertion below has failed anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state at the applied end.
    #[must_use]
    pub fn state(&self) -> S {
        self.lock().applied.0.clone()
    }

    /// What the next [`finish`](Self::finish) makes visible.
    pub fn prepare(&self, next: S) {
        self.lock().next = Some(next);
    }

    /// Makes `end` the applied one, with what was prepared or else unchanged.
    ///
    /// # Panics
    ///
    /// If an entry comes twice.
    pub fn finish(&self, end: EntryEnd) {
        let mut inner = self.lock();
        assert!(end.id > inner.applied.1.id, "an entry is applied once");
        if let Some(next) = inner.next.take() {
            inner.applied.0 = next;
        }
        inner.applied.1 = end;
    }

    /// The applied end.
    #[must_use]
    pub fn applied(&self) -> EntryEnd {
        self.lock().applied.1.clone()
    }

    /// The durable end.
    #[must_use]
    pub fn durable(&self) -> EntryEnd {
        self.lock().durable.1.clone()
    }

    /// The applied end becomes the durable one, unless it is above `log_durable`. Returns the durable one.
    #[must_use]
    pub fn checkpoint(&self, log_durable: EntryId) -> EntryEnd {
        let mut inner = self.lock();
        if inner.applied.1.id <= Some(log_durable) {
            inner.durable = inner.applied.clone();
        }
        inner.durable.1.clone()
    }

    /// A state with its end; none before the first entry.
    #[must_use]
    pub fn at(&self, which: Which) -> Option<(S, EntryEnd)> {
        let inner = self.lock();
        let (state, end) = match which {
            Which::Durable => inner.durable.clone(),
            Which::Newest => inner.applied.clone(),
        };
        end.id.is_some().then_some((state, end))
    }

    /// Replaces everything by a state that was received.
    pub fn install(&self, state: S, end: EntryEnd) {
        let mut inner = self.lock();
        inner.next = None;
        inner.applied = (state, end);
        inner.durable = inner.applied.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogIndex, Term};

    fn end(index: u64) -> EntryEnd {
        EntryEnd {
            id: Some(EntryId {
                term: Term(1),
                index: LogIndex(index),
            }),
            ..EntryEnd::default()
        }
    }

    #[test]
    fn nothing_is_visible_before_its_entry_ends() {
        let ends = Ends::<u8>::default();
        assert_eq!(ends.at(Which::Newest), None);
        ends.prepare(7);
        assert_eq!(ends.state(), 0);
        ends.finish(end(1));
        ends.finish(end(2));
        assert_eq!(ends.at(Which::Newest), Some((7, end(2))));
        assert_eq!(ends.at(Which::Durable), None);
    }

    #[test]
    fn a_checkpoint_never_passes_the_log() {
        let ends = Ends::<u8>::default();
        ends.finish(end(2));
        let durable = |index| ends.checkpoint(end(index).id.unwrap());
        assert_eq!(durable(1), EntryEnd::default());
        assert_eq!(durable(2), end(2));
        ends.install(9, end(5));
        assert_eq!(ends.at(Which::Durable), Some((9, end(5))));
    }

    #[test]
    #[should_panic(expected = "applied once")]
    fn an_entry_that_comes_twice_is_refused() {
        let ends = Ends::<u8>::default();
        ends.finish(end(2));
        ends.finish(end(2));
    }
}
