//! Who leads, as far as this node knows.
//!
//! openraft tells news on two channels: on one (`metrics`) with every entry, on the other (`server_metrics`) when role, leader,
//! vote or members change. Whoever waits for the latter waits on the second, so that entries wake nobody, and looks at what
//! that channel tells: it is told first, so that the other may still show what was before.
//!
//! Invariant 1: what [`Standing::of`] answers changes only with a change on `server_metrics`, or with its end.

use crate::raft::{Raft, node_id, vote_out};
use crate::{NodeId, StateMachine, Term};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

/// A node's part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Proposes.
    Leader,
    /// Votes and follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Raft has stopped.
    Stopped,
}

impl Role {
    /// What Raft calls it; no conversion trait, whose implementation would be public.
    fn of(state: ServerState) -> Self {
        match state {
            ServerState::Leader => Self::Leader,
            ServerState::Follower => Self::Follower,
            ServerState::Candidate => Self::Candidate,
            ServerState::Learner => Self::Learner,
            ServerState::Shutdown => Self::Stopped,
        }
    }
}

/// A moment's view; it may be overtaken as soon as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub role: Role,
    pub term: Term,
    pub leader: Option<NodeId>,
}

impl Standing {
    pub(crate) fn of<M: StateMachine>(raft: &Raft<M>) -> Self {
        // Its end is told on the other channel alone, before this one ends.
        let ended = raft.metrics().borrow_watched().state == ServerState::Shutdown;
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        Self {
            role: if ended {
                Role::Stopped
            } else {
                Role::of(metrics.state)
            },
            term: vote_out(&metrics.vote).term,
            leader: metrics.current_leader.map(node_id),
        }
    }

    /// The term in which `node` leads.
    pub(crate) fn leads(&self, node: NodeId) -> Option<Term> {
        let leads = self.role == Role::Leader && self.leader == Some(node);
        leads.then_some(self.term)
    }
}

/// Waits until `node` doesn't lead in `term`; at once if it doesn't now.
pub(crate) async fn lost<M: StateMachine>(raft: &Raft<M>, node: NodeId, term: Term) {
    let mut changes = raft.server_metrics();
    while Standing::of(raft).leads(node) == Some(term) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
