//! What a node that doesn't trust its state does in Raft (safety rule 16): it goes on acknowledging and voting,
//! doesn't stand for election, and hands over leadership. Back in service, it stands again.
//!
//! It doesn't repair anything: `repair` does.

use super::standing::Standing;
use super::{Inner, StateMachine};
use crate::NodeId;
use crate::raft::node_id;
use openraft::async_runtime::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;

/// Leadership is handed over at most this often: it may come back at once, where nobody trusts its state.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(500);

impl<M: StateMachine> Inner<M> {
    /// Follows the changes between in and out of service.
    pub(super) async fn keep_quarantine(self: Arc<Self>) {
        let mut service = self.shared.out_of_service.subscribe();
        loop {
            let is_out = service.borrow_and_update().is_some();
            self.raft.runtime_config().elect(!is_out);
            let changed = tokio::select! {
                biased;
                changed = service.changed() => changed,
                () = self.lead_nothing(), if is_out => unreachable!("it never ends"),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Hands over whatever leadership there is.
    async fn lead_nothing(&self) {
        let mut changes = self.raft.server_metrics();
        loop {
            if Standing::of(&self.raft).leads(self.shared.node).is_some() {
                self.hand_over().await;
            } else if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn hand_over(&self) {
        if let Some(to) = self.most_caught_up() {
            tracing::warn!(node = %self.shared.node, %to, "the leadership is handed over");
            // An error means that Raft has ended, and with it the leadership.
            self.raft.trigger().transfer_leader(to.get()).await.ok();
        }
        tokio::time::sleep(HAND_OVER_AGAIN).await;
    }

    /// The other voter that is known to have the most of the log.
    fn most_caught_up(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?;
        let members = metrics.membership_config.membership();
        let others = members.voter_ids().map(node_id);
        let others = others.filter(|voter| *voter != self.shared.node);
        others.max_by_key(|voter| matched.get(&voter.get()).copied().flatten())
    }
}
