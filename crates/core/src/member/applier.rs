//! The apply worker: every entry goes through here, on every node, one after the other.
//!
//! Invariant 1: an entry's end, its side state and the watch of the applied position move together, and
//! replies leave after that.
//! Invariant 2: an entry at or below the state's own applied position is skipped (safety rule 16).

use crate::codec::{self, CodecError};
use crate::member::in_flight::{Done, Settled};
use crate::member::keys::{Plan, Verdict};
use crate::member::replay::{Over, Progress, Replay};
use crate::member::{Content, Envelope, Item, Keys, Origin, Shared, Side};
use crate::raft::Members;
use crate::{
    Applied, Committed, Entry, EntryEnd, EntryId, KeyTable, MachineError, Mismatch, Payload, Retry,
    SnapshotSink, StateMachine, WriteError,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// The apply worker's value.
pub(crate) struct Applier<M: StateMachine> {
    shared: Arc<Shared<M>>,
    side: Arc<Side>,
    /// `side` as bytes.
    encoded: Bytes,
    keys: Keys,
    /// `keys` as the state keeps them.
    table: KeyTable,
    replay: Replay,
}

/// What `core` keeps of an entry end, read back.
pub(crate) struct Begun {
    pub id: Option<EntryId>,
    pub side: Side,
    pub keys: Keys,
}

impl Begun {
    pub(crate) fn at(end: &EntryEnd) -> Result<Self, CodecError> {
        Ok(Self {
            id: end.id,
            side: Side::open(&end.side)?,
            keys: Keys::decode(&end.keys.bytes())?,
        })
    }
}

/// Entries that couldn't be applied; the first of them is why.
pub(crate) struct Stuck {
    pub rest: VecDeque<Entry>,
    pub halt: Halt,
}

/// Why an entry couldn't be applied.
pub(crate) enum Halt {
    Failed(MachineError),
    /// Others come before it, which a repair is reading back.
    Behind,
}

/// A command's way back to its clients.
struct Back<R> {
    origin: Origin,
    sequence: u64,
    settled: Settled<R>,
}

/// What an entry does before its end is finished; none: nothing of that kind.
struct Prepared<R> {
    side: Option<Side>,
    keys: Option<Keys>,
    back: Option<Back<R>>,
}

impl<R> Default for Prepared<R> {
    fn default() -> Self {
        Self {
            side: None,
            keys: None,
            back: None,
        }
    }
}

fn malformed(error: CodecError) -> MachineError {
    MachineError::new(error, Retry::Useless)
}

impl<M: StateMachine> Applier<M> {
    /// Begins at the state's applied end.
    pub(crate) fn new(shared: Arc<Shared<M>>, begun: Begun) -> Self {
        let Begun { id, side, keys } = begun;
        let replay = Replay::new(shared.log.state().last, id);
        Self {
            replay,
            shared,
            encoded: codec::encode(&side),
            side: Arc::new(side),
            table: keys.shared(),
            keys,
        }
    }

    /// Applies `entries` in order.
    pub(crate) fn apply(&mut self, mut entries: VecDeque<Entry>) -> Result<(), Stuck> {
        while let Some(entry) = entries.pop_front() {
            let applied = match self.is_behind(entry.id) {
                true => Err(Halt::Behind),
                false => self.one(&entry).map_err(Halt::Failed),
            };
            if let Err(halt) = applied {
                entries.push_front(entry);
                let rest = entries;
                return Err(Stuck { rest, halt });
            }
        }
        Ok(())
    }

    /// Whether entries are missing between the state and this one (see `repair`).
    fn is_behind(&self, id: EntryId) -> bool {
        let next = self
            .shared
            .applied
            .borrow()
            .map_or(0, |id| id.index.next().0);
        id.index.0 > next
    }

    fn one(&mut self, entry: &Entry) -> Result<(), MachineError> {
        if Some(entry.id) <= *self.shared.applied.borrow() {
            return Ok(());
        }
        self.tell_replay(entry.id);
        let Prepared { side, keys, back } = self.prepare(entry)?;
        let encoded = side.as_ref().map(codec::encode);
        let table = keys.as_ref().map(Keys::shared);
        let end = EntryEnd {
            id: Some(entry.id),
            side: encoded.clone().unwrap_or_else(|| self.encoded.clone()),
            keys: table.clone().unwrap_or_else(|| self.table.clone()),
        };
        self.shared.machine.finish(end)?;
        if let (Some(side), Some(encoded)) = (side, encoded) {
            self.publish_side(side, encoded);
        }
        if let (Some(keys), Some(table)) = (keys, table) {
            self.publish_keys(keys, table);
        }
        self.publish(entry.id);
        self.tell_replayed(entry.id);
        if let Some(back) = back {
            let in_flight = &self.shared.in_flight;
            in_flight.settle(back.origin, back.sequence, entry.id, back.settled);
        }
        if let Some(Mismatch {
            index,
            ours,
            recorded,
        }) = self.shared.machine.mismatch()
        {
            let why = format!(
                "at entry {index} its checksum is {ours:016x}, the log says {recorded:016x}"
            );
            self.shared.doubt(why);
        }
        Ok(())
    }

    fn tell_replay(&mut self, entry: EntryId) {
        let now = || self.shared.env.clock.now();
        if let Some(Progress { upto, entries }) = self.replay.begins(entry, now) {
            tracing::info!(node = %self.shared.node, entry = %entry.index, %upto, applied = entries, "replaying the log");
        }
    }

    fn tell_replayed(&mut self, entry: EntryId) {
        let now = || self.shared.env.clock.now();
        if let Some(Over {
            from,
            entries,
            took,
        }) = self.replay.ended(entry, now)
        {
            tracing::info!(node = %self.shared.node, from = %from.index, applied = entries, ?took, "log replayed");
        }
    }

    fn prepare(&self, entry: &Entry) -> Result<Prepared<M::Reply>, MachineError> {
        let mut prepared = Prepared::default();
        match &entry.payload {
            Payload::Blank => {}
            Payload::Membership(bytes) => {
                prepared.side = Some(self.with_members(entry.id, bytes)?);
            }
            Payload::Command(bytes) => {
                let (envelope, body) = Envelope::open(bytes).map_err(malformed)?;
                match envelope.content {
                    Content::Genesis { .. } => prepared.side = self.named(&envelope.content),
                    Content::Barrier => {}
                    Content::Requests { items } => {
                        let (origin, sequence) = (envelope.origin, envelope.sequence);
                        let (keys, settled) = self.requests(entry.id, origin, &items, &body)?;
                        prepared.keys = keys;
                        prepared.back = Some(Back {
                            origin,
                            sequence,
                            settled,
                        });
                    }
                }
            }
        }
        Ok(prepared)
    }

    /// Does what is new of an entry's requests; the keys behind it, if it has any, and what its clients are told.
    fn requests(
        &self,
        id: EntryId,
        origin: Origin,
        items: &[Item],
        body: &Bytes,
    ) -> Result<(Option<Keys>, Settled<M::Reply>), MachineError> {
        let (machine, limits) = (&self.shared.machine, self.shared.key_limits);
        let plan = Plan::of(&self.keys, limits, id, items);
        let skip = plan.skip();
        let applied = machine.prepare(Committed {
            id,
            body,
            skip: &skip,
        })?;
        let is_keyed = items.iter().any(|item| item.key.is_some());
        let keys = is_keyed.then(|| self.recorded(&plan, items, &applied));
        let told_by = keys.as_ref().unwrap_or(&self.keys);
        let settled = match applied {
            // Nobody else waits for these replies.
            Applied::Replies(_) if origin != self.shared.in_flight.origin() => Settled::Part,
            Applied::Replies(replies) => {
                Settled::Told(self.told(plan, told_by, items, id, replies))
            }
            Applied::Accepted => Settled::Accepted,
            Applied::Refused => Settled::Refused,
            Applied::Part => Settled::Part,
        };
        let expired = |mut keys: Keys| {
            keys.expire(id.index, limits);
            keys
        };
        Ok((keys.map(expired), settled))
    }

    /// The keys behind an entry's requests, before any expire.
    fn recorded(&self, plan: &Plan, items: &[Item], applied: &Applied<M::Reply>) -> Keys {
        let (machine, mut keys) = (&self.shared.machine, self.keys.clone());
        match applied {
            Applied::Replies(replies) => plan.record(&mut keys, items, |place, _| {
                replies
                    .get(place)
                    .and_then(|reply| machine.key_reply(reply))
            }),
            Applied::Accepted => plan.record_executed(&mut keys, items),
            Applied::Refused | Applied::Part => {}
        }
        keys
    }

    fn told(
        &self,
        plan: Plan,
        keys: &Keys,
        items: &[Item],
        id: EntryId,
        replies: Vec<M::Reply>,
    ) -> Vec<Result<Done<M::Reply>, WriteError>> {
        let verdicts = plan.verdicts(keys, items);
        let told = |(reply, verdict)| match verdict {
            Verdict::Executed => Ok(Done::now(reply, id)),
            Verdict::Replayed { at, reply } => self.shared.replayed(at, reply.as_ref()),
            Verdict::Refused(error) => Err(error),
        };
        replies.into_iter().zip(verdicts).map(told).collect()
    }

    fn with_members(&self, at: EntryId, bytes: &[u8]) -> Result<Side, MachineError> {
        let members = codec::decode::<Members>(bytes).map_err(malformed)?;
        Ok(Side {
            members_at: Some(at),
            members,
            ..(*self.side).clone()
        })
    }

    /// The first name stands; a later leader that didn't know of it changes nothing.
    fn named(&self, content: &Content) -> Option<Side> {
        match content {
            Content::Genesis { cluster, settings } if self.side.cluster.0 == 0 => Some(Side {
                cluster: *cluster,
                settings: settings.clone(),
                ..(*self.side).clone()
            }),
            _ => None,
        }
    }

    fn publish_side(&mut self, side: Side, encoded: Bytes) {
        self.side = Arc::new(side);
        self.encoded = encoded;
        self.shared.side.send_replace(self.side.clone());
    }

    fn publish_keys(&mut self, keys: Keys, table: KeyTable) {
        self.shared.keys.send_replace(keys.clone());
        (self.keys, self.table) = (keys, table);
    }

    fn publish(&self, id: EntryId) {
        self.shared.contact.applied(Some(id.index));
        self.shared.applied.send_replace(Some(id));
    }

    /// Switches to Raft's snapshot: whatever was held against the former state is void.
    pub(crate) fn install_trusted(&mut self, sink: M::Sink) -> Result<(), MachineError> {
        self.install(sink)?;
        self.shared.trust_again();
        Ok(())
    }

    /// Switches to the state that a repair brought. False if Raft has installed a newer one since it was welcome: the log
    /// behind this one may be gone.
    pub(crate) fn install_repair(&mut self, sink: M::Sink) -> Result<bool, MachineError> {
        let overtaken = sink.end().id < self.shared.machine.durable().id;
        if !overtaken {
            self.install(sink)?;
        }
        Ok(!overtaken)
    }

    /// Switches to a snapshot, every page of which was verified.
    fn install(&mut self, sink: M::Sink) -> Result<(), MachineError> {
        let end = sink.end();
        let Begun { id, side, keys } = Begun::at(&end).map_err(malformed)?;
        self.shared.machine.install(sink)?;
        // Raft purges the log behind an install, which is durable (safety rule 3): the floor comes first.
        self.shared.retention.durable(id.map(|id| id.index));
        self.publish_side(side, end.side);
        let table = keys.shared();
        self.publish_keys(keys, table);
        if let Some(id) = id {
            self.publish(id);
        }
        Ok(())
    }
}
