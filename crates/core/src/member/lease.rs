//! A leader's lease, looked up without asking Raft's task (safety rule 42).
//!
//! ```text
//!   Raft's task ─► published: role, term, when the requests were sent that a quorum has acknowledged ─┐
//!   raft::wire, raft::snapshot ─► what leaves this node: commits, a leadership, a vote ───────────────┴─► leased, lease_index
//! ```
//!
//! Each member of the quorum that acknowledged a request of time `t` grants no vote until `t + lease`, unless this leader hands its
//! leadership over or votes for another itself. Until then nobody else leads, however old the figures are that tell of `t`: newer
//! ones only tell of a later time. What old figures hide are news of this node itself: that it hands over, that it votes, and what it has
//! committed. None of it matters to anybody before a message has left this node, and what leaves it is noted here first.
//!
//! Invariant 1: a message that hands the leadership of a term over leaves after the lease of that term has ended here.
//! Invariant 2: an answer about a vote leaves after the leases of all terms before that of the vote have ended here.
//! Invariant 3: a message that brings another node entries, or news of a commit, leaves after [`Lease::told`] covers the commits it tells of.
//! Invariant 4: a lease that has ended here doesn't stand again in its term.
//!
//! Why a weak read is the leader's (rule 42). Rows are computed from what is applied, at or behind `at`; before, `at` has reached
//! [`Inner::lease_index`], which was asked after the read came; afterwards [`Inner::leased`] gives `at`'s own term.
//! 1. At a moment after the rows were computed nobody of a later term had been elected: by the quorum's promise while its time hasn't
//!    come, else by invariants 1 and 2. So whatever was committed when the read came is of this term or an earlier one.
//! 2. What earlier terms have committed stands before the first entry of this one, and `at` is of this one.
//! 3. What this term had committed before the read came, and anybody may have seen by then, was seen on this node, whose shown
//!    state never moves back, or on another one, which was told of it: `at` is not before it by invariant 3.
//!
//! Members that change: figures of an earlier set of voters count as long. Each later set began to count when a quorum of its own
//! had acknowledged the entry that names it, sent after `t`, and each of that quorum grants no vote for as long from then on. A leader never
//! removes itself.
//!
//! A node that has told nobody anything since it started needs no promise: whoever leads later holds this term's first entry, which is
//! committed where `at` is of this term, and nobody was sent it. So a cluster of one node needs no clock.
//!
//! It doesn't do: clocks that run at different speeds, and voters that forgot their promise with a restart; openraft's own lease is the
//! same. Where nothing is known of a lease, Raft's task is asked.

use super::Inner;
use crate::raft::TypeConfig;
use crate::{EntryId, LogIndex, NodeId, StateMachine, Term};
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, RaftMetrics, ServerState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What has left this node and old figures don't tell.
#[derive(Default)]
pub(crate) struct Lease {
    /// Behind the last entry of which another node was told that it is committed, at least 1; 0 before the first such message.
    told: AtomicU64,
    /// Leases of this term and of those before have ended.
    ended: AtomicU64,
}

impl Lease {
    /// A message that brings entries or tells of this commit is about to leave (invariant 3).
    pub(crate) fn tell(&self, committed: Option<EntryId>) {
        let behind = committed.map_or(0, |id| id.index.next().0).max(1);
        // Most messages tell nothing new, and readers share the line.
        if self.told() < behind {
            self.told.fetch_max(behind, Ordering::SeqCst);
        }
    }

    /// A message that hands over the leadership of `term` is about to leave (invariant 1).
    pub(crate) fn hand_over(&self, term: Term) {
        self.ended.fetch_max(term.0, Ordering::SeqCst);
    }

    /// An answer that shows a vote of `term` is about to leave (invariant 2).
    pub(crate) fn vote(&self, term: Term) {
        let before = term.0.saturating_sub(1);
        self.ended.fetch_max(before, Ordering::SeqCst);
    }

    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    pub(crate) fn has_ended(&self, term: Term) -> bool {
        term.0 <= self.ended.load(Ordering::SeqCst)
    }

    /// The term in which `node` leads under a lease of this length, now, if the figures tell of one.
    fn stands(
        &self,
        figures: &RaftMetrics<TypeConfig>,
        node: NodeId,
        length: Duration,
    ) -> Option<Term> {
        let leads = figures.current_leader == Some(node.get());
        let leads = leads && figures.state == ServerState::Leader;
        let term = leads.then_some(Term(figures.current_term))?;
        let acknowledged = figures.last_quorum_acked.as_ref();
        let promised = || acknowledged.is_some_and(|at| at.elapsed() < length);
        let is_safe = self.told() == 0 || promised();
        (is_safe && !self.has_ended(term)).then_some(term)
    }
}

impl<M: StateMachine> Inner<M> {
    /// The term in which this node leads under a lease that stands while this is called; none if that isn't known here.
    pub(super) fn leased(&self) -> Option<Term> {
        let shared = &self.shared;
        let figures = self.raft.metrics();
        let figures = figures.borrow_watched();
        shared.lease.stands(&figures, shared.node, self.lease())
    }

    /// What a weak read that came before this call waits for: what anybody may know to be committed, in the term of the lease.
    /// None if Raft has to be asked.
    pub(super) fn lease_index(&self) -> Option<EntryId> {
        let term = self.leased()?;
        let shared = &self.shared;
        let handed = shared.handed.load(Ordering::SeqCst);
        let behind = shared.lease.told().max(handed);
        let index = LogIndex(behind.saturating_sub(1));
        Some(EntryId { term, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::type_config::TypeConfigExt;

    const MS: Duration = Duration::from_millis(1);

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn led_by(leader: u64) -> RaftMetrics<TypeConfig> {
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.state = ServerState::Leader;
        metrics.current_leader = Some(leader);
        metrics.current_term = 7;
        metrics.last_quorum_acked = Some(TypeConfig::now().into());
        metrics
    }

    fn spoken() -> Lease {
        let lease = Lease::default();
        lease.tell(None);
        lease
    }

    /// Rule 42: a lease counts from the time at which the requests were sent that a quorum acknowledged, and ends by itself, however
    /// long the figures stay what they are: a node that was stopped for a while sees them so.
    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_by_the_clock() {
        let (lease, figures) = (spoken(), led_by(1));
        let stands = || lease.stands(&figures, node(1), 600 * MS);
        assert_eq!(stands(), Some(Term(7)));
        tokio::time::advance(599 * MS).await;
        assert_eq!(stands(), Some(Term(7)));
        tokio::time::advance(MS).await;
        assert_eq!(stands(), None);
        tokio::time::advance(3_600_000 * MS).await;
        assert_eq!(stands(), None);
    }

    /// Rule 42: a node that doesn't lead has no lease, a leader has one if it was acknowledged or has told nobody anything, and if it
    /// wasn't given up.
    #[tokio::test(start_paused = true)]
    async fn only_an_acknowledged_or_a_silent_leader_has_a_lease() {
        let stands = |lease: &Lease, figures| lease.stands(&figures, node(1), 600 * MS);
        let last_quorum_acked = None;
        let unheard = || RaftMetrics {
            last_quorum_acked,
            ..led_by(1)
        };
        assert_eq!(stands(&spoken(), led_by(1)), Some(Term(7)));
        assert_eq!(stands(&spoken(), unheard()), None);
        assert_eq!(stands(&Lease::default(), unheard()), Some(Term(7)));
        for lease in [Lease::default(), spoken()] {
            for state in [
                ServerState::Follower,
                ServerState::Candidate,
                ServerState::Learner,
                ServerState::Shutdown,
            ] {
                let figures = RaftMetrics { state, ..led_by(1) };
                assert_eq!(stands(&lease, figures), None);
            }
            assert_eq!(stands(&lease, led_by(2)), None);
            lease.hand_over(Term(6));
            assert_eq!(stands(&lease, led_by(1)), Some(Term(7)));
            lease.vote(Term(8));
            assert_eq!(stands(&lease, led_by(1)), None);
        }
    }

    /// Rule 42: a leadership that is handed over takes its lease along, a vote those of all terms before its own, for good.
    #[test]
    fn what_leaves_ends_leases() {
        let lease = Lease::default();
        let ended = |term| lease.has_ended(Term(term));
        lease.vote(Term(0));
        assert!(!ended(1));
        lease.vote(Term(7));
        assert!(ended(6) && !ended(7));
        lease.hand_over(Term(7));
        assert!(ended(7) && !ended(8));
        lease.vote(Term(3));
        assert!(ended(7) && !ended(8));
    }

    #[test]
    fn what_was_told_is_not_forgotten() {
        let lease = Lease::default();
        let id = |index| {
            Some(EntryId {
                term: Term(1),
                index: LogIndex(index),
            })
        };
        for (told, behind) in [(None, 1), (id(4), 5), (id(2), 5), (None, 5), (id(5), 6)] {
            lease.tell(told);
            assert_eq!(lease.told(), behind);
        }
    }
}
