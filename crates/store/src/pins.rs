//! Who looks at which version.
//!
//! A pin can be ended from outside to make room (safety rule 11): readers of SQL first, oldest first;
//! snapshots and backups only when nothing else is left. An ended pin's next read is an error.

use crate::Version;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a pin is for: the order in which pins are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinKind {
    /// A reader of SQL.
    Sql,
    /// A snapshot on its way to another node.
    Snapshot,
    /// A backup.
    Backup,
}

struct Held {
    version: Version,
    kind: PinKind,
    ended: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    next: u64,
    held: BTreeMap<u64, Held>,
}

/// The pins of a generation.
#[derive(Default)]
pub(crate) struct Pins(Mutex<State>);

/// One pin's number and its mark.
pub(crate) struct Ticket {
    pub(crate) number: u64,
    pub(crate) ended: Arc<AtomicBool>,
}

impl Pins {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, version: Version, kind: PinKind) -> Ticket {
        let mut state = self.state();
        state.next += 1;
        let (number, ended) = (state.next, Arc::new(AtomicBool::new(false)));
        state.held.insert(
            number,
            Held {
                version,
                kind,
                ended: ended.clone(),
            },
        );
        Ticket { number, ended }
    }

    /// Lets go; an ended pin is gone already.
    pub(crate) fn remove(&self, number: u64) {
        self.state().held.remove(&number);
    }

    /// Versions looked at, not in order.
    pub(crate) fn versions(&self) -> Vec<Version> {
        self.state()
            .held
            .values()
            .map(|held| held.version)
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.state().held.len()
    }

    /// The oldest version looked at.
    pub(crate) fn oldest(&self) -> Option<Version> {
        self.state().held.values().map(|held| held.version).min()
    }

    /// Ends the pin that has to go first: of the least kind up to `most`, the oldest. Answers whether there was one.
    pub(crate) fn end_one(&self, most: PinKind) -> bool {
        let mut state = self.state();
        let first = state
            .held
            .iter()
            .filter(|(_, held)| held.kind <= most)
            .min_by_key(|(number, held)| (held.kind, held.version, **number))
            .map(|(number, _)| *number);
        let Some(held) = first.and_then(|number| state.held.remove(&number)) else {
            return false;
        };
        held.ended.store(true, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 11: readers of SQL are ended first, oldest first; snapshots only if asked for, backups last.
    #[test]
    fn pins_end_in_their_order() {
        let pins = Pins::default();
        let young = pins.add(Version(5), PinKind::Sql);
        let snapshot = pins.add(Version(1), PinKind::Snapshot);
        let old = pins.add(Version(2), PinKind::Sql);
        let ended = |ticket: &Ticket| ticket.ended.load(Ordering::Acquire);
        assert!(pins.end_one(PinKind::Sql));
        assert!(ended(&old) && !ended(&young) && !ended(&snapshot));
        assert!(pins.end_one(PinKind::Sql));
        assert!(!pins.end_one(PinKind::Sql), "no reader of SQL is left");
        assert!(pins.end_one(PinKind::Backup));
        assert!(ended(&snapshot));
        assert_eq!(pins.count(), 0);
    }
}
