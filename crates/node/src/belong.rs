//! Entering a cluster, and following who belongs to it.

use crate::identity::Keeper;
use crate::machine::Machine;
use crate::node::Entering;
use crate::{ClusterSettings, Failure};
use sqlrep_core::{BootstrapPlan, Cluster, ClusterId, ClusterMember, Member, MemberError, NodeId};
use sqlrep_transport_tcp::TcpTransport;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What couldn't be noted on disk is tried again this often.
const NOTE_AGAIN: Duration = Duration::from_secs(1);

/// Follows the cluster that a node belongs to.
pub(crate) struct Follower {
    pub(crate) belongs: watch::Receiver<Arc<Cluster>>,
    pub(crate) tcp: Option<Arc<TcpTransport>>,
    pub(crate) keeper: Keeper,
    /// The cluster's name as it stands in the data directory; zero: none yet.
    pub(crate) noted: ClusterId,
    /// What this node runs with.
    pub(crate) settings: ClusterSettings,
    /// Why the process has to end, if so.
    pub(crate) failed: watch::Sender<Option<Failure>>,
}

impl Follower {
    /// Tells the transport who belongs, has the cluster's name kept in the data directory, and sees to it that this node
    /// runs with the cluster's settings. It ends with the member.
    pub(crate) async fn run(mut self) {
        loop {
            let cluster = self.belongs.borrow_and_update().clone();
            self.tell(&cluster);
            if cluster.id.0 != 0 {
                self.compare(&cluster);
                self.note(cluster.id).await;
            }
            if self.belongs.changed().await.is_err() {
                return;
            }
        }
    }

    fn tell(&self, cluster: &Cluster) {
        let known = if cluster.id.0 == 0 {
            self.noted
        } else {
            cluster.id
        };
        let directory = |(node, member): (&NodeId, &ClusterMember)| (*node, member.peer.directory);
        if let Some(tcp) = &self.tcp {
            tcp.belongs_to(known, cluster.members.iter().map(directory).collect());
        }
    }

    async fn note(&mut self, cluster: ClusterId) {
        while self.noted != cluster {
            if self.keeper.note(cluster).await {
                self.noted = cluster;
            } else {
                tokio::time::sleep(NOTE_AGAIN).await;
            }
        }
    }

    /// A node that executed under other limits would differ from the others (safety rule 36).
    fn compare(&self, cluster: &Cluster) {
        let told = self.settings.disagreement("its cluster", &cluster.settings);
        if let Some(what) = told {
            self.failed.send_replace(Some(Failure::Settings(what)));
        }
    }
}

/// Forms a cluster or joins one, and says how it went.
pub(crate) async fn enter(
    member: Member<Machine>,
    plan: BootstrapPlan,
    settings: ClusterSettings,
    state: watch::Sender<Entering>,
) {
    let entered = Box::pin(member.enter(plan)).await;
    state.send_replace(match entered {
        Ok(how) => {
            tracing::info!(?how, "this node belongs to a cluster");
            Entering::Entered
        }
        Err(error) => Entering::Refused(by_name(&settings, &error)),
    });
}

/// Why this node isn't let in; `core` can't read settings, so a difference in them is named here.
fn by_name(settings: &ClusterSettings, error: &MemberError) -> String {
    let named = match error {
        MemberError::Disagrees {
            with,
            settings: theirs,
        } => settings.disagreement(with, theirs),
        _ => None,
    };
    named.unwrap_or_else(|| error.to_string())
}
