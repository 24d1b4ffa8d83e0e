//! Checkpoints in rounds, and what they allow: the log is purged behind what is durable.
//!
//! ```text
//!   every second, or on demand ─► StateMachine::checkpoint_step (worker) … ─► floor of the log ─► Raft is told (rule 15)
//!                                   └─ syncs of the log go first ─┘                          └─► purge, a tail stays
//! ```
//!
//! Checkpoint and log share a device, and every write of a client waits for a sync of the log. So between two steps,
//! of 1 MiB at most, a round waits while the log syncs or is about to (safety rule 12): for as long as the state says
//! that it has the patience, which ends as its memory fills, and not at all once somebody waits for the round. So a
//! checkpoint always progresses, however busy the log is.
//!
//! Invariant 1 (safety rules 15 and 17): the floor is raised by what the state says is durable, before Raft is
//! told; what is purged is never above the floor, so neither above a snapshot that is on its way.
//! Invariant 2 (safety rule 16): out of service, no step is made and nothing is purged.

use super::{Inner, Member};
use crate::answered::answered;
use crate::raft::entry_id;
use crate::{
    CheckpointStep, EntryEnd, EntryId, LogIndex, MachineError, MemberError, Retry, StateMachine,
};
use openraft::async_runtime::WatchReceiver;
use sqlrep_env::Actor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The checkpoint worker's queue: a round waits for its one job.
const JOBS_MAX: usize = 4;

/// Between two looks at whether the log still syncs: the finest that tokio's timers know.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Demands that wait for a round.
pub(super) const DEMANDS_MAX: usize = 64;

/// What the rounds are made with.
struct Rounds {
    worker: Actor<()>,
    demands: mpsc::Receiver<Demand>,
}

/// Somebody wants a round: at once if it says so, and its outcome.
pub(super) struct Demand {
    now: bool,
    done: oneshot::Sender<Result<Option<EntryId>, MemberError>>,
}

impl<M: StateMachine> Member<M> {
    /// Runs a round of checkpointing: the state decides whether it is time, unless `now` says that it is.
    /// Returns what is durable.
    ///
    /// # Errors
    ///
    /// The state's own failure; a full disk may be tried again. [`MemberError::Refused`] out of service.
    pub async fn checkpoint(&self, now: bool) -> Result<Option<EntryId>, MemberError> {
        let (done, outcome) = oneshot::channel();
        let demanded = self.inner.demands.send(Demand { now, done }).await;
        let node = self.inner.shared.node;
        let stopped = || MemberError::Stopped {
            node,
            why: "no checkpoints are made any more".to_owned(),
        };
        demanded.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
}

impl<M: StateMachine> Inner<M> {
    /// Runs the rounds.
    pub(super) async fn keep_checkpoints(self: Arc<Self>, demands: mpsc::Receiver<Demand>) {
        let executor = &*self.shared.env.executor;
        let worker = Actor::start(executor, "checkpoint", JOBS_MAX, ());
        let mut rounds = Rounds { worker, demands };
        let every = Duration::from_millis(self.shared.settings.checkpoint_every_ms);
        loop {
            let demand = tokio::select! {
                biased;
                demand = rounds.demands.recv() => match demand {
                    Some(demand) => Some(demand),
                    None => return,
                },
                () = tokio::time::sleep(every) => None,
            };
            let now = demand.as_ref().is_some_and(|demand| demand.now);
            let outcome = self.round(&rounds, now).await;
            if let Some(demand) = demand {
                // Whoever asked may have gone.
                demand.done.send(outcome).ok();
            } else if let Err(error) = outcome {
                tracing::debug!(node = %self.shared.node, %error, "no checkpoint");
            }
        }
    }

    async fn round(&self, rounds: &Rounds, now: bool) -> Result<Option<EntryId>, MemberError> {
        let shared = &self.shared;
        self.trusted()?;
        let durable = match shared.log.durable() {
            Some(log_durable) => self.checkpointed(rounds, log_durable, now).await?.id,
            None => None,
        };
        shared.retention.durable(durable.map(|id| id.index));
        if let Some(durable) = durable {
            self.told(durable).await;
            self.purge().await;
        }
        Ok(durable)
    }

    /// Invariant 2.
    fn trusted(&self) -> Result<(), MemberError> {
        match &*self.shared.out_of_service.borrow() {
            None => Ok(()),
            Some(why) => Err(MemberError::Refused {
                what: format!("no checkpoint of a state that isn't trusted: {why}"),
            }),
        }
    }

    async fn checkpointed(
        &self,
        rounds: &Rounds,
        log_durable: EntryId,
        now: bool,
    ) -> Result<EntryEnd, MemberError> {
        loop {
            match self.step(&rounds.worker, log_durable, now).await? {
                CheckpointStep::Done(end) => return Ok(end),
                CheckpointStep::More { patience } if !now && !patience.is_zero() => {
                    let quiet = self.quiet(&rounds.demands);
                    // Either way the next step comes: the log is quiet, or was given its time.
                    tokio::time::timeout(patience, quiet).await.ok();
                }
                CheckpointStep::More { .. } => {}
            }
            self.trusted()?;
        }
    }

    /// Returns once no sync of the log would be held up, or somebody waits for the next round.
    async fn quiet(&self, demands: &mpsc::Receiver<Demand>) {
        while self.shared.log.is_syncing() && demands.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn step(
        &self,
        worker: &Actor<()>,
        log_durable: EntryId,
        now: bool,
    ) -> Result<CheckpointStep, MemberError> {
        let machine = self.shared.machine.clone();
        let made = answered(worker, move |()| machine.checkpoint_step(log_durable, now));
        let made = made.await.map_err(|none| {
            none.assert_ended("one step at a time");
            MemberError::Stopped {
                node: self.shared.node,
                why: "the checkpoint worker ended".to_owned(),
            }
        })?;
        Ok(made.inspect_err(|error: &MachineError| match error.retry {
            Retry::Useless => self.shared.quarantine(error),
            _ => tracing::warn!(node = %self.shared.node, %error, "a checkpoint is tried again later"),
        })?)
    }

    /// Lets Raft know of a newer durable position: it purges nothing above what it was told.
    async fn told(&self, durable: EntryId) {
        let known = self.raft.metrics().borrow_watched().snapshot;
        if known.as_ref().map(entry_id) < Some(durable) {
            // An error means that Raft has ended.
            self.raft.trigger().snapshot().await.ok();
        }
    }

    /// Purges what is durable, but for a tail that lets followers catch up without a snapshot.
    async fn purge(&self) {
        let (shared, settings) = (&self.shared, &self.shared.settings);
        let held_max = shared.tail.older_than(settings.log_retention_max_bytes);
        shared.retention.cut_off(held_max);
        let state = shared.log.state();
        let last = state.last.map_or(0, |id| id.index.0);
        let by_entries = last
            .checked_sub(settings.log_retention_entries)
            .map(LogIndex);
        let by_bytes = shared.tail.older_than(settings.log_retention_bytes);
        let upto = by_entries.max(by_bytes).min(shared.retention.floor());
        if let Some(upto) = upto
            && Some(upto) > state.purged.map(|id| id.index)
        {
            // An error means that Raft has ended.
            self.raft.trigger().purge_log(upto.0).await.ok();
        }
    }
}
