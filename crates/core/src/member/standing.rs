//! Who leads, as far as this node knows.

use crate::raft::{Raft, node_id};
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

impl From<ServerState> for Role {
    fn from(state: ServerState) -> Self {
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
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        Self {
            role: metrics.state.into(),
            term: Term(metrics.current_term),
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
    let mut changes = raft.metrics();
    while Standing::of(raft).leads(node) == Some(term) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
