//! Handing leadership over without a lost request (safety rule 20).
//!
//! ```text
//!   hold the queue ─► what is proposed commits ─► the target holds the last entry ─► transfer ─► another leads
//!         └────────────────────────── released, whatever became of it ◄────────────────────────────┘
//! ```
//!
//! Every step is bounded. Until the transfer itself nothing has happened, and a failure leaves this node the
//! leader it was. Once it is sent, Raft proposes nothing more here, and if the target doesn't take over, an
//! election decides.

use crate::member::change::{Change, LOOK_AGAIN, Undone};
use crate::member::{Inner, Member, Standing};
use crate::raft::{entry_id, node_id};
use crate::{MemberError, NodeId, StateMachine};
use openraft::async_runtime::WatchReceiver;
use std::time::Duration;
use tokio::time::Instant;

impl<M: StateMachine> Member<M> {
    /// Hands leadership to `to`, or to the most caught-up voter. May be asked on any member. Requests that
    /// arrive meanwhile wait.
    ///
    /// # Errors
    ///
    /// [`MemberError::Refused`] if `to` can't lead, or nobody can. [`MemberError::NotLeader`] and
    /// [`MemberError::Timeout`] if it wasn't finished in `wait_max`; then whoever leads takes in requests again.
    pub async fn transfer(
        &self,
        to: Option<NodeId>,
        wait_max: Duration,
    ) -> Result<(), MemberError> {
        let change = Change::Transfer { to };
        Box::pin(self.inner.change(change, wait_max)).await
    }
}

impl<M: StateMachine> Inner<M> {
    pub(super) async fn transfer_here(&self, to: Option<NodeId>) -> Result<(), Undone> {
        let _turn = self.turn().await;
        self.hand_leadership(to).await
    }

    /// Hands over while no change of the members runs.
    pub(super) async fn hand_leadership(&self, to: Option<NodeId>) -> Result<(), Undone> {
        self.still_leads()?;
        if to == Some(self.shared.node) {
            return Ok(());
        }
        let to = self.successor_in_time(to).await?;
        let begun = Instant::now();
        let late = |_| Undone::Timeout {
            waited: begun.elapsed(),
        };
        let _hold = self.queue.hold();
        let drain = Duration::from_millis(self.shared.settings.drain_ms);
        let ready = tokio::time::timeout(drain, self.ready_to_hand_over(to));
        ready.await.map_err(late)??;
        if self.raft.trigger().transfer_leader(to.get()).await.is_err() {
            return Err(Undone::NotLeader { leader: None });
        }
        let transfer = Duration::from_millis(self.shared.settings.transfer_ms);
        let taken = tokio::time::timeout(transfer, self.taken_over());
        taken.await.map_err(late)
    }

    /// A leader that has just begun has heard nobody yet: it waits for a lease.
    async fn successor_in_time(&self, to: Option<NodeId>) -> Result<NodeId, Undone> {
        let until = Instant::now() + self.lease();
        loop {
            let found = self.successor(to);
            if found.is_ok() || to.is_some() || Instant::now() >= until {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The voter that may lead next.
    fn successor(&self, to: Option<NodeId>) -> Result<NodeId, Undone> {
        let heard = self.voters_heard();
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let others = members.voter_ids().map(node_id);
        let mut others = others.filter(|id| *id != self.shared.node);
        if let Some(to) = to {
            return others.find(|id| *id == to).ok_or_else(|| {
                Undone::refused(format!("node {to} is no voter, and only a voter can lead"))
            });
        }
        let matched = |id: &NodeId| {
            let all = metrics.replication.as_ref();
            let matched = all.and_then(|all| all.get(&id.get()));
            matched.and_then(Option::as_ref).map(entry_id)
        };
        let here = others.filter(|id| heard.contains(id));
        let best = here.max_by_key(|id| (matched(id), std::cmp::Reverse(*id)));
        best.ok_or_else(|| Undone::refused("no other voter answers that could lead"))
    }

    async fn ready_to_hand_over(&self, to: NodeId) -> Result<(), Undone> {
        self.drained().await;
        self.matches_last(to).await
    }

    /// Waits until nothing is proposed here without a verdict; the queue is held.
    pub(super) async fn drained(&self) {
        self.queue.handed_over().await;
        let mut in_flight = self.shared.in_flight.count();
        // The sender lives as long as `shared`.
        in_flight.wait_for(|count| *count == 0).await.ok();
    }

    /// Waits until this node knows of another leader.
    async fn taken_over(&self) {
        let mut changes = self.raft.server_metrics();
        loop {
            let leader = Standing::of(&self.raft).leader;
            if leader.is_some_and(|leader| leader != self.shared.node) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
