//! The apply worker: every entry goes through here, on every node, one after the other.
//!
//! Invariant 1: an entry's end, its side state and the watch of the applied position move together, and
//! replies leave after that.
//! Invariant 2: an entry at or below the state's own applied position is skipped (safety rule 16).

use crate::codec::{self, CodecError};
use crate::member::{Content, Envelope, Origin, Shared, Side};
use crate::raft::Members;
use crate::{
    Applied, Committed, Entry, EntryEnd, EntryId, MachineError, Mismatch, Payload, Retry,
    SnapshotSink, StateMachine,
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
struct Verdict<R> {
    origin: Origin,
    sequence: u64,
    applied: Applied<R>,
}

/// What an entry does before its end is finished.
struct Prepared<R> {
    side: Option<Side>,
    verdict: Option<Verdict<R>>,
}

fn malformed(error: CodecError) -> MachineError {
    MachineError::new(error, Retry::Useless)
}

impl<M: StateMachine> Applier<M> {
    /// Begins at the state's applied end.
    pub(crate) fn new(shared: Arc<Shared<M>>, end: &EntryEnd) -> Result<Self, CodecError> {
        let side = Arc::new(Side::open(&end.side)?);
        let encoded = codec::encode(&*side);
        Ok(Self {
            shared,
            side,
            encoded,
        })
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
        let Prepared { side, verdict } = self.prepare(entry)?;
        let encoded = side.as_ref().map(codec::encode);
        let end = EntryEnd {
            id: Some(entry.id),
            side: encoded.clone().unwrap_or_else(|| self.encoded.clone()),
        };
        self.shared.machine.finish(end)?;
        if let (Some(side), Some(encoded)) = (side, encoded) {
            self.publish_side(side, encoded);
        }
        self.publish(entry.id);
        if let Some(verdict) = verdict {
            let table = &self.shared.in_flight;
            table.settle(verdict.origin, verdict.sequence, entry.id, verdict.applied);
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

    fn prepare(&self, entry: &Entry) -> Result<Prepared<M::Reply>, MachineError> {
        let (mut side, mut verdict) = (None, None);
        match &entry.payload {
            Payload::Blank => {}
            Payload::Membership(bytes) => side = Some(self.with_members(entry.id, bytes)?),
            Payload::Command(bytes) => {
                let (envelope, body) = Envelope::open(bytes).map_err(malformed)?;
                match envelope.content {
                    Content::Genesis { .. } => side = self.named(&envelope.content),
                    Content::Barrier => {}
                    Content::Requests { .. } => {
                        let (id, body, skip) = (entry.id, &body, &[][..]);
                        let applied = self.shared.machine.prepare(Committed { id, body, skip })?;
                        verdict = Some(Verdict {
                            origin: envelope.origin,
                            sequence: envelope.sequence,
                            applied,
                        });
                    }
                }
            }
        }
        Ok(Prepared { side, verdict })
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

    fn publish(&self, id: EntryId) {
        self.shared.contact.applied(Some(id.index));
        self.shared.applied.send_replace(Some(id));
    }

    /// Switches to a snapshot, every page of which was verified.
    pub(crate) fn install(&mut self, sink: M::Sink) -> Result<(), MachineError> {
        let end = sink.end();
        let side = Side::open(&end.side).map_err(malformed)?;
        self.shared.machine.install(sink)?;
        // Raft purges the log behind an install, which is durable (safety rule 3): the floor comes first.
        let index = end.id.map(|id| id.index);
        self.shared.retention.durable(index);
        self.publish_side(side, end.side);
        if let Some(id) = end.id {
            self.publish(id);
        }
        Ok(())
    }
}
