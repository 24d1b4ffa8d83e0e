//! The cluster's name: the first thing a leader of a cluster without one proposes.
//!
//! Every founding member brings a name and settings of its own on every start, because nobody knows which of
//! them is the first to lead, nor whether it gets as far as proposing. The first one in the log counts on every
//! node. Invariant 1: no request of a client is proposed before the cluster is named (the proposer waits).

use crate::member::{Content, Envelope, Shared, Standing};
use crate::raft::{Command, Raft, leadership};
use crate::{ClusterId, StateMachine, Term};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::ProgressResponder;
use std::sync::Arc;
use std::time::Duration;

/// Proposed again this often, should a proposal be refused by a leader that has just begun.
const PROPOSE_AGAIN: Duration = Duration::from_millis(20);

/// What a founding member would call the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Drawn at random, not zero.
    pub cluster: ClusterId,
    /// What all members have to agree on, opaque to `core`.
    pub settings: Bytes,
}

/// Names the cluster, if this node comes to lead it before that was done.
pub(crate) async fn found<M: StateMachine>(raft: Raft<M>, shared: Arc<Shared<M>>, own: Genesis) {
    tokio::select! {
        biased;
        () = shared.named() => {}
        () = propose_until_named(&raft, &shared, &own) => {}
    }
}

async fn propose_until_named<M: StateMachine>(raft: &Raft<M>, shared: &Shared<M>, own: &Genesis) {
    loop {
        let Some(term) = leads(raft, shared).await else {
            return;
        };
        // Everything that former leaders left is applied then, a name perhaps.
        let mut applied = shared.applied.subscribe();
        let begun = applied.wait_for(|id| id.is_some_and(|id| id.term == term));
        tokio::select! {
            biased;
            () = super::standing::lost(raft, shared.node, term) => continue,
            // The sender is a field of `shared`.
            begun = begun => drop(begun),
        }
        if shared.side.borrow().cluster.0 != 0 {
            return;
        }
        propose(raft, shared, own, term).await;
        tokio::time::sleep(PROPOSE_AGAIN).await;
    }
}

/// Waits until this node leads; none if Raft has ended.
async fn leads<M: StateMachine>(raft: &Raft<M>, shared: &Shared<M>) -> Option<Term> {
    let mut changes = raft.server_metrics();
    loop {
        if let Some(term) = Standing::of(raft).leads(shared.node) {
            return Some(term);
        }
        changes.changed().await.ok()?;
    }
}

/// The verdict doesn't matter: the applied state tells whether there is a name.
async fn propose<M: StateMachine>(raft: &Raft<M>, shared: &Shared<M>, own: &Genesis, term: Term) {
    let envelope = Envelope {
        origin: shared.in_flight.origin(),
        sequence: 0,
        content: Content::Genesis {
            cluster: own.cluster,
            settings: own.settings.clone(),
        },
    };
    let (responder, verdict) = ProgressResponder::complete_only();
    let write = raft.write(Command(envelope.seal(&[])));
    let write = write.with_leader(leadership(term)).responder(responder);
    if write.await.is_ok() {
        drop(verdict.await);
    }
}
