//! `RaftLogStorage` over [`LogStore`]: callbacks become futures, our entries openraft's.

use super::wire::{entry_in, entry_out};
use super::{LogId, RaftEntry, RaftVote, TypeConfig, entry_id, log_id, vote_in, vote_out};
use crate::answered::called;
use crate::member::Tail;
use crate::{Done, Entry, LogIndex, LogStore, StorageError};
use futures_util::{Stream, StreamExt, stream};
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
    /// What the state holds when Raft starts.
    applied: Option<LogIndex>,
}

/// Bytes of entries read in one call where all of a range is wanted.
const WHOLE_READ_BYTES: usize = 4 << 20;

/// Bytes of entries that are applied before Raft runs: openraft reads 64 of them at once, however large they are. What is committed
/// beyond is applied a few at a time, once a leader has told of it.
const REPLAY_BYTES_MAX: u64 = 64 << 20;

impl LogAdapter {
    pub(crate) fn new(
        log: Arc<dyn LogStore>,
        read_bytes_max: usize,
        tail: Arc<Tail>,
        applied: Option<LogIndex>,
    ) -> Self {
        Self {
            log,
            read_bytes_max,
            tail,
            applied,
        }
    }

    /// Takes entries off the front of `range`; none: nothing of it is there.
    async fn next_of(&self, range: &mut Range<u64>) -> io::Result<Option<Vec<Entry>>> {
        let state = self.log.state();
        let first = state.purged.map_or(0, |id| id.index.next().0);
        let last = state.last.map_or(0, |id| id.index.next().0);
        let (start, end) = (range.start.max(first), range.end.min(last));
        if start >= end {
            return Ok(None);
        }
        let part = self.read(start..end, WHOLE_READ_BYTES).await?;
        range.start = part.last().map_or(end, |newest| newest.id.index.next().0);
        Ok((!part.is_empty()).then_some(part))
    }

    /// Behind the newest committed entry that may be applied before Raft runs.
    fn replayed_below(&self, committed: LogIndex) -> u64 {
        let behind = |below: u64| self.log.bytes_behind(below.checked_sub(1).map(LogIndex));
        let mut fits = self.applied.map_or(0, |applied| applied.next().0);
        let (all, mut top) = (behind(fits), committed.next().0);
        while fits < top {
            let middle = top - (top - fits) / 2;
            if all - behind(middle) <= REPLAY_BYTES_MAX {
                fits = middle;
            } else {
                top = middle - 1;
            }
        }
        fits
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
        let mut range = bounds(&range);
        let mut found: Vec<Entry> = Vec::new();
        while let Some(part) = self.next_of(&mut range).await? {
            found.extend(part);
        }
        all_in(found)
    }

    /// Entries that are applied: read a few at a time, since a range of them may be larger than memory.
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let next = |(log, mut range): (Self, Range<u64>)| async move {
            let part = log.next_of(&mut range).await.transpose()?;
            let entries = match part.and_then(all_in) {
                Ok(entries) => entries.into_iter().map(Ok).collect(),
                Err(error) => {
                    range = 0..0;
                    vec![Err(error)]
                }
            };
            Some((stream::iter(entries), (log, range)))
        };
        Box::pin(stream::unfold((self.clone(), bounds(&range)), next).flatten())
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

    /// The mark is never above the last entry (safety rule 9); a log that reports more is cut here. And it is an entry up to which
    /// Raft may read all that isn't applied at once.
    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let state = self.log.state();
        let Some(committed) = state.committed.min(state.last) else {
            return Ok(None);
        };
        let below = self.replayed_below(committed.index);
        if below > committed.index.0 {
            return Ok(Some(log_id(committed)));
        }
        let Some(last) = below.checked_sub(1) else {
            return Ok(None);
        };
        let newest = self.read(last..below, 1).await?;
        Ok(newest.first().map(|entry| log_id(entry.id)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLog;
    use crate::{EntryId, Payload, Term};

    fn id(index: u64) -> EntryId {
        EntryId {
            term: Term(1),
            index: LogIndex(index),
        }
    }

    /// A log of 8 MiB entries, all of them committed.
    fn adapter(entries: u64, applied: Option<u64>) -> LogAdapter {
        let log = MemoryLog::default();
        let body = bytes::Bytes::from(vec![7; 8 << 20]);
        let entry = |index| Entry {
            id: id(index),
            payload: Payload::Command(body.clone()),
        };
        log.append((0..entries).map(entry).collect(), Box::new(drop));
        log.save_committed(Some(id(entries - 1)));
        LogAdapter::new(
            Arc::new(log),
            4 << 20,
            Arc::default(),
            applied.map(LogIndex),
        )
    }

    /// Rule 26: Raft holds all of what is applied again before it runs; the parts of a large set are more than memory holds.
    #[tokio::test]
    async fn a_restart_reads_a_bounded_part_of_the_log_at_once() {
        for (entries, applied, told) in [
            (5, None, 4),
            (40, None, 7),
            (40, Some(20), 28),
            (40, Some(39), 39),
        ] {
            let committed = adapter(entries, applied).read_committed().await.unwrap();
            assert_eq!(committed.map(|id| id.index()), Some(told));
        }
    }

    /// Rule 26: what is applied is read entry by entry where entries are large.
    #[tokio::test]
    async fn entries_that_are_applied_come_in_order() {
        let mut adapter = adapter(9, None);
        let stream = adapter.entries_stream(3..8).await;
        let indexes: Vec<u64> = stream
            .map(|entry| entry.unwrap().log_id.index())
            .collect()
            .await;
        assert_eq!(indexes, [3, 4, 5, 6, 7]);
    }
}
