//! What is to be done with each request of an entry, decided before anything of it is executed.

use super::{Key, KeyKind, KeyLimits, Keys, Record};
use crate::member::Item;
use crate::{EntryId, LogIndex, WriteError};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What is to be done with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// It is new, or has no key.
    Execute,
    /// It was done earlier.
    Known(Record),
    /// The request at this place of the same entry is the same one.
    SameAs(usize),
    /// Not to be done.
    Refuse(WriteError),
}

/// The decisions on an entry's requests, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    at: EntryId,
    decisions: Vec<Decision>,
}

/// What a client is to be told of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The reply that was made here.
    Executed,
    /// The reply that was kept, if it was.
    Replayed { at: EntryId, reply: Option<Bytes> },
    /// Why it wasn't done.
    Refused(WriteError),
}

impl Plan {
    /// Decides on the requests of the entry at `at` (invariants 1 and 2).
    pub(crate) fn of(keys: &Keys, limits: KeyLimits, at: EntryId, items: &[Item]) -> Self {
        let mut firsts: BTreeMap<(KeyKind, &Bytes), (usize, u64)> = BTreeMap::new();
        let mut decisions = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            let Some(key) = &item.key else {
                decisions.push(Decision::Execute);
                continue;
            };
            let first = firsts.get(&(key.kind, &key.name));
            let decision = match first {
                Some((_, digest)) if *digest != key.digest => refused(WriteError::KeyReused),
                Some((first, _)) => Decision::SameAs(*first),
                None => decide(keys, limits, at, key),
            };
            if decision == Decision::Execute {
                firsts.insert((key.kind, &key.name), (place, key.digest));
            }
            decisions.push(decision);
        }
        Self { at, decisions }
    }

    /// Which requests mustn't be executed; empty: none.
    pub(crate) fn skip(&self) -> Vec<bool> {
        let skip = |decision: &Decision| *decision != Decision::Execute;
        if self.decisions.iter().any(skip) {
            self.decisions.iter().map(skip).collect()
        } else {
            Vec::new()
        }
    }

    /// Records every request with a key that isn't recorded: what a leader executed before it was proposed is done, whatever
    /// has expired meanwhile. Its retries get the reply that came with the key.
    pub(crate) fn record_executed(&self, keys: &mut Keys, items: &[Item]) {
        for key in items.iter().filter_map(|item| item.key.as_ref()) {
            if keys.table(key.kind).get(&key.name).is_none() {
                keys.record(key, self.at, key.reply.clone());
            }
        }
    }

    /// Records what was done; `kept` is what retries of the request at a place get.
    pub(crate) fn record(
        &self,
        keys: &mut Keys,
        items: &[Item],
        kept: impl Fn(usize, &Key) -> Option<Bytes>,
    ) {
        for (place, (item, decision)) in items.iter().zip(&self.decisions).enumerate() {
            if let (Some(key), Decision::Execute) = (&item.key, decision) {
                keys.record(key, self.at, kept(place, key));
            }
        }
    }

    /// What the clients are told, given the tables behind the entry.
    pub(crate) fn verdicts(self, keys: &Keys, items: &[Item]) -> Vec<Verdict> {
        let replayed = |record: &Record| Verdict::Replayed {
            at: record.at,
            reply: record.reply.clone(),
        };
        let same = |place: usize| {
            let key = items[place]
                .key
                .as_ref()
                .expect("it was compared by its key");
            let record = keys.table(key.kind).get(&key.name);
            replayed(record.expect("it was recorded with this entry"))
        };
        let verdict = |decision| match decision {
            Decision::Execute => Verdict::Executed,
            Decision::Known(record) => replayed(&record),
            Decision::SameAs(place) => same(place),
            Decision::Refuse(error) => Verdict::Refused(error),
        };
        self.decisions.into_iter().map(verdict).collect()
    }
}

impl Keys {
    /// What a leader whose log ends at `newest` tells at once, before it executes; none: to be executed, as far as its applied
    /// state tells.
    pub(crate) fn told(
        &self,
        limits: KeyLimits,
        newest: Option<LogIndex>,
        key: &Key,
    ) -> Option<Verdict> {
        match look(self, limits, key) {
            Decision::Execute if Some(key.known) > newest => Some(Verdict::Refused(foreign(key))),
            Decision::Known(record) => Some(Verdict::Replayed {
                at: record.at,
                reply: record.reply,
            }),
            Decision::Refuse(error) => Some(Verdict::Refused(error)),
            Decision::Execute | Decision::SameAs(_) => None,
        }
    }
}

fn refused(error: WriteError) -> Decision {
    Decision::Refuse(error)
}

fn decide(keys: &Keys, limits: KeyLimits, at: EntryId, key: &Key) -> Decision {
    // An index from the future, another cluster's perhaps, could never expire.
    match look(keys, limits, key) {
        Decision::Execute if key.known >= at.index => refused(foreign(key)),
        decision => decision,
    }
}

fn foreign(key: &Key) -> WriteError {
    WriteError::Unsupported {
        what: format!(
            "the idempotency key's log index {} isn't of this cluster's log",
            key.known
        ),
    }
}

fn look(keys: &Keys, limits: KeyLimits, key: &Key) -> Decision {
    let (table, limits) = match key.kind {
        KeyKind::Client => (&keys.clients, limits),
        KeyKind::Gateway => (&keys.gateways, KeyLimits::GATEWAY),
    };
    match table.get(&key.name) {
        Some(record) if record.digest != key.digest => refused(WriteError::KeyReused),
        Some(record) => Decision::Known(record.clone()),
        None if key.known < table.horizon() => refused(WriteError::KeyExpired),
        None if table.is_full(limits) => refused(WriteError::Overloaded),
        None => Decision::Execute,
    }
}
