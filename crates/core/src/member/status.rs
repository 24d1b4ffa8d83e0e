//! What a member knows of itself and its cluster, as plain data.

use crate::member::{Member, Standing};
use crate::raft::{entry_id, node_id};
use crate::{ClusterId, DirectoryId, EntryId, LogIndex, NodeId, Peer, Role, StateMachine, Term};
use bytes::Bytes;
use openraft::Instant;
use openraft::async_runtime::WatchReceiver;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One member as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// How to reach it.
    pub peer: Peer,
    /// Whether it votes.
    pub voter: bool,
    /// What of its log the leader knows to be equal to its own; known on the leader only.
    pub matched: Option<EntryId>,
    /// Time since it last acknowledged the leader; known on the leader only, and not of the leader itself.
    pub acknowledged: Option<Duration>,
}

/// Counts since the member started; each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Entries proposed here.
    pub entries: u64,
    /// Requests that went into them.
    pub requests: u64,
    /// The most requests in one entry.
    pub gathered_max: u64,
    /// Rounds that confirmed this leader, or asked the leader, for waiting reads.
    pub read_rounds: u64,
    /// Questions after the lease, each for all weak reads that waited.
    pub lease_rounds: u64,
    /// How often this node was in doubt and judged itself.
    pub trials: u64,
    /// How often its state was replaced by the leader's.
    pub repairs: u64,
    /// Bytes of snapshots and repairs that were sent.
    pub snapshot_sent_bytes: u64,
    /// Pages of them that weren't sent because the receiver had equal ones.
    pub snapshot_spared_pages: u64,
    /// How often one of them went on over another link.
    pub snapshot_resumes: u64,
}

/// A member's state at one moment; its parts may be a moment apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Its cluster; zero before one is formed or joined.
    pub cluster: ClusterId,
    /// What the members agreed on when it was formed, opaque to `core`.
    pub settings: Bytes,
    /// Its part.
    pub role: Role,
    /// Raft's term.
    pub term: Term,
    /// Who leads, if it is known.
    pub leader: Option<NodeId>,
    /// The last entry of the log.
    pub last: Option<EntryId>,
    /// The last one known to be committed.
    pub committed: Option<EntryId>,
    /// The last one applied to the state.
    pub applied: Option<EntryId>,
    /// What a restart begins from.
    pub durable: Option<EntryId>,
    /// The last entry that a power loss can't take.
    pub log_durable: Option<EntryId>,
    /// The last one deleted from the log.
    pub purged: Option<EntryId>,
    /// Nothing above it may be deleted.
    pub floor: Option<LogIndex>,
    /// All members.
    pub members: BTreeMap<NodeId, MemberStatus>,
    /// Entries that are committed and that Raft hasn't handed to the state yet. They wait in its channel to the state, one or
    /// more in each place: so many of its places are taken at most (safety rule 21). Openraft tells no more of it.
    pub unapplied: u64,
    /// Places of that channel.
    pub unapplied_max: u64,
    /// Requests that wait for the proposer.
    pub waiting: usize,
    /// Entries proposed here without a verdict.
    pub in_flight: usize,
    /// Time since the leader was last heard; none on a node that never followed one.
    pub contact: Option<Duration>,
    /// Whether the other members go on without this node: it was removed.
    pub removed: bool,
    /// Why this node serves nothing, if so.
    pub out_of_service: Option<String>,
    /// Why its state may be wrong, while that isn't judged.
    pub in_doubt: Option<String>,
    /// Why Raft has stopped, if so: the process has to end.
    pub failed: Option<String>,
    /// Counts since the start.
    pub counts: Counts,
}

impl<M: StateMachine> Member<M> {
    /// What this member knows now.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.inner.shared;
        let standing = Standing::of(&self.inner.raft);
        let log = shared.log.state();
        let (committed, failed) = self.progress();
        let applied = *shared.applied.borrow();
        Status {
            node: shared.node,
            directory: shared.directory,
            cluster: shared.side.borrow().cluster,
            settings: shared.side.borrow().settings.clone(),
            role: standing.role,
            term: standing.term,
            leader: standing.leader,
            last: log.last,
            committed,
            applied,
            durable: shared.machine.durable().id,
            log_durable: shared.log.durable(),
            purged: log.purged,
            floor: shared.retention.floor(),
            members: self.members(),
            unapplied: self.unapplied(committed, applied),
            unapplied_max: shared.settings.state_machine_channel_size,
            waiting: self.inner.queue.len(),
            in_flight: *shared.in_flight.count().borrow(),
            contact: shared.contact.age(),
            removed: *self.inner.operation.removed.borrow(),
            out_of_service: shared.out_of_service.borrow().clone(),
            in_doubt: shared.doubt.borrow().clone(),
            failed,
            counts: self.counts(),
        }
    }

    /// What this member is in Raft, without the rest of its [`status`](Self::status).
    #[must_use]
    pub fn role(&self) -> Role {
        Standing::of(&self.inner.raft).role
    }

    /// Its cluster; zero before its name is applied here.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.inner.shared.side.borrow().cluster
    }

    pub(super) fn progress(&self) -> (Option<EntryId>, Option<String>) {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.local_committed.as_ref().map(entry_id);
        let failed = metrics.running_state.as_ref().err();
        (committed, failed.map(ToString::to_string))
    }

    /// How many entries are behind those that were handed over since the start, and those that were applied before.
    fn unapplied(&self, committed: Option<EntryId>, applied: Option<EntryId>) -> u64 {
        let next = |id: Option<EntryId>| id.map_or(0, |id| id.index.next().0);
        let handed = self.inner.shared.handed.load(Ordering::SeqCst);
        next(committed).saturating_sub(handed.max(next(applied)))
    }

    /// The members that Raft works with, committed or not.
    fn members(&self) -> BTreeMap<NodeId, MemberStatus> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let voters: Vec<u64> = members.voter_ids().collect();
        let status = |(id, peer): (&u64, &Peer)| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id));
            let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(id));
            let status = MemberStatus {
                peer: peer.clone(),
                voter: voters.contains(id),
                matched: matched.and_then(Option::as_ref).map(entry_id),
                acknowledged: heard.and_then(Option::as_ref).map(|at| at.elapsed()),
            };
            (node_id(*id), status)
        };
        members.nodes().map(status).collect()
    }

    fn counts(&self) -> Counts {
        let counters = &self.inner.counters;
        let snapshots = &self.inner.shared.snapshots;
        Counts {
            entries: counters.entries.load(Ordering::Relaxed),
            requests: counters.requests.load(Ordering::Relaxed),
            gathered_max: counters.gathered_max.load(Ordering::Relaxed),
            read_rounds: self.inner.read_index.here.begun() + self.inner.read_index.there.begun(),
            lease_rounds: self.inner.leases.begun(),
            trials: self.inner.shared.trials.load(Ordering::Relaxed),
            repairs: self.inner.repair.done(),
            snapshot_sent_bytes: snapshots.sent_bytes.load(Ordering::Relaxed),
            snapshot_spared_pages: snapshots.spared_pages.load(Ordering::Relaxed),
            snapshot_resumes: snapshots.resumed.load(Ordering::Relaxed),
        }
    }
}
