//! What a read has to wait for.

use super::client::{Answer as Told, Ask, AskError};
use super::{Asked, Content, Envelope, Inner, Member, Rounder, Standing, after};
use crate::raft::{Command, Raft, entry_id, leadership, node_id};
use crate::{ClusterId, EntryId, LogIndex, NodeId, ReadBound, ReadError, ReadLevel, StateMachine};
use openraft::Instant as _;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long a read waits that doesn't say.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A leader that doesn't answer a round of reads for this long is asked again, or another one.
const ROUND_MAX: Duration = Duration::from_secs(2);

/// Leave to read on this node: everything up to `at` is applied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadPermit {
    /// What a reader that is opened now sees at least; none if nothing was ever applied.
    pub at: Option<EntryId>,
    /// The level it is for; auto has become one of the others.
    pub level: ReadLevel,
    /// When the read's time is over.
    until: Instant,
}

impl<M: StateMachine> Member<M> {
    /// Waits until a read of this level and bound may run on a reader of this node that is opened afterwards.
    /// Linearizable and strong reads run on any node; weak ones on the leader alone.
    ///
    /// # Errors
    ///
    /// Every [`ReadError`].
    pub async fn permit(
        &self,
        level: ReadLevel,
        bound: ReadBound,
    ) -> Result<ReadPermit, ReadError> {
        let level = self.effective(level);
        let until = after(Instant::now(), bound.wait_max.unwrap_or(WAIT_MAX));
        if let Some(at) = self.at_once(level, bound) {
            let at = Some(at);
            return Ok(ReadPermit { at, level, until });
        }
        let ready = self.ready(level, bound);
        let at = self.in_time(level, until, ready).await?;
        Ok(ReadPermit { at, level, until })
    }

    /// Asks, after the rows of a read were computed and before they leave, whether they may (safety rule 42).
    /// None: they may. Else the lease under which a weak read ran has ended, or is another one, and something
    /// newer is committed: the read has to run again, under the permit that is returned, as a linearizable one.
    ///
    /// # Errors
    ///
    /// Every [`ReadError`], within the time that the permit's read may take.
    pub async fn recheck(&self, permit: &ReadPermit) -> Result<Option<ReadPermit>, ReadError> {
        let served = !self.inner.shared.is_out_of_service();
        if served && (permit.level != ReadLevel::Weak || self.is_leased(permit)) {
            return Ok(None);
        }
        let level = ReadLevel::Linearizable;
        let standing = async {
            if permit.level != ReadLevel::Weak {
                return Ok(None);
            }
            let led = |index: &EntryId| permit.at.is_some_and(|at| at.term == index.term);
            if self.inner.leases.join().await.as_ref().is_ok_and(led) {
                return Ok(None);
            }
            let index = self.strict(&self.inner.read_index).await?;
            if Some(index) <= permit.at {
                return Ok(None);
            }
            self.applied(Some(index)).await.map(Some)
        };
        let again = self.in_time(level, permit.until, standing).await?;
        let until = permit.until;
        Ok(again.map(|at| ReadPermit { at, level, until }))
    }

    /// What `ready` gives, unless the time is over or this node can't trust its state any more.
    async fn in_time<T>(
        &self,
        level: ReadLevel,
        until: Instant,
        ready: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let since = Instant::now();
        let trusted = async {
            tokio::select! {
                biased;
                error = self.distrusted() => Err(error),
                ready = ready => ready,
            }
        };
        let ready = tokio::time::timeout_at(until, trusted).await;
        ready.map_err(|_| self.waited(level, since))?
    }

    /// Waits until this node doesn't trust its state (safety rule 16).
    async fn distrusted(&self) -> ReadError {
        let mut service = self.inner.shared.out_of_service.subscribe();
        // The sender is a field of `shared`.
        service.wait_for(Option::is_some).await.ok();
        ReadError::Quarantined
    }

    /// Why a read waited in vain.
    fn waited(&self, level: ReadLevel, since: Instant) -> ReadError {
        let leader = Standing::of(&self.inner.raft).leader;
        if level != ReadLevel::None && leader.is_none() {
            return ReadError::NotLeader { leader };
        }
        let waited = since.elapsed();
        ReadError::Timeout { waited }
    }

    fn effective(&self, level: ReadLevel) -> ReadLevel {
        let learner = || Standing::of(&self.inner.raft).role == crate::Role::Learner;
        match level {
            ReadLevel::Auto if learner() => ReadLevel::None,
            ReadLevel::Auto => ReadLevel::Weak,
            other => other,
        }
    }

    /// What `ready` answers, if it needn't ask or wait for anybody.
    fn at_once(&self, level: ReadLevel, bound: ReadBound) -> Option<EntryId> {
        let shared = &self.inner.shared;
        if bound.at_least.is_some() || shared.is_out_of_service() {
            return None;
        }
        let index = match level {
            ReadLevel::None if bound.freshness.is_none() => EntryId::default(),
            ReadLevel::Weak => self.inner.lease_index()?,
            _ => return None,
        };
        shared.applied.borrow().filter(|at| *at >= index)
    }

    /// Whether this node leads under a lease now, in the term of what the permit's read has seen.
    fn is_leased(&self, permit: &ReadPermit) -> bool {
        let seen = permit.at.map(|at| at.term);
        seen.is_some() && self.inner.leased() == seen
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
            ReadLevel::Weak | ReadLevel::Auto => Some(self.weak().await?),
            ReadLevel::Linearizable => Some(self.strict(&self.inner.read_index).await?),
            ReadLevel::Strong => Some(self.strict(&self.inner.barriers).await?),
        };
        if let Some((cluster, index)) = bound.at_least {
            self.reached(cluster, index).await?;
        }
        self.applied(index).await
    }

    /// An index that this leader's lease covers; Raft's task is asked where that isn't known without it.
    async fn weak(&self) -> Result<EntryId, ReadError> {
        match self.inner.lease_index() {
            Some(index) => Ok(index),
            None => self.inner.leases.join().await,
        }
    }

    /// An index that the leader has confirmed after this was called. Waits for a leader.
    async fn strict(&self, asked: &Asked) -> Result<EntryId, ReadError> {
        let inner = &self.inner;
        loop {
            let leads = Standing::of(&inner.raft).leads(inner.shared.node);
            let index = match leads {
                Some(_) => asked.here.join().await,
                None => asked.there.join().await,
            };
            match index {
                // The round's own time; another one may do, of another leader perhaps.
                Err(ReadError::NotLeader { .. } | ReadError::Timeout { .. }) => {}
                index => return index,
            }
            // The caller's deadline ends it.
            inner.look_again(Instant::now()).await;
        }
    }

    /// The age of what this node shows, where the level doesn't ask the leader.
    fn fresh(&self, bound: ReadBound) -> Result<(), ReadError> {
        let Some(limit) = bound.freshness else {
            return Ok(());
        };
        if let Some(age) = self.led_since_quorum() {
            return if age <= limit {
                Ok(())
            } else {
                Err(ReadError::Stale)
            };
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

    /// Time since a quorum followed this leader: openraft's leader doesn't step down when it is cut off, and what it shows
    /// grows old like a follower's. None on another node.
    fn led_since_quorum(&self) -> Option<Duration> {
        Standing::of(&self.inner.raft).leads(self.inner.shared.node)?;
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        if members.voter_ids().count() == 1 {
            return Some(Duration::ZERO);
        }
        let acknowledged = metrics.last_quorum_acked.as_ref();
        Some(acknowledged.map_or(Duration::MAX, |at| at.elapsed()))
    }

    /// Waits until this index of this cluster is applied here.
    async fn reached(&self, theirs: ClusterId, index: LogIndex) -> Result<(), ReadError> {
        // A node that has just started doesn't know its cluster's name yet.
        self.inner.shared.named().await;
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

/// What reads ask the leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    ReadIndex,
    Barrier,
}

impl<M: StateMachine> Inner<M> {
    /// Runs the rounds, each kind in a task.
    pub(super) fn run_rounds(self: &Arc<Self>, read_index: [Rounder; 2], barriers: [Rounder; 2]) {
        for (wanted, [here, there]) in
            [(Wanted::ReadIndex, read_index), (Wanted::Barrier, barriers)]
        {
            let inner = self.clone();
            self.tasks
                .spawn(here.run(move || inner.clone().lead(wanted)));
            let inner = self.clone();
            self.tasks
                .spawn(there.run(move || inner.clone().ask_leader(wanted)));
        }
    }

    /// A round of this node as the leader.
    async fn lead(self: Arc<Self>, wanted: Wanted) -> Result<EntryId, ReadError> {
        match wanted {
            Wanted::ReadIndex => read_index(&self.raft, ReadPolicy::ReadIndex).await,
            Wanted::Barrier => Box::pin(self.barrier()).await,
        }
    }

    /// A round that asks the leader; what comes later isn't in it (safety rule 43).
    async fn ask_leader(self: Arc<Self>, wanted: Wanted) -> Result<EntryId, ReadError> {
        let leader = Standing::of(&self.raft).leader;
        let Some(node) = leader.filter(|leader| *leader != self.shared.node) else {
            return Err(ReadError::NotLeader { leader });
        };
        let ask = match wanted {
            Wanted::ReadIndex => Ask::ReadIndex,
            Wanted::Barrier => Ask::Barrier,
        };
        let deadline = after(Instant::now(), ROUND_MAX);
        tokio::select! {
            biased;
            told = self.call(node, ask, deadline) => match told {
                Ok(Told::Index(index)) => index,
                Err(AskError::Overloaded { .. }) => Err(ReadError::Overloaded),
                Err(AskError::Stopped) => Err(ReadError::Stopped),
                // A read changes nothing: it may ask again whatever became of the question.
                Ok(_) | Err(_) => Err(ReadError::NotLeader { leader }),
            },
            () = followed(&self.raft, node) => Err(ReadError::NotLeader { leader: None }),
        }
    }

    /// Proposes an entry without a request and waits until it is applied here.
    async fn barrier(&self) -> Result<EntryId, ReadError> {
        let standing = Standing::of(&self.raft);
        let leader = standing.leader;
        let Some(term) = standing.leads(self.shared.node) else {
            return Err(ReadError::NotLeader { leader });
        };
        if self.shared.side.borrow().cluster.0 == 0 {
            return Err(ReadError::NotLeader { leader: None });
        }
        let envelope = Envelope {
            origin: self.shared.in_flight.origin(),
            sequence: 0,
            content: Content::Barrier,
        };
        let (responder, verdict) = ProgressResponder::complete_only();
        let write = self.raft.write(Command(envelope.seal(&[])));
        let write = write.with_leader(leadership(term)).responder(responder);
        write.await.map_err(|_fatal| ReadError::Stopped)?;
        self.counters.entries.fetch_add(1, Ordering::Relaxed);
        match verdict.await {
            Ok(Ok(written)) => Ok(entry_id(&written.log_id)),
            Ok(Err(
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
            )) => Err(ReadError::NotLeader { leader: None }),
            Ok(Err(_)) | Err(_) => Err(ReadError::Stopped),
        }
    }
}

/// Waits until this node follows somebody else than `leader`.
async fn followed<M: StateMachine>(raft: &Raft<M>, leader: NodeId) {
    let mut changes = raft.server_metrics();
    while Standing::of(raft).leader == Some(leader) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The read index under this leader's lease.
pub(super) async fn lease<M: StateMachine>(raft: Raft<M>) -> Result<EntryId, ReadError> {
    read_index(&raft, ReadPolicy::LeaseRead).await
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
