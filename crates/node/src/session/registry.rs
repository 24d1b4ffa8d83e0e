//! The sessions of this node: those that are open, and why others are over.
//!
//! Invariant 1: at most [`SESSIONS_MAX`] are open or being opened. Invariant 2: an end is remembered for
//! [`ENDED_KEPT_FOR`], as long as no more than [`ENDED_KEPT_MAX`] came after it.

use super::SESSIONS_MAX;
use super::life::{CALLS_MAX, Call, Life};
use super::transaction::Transaction;
use sqlrep_core::{NodeId, WriteError};
use sqlrep_env::{Env, Moment};
use sqlrep_service::{Committed, End, SessionError, SessionId, SessionOptions};
use sqlrep_sql::{Reply, Request};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// How long an end is remembered.
const ENDED_KEPT_FOR: Duration = Duration::from_secs(600);

/// How many ends are.
const ENDED_KEPT_MAX: usize = 4096;

/// Figures for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) open: usize,
    pub(crate) opened: u64,
    /// By [`End::word`].
    pub(crate) ended: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct State {
    /// None: its user is gone, it ends behind the calls that wait.
    open: BTreeMap<SessionId, Option<mpsc::Sender<Call>>>,
    /// Places taken by sessions that are being opened.
    opening: usize,
    ended: BTreeMap<SessionId, End>,
    order: VecDeque<(Moment, SessionId)>,
    opened: u64,
    counted: BTreeMap<&'static str, u64>,
}

impl State {
    fn forget(&mut self, now: Moment) {
        while let Some((since, id)) = self.order.front().copied() {
            let fresh = now.since(since) <= ENDED_KEPT_FOR;
            if fresh && self.order.len() <= ENDED_KEPT_MAX {
                return;
            }
            self.order.pop_front();
            self.ended.remove(&id);
        }
    }
}

/// The sessions of one node.
pub(crate) struct Registry {
    owner: NodeId,
    env: Env,
    state: Mutex<State>,
    /// Whether the node stops.
    stopping: watch::Sender<bool>,
    /// How many are open.
    count: watch::Sender<usize>,
}

/// Room for a session that is being opened.
pub(super) struct Place(Arc<Registry>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().opening -= 1;
    }
}

/// Keeps a session's end, also where its task is dropped.
struct Entry {
    registry: Weak<Registry>,
    id: SessionId,
    end: End,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.ended(self.id, self.end.clone());
        }
    }
}

impl Registry {
    pub(crate) fn new(owner: NodeId, env: Env) -> Arc<Self> {
        Arc::new(Self {
            owner,
            env,
            state: Mutex::default(),
            stopping: watch::channel(false).0,
            count: watch::channel(0).0,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more.
    pub(super) fn reserve(self: &Arc<Self>) -> Result<Place, SessionError> {
        if *self.stopping.borrow() {
            return Err(WriteError::Stopped.into());
        }
        let mut state = self.state();
        if state.open.len() + state.opening >= SESSIONS_MAX {
            let limit = SESSIONS_MAX;
            return Err(SessionError::Full { limit });
        }
        state.opening += 1;
        Ok(Place(self.clone()))
    }

    /// Begins a session's life.
    pub(super) fn fill(
        self: &Arc<Self>,
        place: Place,
        transaction: Box<dyn Transaction>,
        options: &SessionOptions,
    ) -> SessionId {
        let secret = || u128::from(self.env.entropy.next());
        let id = SessionId::new(self.owner, secret() << 64 | secret());
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        let mut life = Life {
            transaction,
            calls,
            stopping: self.stopping.subscribe(),
            idle_max: options.idle_max,
            until: Instant::now() + options.total_max,
        };
        let mut entry = Entry {
            registry: Arc::downgrade(self),
            id,
            end: End::NodeStopped,
        };
        {
            let mut state = self.state();
            state.open.insert(id, Some(sender));
            state.opened += 1;
            self.count.send_replace(state.open.len());
        }
        drop(place);
        tracing::debug!(session = %id, begin = ?options.begin, "a session is open");
        tokio::spawn(async move {
            let (end, parting) = life.live().await;
            entry.end = end;
            // First the end is known, then the last caller hears of it, then those that wait behind.
            drop(entry);
            parting();
            drop(life);
        });
        id
    }

    fn ended(&self, id: SessionId, end: End) {
        match &end {
            End::RolledBack | End::Committed(_) => tracing::debug!(session = %id, %end, "over"),
            end => tracing::info!(session = %id, %end, "a session is over"),
        }
        let now = self.env.clock.now();
        let mut state = self.state();
        state.open.remove(&id);
        *state.counted.entry(end.word()).or_default() += 1;
        state.ended.insert(id, end);
        state.order.push_back((now, id));
        state.forget(now);
        self.count.send_replace(state.open.len());
    }

    /// Why there is no such session.
    fn gone(&self, id: SessionId) -> SessionError {
        let now = self.env.clock.now();
        let mut state = self.state();
        state.forget(now);
        let end = state.ended.get(&id).cloned();
        end.map_or(SessionError::NotFound, SessionError::Ended)
    }

    async fn ask<T>(
        &self,
        id: SessionId,
        call: impl FnOnce(oneshot::Sender<Result<T, SessionError>>) -> Call,
    ) -> Result<T, SessionError> {
        let (sender, receiver) = oneshot::channel();
        let line = self.state().open.get(&id).cloned().flatten();
        let Some(line) = line else {
            return Err(self.gone(id));
        };
        match line.try_send(call(sender)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(WriteError::Overloaded.into()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(self.gone(id)),
        }
        drop(line);
        receiver.await.unwrap_or_else(|_| Err(self.gone(id)))
    }

    pub(super) async fn run(&self, id: SessionId, request: Request) -> Result<Reply, SessionError> {
        self.ask(id, |to| Call::Run(request, to)).await
    }

    pub(super) async fn commit(&self, id: SessionId) -> Result<Committed, SessionError> {
        self.ask(id, Call::Commit).await
    }

    /// What is taken back already is no error.
    pub(super) async fn rollback(&self, id: SessionId) -> Result<(), SessionError> {
        match self.ask(id, Call::Rollback).await {
            Err(SessionError::Ended(end))
                if !matches!(end, End::Committed(_) | End::Unknown(_)) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Its only user is gone: takes it back without waiting.
    pub(super) fn abandon(&self, id: SessionId) {
        if let Some(line) = self.state().open.get_mut(&id) {
            *line = None;
        }
    }

    /// Takes back all that aren't committing, and opens no more.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until none is open.
    pub(crate) async fn emptied(&self) {
        let mut count = self.count.subscribe();
        // The sender is a field of this value.
        count.wait_for(|count| *count == 0).await.ok();
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state();
        let mut ended: BTreeMap<_, _> = End::WORDS.map(|word| (word, 0)).into();
        ended.extend(&state.counted);
        Counts {
            open: state.open.len(),
            opened: state.opened,
            ended,
        }
    }
}

#[cfg(test)]
mod tests;
