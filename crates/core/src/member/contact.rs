//! When this node last heard its leader, and how old what it shows may be.
//!
//! A follower is caught up at the moment of a contact if it had applied, then or later, everything the
//! leader had committed by that contact. It doesn't serve safety: a clock that jumps makes a read at level
//! none look fresher or older than it is, nothing else.

use crate::LogIndex;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
struct State {
    last: Option<Instant>,
    /// What the leader had committed at `last`.
    committed: Option<LogIndex>,
    /// Newest contact whose committed entries are all applied here.
    caught_up: Option<Instant>,
}

/// The follower's view of its leader.
#[derive(Default)]
pub(crate) struct Contact(Mutex<State>);

impl Contact {
    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values only; nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader's request was taken.
    pub(crate) fn heard(&self, committed: Option<LogIndex>, applied: Option<LogIndex>) {
        let now = Instant::now();
        let mut state = self.state();
        state.last = Some(now);
        state.committed = state.committed.max(committed);
        if applied >= state.committed {
            state.caught_up = Some(now);
        }
    }

    /// An entry was applied here.
    pub(crate) fn applied(&self, applied: Option<LogIndex>) {
        let mut state = self.state();
        if applied >= state.committed {
            state.caught_up = state.last;
        }
    }

    /// Time since the last contact; none if there was none.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.state().last.map(|last| last.elapsed())
    }

    /// Time for which what is applied here may have been overtaken; none if it never was caught up.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.state().caught_up.map(|at| at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Option<LogIndex> {
        Some(LogIndex(index))
    }

    #[tokio::test(start_paused = true)]
    async fn lag_counts_from_the_last_contact_that_was_caught_up_with() {
        let contact = Contact::default();
        assert_eq!((contact.age(), contact.lag()), (None, None));
        contact.heard(at(5), at(5));
        tokio::time::advance(Duration::from_millis(30)).await;
        contact.heard(at(8), at(6));
        let ms = Duration::from_millis;
        assert_eq!((contact.age(), contact.lag()), (Some(ms(0)), Some(ms(30))));
        tokio::time::advance(ms(10)).await;
        contact.applied(at(8));
        assert_eq!((contact.age(), contact.lag()), (Some(ms(10)), Some(ms(10))));
    }
}
