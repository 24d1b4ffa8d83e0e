//! What came in of a snapshot, kept for the link that brings the rest (safety rule 11).
//!
//! Invariant 1: one transfer at a time takes in; a newer link makes the older one hand over what it has.
//! Invariant 2: what is kept belongs to a turn that lives: with the last one it is removed, also when a member stops.

use super::Blocking;
use crate::raft::wire::SnapshotName;
use crate::{EntryEnd, Vote};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A state under way, with all chunks so far written to the sink.
pub(super) struct Staged<S> {
    pub name: SnapshotName,
    /// As its head says.
    pub end: EntryEnd,
    /// None once it was completed.
    pub sink: Blocking<Option<S>>,
    pub chunks: u64,
    pub bytes: u64,
    /// Whether what is here already is offered to the leader.
    pub offers: bool,
}

/// What was kept of earlier links.
pub(super) enum Kept<S> {
    Nothing,
    /// The very state that comes in now.
    Same(Staged<S>),
    /// Another one: it is given up.
    Other(Staged<S>),
}

struct State<S> {
    staged: Option<Staged<S>>,
    /// What was installed last, and the answer to its leader.
    installed: Option<(SnapshotName, Vote)>,
    turns: usize,
    /// The last state couldn't be put together.
    failed: bool,
}

/// Where one kind of states comes in.
pub(crate) struct Inbox<S> {
    room: Arc<Semaphore>,
    /// Counts turns.
    newest: watch::Sender<u64>,
    state: Mutex<State<S>>,
}

impl<S> Default for Inbox<S> {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(1)),
            newest: watch::channel(0).0,
            state: Mutex::new(State {
                staged: None,
                installed: None,
                turns: 0,
                failed: false,
            }),
        }
    }
}

impl<S> Inbox<S> {
    fn state(&self) -> MutexGuard<'_, State<S>> {
        // Plain values only; nothing under this lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is coming in now.
    pub(crate) fn is_busy(&self) -> bool {
        self.room.available_permits() == 0
    }

    /// A turn of the newest link.
    pub(super) fn turn(self: &Arc<Self>) -> Turn<S> {
        let mut number = 0;
        self.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        self.state().turns += 1;
        Turn {
            inbox: self.clone(),
            number,
            permit: None,
        }
    }
}

/// One link's turn.
pub(super) struct Turn<S> {
    inbox: Arc<Inbox<S>>,
    number: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl<S> Turn<S> {
    /// Waits until the links before have made room.
    pub(super) async fn begin(&mut self) {
        let permit = self.inbox.room.clone().acquire_owned().await;
        self.permit = Some(permit.expect("it is never closed"));
    }

    /// What was kept of this state, or of another one.
    pub(super) fn take(&self, name: SnapshotName, end: &EntryEnd) -> Kept<S> {
        match self.inbox.state().staged.take() {
            None => Kept::Nothing,
            Some(staged) if staged.name == name && staged.end == *end => Kept::Same(staged),
            Some(staged) => Kept::Other(staged),
        }
    }

    /// Whether a new state may be put together with what is here already: not if the last one failed, or the same might come
    /// between each of them.
    pub(super) fn may_offer(&self) -> bool {
        !std::mem::take(&mut self.inbox.state().failed)
    }

    /// A state couldn't be put together.
    pub(super) fn note_failed(&self) {
        self.inbox.state().failed = true;
    }

    /// The answer to this state's leader, if it was installed already.
    pub(super) fn installed(&self, name: SnapshotName) -> Option<Vote> {
        let installed = self.inbox.state().installed;
        installed.and_then(|(known, vote)| (known == name).then_some(vote))
    }

    pub(super) fn note_installed(&self, name: SnapshotName, vote: Vote) {
        self.inbox.state().installed = Some((name, vote));
    }

    /// Waits until another link wants its turn.
    pub(super) async fn superseded(&self) {
        let mut newest = self.inbox.newest.subscribe();
        // The sender is a field of the inbox.
        newest.wait_for(|newest| *newest != self.number).await.ok();
    }

    /// Keeps `staged` for the next link, which has to come within `time`.
    pub(super) async fn keep(mut self, staged: Staged<S>, time: Duration) {
        self.inbox.state().staged = Some(staged);
        self.permit = None;
        tokio::time::timeout(time, self.superseded()).await.ok();
    }
}

impl<S> Drop for Turn<S> {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        state.turns -= 1;
        let unwanted = if state.turns == 0 {
            state.staged.take()
        } else {
            None
        };
        drop(state);
        drop(unwanted);
    }
}
