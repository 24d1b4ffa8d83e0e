//! How a state that isn't trusted is replaced, below Raft (safety rule 16).
//!
//! ```text
//!   sick:   Ask::Repair ────────────► leader: pins its newest entry end, streams it (every page checked against its hash)
//!   sick:   ◄─── Piece::Repair, chunks, end
//!           install ─► entries behind it from the own log, up to what Raft has handed over ─► in service again
//! ```
//!
//! Raft isn't told: for it these entries are applied long since, and it would take the snapshot for an old one. The
//! new state may be behind or ahead of what Raft has handed over; ahead, the apply worker skips.
//!
//! Invariant 1: an entry is handed over (`handed` is raised) before it is skipped, and skipping ends before `handed` is
//! read for the last time: so no entry falls between the state that was installed and what is applied again.
//! Invariant 2: a repair isn't behind the durable position, so that the log still has what follows it: neither when it
//! begins nor when it is switched to.
//!
//! It doesn't choose who is wrong, nor sends anything on a node that is in doubt itself.

use super::{Inner, Standing};
use crate::answered::{NoAnswer, answered, called};
use crate::member::client::{Answer, Ask};
use crate::member::{Applier, Halt, Shared};
use crate::raft::{Inbox, one_leadership, send_repair};
use crate::{
    Entry, EntryEnd, LogIndex, MachineError, NodeId, Peer, Retry, StateMachine, StorageError, Which,
};
use sqlrep_env::Actor;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// The pause before a leader is asked again, at first and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A leader answers this fast.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A repair that was promised begins within this time.
const ARRIVE_MAX: Duration = Duration::from_secs(10);

/// A node that nobody repairs waits for this long before it ends, so that a restart replays its log.
const HELP_MAX: Duration = Duration::from_secs(20);

/// Bytes of entries read back at once.
const READ_BYTES_MAX: usize = 4 << 20;

const OVERTAKEN: &str = "a newer snapshot was installed meanwhile";

const ENDED: &str = "the member has ended";

/// The pages of a leader with another engine are taken over at most this often (safety rule 32).
const ENGINE_AGAIN: Duration = Duration::from_secs(60);

/// What replacing the state needs. Clones share it.
pub(crate) struct Repair<M: StateMachine> {
    shared: Arc<Shared<M>>,
    worker: Actor<Applier<M>>,
    inbox: Arc<Inbox<M::Sink>>,
    /// One goes out at a time.
    sending: Arc<Semaphore>,
    /// A node in service wants the leader's pages.
    wanted: watch::Sender<bool>,
    done: Arc<AtomicU64>,
}

impl<M: StateMachine> Clone for Repair<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            worker: self.worker.clone(),
            inbox: self.inbox.clone(),
            sending: self.sending.clone(),
            wanted: self.wanted.clone(),
            done: self.done.clone(),
        }
    }
}

fn refused(what: String) -> MachineError {
    MachineError::new(std::io::Error::other(what), Retry::Safe)
}

impl<M: StateMachine> Repair<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, worker: Actor<Applier<M>>) -> Self {
        Self {
            shared,
            worker,
            inbox: Arc::default(),
            sending: Arc::new(Semaphore::new(1)),
            wanted: watch::channel(false).0,
            done: Arc::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<M>> {
        &self.shared
    }

    /// Repairs since the start.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// This node stays in service and takes the leader's state over.
    pub(super) fn want(&self) {
        self.wanted.send_replace(true);
    }

    /// Whether the leader's state is to be taken over, in service or out of it.
    pub(super) fn is_needed(&self) -> bool {
        self.shared.is_out_of_service() || *self.wanted.borrow()
    }

    /// Waits until there is something to repair; false if the member has ended.
    async fn needed(&self) -> bool {
        let (mut service, mut wanted) = (
            self.shared.out_of_service.subscribe(),
            self.wanted.subscribe(),
        );
        tokio::select! {
            biased;
            out = service.wait_for(Option::is_some) => out.is_ok(),
            wanted = wanted.wait_for(|wanted| *wanted) => wanted.is_ok(),
        }
    }

    /// Where states come in.
    pub(crate) fn inbox(&self) -> &Arc<Inbox<M::Sink>> {
        &self.inbox
    }

    /// Whether a state that shows `end` is welcome.
    ///
    /// # Errors
    ///
    /// Why it isn't.
    pub(crate) fn admit(&self, end: &EntryEnd) -> Result<(), MachineError> {
        if !self.is_needed() {
            let node = self.shared.node;
            return Err(refused(format!("node {node} trusts its state")));
        }
        let durable = self.shared.machine.durable().id;
        if end.id < durable {
            let what = "the state is older than the durable position here";
            return Err(refused(what.to_owned()));
        }
        Ok(())
    }

    /// Switches to `sink`, catches up, and puts the node back into service.
    ///
    /// # Errors
    ///
    /// Node-local; it is out of service then, if it wasn't before.
    pub(crate) async fn replace(&self, sink: M::Sink) -> Result<(), MachineError> {
        let shared = &self.shared;
        shared.skipping.send_replace(true);
        shared.epochs.bar().await;
        let installed = self.on_worker(|applier| applier.install_repair(sink)).await;
        let overtaken = matches!(installed, Ok(false));
        if overtaken && shared.is_out_of_service() {
            return Err(refused(OVERTAKEN.to_owned()));
        }
        let replaced = match installed {
            Ok(_) => {
                shared.skipping.send_replace(false);
                self.catch_up().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &replaced {
            shared.quarantine(error);
            return replaced;
        }
        if overtaken {
            return Err(refused(OVERTAKEN.to_owned()));
        }
        tracing::warn!(node = %shared.node, "this node's state was replaced by the leader's, it is in service");
        self.done.fetch_add(1, Ordering::Relaxed);
        self.wanted.send_replace(false);
        shared.trust_again();
        Ok(())
    }

    /// Applies what Raft has handed over meanwhile.
    async fn catch_up(&self) -> Result<(), MachineError> {
        loop {
            let applied = *self.shared.applied.borrow();
            let next = applied.map_or(0, |id| id.index.next().0);
            let handed = self.shared.handed.load(Ordering::SeqCst);
            if next >= handed {
                return Ok(());
            }
            let mut entries = self.read(next, handed).await?;
            while !entries.is_empty() {
                self.apply(one_leadership(&mut entries)).await?;
            }
        }
    }

    async fn apply(&self, entries: VecDeque<Entry>) -> Result<(), MachineError> {
        if let Some(first) = entries.front() {
            self.shared.epochs.keep_only(first.id.term).await;
        }
        let applied = self.on_worker(move |applier| {
            applier.apply(entries).map_err(|stuck| match stuck.halt {
                Halt::Failed(error) => error,
                Halt::Behind => unreachable!("entries of the log follow each other"),
            })
        });
        applied.await
    }

    async fn read(&self, next: u64, end: u64) -> Result<VecDeque<Entry>, MachineError> {
        let range = LogIndex(next)..LogIndex(end);
        let read = called(|done| self.shared.log.read(range, READ_BYTES_MAX, done));
        let failed = |error: StorageError| {
            let retry = error.retry();
            MachineError::new(error, retry)
        };
        let read = read.await.map_err(|_| refused(ENDED.to_owned()))?;
        let entries = read.map_err(failed)?;
        assert!(!entries.is_empty(), "invariant 2: the log has what follows");
        Ok(entries.into())
    }

    async fn on_worker<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Applier<M>) -> Result<T, MachineError> + Send + 'static,
    ) -> Result<T, MachineError> {
        answered(&self.worker, job).await.map_err(|none| {
            refused(match none {
                NoAnswer::QueueFull => "the apply worker's queue is full".to_owned(),
                NoAnswer::Ended => ENDED.to_owned(),
            })
        })?
    }
}

impl<M: StateMachine> Inner<M> {
    /// Asks the leader for its state while this node's isn't trusted.
    pub(super) async fn keep_repaired(self: Arc<Self>) {
        let (first, most) = ASK_AGAIN;
        let mut pause = first;
        let mut helpless = None;
        while self.repair.needed().await {
            let stays_in_service = !self.shared.is_out_of_service();
            tokio::time::sleep(pause).await;
            let asked = self.ask_for_repair().await;
            match asked {
                Ok(()) => {
                    helpless = None;
                    self.arrived().await;
                }
                Err(why) => {
                    tracing::debug!(node = %self.shared.node, %why, "no repair yet");
                    let since = *helpless.get_or_insert_with(Instant::now);
                    self.give_up(since, &why);
                }
            }
            if self.repair.is_needed() {
                pause = (pause * 2).min(most);
            } else {
                (pause, helpless) = (first, None);
            }
            if stays_in_service && !self.repair.is_needed() {
                tokio::time::sleep(ENGINE_AGAIN).await;
            }
        }
    }

    /// Where nobody can help, a state that isn't known to be wrong is begun anew by the next process, from what is durable
    /// and the log: else members that were all unlucky with their disks would wait for each other for ever.
    fn give_up(&self, since: Instant, why: &str) {
        let shared = &self.shared;
        let cause = shared.out_of_service.borrow().clone();
        let Some(cause) = cause.filter(|_| since.elapsed() >= HELP_MAX) else {
            return;
        };
        if !shared.is_wrong.load(Ordering::Acquire) {
            shared.end(format!("{cause}; nobody repairs it: {why}"));
        }
    }

    async fn ask_for_repair(&self) -> Result<(), String> {
        if !self.repair.is_needed() {
            return Err("it isn't needed any more".to_owned());
        }
        let leader = Standing::of(&self.raft).leader;
        let leader = leader.filter(|leader| *leader != self.shared.node);
        let leader = leader.ok_or("no other node leads")?;
        let deadline = Instant::now() + ANSWER_MAX;
        match self.call(leader, Ask::Repair, deadline).await {
            Ok(Answer::Repair(answer)) => answer,
            Ok(_) => Err("it answered something else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits until the state that was promised is here, or nothing comes.
    async fn arrived(&self) {
        let mut since = Instant::now();
        while self.repair.is_needed() && since.elapsed() < ARRIVE_MAX {
            if self.repair.inbox.is_busy() {
                since = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends this leader's state to `to`, in the background.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn send_repair(self: &Arc<Self>, to: NodeId) -> Result<(), String> {
        let shared = &self.shared;
        let node = shared.node;
        if Standing::of(&self.raft).leads(node).is_none() {
            return Err(format!("node {node} doesn't lead"));
        }
        if shared.is_out_of_service() || shared.doubt.borrow().is_some() {
            return Err(format!("node {node} doesn't trust its own state"));
        }
        let peer = self.peer(to).ok_or(format!("node {to} is no member"))?;
        let busy = |_| format!("node {node} repairs another one");
        let permit = self
            .repair
            .sending
            .clone()
            .try_acquire_owned()
            .map_err(busy)?;
        let inner = self.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            if let Err(error) = inner.sent(to, &peer).await {
                tracing::warn!(%to, %error, "a repair was not delivered");
            }
        });
        Ok(())
    }

    async fn sent(
        &self,
        to: NodeId,
        peer: &Peer,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let machine = self.shared.machine.clone();
        let opened = self
            .repair
            .on_worker(move |_| machine.snapshot(Which::Newest));
        let Some(source) = opened.await? else {
            return Err("there is no state to send yet".into());
        };
        Ok(send_repair(&*self.transport, &self.shared, (to, peer), source).await?)
    }
}
