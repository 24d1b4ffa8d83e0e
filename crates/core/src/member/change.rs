//! A change of the cluster on its way to whoever leads.
//!
//! ```text
//!   any member ─► leader?  ── yes ─► done here (membership, transfer)
//!                   └─ no ─► asked over the client lane, `hops` times at most
//! ```
//!
//! Every change is idempotent, so one whose answer was lost is asked for again until its time is over; a
//! transfer to whoever is most caught up isn't, and its lost answer is told as it is.

use crate::member::client::{Answer, Ask};
use crate::member::{Inner, Standing, after};
use crate::{MemberError, NodeId, Peer, StateMachine};
use openraft::async_runtime::WatchReceiver;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// A member that doesn't lead passes a change on; whoever it passes it to does so once more, because the
/// leadership may have moved meanwhile.
pub(crate) const HOPS: u8 = 2;

/// Looked at again this often where no event tells.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the leader is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// This node is a member, at these addresses, with a vote if it is said.
    Join {
        node: NodeId,
        peer: Peer,
        voter: bool,
    },
    /// This node is none.
    Remove { node: NodeId },
    /// Another voter leads: this one, or the most caught up.
    Transfer { to: Option<NodeId> },
}

/// Why a change wasn't made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Undone {
    /// Another node leads, or leads now.
    NotLeader { leader: Option<NodeId> },
    /// It can't be made as things stand.
    Refused { what: String },
    /// Not finished in time, and may still be.
    Timeout { waited: Duration },
}

impl Undone {
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into() }
    }

    pub(crate) fn error(self) -> MemberError {
        match self {
            Self::NotLeader { leader } => MemberError::NotLeader { leader },
            Self::Refused { what } => MemberError::Refused { what },
            Self::Timeout { waited } => MemberError::Timeout { waited },
        }
    }
}

impl Change {
    /// Whether asking twice changes nothing more.
    fn is_idempotent(&self) -> bool {
        !matches!(self, Self::Transfer { to: None })
    }
}

impl<M: StateMachine> Inner<M> {
    /// Sees to it that `change` is made, here or by whoever leads.
    pub(crate) async fn change(
        &self,
        change: Change,
        wait_max: Duration,
    ) -> Result<(), MemberError> {
        let since = Instant::now();
        let deadline = after(since, wait_max);
        loop {
            let undone = match self.change_once(change.clone(), deadline, HOPS).await {
                Ok(()) => return Ok(()),
                Err(undone) => undone,
            };
            let again = match &undone {
                Undone::NotLeader { .. } => true,
                Undone::Timeout { .. } => change.is_idempotent(),
                Undone::Refused { .. } => false,
            };
            if !again || Instant::now() + LOOK_AGAIN >= deadline {
                return Err(undone.error());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Makes `change` if this node leads, else asks the leader if `hops` are left.
    pub(crate) async fn change_once(
        &self,
        change: Change,
        deadline: Instant,
        hops: u8,
    ) -> Result<(), Undone> {
        let standing = Standing::of(&self.raft);
        if standing.leads(self.shared.node).is_some() {
            let since = Instant::now();
            let made = tokio::time::timeout_at(deadline, Box::pin(self.change_here(change)));
            let waited = |_| Undone::Timeout {
                waited: since.elapsed(),
            };
            return made.await.unwrap_or_else(|late| Err(waited(late)));
        }
        match standing.leader.filter(|leader| *leader != self.shared.node) {
            Some(leader) if hops > 0 => {
                Box::pin(self.change_at(leader, change, deadline, hops - 1)).await
            }
            leader => Err(Undone::NotLeader { leader }),
        }
    }

    async fn change_here(&self, change: Change) -> Result<(), Undone> {
        match change {
            Change::Join { node, peer, voter } => self.join_here(node, peer, voter).await,
            Change::Remove { node } => self.remove_here(node).await,
            Change::Transfer { to } => self.transfer_here(to).await,
        }
    }

    async fn change_at(
        &self,
        leader: NodeId,
        change: Change,
        deadline: Instant,
        hops: u8,
    ) -> Result<(), Undone> {
        let since = Instant::now();
        let ask = asked(change, deadline, hops);
        match self.call(leader, ask, deadline).await {
            Ok(Answer::Changed(made)) => made,
            Err(error) if error.retry() == crate::Retry::Safe => Err(Undone::NotLeader {
                leader: Some(leader),
            }),
            _ => Err(Undone::Timeout {
                waited: since.elapsed(),
            }),
        }
    }

    /// The members Raft works with, committed or not.
    pub(crate) fn members(&self) -> crate::raft::Members {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        crate::raft::Members::out(metrics.membership_config.membership())
    }
}

/// `change` as another member is asked for it.
pub(crate) fn asked(change: Change, deadline: Instant, hops: u8) -> Ask {
    let left = deadline.saturating_duration_since(Instant::now());
    Ask::Change {
        change,
        wait_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        hops,
    }
}
