//! One table of keys: by name, in the order in which their requests were done.
//!
//! Both maps are persistent: a clone shares all nodes, and a change copies the few on its path. Trees, not hashes,
//! so that nothing depends on a random order.

use super::{FULL_FACTOR, KeyLimits};
use crate::{EntryId, LogIndex};
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

/// What a record costs beside name and reply, about.
const RECORD_BYTES: u64 = 64;

/// A request that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub digest: u64,
    /// The entry that did it.
    pub at: EntryId,
    /// None: it was too long, or has rows.
    pub reply: Option<Bytes>,
}

/// Keys and what came of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Keys from below it may have been forgotten.
    horizon: LogIndex,
    by_name: RedBlackTreeMapSync<Bytes, Record>,
    /// Names, oldest first, by a number that only this process counts.
    by_age: RedBlackTreeMapSync<u64, Bytes>,
    next: u64,
    bytes: u64,
}

fn cost(name: &Bytes, record: &Record) -> u64 {
    let reply = record.reply.as_ref().map_or(0, Bytes::len);
    RECORD_BYTES + name.len() as u64 + reply as u64
}

impl Table {
    /// Nothing recorded, keys below `horizon` refused.
    pub(crate) fn beyond(horizon: LogIndex) -> Self {
        Self {
            horizon,
            ..Self::default()
        }
    }

    pub(crate) fn horizon(&self) -> LogIndex {
        self.horizon
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.size()
    }

    pub(crate) fn get(&self, name: &Bytes) -> Option<&Record> {
        self.by_name.get(name)
    }

    /// Adds what isn't there.
    ///
    /// # Panics
    ///
    /// If the name is: it would be done twice.
    pub(crate) fn insert(&mut self, name: Bytes, record: Record) {
        self.bytes += cost(&name, &record);
        self.by_age.insert_mut(self.next, name.clone());
        self.next += 1;
        self.by_name.insert_mut(name, record);
        let (names, ages) = (self.by_name.size(), self.by_age.size());
        assert_eq!(names, ages, "a key is recorded once");
    }

    /// Whether it takes no more keys: the oldest have to be kept, and it holds several times its share.
    pub(crate) fn is_full(&self, limits: KeyLimits) -> bool {
        self.bytes >= limits.table_bytes.saturating_mul(FULL_FACTOR)
    }

    /// Forgets the oldest while it holds more than its share, but none of the last `retention_entries` entries.
    pub(crate) fn expire(&mut self, now: LogIndex, limits: KeyLimits) {
        while self.bytes > limits.table_bytes
            && let Some((age, name)) = self.oldest()
        {
            let record = self.by_name.get(&name).expect("both maps hold the same");
            let at = record.at.index;
            if at.0.saturating_add(limits.retention_entries) > now.0 {
                return;
            }
            self.bytes -= cost(&name, record);
            self.by_age.remove_mut(&age);
            self.by_name.remove_mut(&name);
            self.horizon = self.horizon.max(LogIndex(at.0 + 1));
        }
    }

    fn oldest(&self) -> Option<(u64, Bytes)> {
        let (age, name) = self.by_age.first()?;
        Some((*age, name.clone()))
    }

    /// The oldest record from the age `from` on, and the age behind it.
    pub(crate) fn oldest_from(&self, from: u64) -> Option<(u64, &Bytes, &Record)> {
        let (age, name) = self.by_age.range(from..).next()?;
        let record = self.by_name.get(name).expect("both maps hold the same");
        Some((age + 1, name, record))
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        let alike = |(one, two): (&Bytes, &Bytes)| one == two;
        self.horizon == other.horizon
            && self.by_name == other.by_name
            && self.by_age.values().zip(other.by_age.values()).all(alike)
    }
}

impl Eq for Table {}
