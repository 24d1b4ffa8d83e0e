//! How many bytes of log stand behind an index, in steps: what the bounds in bytes are kept by.
//!
//! What was in the log before the start isn't counted, so after a restart more of it stays for a while, never
//! less. Invariant 1: marks ascend in index and in bytes.

use crate::{Entry, LogIndex};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mark is set at least this far behind the last one.
const STEP_BYTES: u64 = 256 << 10;

/// About 16 GiB of log; then the oldest marks go.
const MARKS_MAX: usize = 64 << 10;

#[derive(Default)]
struct State {
    /// Bytes appended since the start.
    total: u64,
    /// Index, and bytes appended up to and with it.
    marks: VecDeque<(LogIndex, u64)>,
}

/// The sizes of the log's newest part.
#[derive(Default)]
pub(crate) struct Tail(Mutex<State>);

impl Tail {
    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values only; nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts entries that are appended.
    pub(crate) fn appended(&self, entries: &[Entry]) {
        let mut state = self.state();
        let Some(first) = entries.first() else { return };
        // What stood there before was truncated.
        while state
            .marks
            .back()
            .is_some_and(|mark| mark.0 >= first.id.index)
        {
            state.marks.pop_back();
        }
        for entry in entries {
            state.count(entry);
        }
    }

    /// The newest index known to have at least so many bytes behind it.
    pub(crate) fn older_than(&self, bytes: u64) -> Option<LogIndex> {
        let state = self.state();
        let limit = state.total.checked_sub(bytes)?;
        let older = state.marks.partition_point(|mark| mark.1 <= limit);
        older.checked_sub(1).map(|at| state.marks[at].0)
    }
}

impl State {
    fn count(&mut self, entry: &Entry) {
        self.total += entry.payload.size_bytes() as u64;
        let last = self.marks.back().map_or(0, |mark| mark.1);
        if self.total - last < STEP_BYTES {
            return;
        }
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((entry.id.index, self.total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryId, Payload, Term};

    fn entry(index: u64, bytes: usize) -> Entry {
        let (term, index) = (Term(1), LogIndex(index));
        Entry {
            id: EntryId { term, index },
            payload: Payload::Command(vec![0; bytes].into()),
        }
    }

    #[test]
    fn marks_tell_what_is_older_and_a_truncation_takes_them_back() {
        let tail = Tail::default();
        let step = 256 << 10;
        for index in 0..8 {
            tail.appended(&[entry(index, step)]);
        }
        let older = |bytes: usize| tail.older_than(bytes as u64).map(|index| index.0);
        assert_eq!(
            (older(0), older(step), older(8 * step)),
            (Some(7), Some(6), None)
        );
        assert_eq!(older(2 * step + 1), Some(4));
        tail.appended(&[entry(3, 1)]);
        assert_eq!(older(1), Some(2), "all of 3 to 7 is gone");
    }
}
