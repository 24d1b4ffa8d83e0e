//! Who leads, for those whose work ends with a leadership.

use super::standing::lost;
use super::{Inner, Member, Standing, after};
use crate::raft::Raft;
use crate::{NodeId, StateMachine, Term, WriteError};
use std::time::Duration;
use tokio::time::Instant;

/// One leadership of this node, past or present.
pub struct Leadership<M: StateMachine> {
    raft: Raft<M>,
    node: NodeId,
    term: Term,
}

impl<M: StateMachine> Leadership<M> {
    /// Waits until it is over.
    pub async fn lost(&self) {
        lost(&self.raft, self.node, self.term).await;
    }
}

impl<M: StateMachine> Member<M> {
    /// This node's leadership.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotLeader`].
    pub fn leadership(&self) -> Result<Leadership<M>, WriteError> {
        let (raft, node) = (self.inner.raft.clone(), self.inner.shared.node);
        let standing = Standing::of(&raft);
        match standing.leads(node) {
            Some(term) => Ok(Leadership { raft, node, term }),
            None => Err(self.inner.not_leader()),
        }
    }

    /// Who leads; waits for somebody.
    ///
    /// # Errors
    ///
    /// [`WriteError::NotLeader`] if that takes longer than `wait_max`.
    pub async fn leader(&self, wait_max: Duration) -> Result<NodeId, WriteError> {
        let deadline = after(Instant::now(), wait_max);
        loop {
            if let Some(leader) = Standing::of(&self.inner.raft).leader {
                return Ok(leader);
            }
            if !self.inner.look_again(deadline).await {
                return Err(self.inner.not_leader());
            }
        }
    }
}

impl<M: StateMachine> Inner<M> {
    pub(super) fn not_leader(&self) -> WriteError {
        let leader = self.leader_elsewhere();
        WriteError::NotLeader { leader }
    }
}
