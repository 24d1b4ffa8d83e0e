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
use crate::{Applied, EntryId, WriteError};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// What a client waits for.
pub(crate) enum Answer<Q, R> {
    /// Its outcome.
    Outcome(Result<(R, EntryId), WriteError>),
    /// The request itself, not looked at: this node doesn't lead.
    Back(Q, WriteError),
}

/// Tells a client what became of its request.
pub(crate) type Client<Q, R> = oneshot::Sender<Answer<Q, R>>;

/// A request in a command: its reply if the leader already has it, and who waits for it.
pub(crate) type Pending<Q, R> = (Option<R>, Client<Q, R>);

/// One command's clients.
pub(crate) struct Batch<Q, R> {
    pub clients: Vec<Pending<Q, R>>,
    /// Freed with the batch.
    pub slot: OwnedSemaphorePermit,
}

struct Held<Q, R> {
    batch: Batch<Q, R>,
    /// Told whether the command was done: replies computed on top of it wait here (safety rule 25).
    dependents: Vec<oneshot::Sender<bool>>,
}

/// The table.
pub(crate) struct InFlight<Q, R> {
    origin: Origin,
    batches: Mutex<BTreeMap<u64, Held<Q, R>>>,
    /// Commands without a verdict.
    count: watch::Sender<usize>,
}

impl<Q, R> InFlight<Q, R> {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            batches: Mutex::default(),
            count: watch::channel(0).0,
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<u64, Held<Q, R>>> {
        // Under this lock only the map is touched, which can't be left half done.
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
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
            let mut batches = self.batches();
            let former = batches.insert(sequence, held);
            assert!(former.is_none(), "sequence {sequence} is used twice");
            batches.len()
        };
        self.count.send_replace(count);
    }

    /// A promise to tell whether the newest command was done; none if nothing is in flight.
    pub(crate) fn after_newest(&self) -> Option<oneshot::Receiver<bool>> {
        let mut batches = self.batches();
        let newest = batches.values_mut().next_back()?;
        let (sender, receiver) = oneshot::channel();
        newest.dependents.push(sender);
        Some(receiver)
    }

    fn take(&self, sequence: u64) -> Option<Held<Q, R>> {
        let (taken, count) = {
            let mut batches = self.batches();
            (batches.remove(&sequence), batches.len())
        };
        self.count.send_replace(count);
        taken
    }

    /// The apply worker's verdict on a command of `origin`.
    pub(crate) fn settle(&self, origin: Origin, sequence: u64, id: EntryId, applied: Applied<R>) {
        if matches!(applied, Applied::Part) || origin != self.origin {
            return;
        }
        let Some(held) = self.take(sequence) else {
            return;
        };
        match applied {
            Applied::Replies(replies) => held.executed(replies, id),
            Applied::Accepted => held.accepted(id),
            Applied::Refused => held.fail(&WriteError::NotDone),
            Applied::Part => unreachable!("answered above"),
        }
    }

    /// Raft's verdict; nothing if the apply worker was first.
    pub(crate) fn fail(&self, sequence: u64, error: &WriteError) {
        if let Some(held) = self.take(sequence) {
            held.fail(error);
        }
    }

    /// Fails everything that still waits.
    pub(crate) fn fail_all(&self, error: &WriteError) {
        let all = std::mem::take(&mut *self.batches());
        for held in all.into_values() {
            held.fail(error);
        }
        self.count.send_replace(0);
    }
}

impl<Q, R> Held<Q, R> {
    /// Replies made by applying (statement mode).
    fn executed(self, replies: Vec<R>, id: EntryId) {
        let (replied, waiting) = (replies.len(), self.batch.clients.len());
        assert_eq!(replied, waiting, "one reply for each item of {id}");
        for (reply, (_, client)) in replies.into_iter().zip(self.batch.clients) {
            tell(client, Ok((reply, id)));
        }
        drop(self.batch.slot);
        told(self.dependents, true);
    }

    /// Replies held since execution (page mode).
    fn accepted(self, id: EntryId) {
        for (reply, client) in self.batch.clients {
            let reply = reply.expect("what isn't executed on apply has been executed before");
            tell(client, Ok((reply, id)));
        }
        drop(self.batch.slot);
        told(self.dependents, true);
    }

    fn fail(self, error: &WriteError) {
        for (_, client) in self.batch.clients {
            tell(client, Err(error.clone()));
        }
        drop(self.batch.slot);
        told(self.dependents, false);
    }
}

/// A client that is gone has stopped waiting; its outcome stands all the same.
pub(crate) fn tell<Q, R>(client: Client<Q, R>, outcome: Result<(R, EntryId), WriteError>) {
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
    use std::sync::Arc;
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

    fn outcome(waits: &mut Waits) -> Option<Result<(u32, EntryId), WriteError>> {
        match waits.try_recv().ok()? {
            Answer::Outcome(outcome) => Some(outcome),
            Answer::Back((), error) => panic!("handed back: {error}"),
        }
    }

    fn batch(slots: &Arc<Semaphore>, held: Option<u32>) -> (Batch<(), u32>, Waits) {
        let (client, waits) = oneshot::channel();
        let slot = slots.clone().try_acquire_owned().unwrap();
        let clients = vec![(held, client)];
        (Batch { clients, slot }, waits)
    }

    /// Rule 21: a slot is free when the command is applied, not earlier.
    #[test]
    fn a_slot_is_held_until_the_verdict() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(2)));
        let (first, mut waits) = batch(&slots, Some(7));
        table.insert(1, first);
        assert_eq!((slots.available_permits(), *table.count().borrow()), (1, 1));
        table.settle(origin(2), 1, id(), Applied::Accepted);
        table.settle(origin(1), 1, id(), Applied::Part);
        assert_eq!(outcome(&mut waits), None, "another boot's, or a part");
        table.settle(origin(1), 1, id(), Applied::Accepted);
        assert_eq!(outcome(&mut waits), Some(Ok((7, id()))));
        assert_eq!((slots.available_permits(), *table.count().borrow()), (2, 0));
    }

    /// Rule 22: what the state refuses on every node alike is a definite refusal.
    #[test]
    fn a_refused_set_is_not_done_and_tells_those_that_built_on_it() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(2)));
        assert!(table.after_newest().is_none());
        let (first, mut waits) = batch(&slots, Some(7));
        table.insert(1, first);
        let mut dependent = table.after_newest().unwrap();
        table.settle(origin(1), 1, id(), Applied::Refused);
        assert_eq!(outcome(&mut waits), Some(Err(WriteError::NotDone)));
        assert_eq!(dependent.try_recv(), Ok(false));
    }

    #[test]
    fn the_first_verdict_counts() {
        let (table, slots) = (InFlight::new(origin(1)), Arc::new(Semaphore::new(1)));
        let (first, mut waits) = batch(&slots, None);
        table.insert(1, first);
        table.settle(origin(1), 1, id(), Applied::Replies(vec![3]));
        table.fail(1, &WriteError::NotDone);
        table.fail_all(&WriteError::Stopped);
        assert_eq!(outcome(&mut waits), Some(Ok((3, id()))));
    }
}
