//! What a node has to know of its cluster: its name, what it agreed on, and who belongs to it.

use super::{Inner, Member};
use crate::raft::node_id;
use crate::{ClusterId, NodeId, Peer, StateMachine};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// A member's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// How to reach it.
    pub peer: Peer,
    /// Whether it votes.
    pub voter: bool,
}

/// The cluster as Raft works with it here: a change of the members shows before it is committed, since from
/// then on they have to reach each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its name; zero until it is applied here.
    pub id: ClusterId,
    /// What the members agreed on when it was formed.
    pub settings: Bytes,
    /// Who belongs to it.
    pub members: BTreeMap<NodeId, ClusterMember>,
}

impl<M: StateMachine> Member<M> {
    /// The cluster, and its changes.
    #[must_use]
    pub fn membership(&self) -> watch::Receiver<Arc<Cluster>> {
        self.inner.shared.cluster.subscribe()
    }
}

impl<M: StateMachine> Inner<M> {
    /// Tells the changes until Raft ends.
    pub(super) async fn announce(self: Arc<Self>) {
        let (mut members, mut side) = (self.raft.server_metrics(), self.shared.side.subscribe());
        loop {
            let now = self.cluster_now();
            self.shared.cluster.send_if_modified(|told| {
                let changed = **told != now;
                if changed {
                    *told = Arc::new(now);
                }
                changed
            });
            let ended = tokio::select! {
                biased;
                changed = side.changed() => changed.is_err(),
                changed = members.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    pub(super) fn cluster_now(&self) -> Cluster {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let voters: Vec<u64> = members.voter_ids().collect();
        let place = |(id, peer): (&u64, &Peer)| {
            let place = ClusterMember {
                peer: peer.clone(),
                voter: voters.contains(id),
            };
            (node_id(*id), place)
        };
        let side = self.shared.side.borrow();
        Cluster {
            id: side.cluster,
            settings: side.settings.clone(),
            members: members.nodes().map(place).collect(),
        }
    }
}
