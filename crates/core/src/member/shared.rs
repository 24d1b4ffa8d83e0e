//! What all parts of a running member share.

use crate::member::{Cluster, Contact, Epochs, InFlight, Retention, Side, Tail};
use crate::{
    DirectoryId, EntryId, LogStore, MachineError, NodeId, PeerService, Settings, StateMachine,
};
use sqlrep_env::Env;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::watch;

/// One per member, behind an `Arc`.
pub(crate) struct Shared<M: StateMachine> {
    pub node: NodeId,
    pub directory: DirectoryId,
    pub machine: Arc<M>,
    pub log: Arc<dyn LogStore>,
    /// Answers what other members' embedders ask.
    pub service: Arc<dyn PeerService>,
    pub env: Env,
    pub settings: Settings,
    pub epochs: Epochs<M>,
    pub in_flight: InFlight<M::Request, M::Reply>,
    /// The state's own applied position, not openraft's (safety rule 16).
    pub applied: watch::Sender<Option<EntryId>>,
    /// `core`'s replicated state there.
    pub side: watch::Sender<Arc<Side>>,
    /// Why this node doesn't trust its state; none while it does.
    pub out_of_service: watch::Sender<Option<String>>,
    /// Why the process has to stop; none while it needn't.
    pub ended: watch::Sender<Option<MachineError>>,
    pub contact: Contact,
    pub retention: Arc<Retention>,
    /// Sizes of the log's newest part.
    pub tail: Arc<Tail>,
    /// Whether Raft runs: what it is told of snapshots changes then (safety rule 15).
    pub started: AtomicBool,
    /// The members Raft works with, and their cluster: links are opened to where they are now.
    pub cluster: watch::Sender<Arc<Cluster>>,
}

impl<M: StateMachine> Shared<M> {
    /// Takes this node out of service: it goes on acknowledging and voting, and answers nothing from its
    /// state (safety rule 16).
    pub(crate) fn quarantine(&self, error: &MachineError) {
        tracing::error!(node = %self.node, %error, "this node's state can't be trusted, it serves nothing");
        self.out_of_service.send_replace(Some(error.to_string()));
        if error.is_final {
            self.ended.send_replace(Some(error.clone()));
        }
    }

    /// Waits until the cluster has its name.
    pub(crate) async fn named(&self) {
        let mut side = self.side.subscribe();
        // The sender is a field of `self`.
        side.wait_for(|side| side.cluster.0 != 0).await.ok();
    }

    pub(crate) fn is_out_of_service(&self) -> bool {
        self.out_of_service.borrow().is_some()
    }
}
