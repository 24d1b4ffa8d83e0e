//! The smallest log that keeps the contract.

use crate::{Done, Entry, EntryId, LogIndex, LogState, LogStore, StorageError, Vote};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A log in memory: what is appended counts as durable at once, and is gone with the process. For tests and
/// examples. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<State>>);

/// Invariant: indexes of `entries` follow each other, the first behind `purged`.
#[derive(Default)]
struct State {
    entries: BTreeMap<LogIndex, Entry>,
    purged: Option<EntryId>,
    vote: Option<Vote>,
    committed: Option<EntryId>,
    floor: Option<LogIndex>,
}

impl State {
    fn last(&self) -> Option<EntryId> {
        let newest = self.entries.values().next_back();
        newest.map(|entry| entry.id).or(self.purged)
    }

    fn push(&mut self, entry: Entry) {
        let fits = self
            .last()
            .is_none_or(|last| entry.id.index == last.index.next() && entry.id.term >= last.term);
        assert!(
            fits,
            "entry {} leaves a hole behind {:?}",
            entry.id,
            self.last()
        );
        self.entries.insert(entry.id.index, entry);
    }

    fn purge(&mut self, upto: EntryId) {
        let Some(floor) = self.floor else { return };
        if upto.index <= floor {
            self.entries = self.entries.split_off(&upto.index.next());
            self.purged = self.purged.max(Some(upto));
        } else if let Some(entry) = self.entries.get(&floor) {
            let highest = entry.id;
            self.purge(highest);
        }
    }
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked on an assertion above has failed anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries held, a figure for tests.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.lock().entries.len()
    }
}

impl LogStore for MemoryLog {
    fn bytes_behind(&self, index: Option<LogIndex>) -> u64 {
        let next = index.map_or(LogIndex(0), LogIndex::next);
        let state = self.lock();
        state
            .entries
            .range(next..)
            .map(|(_, entry)| entry.payload.size_bytes() as u64)
            .sum()
    }

    fn state(&self) -> LogState {
        let state = self.lock();
        let last = state.last();
        LogState {
            purged: state.purged,
            last,
            vote: state.vote,
            committed: state.committed.min(last),
        }
    }

    fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>) {
        let found = {
            let state = self.lock();
            match state.purged.filter(|purged| range.start <= purged.index) {
                Some(purged) if range.start < range.end => Err(StorageError::Purged { purged }),
                _ => Ok(bounded(&state.entries, range, bytes_max)),
            }
        };
        done(found);
    }

    fn append(&self, entries: Vec<Entry>, done: Done<()>) {
        {
            let mut state = self.lock();
            entries.into_iter().for_each(|entry| state.push(entry));
        }
        done(Ok(()));
    }

    fn save_vote(&self, vote: Vote, done: Done<()>) {
        self.lock().vote = Some(vote);
        done(Ok(()));
    }

    fn truncate_after(&self, last: Option<EntryId>, done: Done<()>) {
        {
            let first = last.map_or(LogIndex(0), |id| id.index.next());
            self.lock().entries.split_off(&first);
        }
        done(Ok(()));
    }

    fn purge(&self, upto: EntryId, done: Done<()>) {
        self.lock().purge(upto);
        done(Ok(()));
    }

    fn save_committed(&self, committed: Option<EntryId>) {
        self.lock().committed = committed;
    }

    fn set_floor(&self, floor: Option<LogIndex>) {
        self.lock().floor = floor;
    }

    fn durable(&self) -> Option<EntryId> {
        self.lock().last()
    }
}

/// Entries of `range` until `bytes_max` is reached, at least one.
fn bounded(
    entries: &BTreeMap<LogIndex, Entry>,
    range: Range<LogIndex>,
    bytes_max: usize,
) -> Vec<Entry> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    if range.start >= range.end {
        return found;
    }
    for entry in entries.range(range).map(|(_, entry)| entry) {
        if bytes >= bytes_max && !found.is_empty() {
            break;
        }
        bytes += entry.payload.size_bytes();
        found.push(entry.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, Term};

    fn id(term: u64, index: u64) -> EntryId {
        EntryId {
            term: Term(term),
            index: LogIndex(index),
        }
    }

    fn log() -> MemoryLog {
        let log = MemoryLog::default();
        let entry = |index| Entry {
            id: id(1, index),
            payload: Payload::Command(vec![0; 10].into()),
        };
        log.append((0..10).map(entry).collect(), Box::new(|done| done.unwrap()));
        log
    }

    fn read(log: &MemoryLog, range: Range<u64>, bytes_max: usize) -> Result<Vec<u64>, String> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let range = LogIndex(range.start)..LogIndex(range.end);
        log.read(
            range,
            bytes_max,
            Box::new(move |found| sender.send(found).unwrap()),
        );
        let found = receiver.try_recv().expect("in memory, at once");
        let indexes = |found: Vec<Entry>| found.iter().map(|entry| entry.id.index.0).collect();
        found.map(indexes).map_err(|error| error.to_string())
    }

    fn purge(log: &MemoryLog, upto: EntryId) {
        log.purge(upto, Box::new(|done| done.unwrap()));
    }

    /// Rules 15 and 17: a purge stops at the floor, whatever it is told.
    #[test]
    fn nothing_above_the_floor_is_purged() {
        let log = log();
        purge(&log, id(1, 5));
        assert_eq!(log.entries(), 10, "no floor: nothing at all");
        log.set_floor(Some(LogIndex(3)));
        purge(&log, id(1, 5));
        assert_eq!((log.entries(), log.state().purged), (6, Some(id(1, 3))));
        assert!(read(&log, 3..6, 100).unwrap_err().contains("purged"));
        log.set_floor(Some(LogIndex(40)));
        purge(&log, id(2, 40));
        assert_eq!((log.entries(), log.state().last), (0, Some(id(2, 40))));
    }

    #[test]
    fn reads_are_bounded_and_never_empty_where_something_is() {
        let log = log();
        assert_eq!(read(&log, 2..9, 1).unwrap(), [2]);
        assert_eq!(read(&log, 2..9, 25).unwrap(), [2, 3, 4]);
        assert_eq!(read(&log, 8..20, 1000).unwrap(), [8, 9]);
        assert_eq!(read(&log, 4..4, 1000).unwrap(), [0u64; 0]);
    }

    /// Rule 9: the committed mark is never above the last entry.
    #[test]
    fn the_mark_is_cut_to_the_last_entry() {
        let log = log();
        log.save_committed(Some(id(1, 9)));
        log.truncate_after(Some(id(1, 4)), Box::new(|done| done.unwrap()));
        assert_eq!(log.state().committed, Some(id(1, 4)));
        assert_eq!(log.durable(), Some(id(1, 4)));
    }

    #[test]
    #[should_panic(expected = "leaves a hole")]
    fn a_hole_is_refused() {
        let entry = Entry {
            id: id(1, 11),
            payload: Payload::Blank,
        };
        log().append(vec![entry], Box::new(|done| done.unwrap()));
    }
}
