//! Entering a cluster, and following who belongs to it.

use crate::identity::Keeper;
use crate::node::{Entering, Machine};
use sqlrep_core::{BootstrapPlan, Cluster, ClusterId, ClusterMember, Member, NodeId};
use sqlrep_transport_tcp::TcpTransport;
use std::sync::Arc;
use tokio::sync::watch;

/// Tells the transport who belongs, and has the cluster's name kept in the data directory.
pub(crate) async fn follow(
    mut belongs: watch::Receiver<Arc<Cluster>>,
    tcp: Option<Arc<TcpTransport>>,
    keeper: Keeper,
    mut known: ClusterId,
) {
    loop {
        let cluster = belongs.borrow_and_update().clone();
        if cluster.id.0 != 0 && cluster.id != known {
            known = cluster.id;
            keeper.note(known);
        }
        if let Some(tcp) = &tcp {
            let directory =
                |(node, member): (&NodeId, &ClusterMember)| (*node, member.peer.directory);
            tcp.belongs_to(known, cluster.members.iter().map(directory).collect());
        }
        if belongs.changed().await.is_err() {
            return;
        }
    }
}

/// Forms a cluster or joins one, and says how it went.
pub(crate) async fn enter(
    member: Member<Machine>,
    plan: BootstrapPlan,
    state: watch::Sender<Entering>,
) {
    let entered = Box::pin(member.enter(plan)).await;
    state.send_replace(match entered {
        Ok(how) => {
            tracing::info!(?how, "this node belongs to a cluster");
            Entering::Entered
        }
        Err(error) => Entering::Refused(error.to_string()),
    });
}
