//! Group commit above Raft: requests gather while entries are in flight, run in one epoch, and leave as one
//! command.
//!
//! ```text
//!   queue ─► slot ─► epoch (begin if there is none) ─► gather ─► run, seal ─► in-flight table ─► Raft
//!                        ▲                                                         │
//!                        └──────────── any refusal ends the epoch ◄────────────────┘
//! ```
//!
//! Where epochs execute ahead of the log a second batch is in line behind the one that runs, and gathers when that is sealed: the
//! writer doesn't wait for this task between the two. A client's own transaction has the epoch for itself from its turn in the line
//! to its end (`reserve`).
//!
//! Invariant 1 (safety rule 21): a slot is taken before requests are, and is free again when the command has
//! its verdict.
//! Invariant 2 (safety rule 23): every proposal names the leadership its epoch was begun in; a refusal ends the
//! epoch, and nothing more of it is proposed.
//! Invariant 3 (safety rule 24): an epoch begins when this node's own first entry of the term is applied here
//! and no command is without a verdict; and not before the cluster has its name.
//!
//! | Raft says | the client is told |
//! | --- | --- |
//! | applied | its reply, by the apply worker |
//! | (not asked: no space for entries) | not done, `DiskFull` |
//! | forward to another node | not done, `NotLeader` |
//! | forward to nobody (no lease yet, a transfer) | not done, `NotDone` |
//! | discarded | `Unknown`: another leader may have it |
//! | stopped before it was handed over | `Stopped` |
//! | stopped afterwards | `Unknown` |

use crate::member::epochs::Running;
use crate::member::gather::Gatherer;
use crate::member::in_flight::{Base, Batch, Claims, Done, tell};
use crate::member::reserve::Grant;
use crate::member::standing::{Standing, lost};
use crate::member::{
    Answer, Client, Content, Counters, Envelope, Inner, Item, Key, Keyed, Queue, Ran, Rounds,
    Shared, Tasks,
};
use crate::raft::{Command, Raft, TypeConfig, leadership, node_id};
use crate::{EntryId, EpochEnd, EpochId, NodeId, Retry, Sealed, StateMachine, Step, WriteError};
use bytes::Bytes;
use openraft::error::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest command: with its envelope it fits a frame several times.
const COMMAND_BYTES_MAX: usize = 32 << 20;

/// Parts of one split set that are handed over and have no verdict: what the leader and its log hold of a set in memory.
const PARTS_IN_FLIGHT_MAX: usize = 3;

/// Looked at again this often where no event tells.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(super) type KeyedOf<M> = Keyed<<M as StateMachine>::Request>;
pub(crate) type Requests<M> = Queue<KeyedOf<M>, <M as StateMachine>::Reply, GrantOf<M>>;
pub(crate) type GrantOf<M> = Grant<<M as StateMachine>::Request, <M as StateMachine>::Reply>;
pub(crate) type ClientOf<M> = Client<KeyedOf<M>, <M as StateMachine>::Reply>;
/// Who waits for a request, and its key.
pub(crate) type Waiting<M> = (ClientOf<M>, Option<Key>);
/// Requests to be executed, in order.
pub(super) type BatchOf<M> = Vec<(Waiting<M>, <M as StateMachine>::Request)>;
type Verdict = openraft::alias::OneshotReceiverOf<TypeConfig, ClientWriteResult<TypeConfig>>;

/// A batch on the writer.
struct Round<M: StateMachine> {
    epoch: EpochId,
    slot: OwnedSemaphorePermit,
    running: Running<Waiting<M>, M::Reply, Claims>,
}

/// The one task that proposes.
pub(crate) struct Proposer<M: StateMachine> {
    pub(super) raft: Raft<M>,
    pub(super) shared: Arc<Shared<M>>,
    pub(super) queue: Arc<Requests<M>>,
    /// Those in which this node is confirmed as the leader, not those that ask another one.
    rounds: Rounds,
    counters: Arc<Counters>,
    gatherer: Arc<Gatherer<M>>,
    /// Whether a batch may be in line behind the one that runs.
    queues_ahead: bool,
    tasks: Tasks,
    /// Commands sealed so far by this process.
    sequence: u64,
    /// Epochs begun so far by this process.
    epochs: u64,
}

impl<M: StateMachine> Proposer<M> {
    pub(crate) fn new(inner: &Inner<M>) -> Self {
        Self {
            raft: inner.raft.clone(),
            shared: inner.shared.clone(),
            queue: inner.queue.clone(),
            rounds: inner.read_index.here.clone(),
            counters: inner.counters.clone(),
            gatherer: Arc::new(Gatherer::new(
                inner.shared.clone(),
                inner.queue.clone(),
                inner.counters.clone(),
            )),
            queues_ahead: inner.shared.machine.executes_ahead(),
            tasks: inner.tasks.clone(),
            sequence: 0,
            epochs: 0,
        }
    }

    /// Proposes until the task is aborted.
    pub(crate) async fn run(mut self) {
        let slots = Arc::new(Semaphore::new(self.shared.settings.in_flight_entries_max));
        let mut round = None;
        loop {
            round = match round {
                None => self.first(&slots).await,
                Some(round) => self.behind(round, &slots).await,
            };
        }
    }

    /// With nothing on the writer: what waits longest, a batch or one client's own transaction.
    async fn first(&mut self, slots: &Arc<Semaphore>) -> Option<Round<M>> {
        self.queue.filled().await;
        match self.slot_and_epoch(slots).await {
            Ok(_) if self.shared.log.is_full() => self.queue.return_all(&WriteError::DiskFull),
            Ok((slot, epoch)) => match self.queue.take_wish() {
                None => return Some(self.begun(slot, epoch)),
                Some(wish) => {
                    self.lend(slot, epoch, wish).await;
                    self.queue.hand_over();
                }
            },
            Err(leader) => {
                self.end_epoch().await;
                self.queue.return_all(&WriteError::NotLeader { leader });
            }
        }
        None
    }

    /// While `round` runs: another one behind it, once there is something to gather and a slot.
    async fn behind(&mut self, mut round: Round<M>, slots: &Arc<Semaphore>) -> Option<Round<M>> {
        let (gave, next) = tokio::select! {
            biased;
            gave = round.running.gave() => (gave, None),
            slot = self.slot_behind(slots) => {
                let next = self.begun(slot, round.epoch);
                (round.running.gave().await, Some(next))
            }
        };
        if let Some((ran, keys)) = gave {
            let was_gathered = keys.is_some();
            let keys = keys.unwrap_or_else(|| self.shared.in_flight.claims());
            self.propose(round.slot, round.epoch, ran, keys).await;
            if was_gathered {
                self.queue.hand_over();
            }
        }
        next
    }

    async fn slot_behind(&self, slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        if !self.queues_ahead || self.shared.log.is_full() {
            return std::future::pending().await;
        }
        self.queue.filled_with_requests().await;
        let slot = slots.clone().acquire_owned().await;
        slot.expect("nobody closes it")
    }

    fn begun(&self, slot: OwnedSemaphorePermit, epoch: EpochId) -> Round<M> {
        let gatherer = self.gatherer.clone();
        let keyed = |(_, key): &Waiting<M>| key.is_some();
        let running = self
            .shared
            .epochs
            .run(epoch, move || gatherer.gather(), keyed);
        Round {
            epoch,
            slot,
            running,
        }
    }

    /// A slot and a live epoch; or, if this node doesn't lead, who does.
    async fn slot_and_epoch(
        &mut self,
        slots: &Arc<Semaphore>,
    ) -> Result<(OwnedSemaphorePermit, EpochId), Option<NodeId>> {
        let (node, raft) = (self.shared.node, self.raft.clone());
        loop {
            if self.shared.is_out_of_service() {
                return Err(None);
            }
            let standing = Standing::of(&raft);
            let term = standing.leads(node).ok_or(standing.leader)?;
            let free = slots.clone().acquire_owned();
            tokio::select! {
                biased;
                () = lost(&raft, node, term) => {}
                slot = free => {
                    let slot = slot.expect("nobody closes it");
                    if let Some(epoch) = self.epoch(EpochId { term, node, epoch: 0 }).await {
                        return Ok((slot, epoch));
                    }
                }
            }
        }
    }

    /// The live epoch of `wanted`'s term, begun if there is none. None if that can't be: who leads has to be
    /// looked at again.
    async fn epoch(&mut self, wanted: EpochId) -> Option<EpochId> {
        let live = self.shared.epochs.current();
        if live.is_some_and(|live| live.term == wanted.term) {
            return live;
        }
        let (raft, node) = (self.raft.clone(), self.shared.node);
        tokio::select! {
            biased;
            () = lost(&raft, node, wanted.term) => return None,
            () = self.may_begin(wanted) => {}
        }
        self.epochs += 1;
        let id = EpochId {
            epoch: self.epochs,
            ..wanted
        };
        if self.shared.epochs.begin(id).await {
            self.shared.in_flight.begin_epoch();
            return Some(id);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        None
    }

    /// Invariant 3.
    async fn may_begin(&self, wanted: EpochId) {
        let mut applied = self.shared.applied.subscribe();
        let own = |id: &Option<EntryId>| id.is_some_and(|id| id.term == wanted.term);
        // Both senders live as long as `shared`.
        applied.wait_for(own).await.ok();
        let mut in_flight = self.shared.in_flight.count();
        in_flight.wait_for(|count| *count == 0).await.ok();
        self.shared.named().await;
    }

    async fn end_epoch(&self) {
        if let Some(live) = self.shared.epochs.current() {
            self.shared.epochs.end(live).await;
        }
    }

    pub(super) async fn propose(
        &mut self,
        slot: OwnedSemaphorePermit,
        epoch: EpochId,
        ran: Ran<Waiting<M>, M::Reply>,
        keys: Claims,
    ) {
        let is_over = self.shared.epochs.current() != Some(epoch);
        let sealed = match ran.sealed {
            // Invariant 2: what it stands on was refused.
            _ if is_over => return not_proposed::<M>(ran.steps),
            Ok(sealed) => sealed,
            Err(end) => return self.give_up(epoch, end, ran.steps).await,
        };
        let (mut clients, mut items, mut answered) = (Vec::new(), Vec::new(), Vec::new());
        for ((client, key), step) in ran.steps {
            match step {
                Step::Encoded => {
                    clients.push((None, client));
                    items.push(Item { key });
                }
                Step::Executed { reply, key_reply } => {
                    clients.push((Some(reply), client));
                    let reply = key_reply;
                    let key = key.map(|key| Key { reply, ..key });
                    items.push(Item { key });
                }
                Step::Answered(reply) => answered.push((reply, client)),
                Step::Refused(error) => tell(client, Err(error)),
            }
        }
        assert!(
            clients.is_empty() || sealed.is_some(),
            "what an epoch took in is in what it sealed"
        );
        let (mut proposal, mut spare) = (None, Some(slot));
        if let Some(sealed) = sealed
            && let Some(slot) = spare.take()
        {
            let first = self.sequence + 1;
            self.sequence = first + u64::from(sealed.parts_left);
            // The verdict on a split set is that on its last part (safety rule 26).
            let batch = Batch {
                clients,
                keys,
                slot,
            };
            self.shared.in_flight.insert(self.sequence, batch);
            proposal = Some((first, sealed));
        }
        self.hold(epoch, answered, spare);
        if let Some((first, sealed)) = proposal {
            self.hand_over(epoch, first, items, sealed).await;
        }
    }

    /// An epoch has ended by itself: nothing of the batch is proposed.
    pub(super) async fn give_up(
        &self,
        epoch: EpochId,
        end: EpochEnd,
        steps: Vec<(Waiting<M>, Step<M::Reply>)>,
    ) {
        self.ended(epoch, end).await;
        not_proposed::<M>(steps);
    }

    async fn ended(&self, epoch: EpochId, end: EpochEnd) {
        match end {
            EpochEnd::Interrupted => {}
            // A new epoch begins without what it was computed on; if the log was ahead of this state, nobody could.
            EpochEnd::Failed(error) if error.retry == Retry::Safe && !error.is_final => {
                let node = self.shared.node;
                tracing::warn!(%node, %error, "a request couldn't be executed; what ran beside it is undone");
            }
            EpochEnd::Failed(error) => self.shared.quarantine(&error),
        }
        self.shared.epochs.end(epoch).await;
    }

    /// Replies without an entry wait for what they were computed on, and for a round of confirmation that
    /// begins now, after their execution (safety rule 25). A read index of another term confirms another
    /// leadership, this node's own perhaps, and says nothing about what was computed in this one.
    ///
    /// Where no command went with them they keep its slot, which bounds how many of them wait.
    fn hold(
        &self,
        epoch: EpochId,
        answered: Vec<(M::Reply, ClientOf<M>)>,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        if answered.is_empty() {
            return;
        }
        let stands = self.stands(epoch);
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            let stands = stands.await;
            let at = *shared.applied.borrow();
            for (reply, client) in answered {
                let outcome = match at {
                    Some(at) if stands => Ok(Done::now(reply, at)),
                    _ => Err(WriteError::NotDone),
                };
                tell(client, outcome);
            }
            drop(slot);
        });
    }

    /// Whether what was computed by now may be told; the round of confirmation begins with this call.
    pub(super) fn stands(&self, epoch: EpochId) -> impl Future<Output = bool> + Send + use<M> {
        let base = self.shared.in_flight.after_newest();
        let confirmed = self.rounds.join();
        let shared = self.shared.clone();
        async move {
            let done = match base {
                Base::Open(base) => base.await.unwrap_or(false),
                Base::Done => true,
                Base::Undone => false,
            };
            let confirmed = confirmed.await.is_ok_and(|index| index.term == epoch.term);
            done && confirmed && !shared.is_out_of_service()
        }
    }

    /// Hands the parts of one set to Raft, a few ahead of their verdicts, and waits for the last ones in a task. No other set of the
    /// epoch comes between (safety rule 26): this task hands over nothing else meanwhile.
    async fn hand_over(&self, epoch: EpochId, first: u64, mut items: Vec<Item>, sealed: Sealed) {
        let last = first + u64::from(sealed.parts_left);
        let mut verdicts = VecDeque::new();
        let mut next = Some(sealed.body);
        for sequence in first..=last {
            // Without its last part a set never counts: what isn't handed over any more is certainly not done.
            let Some(body) = next else { break };
            let items = if sequence == last {
                std::mem::take(&mut items)
            } else {
                Vec::new()
            };
            let Some(verdict) = self.proposed(epoch, sequence, items, &body).await else {
                self.shared.in_flight.fail(last, &WriteError::Stopped);
                return;
            };
            verdicts.push_back(verdict);
            next = match sequence {
                _ if sequence == last => Some(body),
                _ => self.next_part(epoch, &mut verdicts).await,
            };
        }
        let (shared, whole) = (self.shared.clone(), next.is_some());
        self.tasks
            .spawn(async move { watch(&shared, epoch, last, verdicts, whole).await });
    }

    /// Hands one command to Raft; none if that has stopped.
    async fn proposed(
        &self,
        epoch: EpochId,
        sequence: u64,
        items: Vec<Item>,
        body: &Bytes,
    ) -> Option<Verdict> {
        assert!(
            body.len() <= COMMAND_BYTES_MAX,
            "a mode splits what is larger"
        );
        let envelope = Envelope {
            origin: self.shared.in_flight.origin(),
            sequence,
            content: Content::Requests { items },
        };
        let (responder, verdict) = ProgressResponder::complete_only();
        let command = Command(envelope.seal(body));
        let write = self.raft.write(command).with_leader(leadership(epoch.term));
        self.counters.entries.fetch_add(1, Ordering::Relaxed);
        write.responder(responder).await.ok().map(|()| verdict)
    }

    /// The next part of a set, once few of those before it have no verdict. None, and the epoch has ended: it never comes.
    async fn next_part(&self, epoch: EpochId, verdicts: &mut VecDeque<Verdict>) -> Option<Bytes> {
        let (raft, node) = (self.raft.clone(), self.shared.node);
        while verdicts.len() >= PARTS_IN_FLIGHT_MAX {
            let oldest = verdicts.front_mut().expect("there are some");
            let refused = tokio::select! {
                biased;
                () = lost(&raft, node, epoch.term) => true,
                verdict = oldest => {
                    verdicts.pop_front();
                    told(node, verdict).is_err()
                }
            };
            if refused {
                self.shared.epochs.end(epoch).await;
                return None;
            }
        }
        match self.shared.epochs.next_part(epoch).await {
            Ok(part) => Some(part.body),
            Err(end) => {
                self.ended(epoch, end).await;
                None
            }
        }
    }
}

fn not_proposed<M: StateMachine>(steps: Vec<(Waiting<M>, Step<M::Reply>)>) {
    for ((client, _), step) in steps {
        let error = match step {
            Step::Refused(error) => error,
            Step::Encoded | Step::Executed { .. } | Step::Answered(_) => WriteError::NotDone,
        };
        tell(client, Err(error));
    }
}

/// Waits for the verdicts on one set and tells the clients, where the apply worker doesn't.
async fn watch<M: StateMachine>(
    shared: &Shared<M>,
    epoch: EpochId,
    last: u64,
    verdicts: VecDeque<Verdict>,
    whole: bool,
) {
    let mut outcome = Ok(());
    for verdict in verdicts {
        outcome = told(shared.node, verdict.await);
        if outcome.is_err() {
            shared.epochs.end(epoch).await;
        }
    }
    if !whole {
        outcome = Err(WriteError::NotDone);
    }
    // After an apply, the apply worker has answered; what is still there was skipped by it.
    let skipped = || "it is committed, but this node's state skipped it".to_owned();
    let error = outcome
        .err()
        .unwrap_or_else(|| WriteError::Unknown { cause: skipped() });
    shared.in_flight.fail(last, &error);
}

/// The table at the head of this module.
fn told<E>(
    node: NodeId,
    verdict: Result<ClientWriteResult<TypeConfig>, E>,
) -> Result<(), WriteError> {
    let unknown = |cause: &str| {
        let cause = cause.to_owned();
        Err(WriteError::Unknown { cause })
    };
    match verdict {
        Ok(Ok(_applied)) => Ok(()),
        Ok(Err(ClientWriteError::ForwardToLeader(to))) => {
            match to.leader_id.map(node_id).filter(|leader| *leader != node) {
                None => Err(WriteError::NotDone),
                leader => Err(WriteError::NotLeader { leader }),
            }
        }
        Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => {
            unknown("another leader took over before it was committed")
        }
        Ok(Err(error)) => unknown(&error.to_string()),
        Err(_dropped) => unknown("the node stopped before it was committed"),
    }
}

/// Keeps the type of a client's answer in one place.
pub(crate) type AnswerOf<M> = Answer<KeyedOf<M>, <M as StateMachine>::Reply>;

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::error::{ForwardReason, ForwardToLeader};
    use tokio::sync::oneshot;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    type Answered = Result<ClientWriteResult<TypeConfig>, oneshot::error::RecvError>;

    fn forward(leader: Option<u64>) -> ForwardToLeader<TypeConfig> {
        ForwardToLeader {
            leader_id: leader,
            leader_node: None,
            reason: ForwardReason::NotLeader,
        }
    }

    /// Rule 23: a refused proposal is definite; what was appended and lost is unknown.
    #[test]
    fn each_verdict_of_raft_has_its_meaning() {
        let told = |verdict: Answered| told(node(1), verdict).unwrap_err();
        let refused = |to| told(Ok(Err(ClientWriteError::ForwardToLeader(to))));
        let leader = Some(node(2));
        assert_eq!(refused(forward(Some(2))), WriteError::NotLeader { leader });
        assert_eq!(refused(forward(None)), WriteError::NotDone);
        assert_eq!(refused(forward(Some(1))), WriteError::NotDone);
        let discarded = Ok(Err(ClientWriteError::LogEntryDiscarded(forward(Some(2)))));
        assert!(matches!(told(discarded), WriteError::Unknown { .. }));
        let (sender, dropped) = oneshot::channel();
        drop(sender);
        let dropped: Answered = dropped.blocking_recv();
        assert!(matches!(told(dropped), WriteError::Unknown { .. }));
    }
}
