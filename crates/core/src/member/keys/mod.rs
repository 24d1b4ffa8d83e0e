//! Idempotency keys: a request that comes twice is done once (safety rules 27 to 30).
//!
//! ```text
//!   request + key ─► entry ─► plan, in log order: unknown ─► executed, its reply is recorded
//!                                                 known ───► skipped, the recorded reply is told again
//!                                                 old ─────► skipped: expired, outcome unknown
//! ```
//!
//! Two tables of one kind. *Clients'* keys are kept for at least so many entries as the cluster settings say, and
//! longer while there is room. A *gateway's*, which a node draws for a request that it forwards, only have to outlive
//! the retries inside the server: the newest [`GATEWAY_BYTES_MAX`] of them are kept.
//!
//! A key carries the log index that whoever made it knew then, so the entry that does the request stands behind that
//! index. A table forgets its oldest records, and its *horizon* is the index behind the newest that it forgot: a key
//! from below it may have been forgotten, so it is never executed.
//!
//! Invariant 1: what is decided about a key follows from the log and this state alone.
//! Invariant 2: a request is executed only if its key isn't recorded and is not below the horizon.
//! Invariant 3: both tables change in log order, with the entry's end, and are shared by the ends that have them
//! (safety rule 5).

mod encoded;
mod name;
mod plan;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use name::{Key, KeyKind};
pub(crate) use plan::{Plan, Verdict};
use table::{Record, Table};

pub use name::{IdempotencyKey, NoKey};

use crate::{EntryId, KeyTable, LogIndex};
use bytes::Bytes;
use std::sync::Arc;

/// A longer reply isn't kept (safety rule 29).
pub(crate) const REPLY_BYTES_MAX: usize = 1 << 10;

/// What gateways' keys may take: forty thousand requests, seconds at the highest rates. More costs every forwarded write time
/// and every checkpoint bytes.
const GATEWAY_BYTES_MAX: u64 = 4 << 20;

/// A table that can't forget and takes so many times its share takes no more.
const FULL_FACTOR: u64 = 4;

/// How long clients' keys are kept: cluster settings, equal on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// So many entries at least. More lets clients retry later, and takes more memory where there are many keys.
    pub retention_entries: u64,
    /// Beyond that, as long as all keys and their replies take no more than this.
    pub table_bytes: u64,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self {
            retention_entries: 1_000_000,
            table_bytes: 64 << 20,
        }
    }
}

impl KeyLimits {
    const GATEWAY: Self = Self {
        retention_entries: 0,
        table_bytes: GATEWAY_BYTES_MAX,
    };
}

/// A request with its key, on its way through a leader's queue.
#[derive(Debug)]
pub(crate) struct Keyed<Q> {
    pub request: Q,
    pub key: Option<Key>,
}

/// Both tables behind one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    clients: Table,
    gateways: Table,
}

impl Keys {
    fn table(&self, kind: KeyKind) -> &Table {
        match kind {
            KeyKind::Client => &self.clients,
            KeyKind::Gateway => &self.gateways,
        }
    }

    /// As a state machine keeps it.
    pub(crate) fn shared(&self) -> KeyTable {
        if self.is_empty() {
            return KeyTable::default();
        }
        let keys = self.clone();
        KeyTable::new(Some(Arc::new(move || Box::new(keys.pieces()))))
    }

    /// Notes that `key`'s request was done at `at`.
    pub(crate) fn record(&mut self, key: &Key, at: EntryId, reply: Option<Bytes>) {
        let table = match key.kind {
            KeyKind::Client => &mut self.clients,
            KeyKind::Gateway => &mut self.gateways,
        };
        let reply = reply.filter(|reply| reply.len() <= REPLY_BYTES_MAX);
        let digest = key.digest;
        table.insert(key.name.clone(), Record { digest, at, reply });
    }

    /// Forgets what is too old behind the entry at `now`.
    pub(crate) fn expire(&mut self, now: LogIndex, limits: KeyLimits) {
        self.clients.expire(now, limits);
        self.gateways.expire(now, KeyLimits::GATEWAY);
    }
}
