//! What a read has to wait for.

use crate::member::{Member, Standing};
use crate::raft::{Raft, entry_id, node_id};
use crate::{ClusterId, EntryId, LogIndex, ReadBound, ReadError, ReadLevel, StateMachine};
use openraft::ReadPolicy;
use openraft::error::{LinearizableReadError, RaftError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a read waits that doesn't say.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Leave to read on this node: everything up to `at` is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadPermit {
    /// What a reader that is opened now sees at least; none if nothing was ever applied.
    pub at: Option<EntryId>,
    /// The level it is for; auto has become one of the others.
    pub level: ReadLevel,
}

impl<M: StateMachine> Member<M> {
    /// Waits until a read of this level and bound may run on a reader of this node that is opened afterwards.
    ///
    /// # Errors
    ///
    /// Every [`ReadError`].
    pub async fn permit(
        &self,
        level: ReadLevel,
        bound: ReadBound,
    ) -> Result<ReadPermit, ReadError> {
        let shared = &self.inner.shared;
        if shared.is_out_of_service() {
            return Err(ReadError::Quarantined);
        }
        let (since, wait_max) = (Instant::now(), bound.wait_max.unwrap_or(WAIT_MAX));
        let level = self.effective(level);
        let waited = |_| ReadError::Timeout {
            waited: since.elapsed(),
        };
        let ready = tokio::time::timeout(wait_max, self.ready(level, bound));
        let at = ready.await.map_err(waited)??;
        Ok(ReadPermit { at, level })
    }

    fn effective(&self, level: ReadLevel) -> ReadLevel {
        let learner = Standing::of(&self.inner.raft).role == crate::Role::Learner;
        match level {
            ReadLevel::Auto if learner => ReadLevel::None,
            ReadLevel::Auto => ReadLevel::Weak,
            other => other,
        }
    }

    async fn ready(
        &self,
        level: ReadLevel,
        bound: ReadBound,
    ) -> Result<Option<EntryId>, ReadError> {
        let index = match level {
            ReadLevel::None => {
                self.fresh(bound)?;
                *self.inner.shared.applied.borrow()
            }
            ReadLevel::Weak | ReadLevel::Auto => Some(lease(&self.inner.raft).await?),
            ReadLevel::Linearizable | ReadLevel::Strong => {
                Some(self.inner.read_index.join().await?)
            }
        };
        if let Some((cluster, index)) = bound.at_least {
            self.reached(cluster, index).await?;
        }
        self.applied(index).await
    }

    /// The age of what this node shows, where the level doesn't ask the leader.
    fn fresh(&self, bound: ReadBound) -> Result<(), ReadError> {
        let Some(limit) = bound.freshness else {
            return Ok(());
        };
        let leads = Standing::of(&self.inner.raft).leads(self.inner.shared.node);
        if leads.is_some() {
            return Ok(());
        }
        let contact = &self.inner.shared.contact;
        let (age, lag) = (contact.age(), contact.lag());
        let heard = age.is_some_and(|age| age <= limit);
        let current = !bound.freshness_strict || lag.is_some_and(|lag| lag <= limit);
        if heard && current {
            Ok(())
        } else {
            Err(ReadError::Stale)
        }
    }

    /// Waits until this index of this cluster is applied here.
    async fn reached(&self, theirs: ClusterId, index: LogIndex) -> Result<(), ReadError> {
        let ours = self.inner.shared.side.borrow().cluster;
        if ours != theirs {
            return Err(ReadError::OtherCluster { ours, theirs });
        }
        let mut applied = self.inner.shared.applied.subscribe();
        let there = |now: &Option<EntryId>| now.is_some_and(|now| now.index >= index);
        let reached = applied.wait_for(there).await;
        reached.map(|_| ()).map_err(|_| ReadError::Stopped)
    }

    /// Waits for this node's own state, not for openraft's idea of it (safety rule 16).
    async fn applied(&self, at: Option<EntryId>) -> Result<Option<EntryId>, ReadError> {
        let mut applied = self.inner.shared.applied.subscribe();
        let reached = applied.wait_for(|now| *now >= at).await;
        reached.map(|at| *at).map_err(|_| ReadError::Stopped)
    }
}

/// The read index under this leader's lease.
async fn lease<M: StateMachine>(raft: &Raft<M>) -> Result<EntryId, ReadError> {
    read_index(raft, ReadPolicy::LeaseRead).await
}

/// The read index after a round of heartbeats that begins now.
pub(crate) async fn confirm<M: StateMachine>(raft: Raft<M>) -> Result<EntryId, ReadError> {
    read_index(&raft, ReadPolicy::ReadIndex).await
}

async fn read_index<M: StateMachine>(
    raft: &Raft<M>,
    policy: ReadPolicy,
) -> Result<EntryId, ReadError> {
    let since = Instant::now();
    match raft.get_read_linearizer(policy).await {
        Ok(linearizer) => Ok(entry_id(linearizer.read_log_id().log_id())),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
            let leader = to.leader_id.map(node_id);
            Err(ReadError::NotLeader { leader })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            let waited = since.elapsed();
            Err(ReadError::Timeout { waited })
        }
        Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
    }
}
