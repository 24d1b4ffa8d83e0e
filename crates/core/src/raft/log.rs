//! `RaftLogStorage` over [`LogStore`]: callbacks become futures, our entries openraft's.

use super::wire::{entry_in, entry_out};
use super::{LogId, RaftEntry, RaftVote, TypeConfig, entry_id, log_id, vote_in, vote_out};
use crate::answered::called;
use crate::member::Tail;
use crate::{Done, Entry, LogIndex, LogStore, StorageError};
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

/// The log as openraft sees it. Clones share it.
#[derive(Clone)]
pub(crate) struct LogAdapter {
    log: Arc<dyn LogStore>,
    /// Bytes of entries read at once for a follower.
    read_bytes_max: usize,
    /// Told what is appended.
    tail: Arc<Tail>,
}

/// Bytes of entries read in one call where all of a range is wanted.
const WHOLE_READ_BYTES: usize = 4 << 20;

impl LogAdapter {
    pub(crate) fn new(log: Arc<dyn LogStore>, read_bytes_max: usize, tail: Arc<Tail>) -> Self {
        Self {
            log,
            read_bytes_max,
            tail,
        }
    }

    async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let range = LogIndex(range.start)..LogIndex(range.end);
        wait(|done| self.log.read(range, bytes_max, done)).await
    }
}

/// Calls `start` and waits for its `done`.
async fn wait<T: Send + 'static>(start: impl FnOnce(Done<T>)) -> io::Result<T> {
    match called(start).await {
        Ok(result) => result.map_err(into_io),
        Err(_) => Err(io::Error::other("the log's worker ended without an answer")),
    }
}

fn into_io(error: StorageError) -> io::Error {
    match error {
        StorageError::Corrupt { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        other => io::Error::other(other),
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn all_in(entries: Vec<Entry>) -> io::Result<Vec<RaftEntry>> {
    let entries = entries.into_iter().map(entry_in);
    Ok(entries.collect::<Result<_, _>>()?)
}

impl RaftLogReader<TypeConfig> for LogAdapter {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<RaftEntry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let Range { start, end } = bounds(&range);
        let state = self.log.state();
        let first = state.purged.map_or(0, |id| id.index.next().0);
        let last = state.last.map_or(0, |id| id.index.next().0);
        let (mut next, end) = (start.max(first), end.min(last));
        let mut found: Vec<Entry> = Vec::new();
        while next < end {
            let part = self.read(next..end, WHOLE_READ_BYTES).await?;
            let Some(newest) = part.last() else { break };
            next = newest.id.index.next().0;
            found.extend(part);
        }
        all_in(found)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        all_in(self.read(start..end, self.read_bytes_max).await?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.log.state().vote.map(vote_in).transpose()?)
    }
}

impl RaftLogStorage<TypeConfig> for LogAdapter {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        wait(|done| self.log.save_vote(vote_out(vote), done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.log.save_committed(committed.as_ref().map(entry_id));
        Ok(())
    }

    /// The mark is never above the last entry (safety rule 9); a log that reports more is cut here.
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let state = self.log.state();
        Ok(state.committed.min(state.last).map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().map(entry_out).collect();
        self.tail.appended(&entries);
        let done: Done<()> = Box::new(move |result| callback.io_completed(result.map_err(into_io)));
        self.log.append(entries, done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        wait(|done| self.log.truncate_after(last.as_ref().map(entry_id), done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        wait(|done| self.log.purge(entry_id(&upto), done)).await
    }
}
