//! Clients whose request is in a command that was handed to Raft and has no verdict yet.
//!
//! A verdict comes from the apply worker (done, or refused by the state on every node), or from Raft
//! (certainly not proposed, or discarded: nobody knows). Each command gets exactly one.
//!
//! Invariant 1: an entry of the table holds one of the slots of safety rule 21, so a slot is free only when
//! its command is applied here or has another verdict.
//! Invariant 2: all commands in the table belong to one epoch, because a new one begins only when the table
//! is empty (safety rule 24).

use crate::member::Origin;
use crate::member::keys::{Key, KeyKind};
use crate::{EntryId, WriteError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// A request that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done<R> {
    pub reply: R,
    pub at: EntryId,
    /// Whether an earlier request with the same key did it.
    pub replayed: bool,
}

impl<R> Done<R> {
    /// Just now.
    pub(crate) fn now(reply: R, at: EntryId) -> Self {
        let replayed = false;
        Self {
            reply,
            at,
            replayed,
        }
    }
}

/// The apply worker's verdict on a command.
#[derive(Debug)]
pub(crate) enum Settled<R> {
    /// One outcome for each request.
    Told(Vec<Result<Done<R>, WriteError>>),
    /// The replies are the held ones.
    Accepted,
    /// Not done, on any node.
    Refused,
    /// The verdict comes with a later part.
    Part,
}

/// What a client waits for.
pub(crate) enum Answer<Q, R> {
    /// Its outcome.
    Outcome(Result<Done<R>, WriteError>),
    /// The request itself, not looked at: this node doesn't lead.
    Back(Q, WriteError),
}

/// Tells a client what became of its request.
pub(crate) type Client<Q, R> = oneshot::Sender<Answer<Q, R>>;

/// A request in a command: its reply if the leader already has it, and who waits for it.
pub(crate) type Pending<Q, R> = (Option<R>, Client<Q, R>);

type KeyName = (KeyKind, Bytes);

/// The keys of all requests on the writer and without a verdict.
type Claimed = Arc<Mutex<BTreeSet<KeyName>>>;

fn lock(claimed: &Claimed) -> MutexGuard<'_, BTreeSet<KeyName>> {
    // One insertion or removal at a time.
    claimed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keys of one batch, from before it runs to its verdict: while this lives nothing else with one of them is executed (safety
/// rule 27).
#[derive(Debug)]
pub(crate) struct Claims {
    own: Vec<KeyName>,
    all: Claimed,
}

impl Claims {
    /// Whether the key is this batch's from now on; else a request with it is under way.
    pub(crate) fn claim(&mut self, key: &Key) -> bool {
        let name = (key.kind, key.name.clone());
        let is_free = lock(&self.all).insert(name.clone());
        if is_free {
            self.own.push(name);
        }
        is_free
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        if !self.own.is_empty() {
            let mut all = lock(&self.all);
            for name in &self.own {
                all.remove(name);
            }
        }
    }
}

/// One command's clients.
pub(crate) struct Batch<Q, R> {
    pub clients: Vec<Pending<Q, R>>,
    /// The keys of their requests.
    pub keys: Claims,
    /// Freed with the batch.
    pub slot: OwnedSemaphorePermit,
}

struct Held<Q, R> {
    batch: Batch<Q, R>,
    /// Told whether the command was done: replies computed on top of it wait here (safety rule 25).
    dependents: Vec<oneshot::Sender<bool>>,
}

/// What a reply without an entry was computed on.
#[derive(Debug)]
pub(crate) enum Base {
    /// Nothing that is still open.
    Done,
    /// A command of this epoch wasn't done, and what came after it stood on it.
    Undone,
    /// Told whether it was done.
    Open(oneshot::Receiver<bool>),
}

struct Table<Q, R> {
    batches: BTreeMap<u64, Held<Q, R>>,
    /// Whether a command of this epoch wasn't done.
    undone: bool,
}

/// The table.
pub(crate) struct InFlight<Q, R> {
    origin: Origin,
    claimed: Claimed,
    table: Mutex<Table<Q, R>>,
    /// Commands without a verdict.
    count: watch::Sender<usize>,
}

impl<Q, R> InFlight<Q, R> {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            claimed: Claimed::default(),
            table: Mutex::new(Table {
                batches: BTreeMap::new(),
                undone: false,
            }),
            count: watch::channel(0).0,
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    fn table(&self) -> MutexGuard<'_, Table<Q, R>> {
        // Under this lock only the table is touched, which can't be left half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An epoch begins, on what every node has or will have.
    pub(crate) fn begin_epoch(&self) {
        self.table().undone = false;
    }

    /// How many commands have no verdict, and its changes.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Notes the clients of a command, before it is handed to Raft.
    pub(crate) fn insert(&self, sequence: u64, batch: Batch<Q, R>) {
        let held = Held {
            batch,
            dependents: Vec::new(),
        };
        let count = {
            let mut table = self.table();
            let former = table.batches.insert(sequence, held);
            assert!(former.is_none(), "sequence {sequence} is used twice");
            table.batches.len()
        };
        self.count.send_replace(count);
    }

    /// For the keys of a batch; none so far.
    pub(crate) fn claims(&self) -> Claims {
        Claims {
            own: Vec::new(),
            all: self.claimed.clone(),
        }
    }

    /// What a reply stands on that was computed behind the newest command.
    pub(crate) fn after_newest(&self) -> Base {
        let mut table = self.table();
        if table.undone {
            return Base::Undone;
        }
        let Some(newest) = table.batches.values_mut().next_back() else {
            return Base::Done;
        };
        let (sender, receiver) = oneshot::channel();
        newest.dependents.push(sender);
        Base::Open(receiver)
    }

    fn take(&self, sequence: u64, done: bool) -> Option<Held<Q, R>> {
        let (taken, count) = {
            let mut table = self.table();
            let taken = table.batches.remove(&sequence);
            table.undone |= taken.is_some() && !done;
            (taken, table.batches.len())
        };
        self.count.send_replace(count);
        taken
    }

    /// The apply worker's verdict on a command of `origin`.
    pub(crate) fn settle(&self, origin: Origin, sequence: u64, id: EntryId, settled: Settled<R>) {
        if matches!(settled, Settled::Part) || origin != self.origin {
            return;
        }
        let done = !matches!(settled, Settled::Refused);
        let Some(held) = self.take(sequence, done) else {
            return;
        };
        match settled {
            Settled::Told(outcomes) => held.applied(outcomes, id),
            Settled::Accepted => held.accepted(id),
            Settled::Refused => held.fail(&WriteError::NotDone),
            Settled::Part => unreachable!("answered above"),
        }
    }

    /// Raft's verdict; nothing if the apply worker was first.
    pub(crate) fn fail(&self, sequence: u64, error: &WriteError) {
        if let Some(held) = self.take(sequence, false) {
            held.fail(error);
        }
    }

    /// Fails everything that still waits.
    pub(crate) fn fail_all(&self, error: &WriteError) {
        let all = {
            let mut table = self.table();
            table.undone = true;
            std::mem::take(&mut table.batches)
        };
        for held in all.into_values() {
            held.fail(error);
        }
        self.count.send_replace(0);
    }
}

impl<Q, R> Held<Q, R> {
    /// Outcomes made by applying (statement mode).
    fn applied(self, outcomes: Vec<Result<Done<R>, WriteError>>, id: EntryId) {
        let (answered, waiting) = (outcomes.len(), self.batch.clients.len());
        assert_eq!(answered, waiting, "one outcome for each item of {id}");
        drop(self.batch.keys);
        for (outcome, (_, client)) in outcomes.into_iter().zip(self.batch.clients) {
            tell(client, outcome);
        }
        drop(self.batch.slot);
        told(self.dependents, true);
    }

    /// Replies held since execution (page mode).
    fn accepted(self, id: EntryId) {
        drop(self.batch.keys);
        for (reply, client) in self.batch.clients {
            let reply = reply.expect("what isn't executed on apply has been executed before");
            tell(client, Ok(Done::now(reply, id)));
        }
        drop(self.batch.slot);
        told(self.dependents, true);
    }

    fn fail(self, error: &WriteError) {
        drop(self.batch.keys);
        for (_, client) in self.batch.clients {
            tell(client, Err(error.clone()));
        }
        drop(self.batch.slot);
        told(self.dependents, false);
    }
}

/// A client that is gone has stopped waiting; its outcome stands all the same.
pub(crate) fn tell<Q, R>(client: Client<Q, R>, outcome: Result<Done<R>, WriteError>) {
    client.send(Answer::Outcome(outcome)).ok();
}

fn told(dependents: Vec<oneshot::Sender<bool>>, done: bool) {
    for dependent in dependents {
        dependent.send(done).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogIndex, NodeId, Term};
    use tokio::sync::Semaphore;

    fn origin(boot: u64) -> Origin {
        Origin {
            node: NodeId::new(1).unwrap(),
            boot,
        }
    }

    fn id() -> EntryId {
        EntryId {
            term: Term(2),
            index: LogIndex(9),
        }
    }

    type Waits = oneshot::Receiver<Answer<(), u32>>;

    fn outcome(waits: &mut Waits) -> Option<Result<Done<u32>, WriteError>> {
        match waits.try_recv().ok()? {
            Answer::Outcome(outcome) => Some(outcome),
            Answer::Back((), error) => panic!("handed back: {error}"),
        }
    }

    fn batch(slots: &Arc<Semaphore>, held: Option<u32>) -> (Batch<(), u32>, Waits) {
        let (client, waits) = oneshot::channel();
        let slot = slots.clone().try_acquire_owned().unwrap();
        let clients = vec![(held, client)];
        let keys = InFlight::<(), u32>::new(origin(1)).claims();
        let batch = Batch {
            clients,
            keys,
            slot,
        };
        (batch, waits)
    }

    /// Rule 21: a slot is free when the command is applied, not earlier.
    #[test]
    fn a_slot_is_held_until_the_verdict() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(2)));
        let (first, mut waits) = batch(&slots, Some(7));
        table.insert(1, first);
        assert_eq!((slots.available_permits(), *table.count().borrow()), (1, 1));
        table.settle(origin(2), 1, id(), Settled::Accepted);
        table.settle(origin(1), 1, id(), Settled::Part);
        assert_eq!(outcome(&mut waits), None, "another boot's, or a part");
        table.settle(origin(1), 1, id(), Settled::Accepted);
        assert_eq!(outcome(&mut waits), Some(Ok(Done::now(7, id()))));
        assert_eq!((slots.available_permits(), *table.count().borrow()), (2, 0));
    }

    /// Rule 22: what the state refuses on every node alike is a definite refusal.
    #[test]
    fn a_refused_set_is_not_done_and_tells_those_that_built_on_it() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(2)));
        assert!(matches!(table.after_newest(), Base::Done));
        let (first, mut waits) = batch(&slots, Some(7));
        table.insert(1, first);
        let Base::Open(mut dependent) = table.after_newest() else {
            panic!("it is under way");
        };
        table.settle(origin(1), 1, id(), Settled::Refused);
        assert_eq!(outcome(&mut waits), Some(Err(WriteError::NotDone)));
        assert_eq!(dependent.try_recv(), Ok(false));
    }

    /// Rule 25: what was computed on a command that wasn't done is never told, also where the command has left the table
    /// before the reply asks for it.
    #[test]
    fn a_base_that_was_refused_is_remembered_until_the_next_epoch() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(2)));
        let (first, _waits) = batch(&slots, Some(7));
        table.insert(1, first);
        table.fail(1, &WriteError::NotDone);
        assert!(matches!(table.after_newest(), Base::Undone));
        let (second, _waits) = batch(&slots, Some(8));
        table.insert(2, second);
        table.settle(origin(1), 2, id(), Settled::Accepted);
        assert!(matches!(table.after_newest(), Base::Undone));
        table.begin_epoch();
        assert!(matches!(table.after_newest(), Base::Done));
    }

    /// Rule 27: a key is taken from before its request runs, on to the verdict on its command, or for as long as the batch lives
    /// that never became one. In between two looks at what is in flight it could be executed twice.
    #[test]
    fn a_key_is_claimed_until_its_verdict() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(1)));
        let key = Key {
            kind: KeyKind::Client,
            name: Bytes::from_static(b"k"),
            digest: 7,
            known: LogIndex(0),
            reply: None,
        };
        let (mut running, mut behind) = (table.claims(), table.claims());
        assert!(running.claim(&key));
        assert!(!behind.claim(&key) && !running.claim(&key));
        drop(behind);
        let (mut command, _waits) = batch(&slots, Some(7));
        command.keys = running;
        table.insert(1, command);
        assert!(!table.claims().claim(&key), "it has no verdict");
        table.settle(origin(1), 1, id(), Settled::Accepted);
        assert!(table.claims().claim(&key));
        assert!(table.claims().claim(&key), "that batch is gone");
    }

    #[test]
    fn the_first_verdict_counts() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(1)));
        let (first, mut waits) = batch(&slots, None);
        table.insert(1, first);
        table.settle(
            origin(1),
            1,
            id(),
            Settled::Told(vec![Ok(Done::now(3, id()))]),
        );
        table.fail(1, &WriteError::NotDone);
        table.fail_all(&WriteError::Stopped);
        assert_eq!(outcome(&mut waits), Some(Ok(Done::now(3, id()))));
    }
}
