//! What all parts of a running member share.

use crate::WriteError;
use crate::member::in_flight::Done;
use crate::member::{
    Cluster, Contact, Epochs, InFlight, KeyLimits, Keyed, Keys, Lease, Retention, Side, Tail,
};
use crate::raft::Inbox;
use crate::{
    DirectoryId, EntryId, LogStore, MachineError, MemberError, NodeId, PeerService, Settings,
    StateMachine,
};
use bytes::Bytes;
use sqlrep_env::Env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    pub in_flight: InFlight<Keyed<M::Request>, M::Reply>,
    /// The state's own applied position, not openraft's (safety rule 16).
    pub applied: watch::Sender<Option<EntryId>>,
    /// `core`'s replicated state there.
    pub side: watch::Sender<Arc<Side>>,
    /// And the idempotency keys there.
    pub keys: watch::Sender<Keys>,
    pub key_limits: KeyLimits,
    /// Why this node doesn't trust its state; none while it does.
    pub out_of_service: watch::Sender<Option<String>>,
    /// Whether entries are acknowledged to Raft unapplied (safety rule 16).
    pub skipping: watch::Sender<bool>,
    /// Behind the last entry that Raft has handed over, applied or not.
    pub handed: AtomicU64,
    /// Why this state may be wrong, until it is judged.
    pub doubt: watch::Sender<Option<String>>,
    /// Whether it was found wrong: then a restart doesn't help.
    pub is_wrong: AtomicBool,
    /// What this state was found guilty of and isn't kept on disk yet.
    pub convicted: watch::Sender<Option<String>>,
    /// How often it was judged.
    pub trials: AtomicU64,
    /// Why the process has to stop; none while it needn't.
    pub ended: watch::Sender<Option<MemberError>>,
    pub contact: Contact,
    /// What ends a lease of this node, and what a read under it has to show.
    pub lease: Arc<Lease>,
    pub retention: Arc<Retention>,
    /// Raft's snapshots on their way, in and out.
    pub snapshots: Snapshots<M::Sink>,
    /// Sizes of the log's newest part.
    pub tail: Arc<Tail>,
    /// Whether Raft runs: what it is told of snapshots changes then (safety rule 15).
    pub started: AtomicBool,
    /// The members Raft works with, and their cluster: links are opened to where they are now.
    pub cluster: watch::Sender<Arc<Cluster>>,
}

/// States on their way.
pub(crate) struct Snapshots<S> {
    /// Where Raft's come in.
    pub inbox: Arc<Inbox<S>>,
    /// Bytes of chunks that were sent, repairs too.
    pub sent_bytes: AtomicU64,
    /// Pages that weren't sent because the receiver had them.
    pub spared_pages: AtomicU64,
    /// Links over which one went on that had begun over another.
    pub resumed: AtomicU64,
}

impl<S> Default for Snapshots<S> {
    fn default() -> Self {
        Self {
            inbox: Arc::default(),
            sent_bytes: AtomicU64::default(),
            spared_pages: AtomicU64::default(),
            resumed: AtomicU64::default(),
        }
    }
}

impl<M: StateMachine> Shared<M> {
    /// Takes this node out of service: it goes on acknowledging and voting, and answers nothing from its
    /// state (safety rule 16).
    pub(crate) fn quarantine(&self, error: &MachineError) {
        tracing::error!(node = %self.node, %error, "this node's state can't be trusted, it serves nothing");
        self.take_out_of_service(error.to_string());
        if error.is_final {
            self.ended.send_replace(Some(error.clone().into()));
        }
    }

    /// The process has to end, and the next one begins with what is durable.
    pub(crate) fn end(&self, why: String) {
        let node = self.node;
        self.ended
            .send_replace(Some(MemberError::Stopped { node, why }));
    }

    /// From here on entries are acknowledged unapplied, and nothing is answered.
    pub(crate) fn take_out_of_service(&self, why: String) {
        self.skipping.send_replace(true);
        self.out_of_service.send_replace(Some(why));
        self.epochs.shut();
    }

    /// This state is wrong, for this process and the next.
    pub(crate) fn convict(&self, why: String) {
        tracing::error!(node = %self.node, %why, "this node's state is wrong, it serves nothing until it is repaired");
        self.is_wrong.store(true, Ordering::Release);
        self.convicted.send_replace(Some(why.clone()));
        self.take_out_of_service(why);
    }

    /// This state is a new one; whatever was held against the former is void.
    pub(crate) fn trust_again(&self) {
        self.is_wrong.store(false, Ordering::Release);
        self.doubt.send_replace(None);
        self.skipping.send_replace(false);
        self.out_of_service.send_replace(None);
        self.epochs.reopen();
    }

    /// This state may be wrong: it is judged (safety rule 31).
    pub(crate) fn doubt(&self, why: String) {
        self.doubt.send_if_modified(|doubt| {
            let new = doubt.is_none();
            if new {
                tracing::error!(node = %self.node, %why, "this node's state is in doubt");
                *doubt = Some(why);
            }
            new
        });
    }

    /// Waits until the cluster has its name.
    pub(crate) async fn named(&self) {
        let mut side = self.side.subscribe();
        // The sender is a field of `self`.
        side.wait_for(|side| side.cluster.0 != 0).await.ok();
    }

    /// Whether entries are acknowledged unapplied.
    pub(crate) fn is_skipping(&self) -> bool {
        *self.skipping.borrow()
    }

    /// Waits until everything before `next` is applied, or nothing is applied any more.
    pub(crate) async fn reached(&self, next: Option<EntryId>) {
        let (mut applied, mut skipping) = (self.applied.subscribe(), self.skipping.subscribe());
        let next = next.map_or(0, |id| id.index.0);
        let there = applied.wait_for(|id| id.map_or(0, |id| id.index.next().0) >= next);
        // The senders are fields of `self`.
        tokio::select! {
            biased;
            there = there => drop(there),
            skips = skipping.wait_for(|skips| *skips) => drop(skips),
        }
    }

    /// Raft has handed over everything up to `last`.
    pub(crate) fn hand_over(&self, last: Option<EntryId>) {
        let behind = last.map_or(0, |last| last.index.next().0);
        self.handed.fetch_max(behind, Ordering::SeqCst);
    }

    /// What the client of a request that was done at `at` is told again.
    pub(crate) fn replayed(
        &self,
        at: EntryId,
        reply: Option<&Bytes>,
    ) -> Result<Done<M::Reply>, WriteError> {
        let kept = reply.and_then(|bytes| self.machine.decode_reply(bytes).ok());
        let reply = kept.ok_or(WriteError::ReplyNotKept { at })?;
        let replayed = true;
        Ok(Done {
            reply,
            at,
            replayed,
        })
    }

    pub(crate) fn is_out_of_service(&self) -> bool {
        self.out_of_service.borrow().is_some()
    }
}
